package dev.sae4j.internal.presets;

import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * Tells JavaCPP's Parser how to map {@code sae4j.h}, and its Loader which libraries come first. OpenBLAS is loaded under the
 * name that the preset's {@code openblas_nolapack} gives it, so that a host which sets OpenBLAS's thread count through that
 * class sets ours, and no second copy is in memory.
 */
@Properties(
    value =
        @Platform(
            value = "linux-x86_64",
            include = "sae4j.h",
            link = "sae4j",
            preloadresource = "/org/bytedeco/openblas/",
            preload = {"gcc_s@.1", "quadmath@.0", "gfortran@.5", "openblas@.0#openblas_nolapack@.0"}),
    target = "dev.sae4j.internal.bindings",
    global = "dev.sae4j.internal.bindings.Sae4j")
@NoException
public class sae4j implements InfoMapper {
  @Override
  public void map(InfoMap infoMap) {
    infoMap
        .put(new Info("SAE4J_H").skip())
        .put(new Info("SAE_API").cppTypes().annotations())
        .put(new Info("sae_model").pointerTypes("ModelHandle"))
        .put(new Info("sae_codes").pointerTypes("CodesHandle"))
        .put(new Info("sae_status", "sae_readout", "sae_method", "sae_stop").cast().valueTypes("int"))
        .put(new Info("sae_selection", "sae_normalization").cast().valueTypes("int"))
        .put(new Info("sae_weights").pointerTypes("WeightsStruct"));
  }
}

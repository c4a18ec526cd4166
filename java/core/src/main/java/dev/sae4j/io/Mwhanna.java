package dev.sae4j.io;

import java.util.List;
import java.util.Set;

/**
 * Transcoders as circuit-tracer takes them (mwhanna's of Qwen3): {@code layer_N.safetensors} beside a YAML configuration, of which
 * nothing is needed. W_enc and W_dec, both [d_sae, d]; ReLU.
 */
final class Mwhanna {
  static final String FORMAT = "mwhanna";
  static final List<String> WEIGHTS = List.of("*.safetensors");
  static final List<String> CONFIGS = List.of("config.yaml", "wandb-config.yaml", "wanb-config.yaml"); // the last as published

  private Mwhanna() {}

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    sae.architecture = "transcoder";
    sae.isTranscoder = true;
    SaeReader.refuseUnknown(file, Set.of("W_enc", "W_dec", "b_enc", "b_dec"), "transcoder");
    sae.wEnc = new Checkpoint.Matrix(file.require("W_enc"), true);
    sae.wDec = new Checkpoint.Matrix(file.require("W_dec"), true);
    sae.bEnc = file.require("b_enc");
    sae.bDec = file.require("b_dec");
    sae.conventionIsSure = options.format() != null; // SAELens has the same names and W_enc the other way
    return sae;
  }
}

package dev.sae4j.cli;

import dev.sae4j.Device;
import dev.sae4j.SaeException;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import java.util.List;
import org.bytedeco.openblas.global.openblas_nolapack;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** Where and how a command runs, and how it answers. */
class EngineOptions {
  @Spec(Spec.Target.MIXEE)
  CommandSpec command;

  @Option(
      names = "--device",
      paramLabel = "NAME",
      defaultValue = "auto",
      converter = DeviceName.class,
      description = "auto, cpu, cuda or cuda:i. Default: ${DEFAULT-VALUE}.")
  private Device device;

  @Option(
      names = "--threads",
      paramLabel = "N",
      converter = ThreadCount.class,
      description = "CPU threads. Default: all cores.")
  private Integer threads;

  @Option(
      names = "--screen",
      paramLabel = "NAME",
      description = "Force a screen; see 'sae4j devices'. No result depends on it.")
  private String screen;

  @Option(names = "--json", description = "Print one JSON object.")
  boolean json;

  /** The device asked for; fails early, before anything large is read. */
  Device device() {
    Device chosen = device.withThreads(threads == null ? 0 : threads).withScreen(screen);
    if (chosen.reason() != null) {
      throw new SaeException("device " + chosen.name() + " is not available: " + chosen.reason());
    }
    List<String> screens = chosen.screens().stream().map(Device.Screen::name).toList();
    if (screen != null && !screens.contains(screen)) {
      throw misuse("device %s has no screen \"%s\"; it has %s".formatted(chosen.name(), screen, String.join(", ", screens)));
    }
    return chosen;
  }

  /** The engine never touches OpenBLAS's thread count: it is its host's, here ours. All cores are OpenBLAS's own default. */
  static SparseAutoencoder open(SaeWeights weights, Device device) {
    SparseAutoencoder sae = SparseAutoencoder.open(weights, device);
    if (device.isCpu() && device.threads() > 0) {
      openblas_nolapack.blas_set_num_threads(device.threads());
    }
    return sae;
  }

  ParameterException misuse(String message) {
    return new ParameterException(command.commandLine(), message);
  }

  private static final class DeviceName implements ITypeConverter<Device> {
    @Override
    public Device convert(String name) {
      try {
        return Device.of(name);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  private static final class ThreadCount implements ITypeConverter<Integer> {
    @Override
    public Integer convert(String text) {
      if (!text.matches("[1-9]\\d{0,2}|10[01]\\d|102[0-4]")) {
        throw new TypeConversionException("expected 1 to 1024, got \"" + text + "\"");
      }
      return Integer.valueOf(text);
    }
  }
}

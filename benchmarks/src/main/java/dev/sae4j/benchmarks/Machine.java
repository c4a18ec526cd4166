package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SparseAutoencoder;
import java.util.List;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.openblas.global.openblas_nolapack;

/** The conditions of a run: one thread count for all, OpenBLAS's own kernels, and a line that says so. */
final class Machine {
  static final int THREADS = Runtime.getRuntime().availableProcessors();
  private static final List<String> FORCED = List.of("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE");

  private Machine() {}

  /** Before anything is measured. Refuses where OpenBLAS is forced to other kernels than the best of this machine. */
  static void prepare() {
    for (String name : FORCED) {
      if (System.getenv(name) != null) {
        throw new IllegalStateException(name + " is set: OpenBLAS would not use its own choice of kernels. Unset it and run again.");
      }
    }
    Loader.load(openblas_nolapack.class);
    // The JVM knows of CPU quotas, OpenBLAS doesn't: both sides of a ratio get the same threads.
    openblas_nolapack.blas_set_num_threads(THREADS);
  }

  /** As {@link #prepare()}; gives a GPU's memory and cuBLAS to the calling thread, null on the CPU. */
  static Cuda prepare(String name) {
    prepare();
    Device device = Device.of(name);
    if (device.isCpu()) {
      return null;
    }
    if (!device.isAvailable()) {
      throw new IllegalStateException("device " + device.name() + " cannot be measured here: " + device.reason());
    }
    return new Cuda(Integer.parseInt(device.name().substring("cuda:".length())));
  }

  /** Once a trial, on a line of its own. */
  static void announce(SparseAutoencoder sae) {
    System.out.printf("%n# %s; %s%n", sae.describe(), threads());
  }

  private static String threads() {
    return "OpenBLAS with %d threads, %d cores, JDK %s"
        .formatted(openblas_nolapack.blas_get_num_threads(), THREADS, Runtime.version());
  }

  /** Prints the conditions on a device, cpu unless it is named; fails in one line where it can't serve. */
  public static void main(String[] args) {
    prepare();
    Device device = Device.of(args.length == 0 ? "cpu" : args[0]);
    if (!device.isAvailable()) {
      System.err.println("device " + device.name() + " is not available: " + device.reason());
      System.exit(1);
    }
    System.out.println(device.detail() + "; " + threads());
  }
}

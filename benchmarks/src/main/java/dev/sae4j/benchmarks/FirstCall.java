package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import java.lang.management.ManagementFactory;
import java.util.List;

/** From the start of a JVM to the first codes, by phase: what a caller waits for once. */
final class FirstCall {
  private static final int D = 64;
  private static final int FEATURES = 512;

  private FirstCall() {}

  /** {@code nothing}: ends at once, for comparison. */
  public static void main(String[] args) {
    if (args.length > 0 && args[0].equals("nothing")) {
      return;
    }
    long started = System.currentTimeMillis() - ManagementFactory.getRuntimeMXBean().getStartTime();
    long start = System.nanoTime();
    Device.cpu().detail();
    long loaded = System.nanoTime();
    SaeInfo info = new SaeInfo("first call", "standard", "float32", null, null, List.of(), List.of());
    try (SaeWeights weights = SaeWeights.allocate(D, D, FEATURES, info)) {
      for (int j = 0; j < FEATURES; j++) {
        weights.scale().put(j, 1);
      }
      try (SparseAutoencoder sae = SparseAutoencoder.open(weights, Device.cpu())) {
        long opened = System.nanoTime();
        sae.encode(new float[D]).close();
        System.out.printf(
            "JVM to main %d ms, libraries %.0f ms, open %.0f ms, first encode %.1f ms%n",
            started, 1e-6 * (loaded - start), 1e-6 * (opened - loaded), 1e-6 * (System.nanoTime() - opened));
      }
    }
  }
}

package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import java.lang.management.ManagementFactory;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** From the start of a JVM to the first codes, by phase: what a caller waits for once. Prints a line for each. */
final class FirstCall {
  static final List<String> PHASES = List.of("JVM start", "classes and libraries", "open", "first encode");
  private static final Pattern LINE = Pattern.compile("(.+) ([0-9.]+) ms");
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
        print(started, 1e-6 * (loaded - start), 1e-6 * (opened - loaded), 1e-6 * (System.nanoTime() - opened));
      }
    }
  }

  private static void print(double... millis) {
    for (int i = 0; i < millis.length; i++) {
      System.out.printf(Locale.ROOT, "%s %.2f ms%n", PHASES.get(i), millis[i]);
    }
  }

  /** Seconds of each phase, out of what {@link #main} printed; of other lines nothing. */
  static Map<String, Double> seconds(String printed) {
    Map<String, Double> seconds = new LinkedHashMap<>();
    printed.lines().map(LINE::matcher).filter(Matcher::matches).forEach(line -> seconds.put(line.group(1), Double.parseDouble(line.group(2)) / 1e3));
    if (!seconds.keySet().equals(Set.copyOf(PHASES))) {
      throw new IllegalStateException("expected a time of each of " + PHASES + ", got " + printed);
    }
    return seconds;
  }
}

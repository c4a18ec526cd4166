package dev.sae4j.benchmarks;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.function.ToDoubleFunction;

/**
 * A compact table out of JMH's JSON: each time, its rate, and its ratio to the roof or baseline of the same run. A peer (another
 * library, measured on the same data) has sae4j's time beside it: its name begins as that of sae4j's operation.
 */
public final class Ratios {
  /** One result of JMH. Parameters are null where the benchmark has none; rate and bytes NaN without their profilers. */
  record Measurement(
      String group, String name, boolean isPeer, String shape, String n, Place on, double nanos, double errorShare, double rate,
      String unit, double bytes) {}

  record Place(String device, String memory, String screen, String l0, String threads) {
    boolean isGpu() {
      return device != null && device.startsWith("cuda");
    }

    /** "" for the CPU as it is. */
    String text() {
      return (isGpu() ? device : "")
          + (memory == null || memory.equals("host") && !isGpu() ? "" : " " + memory)
          + (screen == null || screen.equals("default") ? "" : " " + screen)
          + (l0 == null || l0.equals("published") ? "" : " L0 " + l0)
          + (threads == null || threads.equals("all") ? "" : " threads " + threads);
    }
  }

  private Ratios() {}

  /** Prints one table of the files of a run, each as JMH writes it with {@code -rf json}. */
  public static void main(String[] args) throws IOException {
    JsonArray results = new JsonArray();
    for (String file : args) {
      try (Reader json = Files.newBufferedReader(Path.of(file))) {
        results.addAll(JsonParser.parseReader(json).getAsJsonArray());
      }
    }
    System.out.print(table(results));
  }

  static String table(JsonArray results) {
    List<Measurement> run = read(results);
    StringBuilder table = new StringBuilder();
    line(table, "benchmark", "shape", "n", "on", "time", "error", "rate", "ratio");
    for (Measurement m : run) {
      line(
          table, m.group + "." + m.name, text(m.shape), text(m.n), m.on.text(), time(m.nanos), error(m.errorShare), rate(m),
          ratio(m, run));
    }
    return table.toString();
  }

  static List<Measurement> read(Reader json) {
    return read(JsonParser.parseReader(json).getAsJsonArray());
  }

  private static List<Measurement> read(JsonArray results) {
    List<Measurement> run = new ArrayList<>();
    results.forEach(result -> run.add(measurement(result.getAsJsonObject())));
    return run;
  }

  private static void line(StringBuilder table, Object... cells) {
    table.append("%-28s %-11s %5s %-24s %11s %7s %17s  %s".formatted(cells).stripTrailing()).append('\n');
  }

  private static Measurement measurement(JsonObject result) {
    String[] path = result.get("benchmark").getAsString().split("\\.");
    JsonObject primary = result.getAsJsonObject("primaryMetric");
    double score = primary.get("score").getAsDouble();
    String unit = result.getAsJsonObject("secondaryMetrics").has("GFLOP/s") ? "GFLOP/s" : "GB/s";
    return new Measurement(
        path[path.length - 2].replaceFirst("(Benchmark|Peer)$", ""),
        path[path.length - 1],
        path[0].equals("peers") || path[path.length - 2].endsWith("Peer"),
        param(result, "shape"),
        param(result, "n"),
        new Place(
            param(result, "device"), param(result, "memory"), param(result, "screen"), param(result, "l0"), param(result, "threads")),
        score * nanos(primary.get("scoreUnit").getAsString()),
        number(primary.get("scoreError")) / score,
        secondary(result, unit),
        unit,
        secondary(result, "gc.alloc.rate.norm"));
  }

  /** The profiler counts one product a call; a pursuit makes one for each atom. */
  static String rate(Measurement m) {
    boolean isUnknown = Double.isNaN(m.rate) || m.group.equals("Pursue") && !m.name.equals("project");
    return isUnknown ? "" : format("%.1f %s", m.rate, m.unit);
  }

  private static String param(JsonObject result, String name) {
    JsonObject params = result.getAsJsonObject("params");
    return params == null || !params.has(name) ? null : params.get(name).getAsString();
  }

  private static double secondary(JsonObject result, String name) {
    JsonObject metric = result.getAsJsonObject("secondaryMetrics").getAsJsonObject(name);
    return metric == null ? Double.NaN : number(metric.get("score"));
  }

  /** JMH writes "NaN" as text: with a single iteration there is no error to give. */
  private static double number(JsonElement json) {
    return Double.parseDouble(json.getAsString());
  }

  private static double nanos(String unit) {
    return switch (unit) {
      case "ns/op" -> 1;
      case "us/op" -> 1e3;
      case "ms/op" -> 1e6;
      case "s/op" -> 1e9;
      default -> throw new IllegalArgumentException("expected a time per operation, got " + unit);
    };
  }

  /** What this measurement is worth, beside what it can be compared with in the same run; "" if nothing was measured. */
  static String ratio(Measurement m, List<Measurement> run) {
    if (m.isPeer) {
      return peerRatio(m, run);
    }
    if (m.group.equals("CallOverhead")) {
      return Double.isNaN(m.bytes) ? "" : format("%.0f B/op", m.bytes);
    }
    if (m.group.equals("GpuRoofs") || List.of("sgemm", "readRoof", "gatherRowByRow").contains(m.name)) {
      return "";
    }
    if (m.on.isGpu() && !m.group.equals("Pursue")) {
      return gpuRatio(m, run);
    }
    if (m.group.equals("Decode")) {
      double speedUp = find(run, m, "gatherRowByRow", m.n) / m.nanos;
      return Double.isNaN(speedUp) ? "" : format("%.2f times as fast as gatherRowByRow", speedUp);
    }
    if (m.group.equals("Pursue")) {
      return pursueRatio(m, run);
    }
    if ("1".equals(m.n)) {
      double share = find(run, m, "readRoof", null) / m.nanos;
      return Double.isNaN(share) ? "" : format("%.0f %% of readRoof", 100 * share);
    }
    double ratio = m.nanos / find(run, m, "sgemm", m.n);
    return Double.isNaN(ratio) ? "" : format("%.2f of the time of sgemm", ratio);
  }

  /** A bare product stands beside encode, as the most of it that a library brings. */
  private static String peerRatio(Measurement m, List<Measurement> run) {
    String group = m.name.startsWith("decode") ? "Decode" : m.name.startsWith("omp32") ? "Pursue" : "Encode";
    String name = group.equals("Pursue") ? "omp32" : group.toLowerCase(Locale.ROOT);
    double speedUp = m.nanos / find(run, m, group, name, m.n, Measurement::nanos);
    return Double.isNaN(speedUp) ? "" : format("sae4j is %.2f times as fast", speedUp);
  }

  /** Reading against the copy; products against the bf16 product, or against the copy of the input where that takes longer. */
  private static String gpuRatio(Measurement m, List<Measurement> run) {
    if (m.unit.equals("GB/s")) {
      double share = m.rate / find(run, m, "GpuRoofs", "deviceCopy", null, Measurement::rate);
      return Double.isNaN(share) ? "" : format("%.0f %% of deviceCopy's rate", 100 * share);
    }
    double product = m.nanos / find(run, m, "GpuRoofs", "gemmBf16", m.n, Measurement::nanos);
    double copy = m.nanos / find(run, m, "GpuRoofs", "copyInPinned", m.n, Measurement::nanos);
    if (!"device".equals(m.on.memory) && copy < product) {
      return format("%.2f of the time of copyInPinned", copy);
    }
    return Double.isNaN(product) ? "" : format("%.2f of the time of gemmBf16", product);
  }

  /** One direction in projections of one, many beside as many single calls. */
  private static String pursueRatio(Measurement m, List<Measurement> run) {
    if (m.name.equals("project")) {
      return "";
    }
    if ("1".equals(m.n)) {
      double projections = m.nanos / find(run, m, "project", "1");
      return Double.isNaN(projections) ? "" : format("%.1f times project", projections);
    }
    double speedUp = Integer.parseInt(m.n) * find(run, m, m.name, "1") / m.nanos;
    return Double.isNaN(speedUp) ? "" : format("%.1f times as fast as %s single calls", speedUp, m.n);
  }

  /** The time of another benchmark of the same class, on the same device; NaN if it was not run. */
  private static double find(List<Measurement> run, Measurement m, String name, String n) {
    List<Measurement> same = run.stream().filter(r -> r.on.equals(m.on)).toList();
    return find(same, m, m.group, name, n, Measurement::nanos);
  }

  /** A figure of another benchmark on the same device, of the same shape if it has one; NaN if it was not run. */
  private static double find(
      List<Measurement> run, Measurement m, String group, String name, String n, ToDoubleFunction<Measurement> figure) {
    return run.stream()
        .filter(r -> r.group.equals(group) && r.name.equals(name) && Objects.equals(r.n, n))
        .filter(r -> Objects.equals(r.on.device, m.on.device) && (r.shape == null || r.shape.equals(m.shape)))
        .mapToDouble(figure)
        .findFirst()
        .orElse(Double.NaN);
  }

  static String time(double nanos) {
    return nanos < 1e4 ? format("%.1f ns", nanos) : nanos < 1e6 ? format("%.1f us", nanos / 1e3) : format("%.2f ms", nanos / 1e6);
  }

  static String error(double share) {
    return Double.isNaN(share) ? "" : format("± %.0f%%", 100 * share);
  }

  private static String text(String value) {
    return value == null ? "" : value;
  }

  private static String format(String pattern, Object... values) {
    return String.format(Locale.ROOT, pattern, values);
  }
}

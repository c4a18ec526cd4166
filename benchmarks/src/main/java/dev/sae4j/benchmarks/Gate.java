package dev.sae4j.benchmarks;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.Device;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Supplier;
import java.util.stream.Stream;

/**
 * The performance gate. Each operation is timed in turn with a roof, in this one process; of at least seven such pairs the best
 * times count, so that a noisy neighbour closes nothing. It is closed where their ratio is above the recorded one by more than is
 * allowed; better ones are never complained of. See benchmarks/README.md.
 */
public final class Gate {
  private static final Gson JSON = new GsonBuilder().setPrettyPrinting().create();
  private static final int PAIRS = 9;
  private static final long NANOS = 150_000_000; // of one timing, at least
  private static final int QUICK_PAIRS = 7;
  private static final long QUICK_NANOS = 40_000_000;
  private static final double MARGIN = 0.2;
  private static final double QUICK_MARGIN = 0.5;
  private static final String FIRST_CALL = "first call of a new JVM, over a JVM that does nothing";
  private static final String PHASE = "... its phase: ";

  /**
   * @param operation what is guarded, one call
   * @param roof the least that must be done, or the plain way to do the same
   */
  record Guard(String name, Runnable operation, Runnable roof) {}

  /**
   * @param ratio time of the operation over that of its roof
   * @param margin by which a ratio may be above it, as a share of it
   */
  record Limit(double ratio, double margin) {}

  private Gate() {}

  // ---- what decides

  /** Of so many pairs the best time of each, so that a disturbed roof makes nothing look better than it is. */
  static double ratio(Guard guard, int pairs, long nanos) {
    seconds(guard.roof, nanos); // warm
    seconds(guard.operation, nanos);
    double roof = Double.POSITIVE_INFINITY;
    double operation = Double.POSITIVE_INFINITY;
    for (int i = 0; i < pairs; i++) {
      roof = Math.min(roof, seconds(guard.roof, nanos));
      operation = Math.min(operation, seconds(guard.operation, nanos));
    }
    return operation / roof;
  }

  /** Of one call. */
  private static double seconds(Runnable call, long nanos) {
    long calls = 0;
    long start = System.nanoTime();
    long spent = 0;
    while (spent < nanos) {
      call.run();
      calls++;
      spent = System.nanoTime() - start;
    }
    return spent * 1e-9 / calls;
  }

  /** @param limit null where there is no record, and so nothing to close */
  static boolean isClosed(double ratio, Limit limit, boolean isQuick) {
    if (limit == null) {
      return false;
    }
    return ratio > limit.ratio * (1 + Math.max(limit.margin, isQuick ? QUICK_MARGIN : 0));
  }

  /** A phase is short and wobbles more: half as much again, or a quarter of a JVM that does nothing, whichever is more. */
  static Limit limit(String name, double ratio) {
    double rounded = Math.max(1, Math.round(1000 * ratio)) / 1000.0;
    double margin = name.startsWith(PHASE) ? Math.max(0.5, 0.25 / rounded) : MARGIN;
    return new Limit(rounded, Math.round(100 * margin) / 100.0);
  }

  /** What was measured, once more where it would close, since something else may have run: then the better of both. */
  static Map<String, Double> measured(Supplier<Map<String, Double>> measure, Map<String, Limit> limits, boolean isQuick) {
    Map<String, Double> ratios = new LinkedHashMap<>(measure.get());
    if (ratios.entrySet().stream().anyMatch(ratio -> isClosed(ratio.getValue(), limits.get(ratio.getKey()), isQuick))) {
      measure.get().forEach((name, again) -> ratios.merge(name, again, Math::min));
    }
    return ratios;
  }

  /** Names of what the best of the new build is worse in than the worst of the old. */
  static List<String> slower(List<Map<String, Double>> old, List<Map<String, Double>> changed) {
    List<String> slower = new ArrayList<>();
    for (String name : old.get(0).keySet()) {
      double worst = old.stream().mapToDouble(run -> run.get(name)).max().orElseThrow();
      double best = changed.stream().mapToDouble(run -> run.getOrDefault(name, 0.0)).min().orElseThrow();
      if (best > worst) {
        slower.add("%s: old %.3f at worst, new %.3f at best".formatted(name, worst, best));
      }
    }
    return slower;
  }

  // ---- the first call

  /**
   * From no process to the first codes, over a JVM that does nothing: as a whole, and by phase, since one that takes twice as
   * long may vanish in the whole. The best of each, as in {@link #ratio}.
   */
  static Map<String, Double> firstCall(int pairs) {
    double nothing = Double.POSITIVE_INFINITY;
    Map<String, Double> best = new LinkedHashMap<>();
    for (int i = 0; i < pairs; i++) {
      long start = System.nanoTime();
      start("nothing");
      nothing = Math.min(nothing, 1e-9 * (System.nanoTime() - start));
      start = System.nanoTime();
      String printed = start("first");
      best.merge(FIRST_CALL, 1e-9 * (System.nanoTime() - start), Math::min);
      FirstCall.seconds(printed).forEach((phase, seconds) -> best.merge(PHASE + phase, seconds, Math::min));
    }
    double roof = nothing;
    best.replaceAll((name, seconds) -> seconds / roof);
    return best;
  }

  /** Runs {@link FirstCall} in a JVM of its own; what it printed. */
  private static String start(String what) {
    List<String> command =
        List.of(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), FirstCall.class.getName(), what);
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      if (process.waitFor() != 0) {
        throw new IllegalStateException("a JVM for the first call ended with status " + process.exitValue() + ": " + printed.strip());
      }
      return printed;
    } catch (IOException e) {
      throw new IllegalStateException("a JVM for the first call cannot be started: " + e.getMessage(), e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted", e);
    }
  }

  // ---- the command: [--device NAME] [--quick] [--slow] [--record] [--json FILE] RECORDS, or --compare OLD.json... -- NEW.json...

  public static void main(String[] args) throws IOException {
    List<String> options = new ArrayList<>(List.of(args));
    if (options.remove("--compare")) {
      System.exit(compare(options));
    }
    Machine.prepare();
    boolean isQuick = options.remove("--quick");
    boolean isSlow = options.remove("--slow");
    boolean records = options.remove("--record");
    String json = valueOf("--json", options);
    String named = valueOf("--device", options);
    Device device = Device.of(named == null ? "cpu" : named);
    if (options.size() != 1 || isSlow && !device.isCpu()) {
      System.err.println(
          "usage: Gate [--device cuda[:i]] [--quick] [--slow (on the CPU)] [--record] [--json FILE] RECORDS.json"
              + " | --compare OLD.json... -- NEW.json...");
      System.exit(2);
    }
    if (!device.isAvailable()) {
      System.err.println("gate: device " + device.name() + " cannot be measured here: " + device.reason());
      System.exit(2);
    }
    System.exit(run(Path.of(options.get(0)), device, isQuick, isSlow, records, json));
  }

  /** Takes an option and its value out; null where it is not given. */
  private static String valueOf(String option, List<String> options) {
    int at = options.indexOf(option);
    if (at < 0 || at + 1 == options.size()) {
      return null;
    }
    options.remove(at);
    return options.remove(at);
  }

  private static int run(Path recordsFile, Device device, boolean isQuick, boolean isSlow, boolean records, String json)
      throws IOException {
    try (GateOperations operations =
        device.isCpu()
            ? new GateOperations.OnCpu(2304, 16384, 84, 256, isSlow)
            : new GateOperations.OnGpu(device.name(), 2304, 16384, 84, 4096)) {
      String machine = machine(device.detail());
      System.out.println("# " + operations.describe() + "; records of \"" + machine + "\"");
      Map<String, Limit> limits = records(recordsFile).getOrDefault(machine, Map.of());
      Map<String, Double> ratios = new LinkedHashMap<>();
      int closed = 0;
      for (Supplier<Map<String, Double>> measure : measures(operations, device, isQuick)) {
        Map<String, Double> measured = measured(measure, limits, isQuick);
        measured.forEach((name, ratio) -> System.out.println(line(name, ratio, limits.get(name), isQuick)));
        closed += (int) measured.entrySet().stream().filter(ratio -> isClosed(ratio.getValue(), limits.get(ratio.getKey()), isQuick)).count();
        ratios.putAll(measured);
      }
      double bytes = operations.bytesAllocated();
      System.out.printf("%-58s %7.3f  %s%n", "bytes on the Java heap, a call", bytes, bytes < 1 ? "" : "CLOSED: expected 0");
      closed += bytes < 1 ? 0 : 1;
      if (json != null) {
        Files.writeString(Path.of(json), JSON.toJson(ratios));
      }
      if (records) {
        record(recordsFile, machine, ratios);
      } else if (limits.isEmpty()) {
        System.out.println("Nothing is guarded here: there are no records of such a machine in " + recordsFile + " (--record makes them).");
      }
      System.out.println(closed == 0 ? "The gate is open." : "The gate is closed: " + closed + " slower than recorded.");
      return records || closed == 0 ? 0 : 1;
    }
  }

  private static List<Supplier<Map<String, Double>>> measures(GateOperations operations, Device device, boolean isQuick) {
    int pairs = isQuick ? QUICK_PAIRS : PAIRS;
    List<Supplier<Map<String, Double>>> measures = new ArrayList<>();
    for (Guard guard : operations.guards()) {
      measures.add(() -> Map.of(guard.name, ratio(guard, pairs, isQuick ? QUICK_NANOS : NANOS)));
    }
    if (device.isCpu()) {
      measures.add(() -> firstCall(pairs));
    }
    return measures;
  }

  private static String line(String name, double ratio, Limit limit, boolean isQuick) {
    String closed = isClosed(ratio, limit, isQuick) ? "  CLOSED: slower than is allowed" : "";
    return "%-58s %7.3f  %s".formatted(name, ratio, limit == null ? "no record" : "recorded %.3f%s".formatted(limit.ratio, closed));
  }

  /**
   * What ratios depend on: "avx512, SkylakeX with 2 threads" of "kernels avx512 avx2 portable, OpenBLAS 0.3.31 SkylakeX with 2 threads",
   * the name of a GPU.
   */
  static String machine(String detail) {
    return detail.startsWith("kernels ") ? detail.replaceFirst("kernels (\\S+).*, OpenBLAS \\S+ ", "$1, ") : detail.replaceFirst(",.*", "");
  }

  private static Map<String, Map<String, Limit>> records(Path file) throws IOException {
    Map<String, Map<String, Limit>> records = new TreeMap<>();
    if (Files.exists(file)) {
      JsonObject machines = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
      for (String machine : machines.keySet()) {
        Map<String, Limit> limits = new LinkedHashMap<>();
        machines.getAsJsonObject(machine).asMap().forEach((name, limit) -> limits.put(name, JSON.fromJson(limit, Limit.class)));
        records.put(machine, limits);
      }
    }
    return records;
  }

  private static void record(Path file, String machine, Map<String, Double> ratios) throws IOException {
    Map<String, Map<String, Limit>> records = records(file);
    Map<String, Limit> limits = new LinkedHashMap<>();
    ratios.forEach((name, ratio) -> limits.put(name, limit(name, ratio)));
    records.put(machine, limits);
    Files.writeString(file, JSON.toJson(records) + "\n");
  }

  private static int compare(List<String> files) throws IOException {
    int middle = files.indexOf("--");
    List<Map<String, Double>> old = read(files.subList(0, middle));
    List<Map<String, Double>> changed = read(files.subList(middle + 1, files.size()));
    List<String> slower = slower(old, changed);
    for (String name : old.get(0).keySet()) {
      System.out.printf(
          "%-58s old %s  new %s%n", name, spread(old.stream().map(run -> run.get(name))), spread(changed.stream().map(run -> run.get(name))));
    }
    slower.forEach(line -> System.out.println("SLOWER " + line));
    System.out.println(slower.isEmpty() ? "The new build is not slower." : "The new build is slower.");
    return slower.isEmpty() ? 0 : 1;
  }

  private static String spread(Stream<Double> ratios) {
    double[] sorted = ratios.mapToDouble(Double::doubleValue).sorted().toArray();
    return "%.3f to %.3f".formatted(sorted[0], sorted[sorted.length - 1]);
  }

  private static List<Map<String, Double>> read(List<String> files) throws IOException {
    List<Map<String, Double>> runs = new ArrayList<>();
    for (String file : files) {
      Map<String, Double> run = new LinkedHashMap<>();
      JsonParser.parseString(Files.readString(Path.of(file))).getAsJsonObject().asMap().forEach((name, ratio) -> run.put(name, ratio.getAsDouble()));
      runs.add(run);
    }
    return runs;
  }
}

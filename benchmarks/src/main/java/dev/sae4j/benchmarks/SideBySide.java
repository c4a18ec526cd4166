package dev.sae4j.benchmarks;

import dev.sae4j.benchmarks.Ratios.Measurement;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/** CPU and GPU beside each other, out of JMH's JSON of both: a line, in Markdown, for each operation, shape and n. */
public final class SideBySide {
  private static final List<String> OPERATIONS = List.of("Encode.encode", "Decode.decode", "Project.top20", "Pursue.omp32");
  private static final List<String> HEAD = List.of("operation", "shape", "n", "CPU", "GPU, from and to host memory", "GPU, all on the device");

  private record Line(String operation, String shape, String n) {}

  private SideBySide() {}

  /** Prints the table of files that JMH wrote with {@code -rf json}. */
  public static void main(String[] args) throws IOException {
    List<Measurement> run = new ArrayList<>();
    for (String file : args) {
      try (Reader json = Files.newBufferedReader(Path.of(file))) {
        run.addAll(Ratios.read(json));
      }
    }
    System.out.print(table(run));
  }

  static String table(List<Measurement> run) {
    List<List<String>> rows = new ArrayList<>(List.of(HEAD));
    for (Line line : lines(run)) {
      rows.add(
          List.of(
              line.operation, line.shape, line.n,
              cell(line, run, false, "host"), cell(line, run, true, "host"), cell(line, run, true, "device")));
    }
    int[] widths = new int[HEAD.size()];
    rows.forEach(row -> Arrays.setAll(widths, i -> Math.max(widths[i], row.get(i).length())));
    rows.add(1, Arrays.stream(widths).mapToObj("-"::repeat).toList());
    return rows.stream().map(row -> text(row, widths)).collect(Collectors.joining());
  }

  /** By operation, shape as they were measured, and n. */
  private static Set<Line> lines(List<Measurement> run) {
    List<String> shapes = run.stream().map(Measurement::shape).distinct().toList();
    return run.stream()
        .filter(m -> OPERATIONS.contains(operation(m)))
        .map(m -> new Line(operation(m), m.shape(), m.n()))
        .sorted(
            Comparator.<Line>comparingInt(line -> OPERATIONS.indexOf(line.operation))
                .thenComparingInt(line -> shapes.indexOf(line.shape))
                .thenComparingInt(line -> Integer.parseInt(line.n)))
        .collect(Collectors.toCollection(LinkedHashSet::new));
  }

  private static String operation(Measurement m) {
    return m.group() + "." + m.name();
  }

  /** Time, rate, and how they stand to a roof of the same device; "-" where it was not measured. */
  private static String cell(Line line, List<Measurement> run, boolean isGpu, String memory) {
    return run.stream()
        .filter(m -> line.equals(new Line(operation(m), m.shape(), m.n())))
        .filter(m -> m.on().isGpu() == isGpu && memory.equals(m.on().memory()))
        .findFirst()
        .map(m -> (Ratios.time(m.nanos()) + " " + Ratios.error(m.errorShare())).strip() + list(Ratios.rate(m)) + list(Ratios.ratio(m, run)))
        .orElse("-");
  }

  private static String list(String item) {
    return item.isEmpty() ? "" : ", " + item;
  }

  private static String text(List<String> row, int[] widths) {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < widths.length; i++) {
      text.append("| ").append(row.get(i)).append(" ".repeat(widths[i] - row.get(i).length() + 1));
    }
    return text.append("|\n").toString();
  }
}

package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.StringReader;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class SideBySideTest {
  @Test
  void eachPlaceHasItsColumnAndItsOwnRoof() {
    List<String> lines =
        table(
            result("Encode.encode", "cpu", "host", "1024", 50),
            result("Encode.sgemm", "cpu", "host", "1024", 40),
            result("Encode.encode", "cuda", "device", "1024", 5),
            result("Encode.encode", "cuda", "host", "1024", 6),
            result("GpuRoofs.gemmBf16", "cuda", "device", "1024", 4));
    assertEquals(3, lines.size()); // roofs have no lines of their own
    assertEquals(
        List.of(
            "Encode.encode", "2304x16384", "1024", "50.0 us, 1.25 of the time of sgemm", "6000.0 ns, 1.50 of the time of gemmBf16",
            "5000.0 ns, 1.25 of the time of gemmBf16"),
        cells(lines.get(2)));
  }

  @Test
  void whatWasNotMeasuredIsSaid() {
    List<String> lines = table(result("Decode.decode", "cpu", "host", "32", 50));
    assertEquals(List.of("Decode.decode", "2304x16384", "32", "50.0 us", "-", "-"), cells(lines.get(2)));
  }

  @Test
  void linesAscendInNWhateverCameFirst() {
    List<String> lines =
        table(
            result("Pursue.omp32", "cpu", "host", "1", 1),
            result("Encode.encode", "cpu", "host", "1024", 1),
            result("Encode.encode", "cuda", "host", "32", 1));
    assertEquals(
        List.of("Encode.encode 32", "Encode.encode 1024", "Pursue.omp32 1"),
        lines.stream().skip(2).map(line -> cells(line).get(0) + " " + cells(line).get(2)).toList());
  }

  private static List<String> table(String... results) {
    return SideBySide.table(Ratios.read(new StringReader(Arrays.toString(results)))).lines().toList();
  }

  private static List<String> cells(String line) {
    return Arrays.stream(line.split("\\|")).skip(1).map(String::strip).toList();
  }

  private static String result(String name, String device, String memory, String n, double micros) {
    return """
        {"benchmark": "dev.sae4j.benchmarks.%s",
         "params": {"shape": "2304x16384", "n": "%s", "device": "%s", "memory": "%s"},
         "primaryMetric": {"score": %s, "scoreError": "NaN", "scoreUnit": "us/op"}, "secondaryMetrics": {"GFLOP/s": {"score": "NaN"}}}"""
        .formatted(name.replace(".", "Benchmark."), n, device, memory, micros);
  }
}

package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.StringReader;
import java.util.List;
import org.junit.jupiter.api.Test;

class RatiosTest {
  @Test
  void batchesAgainstTheProduct() {
    assertEquals("1.25 of the time of sgemm", lastCell(result("Encode", "encode", "32", 50), result("Encode", "sgemm", "32", 40)));
  }

  @Test
  void oneRowAgainstTheReading() {
    assertEquals(
        "80 % of readRoof",
        lastCell(
            result("Project", "top20", "1", 50),
            result("Project", "sgemm", "1", 90),
            result("Project", "readRoof", null, 40)));
  }

  @Test
  void decodeAgainstRowByRow() {
    assertEquals(
        "2.50 times as fast as gatherRowByRow",
        lastCell(
            result("Decode", "decode", "64", 4),
            result("Decode", "gatherRowByRow", "1", 1),
            result("Decode", "gatherRowByRow", "64", 10)));
  }

  @Test
  void overheadInBytes() {
    assertEquals("0 B/op", lastCell(result("CallOverhead", "encodePointer", null, .1)));
  }

  @Test
  void nothingWhereTheOtherWasNotRun() {
    assertEquals("50.0 us", lastCell(result("Encode", "encode", "32", 50), result("Project", "sgemm", "32", 40)));
  }

  /** Of the first result's line. */
  private static String lastCell(String... results) {
    String[] cells = Ratios.table(new StringReader(List.of(results).toString())).lines().toList().get(1).split(" {2,}");
    return cells[cells.length - 1];
  }

  private static String result(String group, String name, String n, double micros) {
    String params = n == null ? "" : "\"n\": \"%s\",".formatted(n);
    return """
        {"benchmark": "dev.sae4j.benchmarks.%sBenchmark.%s",
         "params": {%s "shape": "2304x16384"},
         "primaryMetric": {"score": %s, "scoreError": "NaN", "scoreUnit": "us/op"},
         "secondaryMetrics": {"gc.alloc.rate.norm": {"score": 0.001}}}"""
        .formatted(group, name, params, micros);
  }
}

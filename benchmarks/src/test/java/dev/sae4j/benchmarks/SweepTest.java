package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sae4j.benchmarks.Sweep.Over;
import java.io.StringReader;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.knowm.xchart.XYChart;

class SweepTest {
  @Test
  void timesArePerRowAndRowsShareAReading() {
    String[] results = {result("encode", "16", 80), result("readRoof", null, 32), result("encode", "1", 40)};
    assertEquals(
        """
        n,series,us_per_row,error_us
        1,"readRoof / n",32.0000,3.20000
        1,"encode",40.0000,4.00000
        16,"encode",5.00000,0.500000
        16,"readRoof / n",2.00000,0.200000
        """,
        csv(Over.N, results));
  }

  @Test
  void eachSweepFindsItsQuantity() {
    String result = result("encode", "4", 40);
    assertEquals("16384,\"encode, n = 4\",10.0000,1.00000", csv(Over.D_SAE, result).lines().toList().get(1));
    assertEquals("64,\"encode, n = 4\",10.0000,1.00000", csv(Over.L0, result).lines().toList().get(1));
    assertEquals("2,\"encode, n = 4\",10.0000,1.00000", csv(Over.THREADS, result).lines().toList().get(1));
  }

  @Test
  void oneIterationHasNoError() {
    String result = result("encode", "4", 40).replace("\"scoreError\": 4.0", "\"scoreError\": \"NaN\"");
    assertEquals("64,\"encode, n = 4\",10.0000,", csv(Over.L0, result).lines().toList().get(1));
  }

  /** An operation and its roof follow each other, and no error bar reaches the zero that a logarithmic axis lacks. */
  @Test
  void theChartHasEachSeriesBesideItsRoof() {
    String wide = result("decode", "4", 40).replace("\"scoreError\": 4.0", "\"scoreError\": 400.0");
    String[] results = {wide, result("encode", "1", 8), result("sgemm", "4", 8), result("readRoof", null, 8), result("encode", "4", 8)};
    XYChart chart = Sweep.chart(Over.L0, "tiny", Sweep.points(Over.L0, Ratios.read(new StringReader(Arrays.toString(results)))));
    assertArrayEquals(
        new Object[] {"encode, n = 4", "sgemm, n = 4", "encode, n = 1", "readRoof", "decode, n = 4"},
        chart.getSeriesMap().keySet().toArray());
    assertEquals(9, chart.getSeriesMap().get("decode, n = 4").getExtraValues()[0]);
  }

  private static String csv(Over over, String... results) {
    return Sweep.csv(over, Sweep.points(over, Ratios.read(new StringReader(Arrays.toString(results)))));
  }

  /** With an error of a tenth. */
  private static String result(String name, String n, double micros) {
    return """
        {"benchmark": "dev.sae4j.benchmarks.EncodeBenchmark.%s",
         "params": {%s "shape": "2304x16384", "l0": "64", "threads": "2"},
         "primaryMetric": {"score": %s, "scoreError": %s, "scoreUnit": "us/op"}, "secondaryMetrics": {"GB/s": {"score": "NaN"}}}"""
        .formatted(name, n == null ? "" : "\"n\": \"%s\",".formatted(n), micros, micros / 10);
  }
}

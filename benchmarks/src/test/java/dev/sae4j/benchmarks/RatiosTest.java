package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
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
  void aGpuAgainstItsOwnRoofs() {
    String encode = onGpu("Encode", "encode", "1024", 50, "\"memory\": \"device\",", "GFLOP/s", 1);
    String product = onGpu("GpuRoofs", "gemmBf16", "1024", 40, "", "GFLOP/s", 1);
    String copyIn = onGpu("GpuRoofs", "copyInPinned", "1024", 45, "", "GB/s", 1);
    String cpu = result("Encode", "sgemm", "1024", 10);
    assertEquals("1.25 of the time of gemmBf16", lastCell(encode, cpu, product, copyIn));
    String fromHost = encode.replace("\"device\",", "\"host\",");
    assertEquals("1.11 of the time of copyInPinned", lastCell(fromHost, cpu, product, copyIn));
    assertEquals("1.25 of the time of gemmBf16", lastCell(fromHost, cpu, product, copyIn.replace("45.0", "4.5")));
    assertEquals("1.0 GFLOP/s", lastCell(encode, cpu, product.replace("cuda", "cuda:1")));
  }

  @Test
  void readingOnAGpuAgainstItsCopy() {
    String decode = onGpu("Decode", "decode", "64", 50, "\"memory\": \"device\",", "GB/s", 1500);
    String copy = onGpu("GpuRoofs", "deviceCopy", null, 40, "", "GB/s", 3000).replace("\"shape\": \"2304x16384\"", "\"x\": \"\"");
    assertEquals("50 % of deviceCopy's rate", lastCell(decode, copy));
    assertEquals("1500.0 GB/s", lastCell(decode, copy.replace("cuda", "cpu")));
  }

  @Test
  void placesAreNotMixed() {
    String one = onGpu("Pursue", "omp32", "1", 50, "\"memory\": \"device\",", "GB/s", 1);
    String many = onGpu("Pursue", "omp32", "4", 100, "\"memory\": \"device\",", "GB/s", 1);
    assertEquals("2.0 times as fast as 4 single calls", lastCell(many, one));
    assertEquals("100.0 us", lastCell(many, one.replace("\"device\",", "\"host\",")));
  }

  @Test
  void overheadInBytes() {
    assertEquals("0 B/op", lastCell(result("CallOverhead", "encodePointer", null, .1)));
  }

  @Test
  void peersBesideTheOperationTheyAreNamedAfter() {
    String torch = result("Encode", "encode", "32", 60).replace("dev.sae4j.benchmarks.EncodeBenchmark.", "peers.torch.");
    String sae4j = result("Encode", "encode", "32", 40);
    assertEquals("sae4j is 1.50 times as fast", lastCell(torch, sae4j, result("Encode", "encode", "1", 1)));
    assertEquals("sae4j is 1.50 times as fast", lastCell(torch.replace("torch.encode", "torch.matmul"), sae4j));
    String onnx = result("OnnxRuntimePeer", "encodeDense", "32", 60).replace("PeerBenchmark", "Peer");
    assertEquals("sae4j is 1.50 times as fast", lastCell(onnx, sae4j));
    assertEquals(
        "sae4j is 12.00 times as fast",
        lastCell(torch.replace("torch.encode", "torch.decodeBag"), sae4j, result("Decode", "decode", "32", 5)));
    assertEquals(
        "sae4j is 3.00 times as fast",
        lastCell(torch.replace("torch.encode", "sklearn.omp32Estimator"), sae4j, result("Pursue", "omp32", "32", 20)));
    assertEquals("60.0 us", lastCell(torch, result("Decode", "decode", "32", 5)));
  }

  @Test
  void nothingWhereTheOtherWasNotRun() {
    assertEquals("50.0 us", lastCell(result("Encode", "encode", "32", 50), result("Project", "sgemm", "32", 40)));
  }

  /** Of the first result's line. */
  private static String lastCell(String... results) {
    String[] cells = Ratios.table(JsonParser.parseString(List.of(results).toString()).getAsJsonArray()).lines().toList().get(1).split(" {2,}");
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

  private static String onGpu(String group, String name, String n, double micros, String params, String unit, double rate) {
    return result(group, name, n, micros)
        .replace("\"params\": {", "\"params\": {\"device\": \"cuda\", " + params)
        .replace("\"secondaryMetrics\": {", "\"secondaryMetrics\": {\"%s\": {\"score\": %s},".formatted(unit, rate));
  }
}

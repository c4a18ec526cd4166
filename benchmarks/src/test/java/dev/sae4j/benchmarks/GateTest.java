package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.benchmarks.Gate.Guard;
import dev.sae4j.benchmarks.Gate.Limit;
import dev.sae4j.benchmarks.Gate.Operations;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class GateTest {
  private static final long NANOS = 10_000_000;

  @BeforeAll
  static void prepare() {
    Machine.prepare();
  }

  /** A batch without a screen, by plain C++, takes several times as long: no noise hides that, and none looks like it. */
  @Test
  void closesOnAKernelThatIsSlowOnPurpose() {
    double usual = encode(false);
    double slow = encode(true);
    Limit limit = new Limit(usual, 0.2);
    assertTrue(Gate.isClosed(slow, limit, false), "usual " + usual + ", slow " + slow);
    assertTrue(Gate.isClosed(slow, limit, true), "usual " + usual + ", slow " + slow);
    assertFalse(Gate.isClosed(usual, limit, false));
  }

  private static double encode(boolean isSlow) {
    try (Operations operations = new Operations(512, 4096, 20, 256, isSlow)) {
      Guard guard = operations.guards().get(1);
      assertTrue(guard.name().startsWith("encode, 256 rows"), guard.name());
      return Gate.ratio(guard, 7, NANOS);
    }
  }

  @Test
  void everyOperationRunsAndAllocatesNothing() {
    try (Operations operations = new Operations(128, 512, 8, 16, false)) {
      for (Guard guard : operations.guards()) {
        double ratio = Gate.ratio(guard, 1, 100_000);
        assertTrue(ratio > 0 && ratio < Double.POSITIVE_INFINITY, guard.name() + ": " + ratio);
      }
      assertTrue(operations.bytesAllocated() < 1);
    }
  }

  @Test
  void aMachineIsItsBestKernelAndWhatOpenBlasChose() {
    assertEquals("avx512, SkylakeX with 2 threads", Gate.machine("kernels avx512 avx2 portable, OpenBLAS 0.3.31 SkylakeX with 2 threads"));
  }

  @Test
  void allowsItsMarginAndIsOneSided() {
    Limit limit = new Limit(1.2, 0.1);
    assertFalse(Gate.isClosed(0.3, limit, false));
    assertFalse(Gate.isClosed(1.31, limit, false));
    assertTrue(Gate.isClosed(1.33, limit, false));
    assertFalse(Gate.isClosed(1.79, limit, true));
    assertTrue(Gate.isClosed(1.81, limit, true));
  }

  @Test
  void aBuildIsSlowerOnlyBeyondDoubt() {
    List<Map<String, Double>> old = List.of(Map.of("a", 1.0, "b", 1.0), Map.of("a", 1.3, "b", 1.1));
    assertEquals(List.of(), Gate.slower(old, List.of(Map.of("a", 1.25, "b", 1.05), Map.of("a", 9.0, "b", 9.0))));
    List<String> slower = Gate.slower(old, List.of(Map.of("a", 1.35, "b", 0.9), Map.of("a", 1.4, "b", 2.0)));
    assertEquals(List.of("a: old 1.300 at worst, new 1.350 at best"), slower);
  }
}

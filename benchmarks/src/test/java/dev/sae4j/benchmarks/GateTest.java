package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.benchmarks.Gate.Guard;
import dev.sae4j.benchmarks.Gate.Limit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Assumptions;
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
    try (GateOperations operations = new GateOperations.OnCpu(512, 4096, 20, 256, isSlow)) {
      Guard guard = operations.guards().get(1);
      assertTrue(guard.name().startsWith("encode, 256 rows"), guard.name());
      return Gate.ratio(guard, 7, NANOS);
    }
  }

  @Test
  void everyOperationRunsAndAllocatesNothing() {
    try (GateOperations operations = new GateOperations.OnCpu(128, 512, 8, 16, false)) {
      assertAllRunAndAllocateNothing(operations);
    }
  }

  private static void assertAllRunAndAllocateNothing(GateOperations operations) {
    for (Guard guard : operations.guards()) {
      double ratio = Gate.ratio(guard, 1, 100_000);
      assertTrue(ratio > 0 && ratio < Double.POSITIVE_INFINITY, guard.name() + ": " + ratio);
    }
    assertTrue(operations.bytesAllocated() < 1);
  }

  /** Needs a GPU: {@code -Dsae4j.device=cuda}. */
  @Test
  void everyOperationRunsOnAGpu() {
    Assumptions.assumeTrue("cuda".equals(System.getProperty("sae4j.device")), "sae4j.device is not cuda");
    try (GateOperations operations = new GateOperations.OnGpu("cuda", 256, 1024, 8, 64)) {
      assertAllRunAndAllocateNothing(operations);
    }
  }

  /** Every phase is there, takes time, and together they fit in the whole. */
  @Test
  void theFirstCallIsGuardedByPhase() {
    Map<String, Double> ratios = Gate.firstCall(1);
    double phases = 0;
    for (String phase : FirstCall.PHASES) {
      double ratio = ratios.get("... its phase: " + phase);
      assertTrue(ratio > 0, phase);
      phases += ratio;
    }
    assertEquals(1 + FirstCall.PHASES.size(), ratios.size());
    assertTrue(phases <= ratios.get("first call of a new JVM, over a JVM that does nothing"), ratios.toString());
  }

  @Test
  void aPhaseThatIsMissingIsAnError() {
    assertThrows(IllegalStateException.class, () -> FirstCall.seconds("JVM start 40.00 ms\nopen 1.00 ms\n"));
  }

  /** Twice the time closes a phase that matters; a few milliseconds more of one that takes next to none do not. */
  @Test
  void aPhaseMayWobbleByHalfOrAQuarterOfAnEmptyJvm() {
    Limit wide = Gate.limit("... its phase: classes and libraries", 2);
    assertFalse(Gate.isClosed(2.9, wide, false));
    assertTrue(Gate.isClosed(3.1, wide, false));
    assertTrue(Gate.isClosed(3.1, wide, true));
    Limit narrow = Gate.limit("... its phase: first encode", 0.01);
    assertFalse(Gate.isClosed(0.25, narrow, false));
    assertTrue(Gate.isClosed(0.27, narrow, true));
    assertEquals(0.2, Gate.limit("encode, 1 row, over reading W_enc", 1).margin());
  }

  /** One disturbed phase alone leads to a second look, and the better of both counts for each. */
  @Test
  void aSecondLookClearsWhatWasDisturbed() {
    Map<String, Limit> limits = Map.of("a", new Limit(1, 0.2), "b", new Limit(1, 0.2));
    List<Map<String, Double>> looks = new ArrayList<>(List.of(Map.of("a", 5.0, "b", 1.0), Map.of("a", 1.1, "b", 7.0)));
    assertEquals(Map.of("a", 1.1, "b", 1.0), Gate.measured(() -> looks.remove(0), limits, false));
    looks.addAll(List.of(Map.of("a", 1.1, "b", 1.1)));
    assertEquals(Map.of("a", 1.1, "b", 1.1), Gate.measured(() -> looks.remove(0), limits, false));
  }

  @Test
  void aMachineIsItsBestKernelAndWhatOpenBlasChose() {
    assertEquals("avx512, SkylakeX with 2 threads", Gate.machine("kernels avx512 avx2 portable, OpenBLAS 0.3.31 SkylakeX with 2 threads"));
    assertEquals("NVIDIA H200", Gate.machine("NVIDIA H200, sm_90, 143771 MiB, driver 13.0"));
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

package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.ref.Reference;
import java.lang.ref.WeakReference;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A pointer into native memory keeps from being freed what it points into. */
class PointersTest {
  private static final SaeInfo INFO = new SaeInfo("test", "jumprelu", "float32", null, null, List.of(), List.of());
  private static final Map<String, Function<SparseCodes, Pointer>> OF_CODES =
      Map.of(
          "rowOffsets", SparseCodes::rowOffsets,
          "indices", SparseCodes::indices,
          "values", SparseCodes::values,
          "rowScale", SparseCodes::rowScale,
          "rowShift", SparseCodes::rowShift);
  private static final Map<String, Function<SaeWeights, Pointer>> OF_WEIGHTS =
      Map.of(
          "wEnc", SaeWeights::wEnc,
          "wDec", SaeWeights::wDec,
          "bDec", SaeWeights::bDec,
          "wSkip", SaeWeights::wSkip,
          "threshold", SaeWeights::threshold,
          "scale", SaeWeights::scale,
          "offset", SaeWeights::offset);
  private static final Map<String, Function<Pointer, Pointer>> MADE_FROM =
      Map.of(
          "itself", p -> p,
          "getPointer(i)", p -> p.getPointer(1),
          "getPointer(type, i)", p -> p.getPointer(BytePointer.class, 1),
          "a copy", p -> new Pointer(p),
          "a copy of a copy", p -> new FloatPointer(new BytePointer(p)),
          "a copy of one that was closed", PointersTest::copyOfClosed);

  private static Pointer copyOfClosed(Pointer p) {
    p.close();
    return new FloatPointer(p);
  }

  static Stream<Object[]> codes() {
    return OF_CODES.keySet().stream().flatMap(array -> MADE_FROM.keySet().stream().map(made -> new Object[] {array, made}));
  }

  static Stream<String> weights() {
    return OF_WEIGHTS.keySet().stream();
  }

  private static SparseCodes twoRows() {
    return SparseCodes.of(
        9, new long[] {0, 2, 3}, new int[] {1, 4, 0}, new float[] {1.5f, -2, 3}, new float[] {2, 4}, new float[] {-1, 1});
  }

  @ParameterizedTest(name = "{0}, {1}")
  @MethodSource("codes")
  void keepsCodes(String array, String made) throws InterruptedException {
    SparseCodes codes = twoRows();
    WeakReference<SparseCodes> kept = new WeakReference<>(codes);
    Pointer pointer = MADE_FROM.get(made).apply(OF_CODES.get(array).apply(codes));
    codes = null;
    collect(kept, 3);
    assertNotNull(kept.get(), "the pointer is still there");
    Reference.reachabilityFence(pointer);
    kept.get().close(); // or the log would report it
    pointer = null;
    collect(kept, 100);
    assertNull(kept.get(), "no pointer is there any more");
  }

  @ParameterizedTest
  @MethodSource("weights")
  void keepsWeights(String array) throws InterruptedException {
    SaeWeights weights =
        SaeWeights.allocate(
            new SaeWeights.Form(4, 4, 8, SaeWeights.Selection.GATE, 0, SaeWeights.Normalization.NONE, true), INFO);
    WeakReference<SaeWeights> kept = new WeakReference<>(weights);
    Pointer pointer = OF_WEIGHTS.get(array).apply(weights).getPointer(1);
    weights = null;
    collect(kept, 3);
    assertNotNull(kept.get(), "the pointer is still there");
    Reference.reachabilityFence(pointer);
    kept.get().close();
    pointer = null;
    collect(kept, 100);
    assertNull(kept.get(), "no pointer is there any more");
  }

  private static void collect(WeakReference<?> reference, int times) throws InterruptedException {
    for (int i = 0; i < times && reference.get() != null; i++) {
      System.gc();
      Thread.sleep(10);
    }
  }

  @Test
  void closingAPointerFreesNothing() {
    try (SparseCodes codes = twoRows()) {
      FloatPointer deallocated = codes.values();
      deallocated.deallocate();
      assertTrue(deallocated.isNull());
      try (PointerScope scope = new PointerScope()) {
        scope.attach(codes.values());
      }
      try (FloatPointer values = codes.values();
          FloatPointer rest = values.getPointer(1)) {
        assertEquals(-2, rest.get());
      }
      FloatPointer values = codes.values();
      values.close();
      assertFalse(values.isNull());
      assertEquals(3, values.get(2));
      assertEquals(3, values.capacity());
      assertEquals(3, values.limit());
      assertEquals(Float.BYTES, values.sizeof());
    }
  }

  /** JavaCPP lists what it must free, and may collect garbage or refuse for each that it adds. */
  @Test
  void pointersAreNotListedByJavaCpp() {
    try (SparseCodes codes = twoRows()) {
      codes.values();
      long before = Pointer.totalCount();
      FloatPointer[] many = new FloatPointer[1000];
      for (int i = 0; i < many.length; i++) {
        many[i] = codes.values();
      }
      assertTrue(Pointer.totalCount() < before + many.length / 2, "listed: " + (Pointer.totalCount() - before));
      Reference.reachabilityFence(many);
    }
  }

  @Test
  void aPositionIsItsHoldersAlone() {
    try (SaeWeights weights = SaeWeights.allocate(4, 4, 8, INFO)) {
      weights.wEnc().position(3).put(7);
      assertEquals(0, weights.wEnc().position());
      assertEquals(7, weights.wEnc().get(3));
    }
  }
}

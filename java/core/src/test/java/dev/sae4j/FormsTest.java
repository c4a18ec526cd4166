package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import dev.sae4j.io.CodesReader;
import dev.sae4j.io.CodesWriter;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/** TopK, normalisation and skip connections, on every device: against float64 within the bounds, against plain Java to the bit. */
@ParameterizedClass
@MethodSource("dev.sae4j.Devices#all")
class FormsTest {
  private static final int N = 70; // more than 64, at which masks end, and than the rows that need no screen

  /** What makes an SAE nasty. */
  private enum Kind {
    TIES,
    ALL_EQUAL,
    PREFIX, // the second half is never active
    CANCELLING, // v is what rounding leaves of huge terms
    HUGE_ROW // which skips the screens
  }

  private final Device device;

  FormsTest(Device device) {
    this.device = device;
  }

  @Test
  void everySelectionNormalizationAndSkip() {
    int[][] shapes = {{1, 1}, {2, 7}, {7, 1}, {129, 200}, {64, 300}};
    for (int[] shape : isSlow() ? new int[][] {{1, 1}, {2, 7}, {129, 40}} : shapes) {
      for (Normalization normalization : Normalization.values()) {
        if (normalization == Normalization.LAYER && shape[0] == 1) {
          continue;
        }
        for (Selection selection : Selection.values()) {
          for (int k : selection == Selection.GATE ? new int[] {0} : new int[] {1, Math.min(5, shape[1]), shape[1]}) {
            for (boolean hasSkip : new boolean[] {false, true}) {
              int dOut = normalization == Normalization.NONE ? shape[0] + 3 : shape[0];
              TestSae sae = new TestSae(shape[0], dOut, shape[1]).with(selection, k, normalization, hasSkip);
              float[] x = sae.normal(N * sae.dIn);
              Arrays.fill(x, sae.dIn, 2 * sae.dIn, 0);
              assertSame(sae, x, "k " + k + ", " + selection + ", " + normalization + ", skip " + hasSkip);
            }
          }
        }
      }
    }
  }

  /** The emulation runs a GPU's threads one after another. */
  private boolean isSlow() {
    return Devices.isEmulated() && !device.isCpu();
  }

  @Test
  void ties() {
    nasty(Kind.TIES);
  }

  @Test
  void allEqual() {
    nasty(Kind.ALL_EQUAL);
  }

  @Test
  void prefixOfTheFeatures() {
    nasty(Kind.PREFIX);
  }

  @Test
  void hugeTermsThatCancel() {
    nasty(Kind.CANCELLING);
  }

  @Test
  void rowThatOverflowsTheScreens() {
    nasty(Kind.HUGE_ROW);
  }

  private void nasty(Kind kind) {
    for (Normalization normalization : Normalization.values()) {
      for (Selection selection : Selection.values()) {
        for (int k : selection == Selection.GATE ? new int[] {0} : new int[] {1, 20, 150}) {
          TestSae sae = new TestSae(12, 12, 150).with(selection, k, normalization, false);
          float[] x = sae.normal(N * sae.dIn);
          makeNasty(sae, kind, x);
          assertSame(sae, x, kind + ", k " + k + ", " + selection + ", " + normalization);
        }
      }
    }
  }

  private static void makeNasty(TestSae sae, Kind kind, float[] x) {
    int d = sae.dIn;
    Arrays.fill(sae.threshold, Float.NEGATIVE_INFINITY);
    switch (kind) {
      case TIES, ALL_EQUAL -> {
        for (int i = 0; i < sae.wEnc.length; i++) {
          sae.wEnc[i] = kind == Kind.TIES ? sae.random.nextInt(3) - 1 : sae.wEnc[i % d];
        }
        for (int i = 0; kind == Kind.TIES && i < x.length; i++) {
          x[i] = sae.random.nextInt(3) - 1;
        }
        Arrays.fill(sae.scale, 1);
        Arrays.fill(sae.offset, 0);
      }
      case PREFIX -> Arrays.fill(sae.threshold, sae.dSae / 2, sae.dSae, Float.POSITIVE_INFINITY);
      case CANCELLING -> {
        for (int j = 0; j < sae.dSae; j++) {
          sae.scale[j] = 1e6f;
          sae.offset[j] = -1e6f * CanonicalSae.dot(x, 30 * d, sae.wEnc, j * d, d);
        }
      }
      case HUGE_ROW -> {
        for (int i = 40 * d; i < 41 * d; i++) {
          x[i] *= 1e34f;
        }
      }
    }
  }

  private void assertSame(TestSae sae, float[] x, String what) {
    CanonicalSae canonical = new CanonicalSae(sae);
    ReferenceSae reference = new ReferenceSae(sae);
    Csr codes = canonical.encode(x);
    float[] skipped = sae.wSkip == null ? null : x;
    float[] point = canonical.decode(codes, skipped, false);
    float[] direction = canonical.decode(codes, skipped, true);
    reference.assertEncoded(x, codes);
    reference.assertDecoded(codes, skipped, false, point);
    reference.assertDecoded(codes, skipped, true, direction);
    try (SparseAutoencoder engine = sae.open(device);
        SparseCodes got = new SparseCodes()) {
      for (int n : new int[] {0, 1, N}) {
        String where = what + ", n " + n + ", d_in " + sae.dIn + ", d_sae " + sae.dSae + ", seed " + TestSae.SEED + ", " + device;
        float[] rows = Arrays.copyOf(x, n * sae.dIn);
        engine.encode(rows, got);
        codes.firstRows(n).assertSame(Csr.of(got), where);
        float[] given = skipped == null ? null : rows;
        float[] gotPoint = engine.decode(got, given);
        float[] gotDirection = engine.decodeDirection(got, given);
        assertArrayEquals(Csr.bits(Arrays.copyOf(point, n * sae.dOut)), Csr.bits(gotPoint), where);
        assertArrayEquals(Csr.bits(Arrays.copyOf(direction, n * sae.dOut)), Csr.bits(gotDirection), where);
      }
    }
  }

  @Test
  void equalValuesOnBothSidesOfATilesEdge() {
    for (Selection selection : List.of(Selection.TOP, Selection.TOP_SIGNED, Selection.TOP_ABS)) {
      int dSae = isSlow() ? 2_000 : 40_000;
      TestSae sae = new TestSae(2, 2, dSae).with(selection, dSae * 3 / 4, Normalization.NONE, false);
      float[] x = new float[N * 2];
      makeNasty(sae, Kind.TIES, x);
      Csr expected = new CanonicalSae(sae).encode(x);
      try (SparseAutoencoder engine = sae.open(device);
          SparseCodes got = engine.encode(x)) {
        expected.assertSame(Csr.of(got), device + ", " + selection);
      }
    }
  }

  @Test
  void codesFromArraysAndFilesDecodeToTheSame(@TempDir Path folder) {
    TestSae sae = new TestSae(9, 9, 40).with(Selection.TOP, 6, Normalization.LAYER, true);
    float[] x = sae.normal(N * 9);
    try (SparseAutoencoder engine = sae.open(device);
        SparseCodes codes = engine.encode(x);
        SparseCodes read = new SparseCodes()) {
      Csr csr = Csr.of(codes);
      float[] expected = engine.decode(codes, x);
      try (SparseCodes made = SparseCodes.of(40, csr.rowOffsets(), csr.indices(), csr.values(), csr.scale(), csr.shift())) {
        assertArrayEquals(expected, engine.decode(made, x), 0);
      }
      Path file = folder.resolve("codes.npz");
      try (CodesWriter writer = CodesWriter.create(file, 40)) {
        writer.accept(codes);
        writer.commit();
      }
      try (CodesReader reader = CodesReader.open(file)) {
        assertEquals(N, reader.read(read, N));
      }
      csr.assertSame(Csr.of(read), "file");
    }
  }

  @Test
  void pointersBuffersAndArraysAgree() {
    TestSae sae = new TestSae(6, 5, 20).with(Selection.GATE, 0, Normalization.NONE, true);
    float[] x = sae.normal(3 * 6);
    try (SparseAutoencoder engine = sae.open(device);
        SparseCodes codes = engine.encode(x);
        FloatPointer pointer = new FloatPointer(x);
        FloatPointer out = new FloatPointer(15)) {
      FloatBuffer buffer = direct(19).position(1).put(x).position(1);
      FloatBuffer outBuffer = direct(15);
      float[] got = new float[15];
      for (boolean isDirection : new boolean[] {false, true}) {
        float[] expected = isDirection ? engine.decodeDirection(codes, x) : engine.decode(codes, x);
        if (isDirection) {
          engine.decodeDirection(codes, pointer, out);
          engine.decodeDirection(codes, buffer, outBuffer);
        } else {
          engine.decode(codes, pointer, out);
          engine.decode(codes, buffer, outBuffer);
        }
        out.get(got);
        assertArrayEquals(expected, got, 0);
        outBuffer.get(0, got);
        assertArrayEquals(expected, got, 0);
      }
      assertEquals(18, buffer.remaining(), "the buffer's position moved");
    }
  }

  /** The codes of a direction are of no x: nothing is scaled back, nothing skips. */
  @Test
  void directionsAreDecodedAsByThePlainModel() {
    TestSae plain = new TestSae(6, 6, 20);
    float[] v = plain.normal(12);
    for (TestSae form :
        List.of(
            new TestSae(6, 6, 20).with(Selection.TOP, 3, Normalization.LAYER, false),
            new TestSae(6, 6, 20).with(Selection.GATE, 0, Normalization.NONE, true))) {
      try (SparseAutoencoder a = plain.open(device);
          SparseAutoencoder b = form.open(device);
          SparseCodes expected = a.pursue(v, Pursuit.omp(4));
          SparseCodes got = b.pursue(v, Pursuit.omp(4));
          SparseCodes projected = b.project(v, Projection.top(4))) {
        assertArrayEquals(a.decodeDirection(expected), b.decodeDirection(got));
        assertArrayEquals(a.decodeDirection(projected), b.decodeDirection(projected));
      }
    }
  }

  @Test
  void whatDoesNotGoTogetherIsNamed() {
    TestSae plain = new TestSae(6, 6, 20);
    TestSae normalizing = new TestSae(6, 6, 20).with(Selection.GATE, 0, Normalization.CONSTANT, false);
    TestSae skipping = new TestSae(6, 6, 20).with(Selection.GATE, 0, Normalization.NONE, true);
    float[] x = plain.normal(12);
    try (SparseAutoencoder a = plain.open(device);
        SparseAutoencoder b = normalizing.open(device);
        SparseAutoencoder c = skipping.open(device);
        SparseCodes codes = a.encode(x);
        SparseCodes scaled = b.encode(x)) {
      assertNull(codes.rowScale());
      assertNull(codes.rowShift());
      assertEquals(2, scaled.rowScale().capacity());
      refused("the model has no skip connection", () -> a.decode(codes, x));
      refused("decode needs x", () -> c.decode(codes));
      refused("x has 11 values, expected those of the codes' rows: n * d = 2 * 6", () -> c.decode(codes, new float[11]));
      refused("x has 18 values", () -> c.decode(codes, direct(18), direct(12)));
      refused("x has 6 values", () -> c.decodeDirection(codes, new FloatPointer(new float[6]), new FloatPointer(new float[12])));
      refused("this one does not", () -> a.decode(scaled));
      refused("it normalises", () -> b.decode(codes));
      float[] bad = x.clone();
      bad[8] = Float.NEGATIVE_INFINITY;
      refused("x must be finite, got -inf at row 1, column 2", () -> c.decode(codes, bad));
      refused("x must be finite, got -inf at row 1, column 2", () -> b.encode(bad, scaled));
      assertEquals(0, scaled.rows());
      assertNull(scaled.rowScale());
    }
    long[] offsets = {0, 0};
    refused("rowScale must have a value for each row: expected 1, got 2", () -> of(offsets, new float[2], new float[1]));
    refused("both be given, or neither", () -> of(offsets, new float[1], null));
    refused("must be finite, got inf and 0 in row 0", () -> of(offsets, new float[] {Float.POSITIVE_INFINITY}, new float[1]));
    skipping.wSkip[8] = Float.NaN;
    refused("w_skip of output 1 must be finite, got nan at 2", () -> skipping.open(device));
  }

  private static SparseCodes of(long[] offsets, float[] scale, float[] shift) {
    return SparseCodes.of(20, offsets, new int[0], new float[0], scale, shift);
  }

  private static FloatBuffer direct(int count) {
    return ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  private static void refused(String message, Executable call) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call);
    assertTrue(e.getMessage().contains(message), "expected \"" + message + "\", got \"" + e.getMessage() + "\"");
    assertEquals(1, e.getMessage().lines().count());
  }
}

package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/** The three forms of arrays, chunks, and what is refused. */
@ParameterizedClass
@MethodSource("dev.sae4j.Devices#each")
class ArgumentTest {
  private final TestSae sae = new TestSae(6, 5, 20);
  private final Device device;
  private final SparseAutoencoder engine;
  private final SparseCodes codes = new SparseCodes();

  ArgumentTest(Device device) {
    this.device = device;
    engine = sae.open(device);
  }

  @AfterEach
  void close() {
    codes.close();
    engine.close();
  }

  private static FloatBuffer direct(float... values) {
    FloatBuffer buffer = ByteBuffer.allocateDirect(4 * values.length).order(ByteOrder.nativeOrder()).asFloatBuffer();
    return buffer.put(values).flip();
  }

  private static void refused(String message, Executable call) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call);
    assertTrue(e.getMessage().contains(message), "expected \"" + message + "\", got \"" + e.getMessage() + "\"");
    assertEquals(1, e.getMessage().lines().count());
  }

  @Test
  void pointersBuffersAndArraysAgree() {
    float[] x = sae.normal(3 * 6);
    engine.encode(x, codes);
    Csr expected = Csr.of(codes);
    float[] decoded = engine.decode(codes);
    float[] decodedDirection = engine.decodeDirection(codes);

    FloatBuffer buffer = direct(Arrays.copyOf(x, 20)).position(0).limit(18);
    engine.encode(buffer, codes);
    expected.assertSame(Csr.of(codes), "direct buffer");
    assertEquals(18, buffer.remaining(), "the buffer's position moved");
    float[] shifted = new float[19];
    System.arraycopy(x, 0, shifted, 1, 18);
    engine.encode(direct(shifted).position(1), codes);
    expected.assertSame(Csr.of(codes), "direct buffer from a position");
    engine.encode(FloatBuffer.wrap(shifted).position(1), codes);
    expected.assertSame(Csr.of(codes), "heap buffer from a position");

    FloatBuffer out = direct(new float[17]).position(2);
    engine.decode(codes, out);
    for (int i = 0; i < 15; i++) {
      assertEquals(decoded[i], out.get(2 + i));
    }
    engine.decodeDirection(codes, out);
    for (int i = 0; i < 15; i++) {
      assertEquals(decodedDirection[i], out.get(2 + i));
    }
    try (FloatPointer pointer = new FloatPointer(x);
        FloatPointer outPointer = new FloatPointer(15L)) {
      engine.encode(pointer, 3, codes);
      expected.assertSame(Csr.of(codes), "pointer");
      engine.decode(codes, outPointer);
      float[] got = new float[15];
      outPointer.get(got);
      assertArrayEquals(decoded, got);
    }

    float[] v = sae.normal(2 * 5);
    float[] dense = engine.projectDense(v, Projection.Readout.DECODER, true);
    FloatBuffer denseOut = direct(new float[40]);
    engine.projectDense(direct(v), Projection.Readout.DECODER, true, denseOut);
    for (int i = 0; i < 40; i++) {
      assertEquals(dense[i], denseOut.get(i));
    }
    engine.project(v, Projection.top(3), codes);
    Csr top = Csr.of(codes);
    engine.project(direct(v), Projection.top(3), codes);
    top.assertSame(Csr.of(codes), "project a direct buffer");
  }

  @Test
  void chunksEqualOneCall() throws IOException {
    float[] x = sae.normal(25 * 6);
    engine.encode(x, codes);
    Csr whole = Csr.of(codes);
    int[] position = {0};
    List<Integer> indices = new ArrayList<>();
    List<Long> rows = new ArrayList<>();
    long total =
        engine.encode(
            into -> {
              int n = Math.min(into.remaining() / 6, 25 - position[0]);
              into.put(x, position[0] * 6, n * 6);
              position[0] += n;
              return n;
            },
            10,
            chunk -> {
              rows.add(chunk.rows());
              Arrays.stream(Csr.of(chunk).indices()).forEach(indices::add);
            });
    assertEquals(25, total);
    assertEquals(List.of(10L, 10L, 5L), rows);
    assertArrayEquals(whole.indices(), indices.stream().mapToInt(i -> i).toArray());
    refused("chunkRows must be", () -> engine.encode(into -> 0, 0, chunk -> {}));
  }

  @Test
  void badArraysAreRefused() {
    refused("x has 7 values, expected a multiple of d = 6", () -> engine.encode(new float[7], codes));
    refused("x has 7 values", () -> engine.encode(direct(new float[7]), codes));
    refused("got nan at row 1, column 2", () -> engine.encode(new float[] {1, 1, 1, 1, 1, 1, 1, 1, Float.NaN, 1, 1, 1}, codes));
    refused("got inf at row 0, column 1", () -> engine.project(new float[] {1, Float.POSITIVE_INFINITY, 1, 1, 1}, Projection.top(2), codes));
    refused("byte order", () -> engine.encode(ByteBuffer.allocateDirect(24).order(ByteOrder.BIG_ENDIAN).asFloatBuffer(), codes));
    refused("read-only", () -> engine.encode(FloatBuffer.wrap(new float[6]).asReadOnlyBuffer(), codes));
    engine.encode(direct(new float[6]).asReadOnlyBuffer(), codes); // a direct one is fine to read
    engine.encode(new float[12], codes);
    refused("xHat has room for 9 values, expected n * d = 2 * 5", () -> engine.decode(codes, direct(new float[9])));
    refused("xHat is read-only", () -> engine.decode(codes, direct(new float[10]).asReadOnlyBuffer()));
    try (FloatPointer small = new FloatPointer(11L)) {
      refused("x has 11 values, expected n * d = 2 * 6", () -> engine.encode(small, 2, codes));
    }
    refused("k must be", () -> engine.project(new float[5], Projection.top(0), codes));
    refused("decoder readout", () -> engine.project(new float[6], Projection.top(1).withReadout(Projection.Readout.ENCODER).withUnit(true), codes));
    refused("d_in must be 1 to", () -> SaeWeights.allocate(0, 1, 1, null));
    refused("d_sae must be 1 to", () -> SaeWeights.allocate(1, 1, 1L << 40, null));
  }

  /** Rows of which all but row 25000 are zeros. */
  private SparseAutoencoder.Rows rowsWith(float value, String name) {
    long[] next = {0};
    return new SparseAutoencoder.Rows() {
      @Override
      public long read(FloatBuffer into) {
        long n = Math.min(into.remaining() / 6, 26_000 - next[0]);
        into.duplicate().put(new float[(int) n * 6]);
        if (next[0] <= 25_000 && 25_000 < next[0] + n) {
          for (int column = 0; column < 6; column++) {
            into.put((int) (25_000 - next[0]) * 6 + column, value);
          }
        }
        next[0] += n;
        return n;
      }

      @Override
      public String name() {
        return name;
      }
    };
  }

  @Test
  void rowsAreCountedOverChunks() {
    for (int chunkRows : new int[] {8192, 25_000, 26_000}) {
      refused("row 25000, column 0", () -> engine.encode(rowsWith(Float.NaN, null), chunkRows, chunk -> {}));
      refused("acts: x must be finite", () -> engine.encode(rowsWith(Float.NaN, "acts"), chunkRows, chunk -> {}));
      refused("the product of row 25000", () -> engine.encode(rowsWith(Float.MAX_VALUE, null), chunkRows, chunk -> {}));
    }
  }

  @Test
  void failedCallsLeaveNoRows() {
    engine.encode(sae.normal(12), codes);
    assertEquals(2, codes.rows());
    assertThrows(IllegalArgumentException.class, () -> engine.encode(new float[] {1, 1, 1, 1, 1, Float.NaN}, codes));
    assertEquals(0, codes.rows());
    assertEquals(0, codes.nnz());
  }

  @Test
  void codesFromArraysAreChecked() {
    try (SparseCodes made = SparseCodes.of(20, new long[] {0, 2, 2}, new int[] {3, 19}, new float[] {1, -2})) {
      assertArrayEquals(new CanonicalSae(sae).decode(Csr.of(made), null, true), engine.decodeDirection(made));
    }
    refused("row_offsets[0] must be 0", () -> SparseCodes.of(20, new long[] {1, 2}, new int[] {3, 4}, new float[2]));
    refused("ascend strictly", () -> SparseCodes.of(20, new long[] {0, 2}, new int[] {4, 4}, new float[2]));
    refused("got 20 after", () -> SparseCodes.of(20, new long[] {0, 1}, new int[] {20}, new float[1]));
    refused("got -1 after", () -> SparseCodes.of(20, new long[] {0, 1}, new int[] {-1}, new float[1]));
    refused("values must be finite", () -> SparseCodes.of(20, new long[] {0, 1}, new int[] {1}, new float[] {Float.NaN}));
    refused("expected 2, got 1", () -> SparseCodes.of(20, new long[] {0, 2}, new int[] {1, 2}, new float[1]));
    refused("rowOffsets must end at the 1 indices", () -> SparseCodes.of(20, new long[] {0, 2}, new int[] {1}, new float[1]));
    try (SparseCodes other = SparseCodes.of(21, new long[] {0, 0}, new int[0], new float[0])) {
      refused("codes have 21 features, expected d_sae = 20", () -> engine.decode(other));
    }
  }

  @Test
  void productsThatOverflowAreRefused() {
    float[] x = new float[12];
    Arrays.fill(x, 6, 12, 3e38f);
    refused("the product of row 1 with feature ", () -> engine.encode(x, codes));
    assertEquals(0, codes.rows());
    refused("the product of row 0 with feature ", () -> engine.project(Arrays.copyOfRange(x, 6, 11), Projection.top(2), codes));
    assertEquals(0, codes.rows());
  }

  @Test
  void badWeightsAreRefused() {
    sae.wDec[13] = Float.NaN;
    refused("w_dec of feature 2 must be finite, got nan at 3", () -> sae.open(device).close());
    sae.wDec[13] = 0;
    sae.threshold[4] = Float.NaN;
    refused("feature 4: threshold", () -> sae.open(device).close());
    sae.threshold[4] = Float.POSITIVE_INFINITY;
    sae.open(device).close();
    sae.bDec[1] = Float.NEGATIVE_INFINITY;
    refused("b_dec must be finite", () -> sae.open(device).close());
  }
}

package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;
import org.bytedeco.javacpp.FloatPointer;

/**
 * Codes as plain arrays, comparable to the bit.
 *
 * @param scale, shift [n], or null where the SAE does not normalise
 */
record Csr(long[] rowOffsets, int[] indices, float[] values, float[] scale, float[] shift) {
  Csr(long[] rowOffsets, int[] indices, float[] values) {
    this(rowOffsets, indices, values, null, null);
  }

  static Csr of(SparseCodes codes) {
    long[] rowOffsets = new long[(int) codes.rows() + 1];
    codes.rowOffsets().get(rowOffsets);
    int[] indices = new int[(int) codes.nnz()];
    float[] values = new float[indices.length];
    codes.indices().get(indices);
    codes.values().get(values);
    return new Csr(rowOffsets, indices, values, rows(codes.rowScale()), rows(codes.rowShift()));
  }

  private static float[] rows(FloatPointer array) {
    if (array == null) {
      return null;
    }
    float[] values = new float[(int) array.capacity()];
    array.get(values);
    return values;
  }

  Csr firstRows(int n) {
    int end = (int) rowOffsets[n];
    return new Csr(
        Arrays.copyOf(rowOffsets, n + 1),
        Arrays.copyOf(indices, end),
        Arrays.copyOf(values, end),
        scale == null ? null : Arrays.copyOf(scale, n),
        shift == null ? null : Arrays.copyOf(shift, n));
  }

  void assertSame(Csr other, String where) {
    assertArrayEquals(rowOffsets, other.rowOffsets, where + ": row offsets");
    assertArrayEquals(indices, other.indices, where + ": indices");
    assertArrayEquals(bits(values), bits(other.values), where + ": bits of the values");
    assertArrayEquals(bits(scale), bits(other.scale), where + ": bits of the scale");
    assertArrayEquals(bits(shift), bits(other.shift), where + ": bits of the shift");
  }

  static int[] bits(float[] values) {
    if (values == null) {
      return null;
    }
    int[] bits = new int[values.length];
    for (int k = 0; k < values.length; k++) {
      bits[k] = Float.floatToRawIntBits(values[k]);
    }
    return bits;
  }
}

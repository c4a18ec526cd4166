package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.util.Arrays;

/** Codes as plain arrays, comparable to the bit. */
record Csr(long[] rowOffsets, int[] indices, float[] values) {
  static Csr of(SparseCodes codes) {
    long[] rowOffsets = new long[(int) codes.rows() + 1];
    codes.rowOffsets().get(rowOffsets);
    int[] indices = new int[(int) codes.nnz()];
    float[] values = new float[indices.length];
    codes.indices().get(indices);
    codes.values().get(values);
    return new Csr(rowOffsets, indices, values);
  }

  Csr firstRows(int n) {
    int end = (int) rowOffsets[n];
    return new Csr(Arrays.copyOf(rowOffsets, n + 1), Arrays.copyOf(indices, end), Arrays.copyOf(values, end));
  }

  void assertSame(Csr other, String where) {
    assertArrayEquals(rowOffsets, other.rowOffsets, where + ": row offsets");
    assertArrayEquals(indices, other.indices, where + ": indices");
    int[] bits = new int[values.length];
    int[] otherBits = new int[values.length];
    for (int k = 0; k < values.length; k++) {
      bits[k] = Float.floatToRawIntBits(values[k]);
      otherBits[k] = Float.floatToRawIntBits(other.values[k]);
    }
    assertArrayEquals(bits, otherBits, where + ": bits of the values");
  }
}

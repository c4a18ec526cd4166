package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * The truth, in float64, written to be read: what each operation means, and how far float32 may be from it.
 *
 * <p>Bounds: a canonical dot of d elements is within E sum|x_i w_i| of the exact one, E = 1.01 u (ceil(d / 128) + 8), u = 2^-24.
 */
final class ReferenceSae {
  private static final double U = 0x1p-24;

  private final TestSae sae;

  ReferenceSae(TestSae sae) {
    this.sae = sae;
  }

  static double bound(int d) {
    return 1.01 * U * ((d + 127) / 128 + 8);
  }

  static double dot(float[] a, int aStart, float[] b, int bStart, int d) {
    double sum = 0;
    for (int i = 0; i < d; i++) {
      sum += (double) a[aStart + i] * b[bStart + i];
    }
    return sum;
  }

  /** sum |a_i b_i|: what rounding errors scale with. */
  static double size(float[] a, int aStart, float[] b, int bStart, int d) {
    double sum = 0;
    for (int i = 0; i < d; i++) {
      sum += Math.abs((double) a[aStart + i] * b[bStart + i]);
    }
    return sum;
  }

  /** The same features are active but for those within rounding of the edge, and their values are right. */
  void assertEncoded(float[] x, Csr codes) {
    int n = x.length / sae.dIn;
    assertEquals(n + 1, codes.rowOffsets().length);
    for (int row = 0; row < n; row++) {
      double[] normalized = normalized(x, row, codes);
      long at = codes.rowOffsets()[row];
      long end = codes.rowOffsets()[row + 1];
      double leastKept = Double.POSITIVE_INFINITY; // of the ranks, at most
      double largestLeft = Double.NEGATIVE_INFINITY; // at least
      for (int j = 0; j < sae.dSae; j++) {
        double p = 0;
        double size = 0;
        for (int i = 0; i < sae.dIn; i++) {
          p += normalized[i] * sae.wEnc[j * sae.dIn + i];
          size += Math.abs(normalized[i] * sae.wEnc[j * sae.dIn + i]);
        }
        double error = (bound(sae.dIn) + 2 * U) * size; // 2 U: x' is rounded to float32
        double value = sae.scale[j] * p + sae.offset[j];
        double valueError = sae.scale[j] * error + 2 * U * (Math.abs(value) + Math.abs(sae.offset[j])) + Float.MIN_VALUE;
        boolean onEdge = Math.abs(p - sae.threshold[j]) <= error + U * Math.abs(sae.threshold[j]) || Math.abs(value) <= valueError;
        boolean eligible = p > sae.threshold[j] && (value > 0 || sae.selection.ordinal() >= 2 && value != 0);
        boolean got = at < end && codes.indices()[(int) at] == j;
        String where = "row " + row + ", feature " + j;
        String what = where + ": p " + p + ", threshold " + sae.threshold[j] + ", active " + got;
        assertTrue(onEdge || (sae.selection == SaeWeights.Selection.GATE ? got == eligible : !got || eligible), what);
        double rank = sae.selection == SaeWeights.Selection.TOP_ABS ? Math.abs(value) : value;
        if (got) {
          float gotValue = codes.values()[(int) at++];
          assertTrue(gotValue > 0 || sae.selection.ordinal() >= 2 && gotValue != 0, where);
          assertEquals(value, gotValue, valueError, where);
          leastKept = Math.min(leastKept, rank + valueError);
        } else if (eligible && !onEdge) {
          largestLeft = Math.max(largestLeft, rank - valueError);
        }
      }
      assertEquals(end, at, "row " + row + ": features out of order");
      if (sae.selection != SaeWeights.Selection.GATE) {
        long kept = end - codes.rowOffsets()[row];
        assertTrue(kept <= sae.k && leastKept >= largestLeft, "row " + row + ": a better feature was left out");
        assertTrue(kept == sae.k || largestLeft == Double.NEGATIVE_INFINITY, "row " + row + ": fewer than k were kept");
      }
    }
  }

  /** The row that the features see; the codes' scale and shift are right too. */
  private double[] normalized(float[] x, int row, Csr codes) {
    int d = sae.dIn;
    double[] normalized = IntStream.range(row * d, (row + 1) * d).mapToDouble(i -> x[i]).toArray();
    if (sae.normalization == SaeWeights.Normalization.NONE) {
      return normalized;
    }
    boolean layer = sae.normalization == SaeWeights.Normalization.LAYER;
    double mean = layer ? Arrays.stream(normalized).sum() / d : 0;
    double squares = Arrays.stream(normalized).map(value -> (value - mean) * (value - mean)).sum();
    double scale = Math.sqrt(squares / (layer ? d - 1 : d));
    assertEquals(scale, codes.scale()[row], 2 * U * scale, "scale of row " + row);
    assertEquals(mean, codes.shift()[row], 2 * U * Math.abs(mean) + 1e-12, "shift of row " + row);
    return Arrays.stream(normalized)
        .map(value -> layer ? (value - mean) / (scale + 1e-5) : scale == 0 ? 0 : value / scale)
        .toArray();
  }

  void assertDecoded(Csr codes, float[] x, boolean direction, float[] xHat) {
    for (int row = 0; row + 1 < codes.rowOffsets().length; row++) {
      int begin = (int) codes.rowOffsets()[row];
      int end = (int) codes.rowOffsets()[row + 1];
      double scale = codes.scale() == null ? 1 : codes.scale()[row];
      double shift = codes.scale() == null || direction ? 0 : codes.shift()[row];
      for (int i = 0; i < sae.dOut; i++) {
        double sum = direction ? 0 : sae.bDec[i];
        double size = Math.abs(sum);
        for (int k = begin; k < end; k++) {
          double term = (double) codes.values()[k] * sae.wDec[codes.indices()[k] * sae.dOut + i];
          sum += term;
          size += Math.abs(term);
        }
        double error = 1.01 * U * (end - begin + 4) * size;
        if (sae.wSkip != null) {
          sum += dot(x, row * sae.dIn, sae.wSkip, i * sae.dIn, sae.dIn);
          error += (bound(sae.dIn) + 2 * U) * size(x, row * sae.dIn, sae.wSkip, i * sae.dIn, sae.dIn);
        }
        double expected = scale * sum + shift;
        error = scale * error + U * Math.abs(expected);
        assertEquals(expected, xHat[row * sae.dOut + i], error, "row " + row + ", column " + i);
      }
    }
  }

  /** @param screenTerms the summands that a BLAS may add in any order, 0 for canonical coefficients */
  void assertProjected(float[] v, Projection.Readout readout, boolean unit, float[] coefficients, int screenTerms) {
    boolean decoder = readout == Projection.Readout.DECODER;
    int d = decoder ? sae.dOut : sae.dIn;
    float[] rows = decoder ? sae.wDec : sae.wEnc;
    double relative = bound(d) + (screenTerms == 0 ? 0 : 1.01 * U * (screenTerms + 32));
    for (int row = 0; row < v.length / d; row++) {
      for (int j = 0; j < sae.dSae; j++) {
        double norm = unit ? Math.sqrt(dot(rows, j * d, rows, j * d, d)) : 1;
        double expected = norm == 0 ? 0 : dot(v, row * d, rows, j * d, d) / norm;
        double size = norm == 0 ? 0 : size(v, row * d, rows, j * d, d) / norm;
        double error = 2 * relative * size + 4 * U * Math.abs(expected) + Float.MIN_VALUE;
        assertEquals(expected, coefficients[row * sae.dSae + j], error, "row " + row + ", feature " + j);
      }
    }
  }
}

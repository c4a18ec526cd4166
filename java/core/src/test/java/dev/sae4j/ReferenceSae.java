package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
      long at = codes.rowOffsets()[row];
      long end = codes.rowOffsets()[row + 1];
      for (int j = 0; j < sae.dSae; j++) {
        double p = dot(x, row * sae.dIn, sae.wEnc, j * sae.dIn, sae.dIn);
        double error = bound(sae.dIn) * size(x, row * sae.dIn, sae.wEnc, j * sae.dIn, sae.dIn);
        double value = sae.scale[j] * p + sae.offset[j];
        boolean onEdge =
            Math.abs(p - sae.threshold[j]) <= error + U * Math.abs(sae.threshold[j])
                || Math.abs(value) <= sae.scale[j] * error + 2 * U * Math.abs(sae.offset[j]);
        boolean active = p > sae.threshold[j] && value > 0;
        boolean got = at < end && codes.indices()[(int) at] == j;
        String where = "row " + row + ", feature " + j;
        assertTrue(got == active || onEdge, where + ": p " + p + ", threshold " + sae.threshold[j] + ", active " + got);
        if (got) {
          float gotValue = codes.values()[(int) at++];
          assertTrue(gotValue > 0, where);
          assertEquals(value, gotValue, sae.scale[j] * error + 2 * U * Math.abs(value) + Float.MIN_VALUE, where);
        }
      }
      assertEquals(end, at, "row " + row + ": features out of order");
    }
  }

  void assertDecoded(Csr codes, boolean direction, float[] xHat) {
    for (int row = 0; row + 1 < codes.rowOffsets().length; row++) {
      int begin = (int) codes.rowOffsets()[row];
      int end = (int) codes.rowOffsets()[row + 1];
      for (int i = 0; i < sae.dOut; i++) {
        double sum = direction ? 0 : sae.bDec[i];
        double size = Math.abs(sum);
        for (int k = begin; k < end; k++) {
          double term = (double) codes.values()[k] * sae.wDec[codes.indices()[k] * sae.dOut + i];
          sum += term;
          size += Math.abs(term);
        }
        assertEquals(sum, xHat[row * sae.dOut + i], 1.01 * U * (end - begin + 2) * size, "row " + row + ", column " + i);
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

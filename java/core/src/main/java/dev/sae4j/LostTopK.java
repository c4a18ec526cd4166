package dev.sae4j;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Whether an SAE that was read as ReLU, JumpReLU or Gated explains its activations when only the largest features of a
 * row count.
 */
final class LostTopK {
  private static final int LARGEST_K = 512;
  private static final long ROWS = 128; // enough to tell

  private LostTopK() {}

  /**
   * @param x [n, dIn]
   * @param most the explained variance to exceed
   * @return "it is ... if ...", or null where no k helps, or the SAE selects already
   */
  static String sentence(SparseAutoencoder sae, float[] x, double most) {
    SaeWeights.Form form = sae.form();
    if (form.selection() != SaeWeights.Selection.GATE || form.normalization() != SaeWeights.Normalization.NONE) {
      return null;
    }
    float[] rows = Arrays.copyOf(x, Math.toIntExact(Math.min(x.length, ROWS * sae.dIn())));
    String found = null;
    for (boolean subtracts : List.of(false, true)) {
      try (SparseCodes codes = sae.encode(subtracts ? minusBDec(sae, rows) : rows)) {
        for (int k = 1; k <= LARGEST_K && k < codes.nnz() / codes.rows(); k *= 2) {
          try (SparseCodes largest = largest(codes, k)) {
            double explained = SelfCheck.explained(rows, sae.decode(largest), Math.toIntExact(sae.dIn()));
            if (explained > most) {
              most = explained;
              found =
                  String.format(
                      Locale.ROOT,
                      "it is %.4g if %sonly the %d or so largest features of a row count (a TopK whose k was lost)",
                      most, subtracts ? "b_dec is subtracted from the input first and " : "", k);
            }
          }
        }
      }
    }
    return found;
  }

  private static float[] minusBDec(SparseAutoencoder sae, float[] x) {
    float[] bDec = new float[Math.toIntExact(sae.dIn())];
    sae.weights().bDec().get(bDec);
    float[] rest = x.clone();
    for (int i = 0; i < rest.length; i++) {
      rest[i] -= bDec[i % bDec.length];
    }
    return rest;
  }

  /** The codes of each row that are among its k largest. */
  private static SparseCodes largest(SparseCodes codes, int k) {
    long[] offsets = new long[Math.toIntExact(codes.rows()) + 1];
    int[] indices = new int[(offsets.length - 1) * k];
    float[] values = new float[indices.length];
    int kept = 0;
    for (int row = 0; row + 1 < offsets.length; row++) {
      long from = codes.rowOffsets().get(row);
      float[] own = new float[Math.toIntExact(codes.rowOffsets().get(row + 1) - from)];
      int[] features = new int[own.length];
      codes.values().getPointer(from).get(own);
      codes.indices().getPointer(from).get(features);
      float[] sorted = own.clone();
      Arrays.sort(sorted);
      float least = sorted.length > k ? sorted[sorted.length - k] : 0;
      for (int i = 0; i < own.length && kept < offsets[row] + k; i++) {
        if (own[i] >= least) {
          indices[kept] = features[i];
          values[kept++] = own[i];
        }
      }
      offsets[row + 1] = kept;
    }
    return SparseCodes.of(codes.dSae(), offsets, Arrays.copyOf(indices, kept), Arrays.copyOf(values, kept));
  }
}

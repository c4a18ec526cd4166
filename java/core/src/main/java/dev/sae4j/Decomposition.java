package dev.sae4j;

import dev.sae4j.internal.Sums;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.function.IntFunction;

/**
 * What a direction v is made of: v ~ sum_j a_j d_j over few features, and how good that is. Sums are in double; what is
 * undefined (for a zero vector) is NaN.
 *
 * @param method in lower case, as {@link Pursuit.Method} names them
 * @param atoms features found
 * @param nonNegative whether a_j &gt;= 0 was asked for
 * @param stop why the pursuit ended, in lower case, as {@link Pursuit.Stop} names them
 * @param vectorNorm ||v||
 * @param cosine of v with the sum
 * @param explainedVariance 1 - ||v - sum||^2 / ||v||^2
 * @param residualNorm ||v - sum||
 * @param negativeShare how many of the coefficients are negative
 * @param negativeEnergy sum of (a_j ||d_j||)^2 over the negative a_j, as a share of that over all
 * @param worstCoherence the largest |cosine| of two of the features' decoder rows; NaN for fewer than two
 * @param features by descending |coefficient|
 * @param warnings a sentence if there are features whose coefficient is huge because their decoder row is next to zero
 */
public record Decomposition(
    String method,
    int atoms,
    boolean nonNegative,
    String stop,
    double vectorNorm,
    double cosine,
    double explainedVariance,
    double residualNorm,
    double negativeShare,
    double negativeEnergy,
    double worstCoherence,
    List<Feature> features,
    List<String> warnings) {
  /**
   * One feature of a direction.
   *
   * @param coefficient signed
   * @param cosine of v with the feature's decoder row
   * @param label null where there is none
   */
  public record Feature(int index, float coefficient, double cosine, String label) {
    static final Comparator<Feature> STRONGEST = Comparator.comparing(feature -> -Math.abs(feature.coefficient()));
  }

  /**
   * Decomposes one direction.
   *
   * @param weights those that the SAE was opened with
   * @param v [d_out]
   * @param labels of a feature, null where there is none
   */
  public static Decomposition of(
      SaeWeights weights, SparseAutoencoder sae, float[] v, Pursuit how, IntFunction<String> labels) {
    if (v.length != sae.dOut()) {
      throw new IllegalArgumentException("v must have d_out = %d values, got %d".formatted(sae.dOut(), v.length));
    }
    double norm = Sums.norm(v);
    List<Feature> features = new ArrayList<>();
    List<float[]> rows = new ArrayList<>();
    float[] sum;
    double energy = 0;
    double negativeEnergy = 0;
    String stop;
    try (SparseCodes codes = sae.pursue(v, how)) {
      for (long i = 0; i < codes.nnz(); i++) {
        int index = codes.indices().get(i);
        float[] row = Sums.row(weights.wDec(), index, v.length);
        rows.add(row);
        float coefficient = codes.values().get(i);
        double size = coefficient * Sums.norm(row);
        energy += size * size;
        negativeEnergy += coefficient < 0 ? size * size : 0;
        features.add(new Feature(index, coefficient, Sums.cosine(v, row), labels.apply(index)));
      }
      sum = sae.decodeDirection(codes);
      stop = codes.stop(0).name().toLowerCase(Locale.ROOT);
    }
    double residual = Sums.distance(v, sum);
    long negative = features.stream().filter(f -> f.coefficient() < 0).count();
    features.sort(Feature.STRONGEST);
    return new Decomposition(
        how.method().name().toLowerCase(Locale.ROOT),
        features.size(),
        how.nonNegative(),
        stop,
        norm,
        Sums.cosine(v, sum),
        norm == 0 ? Double.NaN : 1 - residual * residual / (norm * norm),
        residual,
        features.isEmpty() ? Double.NaN : (double) negative / features.size(),
        features.isEmpty() ? Double.NaN : negativeEnergy / energy,
        worstCoherence(rows),
        List.copyOf(features),
        warnings(rows, SelfCheck.nearZeroNorm(weights)));
  }

  private static List<String> warnings(List<float[]> rows, double nearZero) {
    long collapsed = rows.stream().filter(row -> Sums.norm(row) < nearZero).count();
    return collapsed == 0
        ? List.of()
        : List.of(
            "%d of %d features have decoder rows of next to no norm, less than a thousandth of the larger rows': their coefficients are huge for that alone; coefficient x norm is what a feature adds"
                .formatted(collapsed, rows.size()));
  }

  private static double worstCoherence(List<float[]> rows) {
    double worst = rows.size() < 2 ? Double.NaN : 0;
    for (int i = 0; i < rows.size(); i++) {
      for (int j = 0; j < i; j++) {
        worst = Math.max(worst, Math.abs(Sums.cosine(rows.get(i), rows.get(j))));
      }
    }
    return worst;
  }
}

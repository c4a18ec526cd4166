package dev.sae4j;

import dev.sae4j.internal.Sums;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;

/**
 * Whether an SAE was loaded right, as far as activations of its model can tell. Wrong loads compute without an error: a TopK as a ReLU,
 * b_dec forgotten, a normalisation left out. They show in how much is active, and in how little is explained.
 *
 * @param n rows looked at
 * @param l0 mean active features of a row
 * @param explainedVariance 1 - sum |x - x_hat|^2 / sum |x - mean(x)|^2; null for a transcoder, whose output is no reconstruction of its
 *     input, and where the rows do not vary
 * @param normRatio mean ||x_hat|| / mean ||x||; null for a transcoder, and where x is zero
 * @param outlierRows rows of more than {@link #OUTLIER} times the median norm, as attention sinks and BOS tokens leave them: a
 *     few rule all sums of squares
 * @param typical the figures of the rows that are no outliers; what is judged
 * @param warnings one sentence for each implausible figure, with the likely cause
 */
public record SelfCheck(
    long n,
    double l0,
    Double explainedVariance,
    Double normRatio,
    long outlierRows,
    Typical typical,
    List<String> warnings) {
  /** Of the rows that are no outliers; as the figures of all. */
  public record Typical(double l0, Double explainedVariance, Double normRatio) {}

  /** A row of more than so many times the median norm is an outlier. */
  public static final double OUTLIER = 5;

  private static final int SAMPLE = 256;
  private static final int NORM_SAMPLE = 1024;
  private static final int COUNTED_ROWS = 1 << 14;
  private static final double NEAR_ZERO = 1e-3; // of the norm that the larger rows have
  private static final double LARGER = 0.99; // the percentile that "larger" means: most rows may have collapsed
  private static final double NOTABLE_SHARE = 0.01;
  private static final int LEAST_DIMENSION = 64; // below it random directions agree by chance
  private static final double LEAST_COSINE = 0.05;
  private static final double WEAK_COSINE = 0.1;
  private static final double LITTLE_EXPLAINED = 0.5;
  private static final double CLEAR_GAIN = 0.2;

  public SelfCheck {
    warnings = List.copyOf(warnings);
  }

  /**
   * Encodes and decodes activations.
   *
   * @param x [n, dIn], of the model and place the SAE is for; a few hundred rows do
   * @throws IllegalArgumentException as {@link SparseAutoencoder#encode(float[], SparseCodes)}, and if there is no row
   */
  public static SelfCheck of(SparseAutoencoder sae, float[] x) {
    if (x.length == 0) {
      throw new IllegalArgumentException("a check needs activations, got none");
    }
    Trial all = Trial.run(sae, x, Change.NONE);
    float[] typical = withoutOutliers(x, Math.toIntExact(sae.dIn()));
    long n = x.length / sae.dIn();
    long outliers = n - typical.length / sae.dIn();
    Trial loaded = outliers == 0 ? all : Trial.run(sae, typical, Change.NONE);
    List<String> warnings = new ArrayList<>();
    judgeL0(loaded.l0, sae, warnings);
    if (outliers > 0) {
      judgeOutliers(outliers, n, all, loaded, warnings);
    }
    judge(loaded, typical, sae, warnings);
    return new SelfCheck(
        n,
        all.l0,
        finite(all.explainedVariance),
        finite(all.normRatio),
        outliers,
        new Typical(loaded.l0, finite(loaded.explainedVariance), finite(loaded.normRatio)),
        warnings);
  }

  /** All rows where the median norm is 0. */
  private static float[] withoutOutliers(float[] x, int d) {
    double[] norms = norms(x, d);
    double limit = OUTLIER * median(norms);
    float[] kept = new float[x.length];
    int length = 0;
    for (int row = 0; row < norms.length; row++) {
      if (limit == 0 || norms[row] <= limit) {
        System.arraycopy(x, row * d, kept, length, d);
        length += d;
      }
    }
    return Arrays.copyOf(kept, length);
  }

  private static void judgeOutliers(long outliers, long n, Trial all, Trial typical, List<String> warnings) {
    if (Math.abs(typical.explainedVariance - all.explainedVariance) > CLEAR_GAIN) {
      warnings.add(
          "%d of %d rows have more than %.0f times the median norm (attention sinks, BOS tokens?) and rule the figures of all: explained variance is %s with them, %s without"
              .formatted(outliers, n, OUTLIER, number(all.explainedVariance), number(typical.explainedVariance)));
    }
  }

  private static Double finite(double value) {
    return Double.isFinite(value) ? value : null;
  }

  private static boolean isTranscoder(SaeInfo info, long dIn, long dOut) {
    return dIn != dOut || info.architecture().contains("transcoder");
  }

  private static void judgeL0(double l0, SparseAutoencoder sae, List<String> warnings) {
    Double published = sae.info().publishedL0();
    if (l0 == 0) {
      warnings.add("no feature is active in any row: the activations are of another scale, place or model, or a normalisation is missing");
    } else if (l0 > sae.dSae() / 2.0) {
      warnings.add(
          "L0 is %s of %d features, more than half: a threshold or k was lost (a TopK or BatchTopK loaded as ReLU), or the activations are of another place or model"
              .formatted(number(l0), sae.dSae()));
    } else if (published != null && published > 0 && (l0 > 3 * published || l0 < published / 3)) {
      warnings.add(
          "L0 is %s, published is %s: another SAE of the same shape, or activations of another place or model"
              .formatted(number(l0), number(published)));
    }
  }

  private static void judge(Trial loaded, float[] x, SparseAutoencoder sae, List<String> warnings) {
    double explained = loaded.explainedVariance;
    if (Double.isNaN(explained)) {
      return;
    }
    Change best = null;
    double most = Math.max(explained, 0) + CLEAR_GAIN;
    for (Change change : Change.values()) {
      if (change.applies(sae)) {
        Trial changed = Trial.run(sae, x, change);
        if (changed.explainedVariance > most && changed.improvesMost(loaded)) {
          best = change;
          most = changed.explainedVariance;
        }
      }
    }
    String lost = explained < 0 ? LostTopK.sentence(sae, x, most) : null;
    String cause =
        lost != null
            ? lost
            : best == null
                ? "the activations may be of another place or model, a matrix transposed, or the SAE untrained"
                : "it is %s if %s".formatted(number(most), best.text(x, sae));
    if (explained < 0 || best != null) {
      warnings.add("explained variance is %s: %s".formatted(number(explained), cause));
    } else if (explained < LITTLE_EXPLAINED && directionsCosine(sae.weights()) < WEAK_COSINE) {
      warnings.add(
          "explained variance is %s, and encoder and decoder directions of features hardly agree (median cosine %s, usually 0.2 and more): the SAE may be untrained, its dictionary random"
              .formatted(number(explained), number(directionsCosine(sae.weights()))));
    } else if (loaded.normRatio < 0.5 || loaded.normRatio > 2) {
      warnings.add(
          "reconstructions are %s times as long as the activations: a scale of the input or the output is missing"
              .formatted(number(loaded.normRatio)));
    }
  }

  private static String number(double value) {
    return String.format(Locale.ROOT, "%.4g", value);
  }

  /** What a wrong load may have left out, done to x. */
  private enum Change {
    NONE,
    SUBTRACT_B_DEC,
    ADD_B_DEC,
    SCALE,
    LAYER_NORM;

    boolean applies(SparseAutoencoder sae) {
      boolean normalises = sae.form().normalization() != SaeWeights.Normalization.NONE;
      return this != NONE && !(normalises && (this == SCALE || this == LAYER_NORM));
    }

    String text(float[] x, SparseAutoencoder sae) {
      return switch (this) {
        case SUBTRACT_B_DEC -> "b_dec is subtracted from the input first (apply_b_dec_to_input)";
        case ADD_B_DEC -> "b_dec is not subtracted from the input (apply_b_dec_to_input false)";
        case SCALE ->
            "the input is scaled by %s = sqrt(d_in) / mean norm (normalize_activations expected_average_only_in, dataset-wise)"
                .formatted(number(scale(x, (int) sae.dIn())));
        default -> "each row is normalised first (normalize_activations layer_norm)";
      };
    }

    static double scale(float[] x, int d) {
      return Math.sqrt(d) / meanNorm(x, d);
    }
  }

  /**
   * One encode and decode.
   *
   * @param errors |x - x_hat|^2 of each row; null for a transcoder
   */
  private record Trial(double l0, double explainedVariance, double normRatio, double[] errors) {
    boolean improvesMost(Trial other) {
      long better = IntStream.range(0, errors.length).filter(row -> errors[row] < other.errors[row]).count();
      return 2 * better > errors.length;
    }

    static Trial run(SparseAutoencoder sae, float[] x, Change change) {
      int dIn = Math.toIntExact(sae.dIn());
      int n = x.length / dIn;
      float[] changed = x.clone();
      double[] scale = new double[n];
      double[] shift = new double[n];
      Arrays.fill(scale, 1);
      apply(change, changed, scale, shift, sae);
      try (SparseCodes codes = sae.encode(changed)) {
        double l0 = (double) codes.nnz() / n;
        if (isTranscoder(sae.info(), sae.dIn(), sae.dOut())) {
          return new Trial(l0, Double.NaN, Double.NaN, null);
        }
        float[] xHat = sae.decode(codes);
        for (int i = 0; i < xHat.length; i++) {
          xHat[i] = (float) (scale[i / dIn] * xHat[i] + shift[i / dIn]);
        }
        double[] errors = errors(x, xHat, dIn);
        return new Trial(l0, explained(x, errors, dIn), meanNorm(xHat, dIn) / meanNorm(x, dIn), errors);
      }
    }

    /** Changes x; scale and shift put back what a reconstruction of it lacks. */
    private static void apply(Change change, float[] x, double[] scale, double[] shift, SparseAutoencoder sae) {
      int d = Math.toIntExact(sae.dIn());
      double s = change == Change.SCALE ? Change.scale(x, d) : 1;
      float[] bDec = new float[Math.toIntExact(sae.dOut())];
      sae.weights().bDec().get(bDec);
      for (int row = 0; row < scale.length; row++) {
        int at = row * d;
        if (change == Change.SCALE) {
          scale[row] = 1 / s;
        } else if (change == Change.LAYER_NORM) {
          float[] values = Arrays.copyOfRange(x, at, at + d);
          shift[row] = mean(values);
          scale[row] = Math.sqrt(Math.max(0, (Sums.dot(values, values) - d * shift[row] * shift[row]) / (d - 1))) + 1e-5;
        }
        for (int i = at; i < at + d; i++) {
          x[i] =
              switch (change) {
                case SUBTRACT_B_DEC -> x[i] - bDec[i - at];
                case ADD_B_DEC -> x[i] + bDec[i - at];
                default -> (float) ((x[i] - shift[row]) / scale[row]);
              };
        }
      }
    }

    private static double[] errors(float[] x, float[] xHat, int d) {
      double[] errors = new double[x.length / d];
      for (int i = 0; i < x.length; i++) {
        double error = (double) x[i] - xHat[i];
        errors[i / d] += error * error;
      }
      return errors;
    }

    private static double explained(float[] x, double[] errors, int d) {
      int n = x.length / d;
      double aboutMean = 0;
      for (int c = 0; c < d; c++) {
        double mean = 0;
        for (int i = c; i < x.length; i += d) {
          mean += x[i];
        }
        mean /= n;
        for (int i = c; i < x.length; i += d) {
          aboutMean += (x[i] - mean) * (x[i] - mean);
        }
      }
      return aboutMean == 0 ? Double.NaN : 1 - Arrays.stream(errors).sum() / aboutMean;
    }
  }

  /** The explained variance of x [n, d] by xHat; NaN where x does not vary. */
  static double explained(float[] x, float[] xHat, int d) {
    return Trial.explained(x, Trial.errors(x, xHat, d), d);
  }

  private static double mean(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum / values.length;
  }

  private static double meanNorm(float[] rows, int d) {
    return Arrays.stream(norms(rows, d)).average().orElseThrow();
  }

  private static double[] norms(float[] rows, int d) {
    double[] norms = new double[rows.length / d];
    Arrays.setAll(norms, row -> Sums.norm(Arrays.copyOfRange(rows, row * d, (row + 1) * d)));
    return norms;
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
  }

  /**
   * What the weights alone can tell, by a sample of their features: whether decoder rows have collapsed, and whether encoder and
   * decoder directions belong together. A sentence each for what looks wrong; nothing on directions for transcoders, whose two
   * spaces differ, and where d is too small to tell. Readers add these to {@link SaeInfo#warnings}.
   */
  public static List<String> geometry(SaeWeights weights) {
    List<String> warnings = new ArrayList<>();
    judgeDecoderNorms(weights, warnings);
    double cosine = directionsCosine(weights);
    if (cosine < LEAST_COSINE) {
      warnings.add(
          "encoder and decoder directions of features hardly agree (median cosine %s, usually 0.2 and more): one of the matrices may be transposed or of another SAE, or the SAE untrained, its dictionary random"
              .formatted(number(cosine)));
    }
    int d = Math.toIntExact(weights.dIn());
    if (!Double.isNaN(cosine) && d == weights.dSae() && lookTransposed(weights.wDec(), d)) {
      warnings.add("the columns of the square W_dec have equal norms, its rows have not: it may be transposed");
    }
    return warnings;
  }

  /**
   * The norm below which a decoder row has all but vanished: a thousandth of what the larger rows have, by a sample of them.
   * Coefficients of such features are as much larger as their rows are shorter.
   */
  public static double nearZeroNorm(SaeWeights weights) {
    double[] norms = decoderNorms(weights, NORM_SAMPLE);
    Arrays.sort(norms);
    return NEAR_ZERO * norms[(int) (LARGER * (norms.length - 1))];
  }

  /** Of so many features at most, evenly spread. */
  private static double[] decoderNorms(SaeWeights weights, int most) {
    int count = (int) Math.min(most, weights.dSae());
    int d = Math.toIntExact(weights.dOut());
    return IntStream.range(0, count)
        .parallel()
        .mapToDouble(i -> Sums.norm(Sums.row(weights.wDec(), weights.dSae() * i / count, d)))
        .toArray();
  }

  private static void judgeDecoderNorms(SaeWeights weights, List<String> warnings) {
    double[] norms = decoderNorms(weights, COUNTED_ROWS);
    double limit = nearZeroNorm(weights);
    double[] collapsed = Arrays.stream(norms).filter(norm -> norm < limit).toArray();
    if (norms.length >= LEAST_DIMENSION && collapsed.length > NOTABLE_SHARE * norms.length) {
      warnings.add(
          "%d of %s decoder rows (%.0f %%) have collapsed: their median norm is %s, the larger rows have %s; value x norm is what such a feature adds"
              .formatted(
                  collapsed.length,
                  norms.length < weights.dSae() ? "%d sampled".formatted(norms.length) : norms.length,
                  100.0 * collapsed.length / norms.length,
                  number(median(collapsed)),
                  number(limit / NEAR_ZERO)));
    }
  }

  /** The median cosine of encoder and decoder rows; NaN where it means nothing. */
  private static double directionsCosine(SaeWeights weights) {
    int d = Math.toIntExact(weights.dIn());
    boolean isSmall = d < LEAST_DIMENSION || weights.dSae() < LEAST_DIMENSION;
    return isSmall || isTranscoder(weights.info(), weights.dIn(), weights.dOut()) ? Double.NaN : medianCosine(weights, d);
  }

  /** Of features that have both directions; NaN if there is none. */
  private static double medianCosine(SaeWeights weights, int d) {
    int count = (int) Math.min(SAMPLE, weights.dSae());
    double least = nearZeroNorm(weights); // a direction below it is noise
    double[] cosines = new double[count];
    float[] w = new float[d];
    float[] row = new float[d];
    int found = 0;
    for (int i = 0; i < count; i++) {
      long feature = weights.dSae() * i / count;
      Sums.row(weights.wEnc(), feature, w);
      Sums.row(weights.wDec(), feature, row);
      double cosine = Sums.norm(row) < least ? Double.NaN : Sums.cosine(w, row);
      if (!Double.isNaN(cosine)) {
        cosines[found++] = cosine;
      }
    }
    Arrays.sort(cosines, 0, found);
    return found == 0 ? Double.NaN : cosines[found / 2];
  }

  private static boolean lookTransposed(FloatPointer square, int d) {
    double[] rows = new double[d];
    double[] columns = new double[d];
    float[] row = new float[d];
    for (int r = 0; r < d; r++) {
      Sums.row(square, r, row);
      for (int c = 0; c < d; c++) {
        double energy = (double) row[c] * row[c];
        rows[r] += energy;
        columns[c] += energy;
      }
    }
    double spread = spread(rows);
    return spread > 0.05 && spread(columns) < 0.1 * spread;
  }

  /** Standard deviation of the norms over their mean. */
  private static double spread(double[] squares) {
    double mean = Arrays.stream(squares).map(Math::sqrt).average().orElse(0);
    double variance = Arrays.stream(squares).map(Math::sqrt).map(norm -> (norm - mean) * (norm - mean)).average().orElse(0);
    return mean == 0 ? 0 : Math.sqrt(variance) / mean;
  }
}

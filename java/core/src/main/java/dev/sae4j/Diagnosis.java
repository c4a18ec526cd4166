package dev.sae4j;

import dev.sae4j.internal.Sums;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.LongPointer;

/**
 * What a direction v is made of, and why a plain encode of it misleads: the account of Mayne, Yang and Mahdi (arXiv
 * 2411.08790). Lists hold at most {@link #TOP} features, strongest first; what is undefined is NaN, what was not asked for null.
 *
 * @param vectorNorm ||v||
 * @param activationNorm of the activations given
 * @param normRatio ||v|| over their mean norm
 * @param medianNormRatio ||v|| over their median norm, which a few huge rows (attention sinks, BOS tokens) leave alone
 * @param zeroVector the plain encode of 0: what the encoder bias says alone
 * @param plainEncode the plain encode of v
 * @param biasJaccard of the strongest features of the two: overlap over union
 * @param reconstructionCosine of v with its plain code, decoded without b_dec
 * @param reconstructionCosineWithBDec the same with b_dec
 * @param scaleSweep the plain encode of v times each scale
 * @param negativeProjections &lt;v, d_j&gt;, the most negative first
 * @param lostNegativeEnergy the share of the negative ones in the sum of all squared projections, over all features
 * @param spuriousAntipodal features of the plain encode whose decoder row opposes one that v projects on more strongly, negatively
 * @param decomposition signed
 * @param decompositionNonNegative the same without negative coefficients
 * @param differenceOfEncodings mean code of the positive activations less that of the negative ones
 * @param stability of the signed decomposition's support
 * @param findings plain sentences, each borne out by the figures that it gives
 */
public record Diagnosis(
    double vectorNorm,
    ActivationNorm activationNorm,
    Double normRatio,
    Double medianNormRatio,
    List<Active> zeroVector,
    List<Plain> plainEncode,
    double biasJaccard,
    double reconstructionCosine,
    double reconstructionCosineWithBDec,
    List<Scale> scaleSweep,
    List<Decomposition.Feature> negativeProjections,
    double lostNegativeEnergy,
    List<Antipode> spuriousAntipodal,
    Decomposition decomposition,
    Decomposition decompositionNonNegative,
    List<Difference> differenceOfEncodings,
    Stability stability,
    List<String> findings) {
  /** The length of lists. */
  public static final int TOP = 20;

  /** A decoder row opposes another from this cosine on. */
  private static final double ANTIPODAL = -0.7;

  private static final double ROUNDING = 1e-3; // far above that of a float32 cosine

  private static final double[] SCALES = {0.5, 1, 2, 4, 8, 16, 32};
  private static final int DENSE_FLOATS = 1 << 22;
  private static final int PERTURBATIONS = 8;
  private static final double PERTURBATION = 0.01; // of the norm

  /** Of activations: the mean norm, the median and two percentiles. */
  public record ActivationNorm(double mean, double median, double p01, double p99) {
    /** @param norms at least one, in any order */
    public static ActivationNorm of(double[] norms) {
      double[] sorted = norms.clone();
      Arrays.sort(sorted);
      double mean = Arrays.stream(sorted).average().orElseThrow();
      return new ActivationNorm(mean, percentile(sorted, 0.5), percentile(sorted, 0.01), percentile(sorted, 0.99));
    }

    private static double percentile(double[] sorted, double share) {
      double at = share * (sorted.length - 1);
      int below = (int) at;
      int above = Math.min(below + 1, sorted.length - 1);
      return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
    }
  }

  /** A feature that is active. */
  public record Active(int index, float value, String label) {}

  /** @param biasShare the encoder bias over the value: 1 if v adds nothing, above 1 if v lowers it */
  public record Plain(int index, float value, double biasShare, String label) {}

  /**
   * The plain encode of scale times v.
   *
   * @param l0 active features
   * @param biasJaccard as for v
   * @param cosine of v with the code decoded without b_dec
   */
  public record Scale(double scale, long l0, double biasJaccard, double cosine) {}

  /**
   * @param active a feature of the plain encode
   * @param opposes the feature it stands in for, on which v projects negatively
   * @param cosine of their decoder rows
   * @param label of the active one
   */
  public record Antipode(int active, int opposes, double cosine, String label) {}

  /** Of mean codes. */
  public record Difference(int index, double difference, String label) {}

  /**
   * Shares of the support that stay.
   *
   * @param kMinus with one atom less
   * @param kPlus with one atom more
   * @param perturbed under noise of a hundredth of v's norm, on average
   */
  public record Stability(double kMinus, double kPlus, double perturbed) {}

  /**
   * Diagnoses one direction of a model's residual stream.
   *
   * @param weights those that the SAE was opened with; d_in must be d_out
   * @param v [d_in]
   * @param how the decomposition wanted; both its signed and its non-negative form are computed
   * @param activationNorms norms of activations, see {@link #norms}; null if there are none
   * @param positive activations of one kind, null if there are none; [n, d_in]
   * @param negative activations of the opposite kind, null if there are none
   * @param labels of a feature, null where there is none
   * @throws IllegalArgumentException if v has another length or is not finite, or the SAE is a transcoder
   */
  public static Diagnosis of(
      SaeWeights weights,
      SparseAutoencoder sae,
      float[] v,
      Pursuit how,
      double[] activationNorms,
      SparseAutoencoder.Rows positive,
      SparseAutoencoder.Rows negative,
      IntFunction<String> labels)
      throws IOException {
    if (sae.dIn() != sae.dOut() || sae.form().hasSkip()) {
      throw new IllegalArgumentException(
          "a diagnosis needs an SAE with d_in = d_out, got a transcoder of %d and %d".formatted(sae.dIn(), sae.dOut()));
    }
    return new Diagnoser(weights, sae, v, how, labels).diagnose(activationNorms, positive, negative);
  }

  /**
   * The norms of all rows that a source still has.
   *
   * @throws IllegalArgumentException if a value is NaN or infinite, naming row and column
   */
  public static double[] norms(SparseAutoencoder.Rows source, int d) throws IOException {
    float[] x = new float[d];
    DoubleStream.Builder norms = DoubleStream.builder();
    for (long row = 0; source.read(FloatBuffer.wrap(x)) > 0; row++) {
      for (int column = 0; column < d; column++) {
        if (!Float.isFinite(x[column])) {
          throw new IllegalArgumentException(
              "activations must be finite, got %s at row %d, column %d".formatted(x[column], row, column));
        }
      }
      norms.add(Sums.norm(x));
    }
    return norms.build().toArray();
  }

  /** One diagnosis at work. */
  private record Diagnoser(
      SaeWeights weights, SparseAutoencoder sae, float[] v, Pursuit how, IntFunction<String> labels) {
    Diagnosis diagnose(double[] norms, SparseAutoencoder.Rows positive, SparseAutoencoder.Rows negative) throws IOException {
      Decomposition signed = Decomposition.of(weights, sae, v, how.withNonNegative(false), labels);
      Decomposition nonNegative = Decomposition.of(weights, sae, v, how.withNonNegative(true), labels);
      ActivationNorm activationNorm = norms == null || norms.length == 0 ? null : ActivationNorm.of(norms);
      double norm = Sums.norm(v);
      List<Active> zero = top(new float[v.length]);
      List<Active> active = top(v);
      double withBDec;
      try (SparseCodes codes = sae.encode(v)) {
        withBDec = Sums.cosine(v, sae.decode(codes));
      }
      List<Scale> sweep = new ArrayList<>();
      for (double scale : SCALES) {
        sweep.add(scale(scale, zero));
      }
      if (activationNorm != null && norm > 0) {
        sweep.add(scale(activationNorm.median() / norm, zero));
        sweep.sort(Comparator.comparing(Scale::scale));
      }
      Scale plain = scale(1, zero);
      Diagnosis figures =
          new Diagnosis(
              norm,
              activationNorm,
              activationNorm == null ? null : norm / activationNorm.mean(),
              activationNorm == null ? null : norm / activationNorm.median(),
              zero,
              active.stream().map(this::plain).toList(),
              plain.biasJaccard(),
              plain.cosine(),
              withBDec,
              List.copyOf(sweep),
              negativeProjections(),
              lostNegativeEnergy(),
              antipodes(),
              signed,
              nonNegative,
              positive == null || negative == null ? null : difference(positive, negative),
              stability(support(signed)),
              List.of());
      return figures.withFindings(Findings.of(figures));
    }

    private List<Active> top(float[] x) {
      List<Active> active = new ArrayList<>();
      try (SparseCodes codes = sae.encode(x)) {
        for (long i = 0; i < codes.nnz(); i++) {
          active.add(new Active(codes.indices().get(i), codes.values().get(i), null));
        }
      }
      active.sort(Comparator.comparing(feature -> -feature.value()));
      return active.stream().limit(TOP).map(f -> new Active(f.index(), f.value(), labels.apply(f.index()))).toList();
    }

    private Plain plain(Active feature) {
      double bias = weights.offset().get(feature.index());
      return new Plain(feature.index(), feature.value(), bias / feature.value(), feature.label());
    }

    private Scale scale(double scale, List<Active> zero) {
      float[] scaled = Sums.scaled(v, scale);
      try (SparseCodes codes = sae.encode(scaled)) {
        double cosine = Sums.cosine(v, sae.decodeDirection(codes));
        return new Scale(scale, codes.nnz(), jaccard(indices(top(scaled)), indices(zero)), cosine);
      }
    }

    private static Set<Integer> indices(List<Active> features) {
      return features.stream().map(Active::index).collect(Collectors.toSet());
    }

    private static double jaccard(Set<Integer> a, Set<Integer> b) {
      Set<Integer> union = new HashSet<>(a);
      union.addAll(b);
      Set<Integer> both = new HashSet<>(a);
      both.retainAll(b);
      return union.isEmpty() ? Double.NaN : (double) both.size() / union.size();
    }

    private List<Decomposition.Feature> negativeProjections() {
      List<Decomposition.Feature> features = new ArrayList<>();
      try (SparseCodes codes = sae.project(v, Projection.topPerSign(TOP))) {
        for (long i = 0; i < codes.nnz(); i++) {
          int index = codes.indices().get(i);
          float coefficient = codes.values().get(i);
          if (coefficient < 0) {
            double cosine = Sums.cosine(v, Sums.row(weights.wDec(), index, v.length));
            features.add(new Decomposition.Feature(index, coefficient, cosine, labels.apply(index)));
          }
        }
      }
      features.sort(Decomposition.Feature.STRONGEST);
      return List.copyOf(features);
    }

    private double lostNegativeEnergy() {
      double all = 0;
      double lost = 0;
      for (float q : projections(v, false)) {
        all += (double) q * q;
        lost += q < 0 ? (double) q * q : 0;
      }
      return lost / all;
    }

    /**
     * [n, dSae]: the coefficients of directions on all features, as the top d_sae of them. These are canonical, equal in every bit
     * on every device; a dense projection is not.
     */
    private float[] projections(float[] directions, boolean unit) {
      int dSae = Math.toIntExact(sae.dSae());
      float[] all = new float[directions.length / v.length * dSae];
      try (SparseCodes codes = sae.project(directions, Projection.top(dSae).withUnit(unit))) {
        int[] indices = new int[Math.toIntExact(codes.nnz())];
        float[] values = new float[indices.length];
        codes.indices().get(indices);
        codes.values().get(values);
        LongPointer offsets = codes.rowOffsets();
        for (int row = 0; row < all.length / dSae; row++) {
          for (int i = (int) offsets.get(row); i < offsets.get(row + 1); i++) {
            all[row * dSae + indices[i]] = values[i];
          }
        }
      }
      return all;
    }

    private List<Antipode> antipodes() {
      float[] lengths = projections(v, true);
      int[] active;
      try (SparseCodes codes = sae.encode(v)) {
        active = new int[Math.toIntExact(codes.nnz())];
        codes.indices().get(active);
      }
      List<Antipode> antipodes = new ArrayList<>();
      int chunk = Math.max(1, DENSE_FLOATS / lengths.length); // many rows at once: a ReLU SAE may have thousands active
      for (int start = 0; start < active.length; start += chunk) {
        int[] some = opposed(Arrays.copyOfRange(active, start, Math.min(active.length, start + chunk)));
        float[] neighbours = projections(rows(some), true);
        for (int i = 0; i < some.length; i++) {
          addAntipode(some[i], lengths, neighbours, i * lengths.length, antipodes);
        }
      }
      antipodes.sort(Comparator.comparing(Antipode::cosine));
      return antipodes.stream().limit(TOP).toList();
    }

    /** [n, dOut]: decoder rows. */
    private float[] rows(int[] features) {
      float[] rows = new float[features.length * v.length];
      for (int i = 0; i < features.length; i++) {
        System.arraycopy(Sums.row(weights.wDec(), features[i], v.length), 0, rows, i * v.length, v.length);
      }
      return rows;
    }

    /** Those whose row may be opposed by any at all: most are not, and need no look at every feature. */
    private int[] opposed(int[] features) {
      float[] rows = rows(features);
      try (SparseCodes codes = sae.project(rows, Projection.topPerSign(1).withUnit(true))) {
        return IntStream.range(0, features.length)
            .filter(
                i -> {
                  double norm = Sums.norm(Arrays.copyOfRange(rows, i * v.length, (i + 1) * v.length));
                  return lowest(codes, i) < (ANTIPODAL + ROUNDING) * norm;
                })
            .map(i -> features[i])
            .toArray();
      }
    }

    private static float lowest(SparseCodes codes, int row) {
      float lowest = 0;
      for (long i = codes.rowOffsets().get(row); i < codes.rowOffsets().get(row + 1); i++) {
        lowest = Math.min(lowest, codes.values().get(i));
      }
      return lowest;
    }

    /**
     * The row that opposes an active feature most, among those that v projects on negatively and at least as strongly: else
     * the active feature is the better account of v.
     *
     * @param lengths of v along each row
     * @param neighbours from an offset on: of the active feature's row along each row
     */
    private void addAntipode(int active, float[] lengths, float[] neighbours, int offset, List<Antipode> antipodes) {
      float strength = lengths[active] * (1 - 1e-5f); // of an exact opposite, rounding must not decide
      int opposed = -1;
      for (int j = 0; j < lengths.length; j++) {
        if (lengths[j] < 0 && -lengths[j] >= strength && (opposed < 0 || neighbours[offset + j] < neighbours[offset + opposed])) {
          opposed = j;
        }
      }
      if (opposed >= 0) {
        double cosine = Sums.cosine(Sums.row(weights.wDec(), active, v.length), Sums.row(weights.wDec(), opposed, v.length));
        if (cosine <= ANTIPODAL) {
          antipodes.add(new Antipode(active, opposed, cosine, labels.apply(active)));
        }
      }
    }

    private List<Difference> difference(SparseAutoencoder.Rows positive, SparseAutoencoder.Rows negative) throws IOException {
      double[] difference = meanCode(positive, "positive");
      double[] subtracted = meanCode(negative, "negative");
      for (int j = 0; j < difference.length; j++) {
        difference[j] -= subtracted[j];
      }
      List<Difference> strongest = new ArrayList<>();
      for (int j = 0; j < difference.length; j++) {
        if (difference[j] != 0) {
          strongest.add(new Difference(j, difference[j], null));
        }
      }
      strongest.sort(Comparator.comparing(feature -> -Math.abs(feature.difference())));
      return strongest.stream()
          .limit(TOP)
          .map(f -> new Difference(f.index(), f.difference(), labels.apply(f.index())))
          .toList();
    }

    private double[] meanCode(SparseAutoencoder.Rows source, String name) throws IOException {
      double[] sum = new double[Math.toIntExact(sae.dSae())];
      long n =
          sae.encode(
              source,
              (int) Math.max(1, Math.min(1024, (4 << 20) / sae.dIn())),
              codes -> {
                for (long i = 0; i < codes.nnz(); i++) {
                  sum[codes.indices().get(i)] += codes.values().get(i);
                }
              });
      if (n == 0) {
        throw new IllegalArgumentException("the " + name + " activations have no rows");
      }
      return Arrays.stream(sum).map(value -> value / n).toArray();
    }

    private static Set<Integer> support(Decomposition decomposition) {
      return decomposition.features().stream().map(Decomposition.Feature::index).collect(Collectors.toSet());
    }

    private Stability stability(Set<Integer> support) {
      Random random = new Random(1); // the same answer each time
      double size = PERTURBATION * Sums.norm(v) / Math.sqrt(v.length);
      double perturbed = 0;
      for (int i = 0; i < PERTURBATIONS; i++) {
        float[] noisy = v.clone();
        for (int k = 0; k < noisy.length; k++) {
          noisy[k] += (float) (size * random.nextGaussian());
        }
        perturbed += stays(support, noisy, how.atoms()) / PERTURBATIONS;
      }
      return new Stability(stays(support, v, how.atoms() - 1), stays(support, v, how.atoms() + 1), perturbed);
    }

    private double stays(Set<Integer> support, float[] direction, long atoms) {
      if (support.isEmpty() || atoms < 1) {
        return Double.NaN;
      }
      Pursuit other = new Pursuit(how.method(), false, atoms, how.residual(), how.gain(), how.penalty());
      Set<Integer> both = new LinkedHashSet<>();
      try (SparseCodes codes = sae.pursue(direction, other)) {
        for (long i = 0; i < codes.nnz(); i++) {
          both.add(codes.indices().get(i));
        }
      }
      both.retainAll(support);
      return (double) both.size() / support.size();
    }
  }

  private Diagnosis withFindings(List<String> sentences) {
    return new Diagnosis(
        vectorNorm, activationNorm, normRatio, medianNormRatio, zeroVector, plainEncode, biasJaccard,
        reconstructionCosine, reconstructionCosineWithBDec, scaleSweep, negativeProjections, lostNegativeEnergy,
        spuriousAntipodal, decomposition, decompositionNonNegative, differenceOfEncodings, stability, sentences);
  }

  /** At most eight sentences. Each is left out unless its figures bear it out. */
  static final class Findings {
    private static final int MOST = 8;
    private static final double MUCH = 0.5;
    private static final double NOTABLE = 0.1;
    private static final double BETTER = 0.05;

    private Findings() {}

    static List<String> of(Diagnosis d) {
      if (d.vectorNorm() == 0) {
        return List.of("The vector is zero: it has no direction, and there is nothing to decompose.");
      }
      List<String> findings = new ArrayList<>();
      norm(d, findings);
      plain(d, findings);
      bias(d, findings);
      scaling(d, findings);
      negatives(d, findings);
      antipodes(d, findings);
      signs(d, findings);
      collapsed(d, findings);
      stability(d, findings);
      return findings.stream().limit(MOST).toList();
    }

    private static void norm(Diagnosis d, List<String> findings) {
      ActivationNorm norm = d.activationNorm();
      if (norm != null && (d.vectorNorm() < norm.p01() || d.vectorNorm() > norm.p99())) {
        findings.add(
            say(
                "The vector is outside the SAE's input distribution: its norm is %.2f, %.2f of the activations' median; 98 %% of them have %.2f to %.2f.",
                d.vectorNorm(), d.medianNormRatio(), norm.p01(), norm.p99()));
      }
    }

    private static void plain(Diagnosis d, List<String> findings) {
      double signed = d.decomposition().cosine();
      if (d.plainEncode().isEmpty()) {
        findings.add("A plain encode is silent: 0 features are active.");
      } else if (d.reconstructionCosine() < signed - BETTER) {
        findings.add(
            say(
                "A plain encode loses the direction: decoded again, without b_dec, it has cosine %.2f with the vector; the signed decomposition has %.2f.",
                d.reconstructionCosine(), signed));
      }
    }

    private static void bias(Diagnosis d, List<String> findings) {
      double value = d.plainEncode().stream().mapToDouble(Plain::value).sum();
      double bias = d.plainEncode().stream().mapToDouble(f -> Math.max(0, Math.min(1, f.biasShare())) * f.value()).sum();
      if (d.biasJaccard() >= MUCH) {
        findings.add(
            say(
                "The encoder bias speaks, not the vector: its strongest features and those of the zero vector have a Jaccard overlap of %.2f.",
                d.biasJaccard()));
      } else if (value > 0 && bias / value >= MUCH) {
        findings.add(
            say("The encoder bias makes up %.0f %% of what the plain encode's strongest features show.", 100 * bias / value));
      }
    }

    private static void scaling(Diagnosis d, List<String> findings) {
      Scale best =
          d.scaleSweep().stream()
              .filter(scale -> Double.isFinite(scale.cosine()))
              .max(Comparator.comparing(Scale::cosine))
              .orElse(null);
      if (best != null && best.cosine() < d.decomposition().cosine() - BETTER) {
        findings.add(
            say(
                "Scaling does not repair it: the best of %d scales, %.2f, gives %d features and a cosine of %.2f; %d signed features give %.2f.",
                d.scaleSweep().size(), best.scale(), best.l0(), best.cosine(), d.decomposition().atoms(),
                d.decomposition().cosine()));
      }
    }

    private static void negatives(Diagnosis d, List<String> findings) {
      if (d.lostNegativeEnergy() >= NOTABLE) {
        findings.add(
            say(
                "%.0f %% of the squared projections on the decoder's features are negative, which no plain encode can express.",
                100 * d.lostNegativeEnergy()));
      }
    }

    private static void antipodes(Diagnosis d, List<String> findings) {
      if (!d.spuriousAntipodal().isEmpty()) {
        Antipode worst = d.spuriousAntipodal().get(0);
        findings.add(
            say(
                "%d of the plain encode's features may be spurious: %d opposes feature %d (cosine %.2f), on which the vector projects more strongly, and negatively.",
                d.spuriousAntipodal().size(), worst.active(), worst.opposes(), worst.cosine()));
      }
    }

    private static void signs(Diagnosis d, List<String> findings) {
      Decomposition signed = d.decomposition();
      Decomposition other = d.decompositionNonNegative();
      if (signed.explainedVariance() - other.explainedVariance() >= BETTER) {
        findings.add(
            say(
                "Signs matter: %d signed features explain %.0f %% of the vector, %d non-negative ones %.0f %%.",
                signed.atoms(), 100 * signed.explainedVariance(), other.atoms(), 100 * other.explainedVariance()));
      }
    }

    private static void collapsed(Diagnosis d, List<String> findings) {
      d.decomposition().warnings().forEach(warning -> findings.add("In the signed decomposition " + warning + "."));
    }

    private static void stability(Diagnosis d, List<String> findings) {
      if (d.stability().perturbed() < 1 - NOTABLE) {
        findings.add(
            say(
                "The choice of features is not firm: noise of 1 %% of the norm keeps %.0f %% of them.",
                100 * d.stability().perturbed()));
      }
    }

    private static String say(String sentence, Object... numbers) {
      return String.format(Locale.ROOT, sentence, numbers);
    }
  }
}

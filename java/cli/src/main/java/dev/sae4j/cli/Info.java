package dev.sae4j.cli;

import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SelfCheck;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.internal.Sums;
import dev.sae4j.io.ActivationReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.DoublePredicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bytedeco.javacpp.FloatPointer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(name = "info", mixinStandardHelpOptions = true, description = "Shows what an SAE is, and what was folded into it.")
final class Info implements Callable<Integer> {
  /**
   * @param k of a TopK SAE, else null
   * @param farFromUnitRows decoder rows of norm below 0.5 or above 2
   * @param nearZeroRows those that have all but vanished ({@link SelfCheck#nearZeroNorm})
   * @param dead features that can't fire, or add nothing when they do
   * @param threshold on the pre-activation; null for ReLU
   * @param bytes of memory
   * @param screenBytes of memory beside these, while the SAE is open
   */
  record Result(
      String format,
      String architecture,
      long dIn,
      long dOut,
      long dSae,
      String dtype,
      Long k,
      String modelName,
      String hookName,
      List<String> folded,
      Spread decoderNorm,
      long farFromUnitRows,
      long nearZeroRows,
      Spread encDecCosine,
      long dead,
      Spread threshold,
      long bytes,
      long screenBytes,
      String source,
      Double publishedL0,
      Check check,
      List<String> notes,
      List<String> warnings) {}

  /** What {@link SelfCheck} found, of sample activations. */
  record Check(
      long n, double l0, Double explainedVariance, Double normRatio, long outlierRows, SelfCheck.Typical typical) {
    static Check of(SelfCheck check) {
      return new Check(
          check.n(), check.l0(), check.explainedVariance(), check.normRatio(), check.outlierRows(), check.typical());
    }
  }

  record Spread(double min, double median, double max) {
    /** Of the finite ones; null if there is none. */
    static Spread of(float[] values) {
      float[] sorted = new float[values.length];
      int n = 0;
      for (float value : values) {
        if (Float.isFinite(value)) {
          sorted[n++] = value;
        }
      }
      Arrays.sort(sorted, 0, n);
      return n == 0 ? null : new Spread(sorted[0], ((double) sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[n - 1]);
    }

    String text() {
      return "%s to %s, median %s".formatted(Tables.number(min), Tables.number(max), Tables.number(median));
    }
  }

  private static final int CHECKED = 1024;

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @Option(
      names = "--activations",
      paramLabel = "X",
      description =
          "Check the SAE on activations of its model and place: L0, explained variance, norms. The first " + CHECKED + " rows serve.")
  private String activations;

  @Override
  public Integer call() throws IOException {
    Result result;
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights)) {
      result = run(weights, sae.screenBytes(), activations == null ? null : check(sae));
    }
    PrintWriter out = spec.commandLine().getOut();
    if (model.json) {
      out.println(Json.of(result));
    } else {
      print(result, out);
    }
    return 0;
  }

  private SelfCheck check(SparseAutoencoder sae) throws IOException {
    int d = Math.toIntExact(sae.dIn());
    try (ActivationReader rows = model.rows(activations, d)) {
      FloatBuffer x = FloatBuffer.allocate(Math.toIntExact(Math.min(CHECKED, rows.rows()) * d));
      rows.read(x);
      return SelfCheck.of(sae, x.array());
    }
  }

  /** @param check null without activations */
  static Result run(SaeWeights weights, long screenBytes, SelfCheck check) {
    int n = Math.toIntExact(weights.dSae());
    float[] norms = new float[n];
    float[] cosines = new float[n];
    float[] thresholds = new float[n];
    long dead = IntStream.range(0, n).parallel().filter(j -> inspect(weights, j, norms, cosines, thresholds)).count();
    double nearZero = SelfCheck.nearZeroNorm(weights);
    SaeInfo info = weights.info();
    return new Result(
        info.format(),
        info.architecture(),
        weights.dIn(),
        weights.dOut(),
        weights.dSae(),
        info.dtype(),
        weights.form().selection() == SaeWeights.Selection.GATE ? null : weights.form().k(),
        info.modelName(),
        info.hookName(),
        info.folded(),
        Spread.of(norms),
        count(norms, norm -> norm < 0.5 || norm > 2),
        count(norms, norm -> norm < nearZero),
        Spread.of(cosines),
        dead,
        Spread.of(thresholds),
        weights.bytes(),
        screenBytes,
        info.source(),
        info.publishedL0(),
        check == null ? null : Check.of(check),
        info.notes(),
        check == null ? info.warnings() : Stream.concat(info.warnings().stream(), check.warnings().stream()).toList());
  }

  /** Fills in one feature; true if it is dead. */
  private static boolean inspect(SaeWeights weights, int feature, float[] norms, float[] cosines, float[] thresholds) {
    float[] w = new float[Math.toIntExact(weights.dIn())];
    float[] d = new float[Math.toIntExact(weights.dOut())];
    Sums.row(weights.wEnc(), feature, w);
    Sums.row(weights.wDec(), feature, d);
    float threshold = at(weights.threshold(), feature);
    float offset = at(weights.offset(), feature);
    double decoderNorm = Sums.norm(d);
    double encoderNorm = Sums.norm(w);
    norms[feature] = (float) decoderNorm;
    cosines[feature] = w.length == d.length ? (float) (Sums.dot(w, d) / (encoderNorm * decoderNorm)) : Float.NaN;
    thresholds[feature] = (float) ((double) at(weights.scale(), feature) * threshold + offset);
    boolean canFire = threshold < Float.POSITIVE_INFINITY && (encoderNorm > 0 || threshold < 0 && offset > 0);
    return !canFire || decoderNorm == 0;
  }

  private static long count(float[] norms, DoublePredicate condition) {
    return IntStream.range(0, norms.length).filter(j -> condition.test(norms[j])).count();
  }

  private static float at(FloatPointer array, long index) {
    return array.get(index);
  }

  private static String farFromUnit(Result result) {
    String far = Tables.count(result.farFromUnitRows());
    String near = Tables.count(result.nearZeroRows());
    return (result.farFromUnitRows() == 0 ? "" : "; %s rows far from 1 (below 0.5 or above 2)".formatted(far))
        + (result.nearZeroRows() == 0 ? "" : "; %s next to 0".formatted(near));
  }

  private static String screen(long bytes) {
    return bytes == 0 ? "" : ", and " + Tables.count(bytes) + " of the screen's copy";
  }

  private static void print(Result result, PrintWriter out) {
    Tables.facts(
        out,
        "format", result.format(),
        "architecture", result.architecture(),
        "shape", "d_in %d, d_out %d, d_sae %d".formatted(result.dIn(), result.dOut(), result.dSae()),
        "dtype", result.dtype() + " on disk, " + Tables.count(result.bytes()) + " bytes as float32 in memory" + screen(result.screenBytes()),
        "file", result.source(),
        "selection", result.k() == null ? "by threshold" : "the " + result.k() + " largest",
        "model", result.modelName(),
        "hook", result.hookName(),
        "decoder norm", result.decoderNorm().text() + farFromUnit(result),
        "cos(enc, dec)", result.encDecCosine() == null ? "-" : result.encDecCosine().text(),
        "threshold", result.threshold() == null ? "none" : result.threshold().text(),
        "dead features", Tables.count(result.dead()) + " can't fire, or add nothing when they do");
    if (result.check() != null) {
      printCheck(result.check(), out);
    }
    sentences("folded", result.folded(), out);
    sentences("notes", result.notes(), out);
    sentences("warnings", result.warnings(), out);
  }

  private static void printCheck(Check check, PrintWriter out) {
    out.println();
    Tables.facts(
        out,
        "rows checked", Tables.count(check.n()),
        "mean L0", Tables.number(check.l0()),
        "explained variance", orDash(check.explainedVariance()),
        "norm ratio", orDash(check.normRatio()),
        "outlier rows", check.outlierRows() == 0 ? null : outliers(check));
  }

  private static String outliers(Check check) {
    return "%s, of more than %.0f times the median norm; without them L0 %s, explained variance %s, norm ratio %s"
        .formatted(
            Tables.count(check.outlierRows()),
            SelfCheck.OUTLIER,
            Tables.number(check.typical().l0()),
            orDash(check.typical().explainedVariance()),
            orDash(check.typical().normRatio()));
  }

  private static String orDash(Double value) {
    return value == null ? "-" : Tables.number(value);
  }

  private static void sentences(String title, List<String> sentences, PrintWriter out) {
    if (!sentences.isEmpty()) {
      out.println();
      out.println("  " + title);
      sentences.forEach(sentence -> out.println("    " + Output.line(sentence)));
    }
  }
}

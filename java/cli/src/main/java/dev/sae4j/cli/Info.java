package dev.sae4j.cli;

import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.internal.Sums;
import java.io.PrintWriter;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

@Command(name = "info", mixinStandardHelpOptions = true, description = "Shows what an SAE is, and what was folded into it.")
final class Info implements Callable<Integer> {
  /**
   * @param k of a TopK SAE, else null
   * @param dead features that can't fire, or add nothing when they do
   * @param threshold on the pre-activation; null for ReLU
   * @param bytes of memory
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
      Spread encDecCosine,
      long dead,
      Spread threshold,
      long bytes,
      List<String> warnings) {}

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

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @Override
  public Integer call() {
    Result result;
    try (SaeWeights weights = model.read()) {
      result = run(weights);
    }
    PrintWriter out = spec.commandLine().getOut();
    if (model.json) {
      out.println(Json.of(result));
    } else {
      print(result, out);
    }
    return 0;
  }

  static Result run(SaeWeights weights) {
    int n = Math.toIntExact(weights.dSae());
    float[] norms = new float[n];
    float[] cosines = new float[n];
    float[] thresholds = new float[n];
    long dead = IntStream.range(0, n).parallel().filter(j -> inspect(weights, j, norms, cosines, thresholds)).count();
    SaeInfo info = weights.info();
    return new Result(
        info.format(),
        info.architecture(),
        weights.dIn(),
        weights.dOut(),
        weights.dSae(),
        info.dtype(),
        null,
        info.modelName(),
        info.hookName(),
        info.folded(),
        Spread.of(norms),
        Spread.of(cosines),
        dead,
        Spread.of(thresholds),
        weights.bytes(),
        info.warnings());
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

  private static float at(FloatPointer array, long index) {
    return array.get(index);
  }

  private static void print(Result result, PrintWriter out) {
    Tables.facts(
        out,
        "format", result.format(),
        "architecture", result.architecture(),
        "shape", "d_in %d, d_out %d, d_sae %d".formatted(result.dIn(), result.dOut(), result.dSae()),
        "dtype", result.dtype() + " on disk, " + Tables.count(result.bytes()) + " bytes as float32 in memory",
        "model", result.modelName(),
        "hook", result.hookName(),
        "decoder norm", result.decoderNorm().text(),
        "cos(enc, dec)", result.encDecCosine() == null ? "-" : result.encDecCosine().text(),
        "threshold", result.threshold() == null ? "none" : result.threshold().text(),
        "dead features", Tables.count(result.dead()) + " can't fire, or add nothing when they do");
    sentences("folded", result.folded(), out);
    sentences("warnings", result.warnings(), out);
  }

  private static void sentences(String title, List<String> sentences, PrintWriter out) {
    if (!sentences.isEmpty()) {
      out.println();
      out.println("  " + title);
      sentences.forEach(sentence -> out.println("    " + sentence));
    }
  }
}

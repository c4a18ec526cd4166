package dev.sae4j.cli;

import dev.sae4j.Decomposition;
import dev.sae4j.Diagnosis;
import dev.sae4j.Projection;
import dev.sae4j.Pursuit;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.internal.Sums;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.SaeReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "demo",
    mixinStandardHelpOptions = true,
    description = "The main job on real data that comes with sae4j: activations and steering vectors; then a report.")
final class Demo implements Callable<Integer> {
  /** @param vector the one that project shows */
  record Result(
      Encode.Result encode,
      Decode.Result decode,
      Project.Result project,
      String vector,
      ActivationNorm activationNorm,
      long zeroVectorL0,
      List<Steering> vectors,
      Diagnosis diagnose) {}

  record ActivationNorm(double mean, double min, double max) {}

  /**
   * One steering vector v.
   *
   * @param normRatio to the mean norm of the activations
   * @param l0 of encode(v)
   * @param cosine of v with its code decoded without b_dec; NaN where the code is empty
   * @param scaledL0 of encode(v scaled to the mean norm)
   * @param negatives how many of the strongest projections are negative
   * @param lostNegatives how many of these encode(v) has at 0; scaled: encode(v scaled to the mean norm)
   */
  record Steering(
      String name,
      double norm,
      double normRatio,
      long l0,
      double cosine,
      long scaledL0,
      double scaledCosine,
      int top,
      int negatives,
      int lostNegatives,
      int scaledLostNegatives,
      int lostPositives,
      int scaledLostPositives) {}

  private static final List<String> FILES =
      List.of("cfg.json", "sae_weights.safetensors", "activations.npy", "steering_vectors.safetensors", "labels.jsonl.gz");
  private static final List<String> VECTORS = List.of("sentiment", "formality", "question", "past_future", "science_sport");
  private static final String SHOWN = "sentiment";
  private static final int TOP = 20;

  private static final int ATOMS = 16;

  @Spec private CommandSpec spec;
  @Mixin private EngineOptions engine;

  @Option(
      names = "--report",
      paramLabel = "FILE.html",
      defaultValue = "report.html",
      description = "Where the report goes. Default: ${DEFAULT-VALUE}.")
  private Path report;

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    Result result = run(engine.json ? new PrintWriter(Writer.nullWriter()) : out);
    if (engine.json) {
      out.println(Json.of(result));
    }
    return 0;
  }

  /** Says what it does as it goes. Every number and every sentence about the data is computed here and now. */
  private Result run(PrintWriter out) throws IOException {
    Path folder = unpack();
    try (SaeWeights weights = SaeReader.read(folder);
        SparseAutoencoder sae = EngineOptions.open(weights, engine.device())) {
      tellModel(sae, out);

      String activations = folder.resolve("activations.npy").toString();
      Path codes = folder.resolve("codes.npz");
      Encode.Result encoded = Encode.run(sae, activations, codes, true);
      Decode.Result decoded = Decode.run(sae, codes, null, folder.resolve("decoded.npy"), false);
      ActivationNorm norm = norm(activations, sae.dIn());
      tellActivations(encoded, decoded, norm, out);

      long zeroL0 = l0(encode(sae, new float[Math.toIntExact(sae.dIn())]));
      List<Steering> vectors = new ArrayList<>();
      for (String name : VECTORS) {
        vectors.add(steering(weights, sae, name, vector(folder, name, sae), norm.mean()));
      }
      Steering shown = vectors.get(VECTORS.indexOf(SHOWN));
      tellPlain(shown, zeroL0, norm, out);

      float[] v = vector(folder, SHOWN, sae);
      Labels labels = Labels.read(folder.resolve("labels.jsonl.gz"), sae.dSae());
      List<Decomposition.Feature> features = Project.features(weights, sae, v, Projection.top(TOP), labels);
      tellProjection(features, encode(sae, v), encode(sae, toNorm(v, norm.mean())), shown, out);
      tellAll(vectors, out);

      Pursuit how = Pursuit.omp(ATOMS);
      double[] norms = Diagnose.norms(activations, sae.dIn());
      Diagnosis diagnosis = Diagnosis.of(weights, sae, v, how, norms, null, null, labels::of);
      Diagnose.report(report, SHOWN, diagnosis, sae, weights, v, how, norms);
      tellDiagnosis(diagnosis, out);
      return new Result(
          withoutFile(encoded),
          withoutFile(decoded),
          new Project.Result(1, "decoder", "none", shown.norm(), features),
          SHOWN,
          norm,
          zeroL0,
          vectors,
          diagnosis);
    }
  }

  /** The file is gone when the demo ends. */
  private static Encode.Result withoutFile(Encode.Result r) {
    return new Encode.Result(
        r.n(), r.dIn(), r.dSae(), r.nnz(), r.meanL0(), r.explainedVariance(), r.device(), r.screen(), r.seconds(), null);
  }

  private static Decode.Result withoutFile(Decode.Result r) {
    return new Decode.Result(r.n(), r.dOut(), r.direction(), r.device(), r.seconds(), null);
  }

  // ---- what is said

  private static void tellModel(SparseAutoencoder sae, PrintWriter out) {
    SaeInfo info = sae.info();
    out.println("1. A sparse autoencoder (SAE) of a sentence model's hidden states");
    Tables.facts(
        out,
        "model", info.modelName() + ", " + info.hookName(),
        "SAE", "%s, d_in %d, d_sae %d, %s on disk".formatted(info.architecture(), sae.dIn(), sae.dSae(), info.dtype()),
        "device", sae.describe());
    out.println();
  }

  private static void tellActivations(Encode.Result encoded, Decode.Result decoded, ActivationNorm norm, PrintWriter out) {
    out.println("2. Its activations at " + encoded.n() + " real tokens: encode, and decode again");
    Tables.facts(
        out,
        "norm", "%s on average, %s to %s"
            .formatted(Tables.number(norm.mean()), Tables.number(norm.min()), Tables.number(norm.max())),
        "mean L0", "%s of %d features".formatted(Tables.number(encoded.meanL0()), encoded.dSae()),
        "explained variance", Tables.number(encoded.explainedVariance()),
        "seconds", "encode %s, decode %s, files included"
            .formatted(Tables.number(encoded.seconds()), Tables.number(decoded.seconds())));
    out.println();
  }

  private static void tellPlain(Steering v, long zeroL0, ActivationNorm norm, PrintWriter out) {
    out.println("3. The steering vector \"" + v.name() + "\", a mean difference of activations, encoded as if it were one");
    Tables.facts(
        out,
        "norm", "%s, %s of the mean activation norm; the shortest activation has %s"
            .formatted(Tables.number(v.norm()), Tables.number(v.normRatio()), Tables.number(norm.min())),
        "encode(0)", code(zeroL0, Double.NaN),
        "encode(v)", code(v.l0(), v.cosine()),
        "encode(s v)", code(v.scaledL0(), v.scaledCosine()) + "; s brings v to the mean norm");
    out.println();
  }

  private static String code(long l0, double cosine) {
    return (l0 == 1 ? "1 active feature" : l0 + " active features")
        + (Double.isFinite(cosine) ? ", decoded without b_dec: cosine %s with v".formatted(Tables.signed(cosine)) : "");
  }

  private static void tellProjection(
      List<Decomposition.Feature> features, float[] plain, float[] scaled, Steering summary, PrintWriter out) {
    out.println("4. The same vector projected on the decoder, sign kept: the " + features.size() + " strongest features");
    List<List<String>> rows = new ArrayList<>();
    for (Decomposition.Feature feature : features) {
      rows.add(
          List.of(
              String.valueOf(feature.index()),
              Tables.signed(feature.coefficient()),
              Tables.signed(feature.cosine()),
              activation(plain[feature.index()]),
              activation(scaled[feature.index()]),
              feature.label() == null ? "-" : feature.label()));
    }
    List<String> header = List.of("feature", "projection", "cosine", "encode(v)", "encode(s v)", "label");
    Tables.table(out, Terminal.columns(), header, rows);
    out.println();
    String sentence = "%d of %d; encode(v) has %d of these at 0, encode(s v) %d";
    int top = summary.top();
    int negatives = summary.negatives();
    Tables.facts(
        out,
        "negative", sentence.formatted(negatives, top, summary.lostNegatives(), summary.scaledLostNegatives()),
        "positive", sentence.formatted(top - negatives, top, summary.lostPositives(), summary.scaledLostPositives()));
    out.println();
  }

  private static String activation(float value) {
    return value == 0 ? "0" : Tables.number(value);
  }

  private static void tellAll(List<Steering> vectors, PrintWriter out) {
    out.println(
        "5. All %d steering vectors: plain encode, and the signs of the %d strongest projections"
            .formatted(vectors.size(), TOP));
    List<List<String>> rows = new ArrayList<>();
    for (Steering v : vectors) {
      rows.add(
          List.of(
              v.name(),
              Tables.number(v.norm()),
              Tables.number(v.normRatio()),
              String.valueOf(v.l0()),
              Tables.signed(v.cosine()),
              String.valueOf(v.scaledL0()),
              Tables.signed(v.scaledCosine()),
              v.negatives() + " of " + v.top(),
              v.lostNegatives() + " of " + v.negatives(),
              v.scaledLostNegatives() + " of " + v.negatives()));
    }
    List<String> header =
        List.of("v", "norm", "/ mean", "L0(v)", "cosine", "L0(s v)", "cosine", "negative", "lost by v", "lost by s v");
    Tables.table(out, Integer.MAX_VALUE, header, rows);
    out.println();
    out.println("  L0: active features of the code. cosine: of v with its code decoded without b_dec.");
    out.println("  lost: negative projections that the code has at 0.");
  }

  private void tellDiagnosis(Diagnosis diagnosis, PrintWriter out) {
    out.println();
    out.println("6. \"%s\" diagnosed, and decomposed into %d signed features".formatted(SHOWN, ATOMS));
    for (String finding : diagnosis.findings()) {
      out.println("  * " + Output.line(finding));
    }
    out.println();
    Decompose.print(diagnosis.decomposition(), out);
    out.println();
    Tables.facts(out, "report", report + ", for a browser");
  }

  // ---- figures

  private static Steering steering(SaeWeights weights, SparseAutoencoder sae, String name, float[] v, double meanNorm) {
    float[] toMean = toNorm(v, meanNorm);
    float[] plain = encode(sae, v);
    float[] scaled = encode(sae, toMean);
    List<Decomposition.Feature> features = Project.features(weights, sae, v, Projection.top(TOP), Labels.none());
    List<Decomposition.Feature> negative = features.stream().filter(feature -> feature.coefficient() < 0).toList();
    List<Decomposition.Feature> positive = features.stream().filter(feature -> feature.coefficient() > 0).toList();
    double norm = Sums.norm(v);
    return new Steering(
        name,
        norm,
        norm / meanNorm,
        l0(plain),
        reconstructionCosine(sae, v),
        l0(scaled),
        reconstructionCosine(sae, toMean),
        features.size(),
        negative.size(),
        inactive(negative, plain),
        inactive(negative, scaled),
        inactive(positive, plain),
        inactive(positive, scaled));
  }

  private static int inactive(List<Decomposition.Feature> features, float[] code) {
    return (int) features.stream().filter(feature -> code[feature.index()] == 0).count();
  }

  /** A code of one vector, dense: this SAE is small. */
  private static float[] encode(SparseAutoencoder sae, float[] x) {
    float[] dense = new float[Math.toIntExact(sae.dSae())];
    try (SparseCodes codes = sae.encode(x)) {
      for (long i = 0; i < codes.nnz(); i++) {
        dense[codes.indices().get(i)] = codes.values().get(i);
      }
    }
    return dense;
  }

  private static double reconstructionCosine(SparseAutoencoder sae, float[] v) {
    try (SparseCodes codes = sae.encode(v)) {
      return Sums.cosine(v, sae.decodeDirection(codes));
    }
  }

  private static long l0(float[] code) {
    long l0 = 0;
    for (float value : code) {
      l0 += value != 0 ? 1 : 0;
    }
    return l0;
  }

  private static float[] toNorm(float[] v, double norm) {
    return Sums.scaled(v, norm / Sums.norm(v));
  }

  private static ActivationNorm norm(String activations, long dIn) {
    try (ActivationReader reader = ActivationReader.open(activations, dIn)) {
      float[] x = new float[Math.toIntExact(dIn)];
      long n = reader.rows();
      double sum = 0;
      double min = Double.POSITIVE_INFINITY;
      double max = 0;
      while (reader.read(FloatBuffer.wrap(x)) > 0) {
        double norm = Sums.norm(x);
        sum += norm;
        min = Math.min(min, norm);
        max = Math.max(max, norm);
      }
      return new ActivationNorm(sum / n, min, max);
    }
  }

  private static float[] vector(Path folder, String name, SparseAutoencoder sae) {
    return ActivationReader.readVector(folder.resolve("steering_vectors.safetensors") + "#" + name, sae.dIn());
  }

  // ---- data

  /** A temporary folder with the bundled files, removed when the JVM ends, however it ends. */
  static Path unpack() throws IOException {
    Path folder = Files.createTempDirectory("sae4j-demo");
    Runtime.getRuntime().addShutdownHook(new Thread(() -> remove(folder)));
    for (String file : FILES) {
      try (InputStream bytes = Demo.class.getResourceAsStream("demo/" + file)) {
        Files.copy(bytes, folder.resolve(file));
      }
    }
    return folder;
  }

  private static void remove(Path folder) {
    try (var files = Files.newDirectoryStream(folder)) {
      for (Path file : files) {
        Files.delete(file);
      }
      Files.delete(folder);
    } catch (IOException e) {
      System.err.println("sae4j: " + folder + " could not be removed: " + e.getMessage());
    }
  }
}

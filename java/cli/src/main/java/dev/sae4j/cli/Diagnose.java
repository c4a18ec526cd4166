package dev.sae4j.cli;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.Decomposition;
import dev.sae4j.Diagnosis;
import dev.sae4j.Pursuit;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "diagnose",
    mixinStandardHelpOptions = true,
    description = "Says what a direction is made of, and why a plain encode of it misleads (arXiv 2411.08790).")
final class Diagnose implements Callable<Integer> {
  /** What the report draws beside the diagnosis. */
  record Charts(String title, String sae, List<Explained> explainedVariance, Histogram normHistogram) {}

  /** Explained variance with so many atoms. */
  record Explained(long atoms, double signed, double nonNegative) {}

  /** @param edges one more than counts */
  record Histogram(double[] edges, long[] counts) {}

  private static final class Pairs {
    @Option(names = "--positive", paramLabel = "X", required = true, description = "Activations of one kind, [n, d_in].")
    private String positive;

    @Option(names = "--negative", paramLabel = "X", required = true, description = "Activations of the opposite kind.")
    private String negative;
  }

  private static final int BINS = 40;

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;
  @Mixin private PursuitOptions options;

  @Option(names = "--vector", paramLabel = "V", required = true, description = "The direction, [d] or [1, d].")
  private String vector;

  @Option(names = "--activations", paramLabel = "X", description = "Activations, [n, d_in], to compare its norm with.")
  private String activations;

  @ArgGroup(exclusive = false)
  private Pairs pairs;

  @Option(names = "--report", paramLabel = "FILE.html", description = "Write a report with charts, to open in a browser.")
  private Path report;

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights)) {
      Pursuit how = options.pursuit(sae.dOut());
      Labels labels = model.labels(sae);
      float[] v = model.vector(vector, sae.dIn());
      double[] norms = activations == null ? null : norms(activations, sae.dIn());
      Diagnosis diagnosis;
      if (pairs == null) {
        diagnosis = Diagnosis.of(weights, sae, v, how, norms, null, null, labels::of);
      } else {
        try (ActivationReader positive = model.rows(pairs.positive, sae.dIn());
            ActivationReader negative = model.rows(pairs.negative, sae.dIn())) {
          diagnosis = Diagnosis.of(weights, sae, v, how, norms, positive, negative, labels::of);
        }
      }
      if (report != null) {
        report(report, name(vector), diagnosis, sae, weights, v, how, norms);
      }
      if (model.json) {
        out.println(Json.of(diagnosis));
      } else {
        out.println(Output.line(vector) + ":");
        print(diagnosis, out);
        if (report != null) {
          out.println();
          Tables.facts(out, "report", report);
        }
      }
      return 0;
    }
  }

  static double[] norms(String activations, long d) throws IOException {
    try (ActivationReader rows = ActivationReader.open(activations, d)) {
      return Diagnosis.norms(rows, Math.toIntExact(d));
    }
  }

  /** The tensor's name, or the file's. */
  private static String name(String vector) {
    int tensor = vector.lastIndexOf('#');
    return tensor >= 0 && tensor + 1 < vector.length()
        ? vector.substring(tensor + 1)
        : Path.of(tensor < 0 ? vector : vector.substring(0, tensor)).getFileName().toString();
  }

  static void report(
      Path file, String title, Diagnosis diagnosis, SparseAutoencoder sae, SaeWeights weights, float[] v, Pursuit how, double[] norms)
      throws IOException {
    List<Explained> curve = new ArrayList<>();
    for (long atoms = 1; diagnosis.vectorNorm() > 0 && atoms <= how.atoms(); atoms = next(atoms, how.atoms())) {
      Pursuit shorter = new Pursuit(how.method(), false, atoms, how.residual(), how.gain(), how.penalty());
      curve.add(
          new Explained(
              atoms,
              Decomposition.of(weights, sae, v, shorter, j -> null).explainedVariance(),
              Decomposition.of(weights, sae, v, shorter.withNonNegative(true), j -> null).explainedVariance()));
    }
    String known = sae.info().modelName();
    String model =
        (known == null ? "" : known + ", ")
            + "%s, d_in %d, d_sae %d".formatted(sae.info().architecture(), sae.dIn(), sae.dSae());
    Charts charts = new Charts(title, model, curve, norms == null || norms.length == 0 ? null : histogram(norms));
    Report.write(file, json(diagnosis), json(charts));
  }

  /** 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 ..., and the last. */
  private static long next(long atoms, long last) {
    long power = Long.highestOneBit(atoms);
    long step = Math.max(1, power / 2);
    return atoms == last ? last + 1 : Math.min(atoms + step, last);
  }

  private static JsonObject json(Object result) {
    return JsonParser.parseString(Json.of(result)).getAsJsonObject();
  }

  private static Histogram histogram(double[] norms) {
    double low = Arrays.stream(norms).min().orElseThrow();
    double high = Arrays.stream(norms).max().orElseThrow();
    double width = high > low ? (high - low) / BINS : 1;
    double[] edges = new double[BINS + 1];
    long[] counts = new long[BINS];
    for (int i = 0; i <= BINS; i++) {
      edges[i] = low + i * width;
    }
    for (double norm : norms) {
      counts[Math.min(BINS - 1, (int) ((norm - low) / width))]++;
    }
    return new Histogram(edges, counts);
  }

  static void print(Diagnosis d, PrintWriter out) {
    for (String finding : d.findings()) {
      out.println("  * " + Output.line(finding));
    }
    out.println();
    Tables.facts(
        out,
        "norm", Tables.number(d.vectorNorm())
            + (d.normRatio() == null
                ? ""
                : ", %s of the median activation norm, %s of the mean"
                    .formatted(Tables.number(d.medianNormRatio()), Tables.number(d.normRatio()))),
        "plain encode, decoded", "cosine %s without b_dec, %s with it"
            .formatted(Tables.signed(d.reconstructionCosine()), Tables.signed(d.reconstructionCosineWithBDec())),
        "overlap with encode(0)", "Jaccard " + Tables.number(d.biasJaccard()),
        "negative energy", Tables.number(d.lostNegativeEnergy()) + " of the squared projections",
        "support that stays", "%s with an atom less, %s with one more, %s under 1 %% noise"
            .formatted(
                Tables.number(d.stability().kMinus()),
                Tables.number(d.stability().kPlus()),
                Tables.number(d.stability().perturbed())));
    plain(d.plainEncode(), out);
    sweep(d.scaleSweep(), out);
    section("Its signed decomposition", out);
    Decompose.print(d.decomposition(), out);
    section("Without negative coefficients", out);
    Decompose.print(d.decompositionNonNegative(), out);
    if (!d.negativeProjections().isEmpty()) {
      section("Its most negative projections", out);
      Decompose.features(d.negativeProjections(), out);
    }
    antipodes(d.spuriousAntipodal(), out);
    difference(d.differenceOfEncodings(), out);
  }

  private static void section(String title, PrintWriter out) {
    out.println();
    out.println(title);
  }

  private static void plain(List<Diagnosis.Plain> features, PrintWriter out) {
    section("Its plain encode" + (features.isEmpty() ? ": no feature is active" : ""), out);
    List<List<String>> rows = new ArrayList<>();
    for (Diagnosis.Plain f : features) {
      rows.add(
          List.of(String.valueOf(f.index()), Tables.number(f.value()), Tables.number(f.biasShare()), text(f.label())));
    }
    table(List.of("feature", "value", "bias share", "label"), rows, out);
  }

  private static void sweep(List<Diagnosis.Scale> scales, PrintWriter out) {
    section("The plain encode of s v", out);
    List<List<String>> rows = new ArrayList<>();
    for (Diagnosis.Scale s : scales) {
      rows.add(
          List.of(
              Tables.number(s.scale()), String.valueOf(s.l0()), Tables.number(s.biasJaccard()), Tables.signed(s.cosine())));
    }
    table(List.of("s", "L0", "Jaccard with encode(0)", "cosine"), rows, out);
  }

  private static void antipodes(List<Diagnosis.Antipode> antipodes, PrintWriter out) {
    if (!antipodes.isEmpty()) {
      section("Active features that oppose one with a negative projection", out);
      List<List<String>> rows = new ArrayList<>();
      for (Diagnosis.Antipode a : antipodes) {
        rows.add(
            List.of(String.valueOf(a.active()), String.valueOf(a.opposes()), Tables.signed(a.cosine()), text(a.label())));
      }
      table(List.of("feature", "opposes", "cosine", "label"), rows, out);
    }
  }

  private static void difference(List<Diagnosis.Difference> differences, PrintWriter out) {
    if (differences != null) {
      section("Difference of the mean codes, positive less negative", out);
      List<List<String>> rows = new ArrayList<>();
      for (Diagnosis.Difference f : differences) {
        rows.add(List.of(String.valueOf(f.index()), Tables.signed(f.difference()), text(f.label())));
      }
      table(List.of("feature", "difference", "label"), rows, out);
    }
  }

  private static String text(String label) {
    return label == null ? "-" : label;
  }

  private static void table(List<String> header, List<List<String>> rows, PrintWriter out) {
    if (!rows.isEmpty()) {
      Tables.table(out, Terminal.columns(), header, rows);
    }
  }
}

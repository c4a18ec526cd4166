package dev.sae4j.cli;

import dev.sae4j.Decomposition;
import dev.sae4j.Pursuit;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "decompose",
    mixinStandardHelpOptions = true,
    description = "Decomposes a direction into few features, with their signs.")
final class Decompose implements Callable<Integer> {
  /** Of many directions: their decompositions are in the codes file. */
  record Many(long n, String method, long atoms, boolean nonNegative, String out) {}

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;
  @Mixin private PursuitOptions options;

  @ArgGroup(multiplicity = "1")
  private Directions directions;

  @Option(names = "--non-negative", description = "No negative coefficients.")
  private boolean nonNegative;

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights)) {
      Pursuit how = options.pursuit(sae.dOut()).withNonNegative(nonNegative);
      if (directions.areMany()) {
        many(sae, how, out);
        return 0;
      }
      Labels labels = model.labels(sae);
      Decomposition result = Decomposition.of(weights, sae, directions.one(model, sae.dOut()), how, labels::of);
      if (model.json) {
        out.println(Json.of(result));
      } else {
        out.println(Output.line(directions) + ":");
        print(result, out);
      }
      return 0;
    }
  }

  private void many(SparseAutoencoder sae, Pursuit how, PrintWriter out) {
    long n = directions.each(model, sae, sae.dOut(), "decompose", (v, codes) -> sae.pursue(v, how, codes));
    Many result =
        new Many(n, how.method().name().toLowerCase(Locale.ROOT), how.atoms(), nonNegative, directions.out().toString());
    if (model.json) {
      out.println(Json.of(result));
    } else {
      Tables.facts(
          out, "directions", Tables.count(n), "method", method(result.method(), nonNegative), "codes", result.out());
    }
  }

  static void print(Decomposition d, PrintWriter out) {
    Tables.facts(
        out,
        "method", method(d.method(), d.nonNegative()),
        "features", "%d, stopped by: %s".formatted(d.atoms(), d.stop()),
        "norm", "%s, residual %s".formatted(Tables.number(d.vectorNorm()), Tables.number(d.residualNorm())),
        "cosine", Tables.signed(d.cosine()),
        "explained variance", Tables.number(d.explainedVariance()),
        "negative", "%s of the coefficients, %s of their energy"
            .formatted(Tables.number(d.negativeShare()), Tables.number(d.negativeEnergy())),
        "worst coherence", Tables.number(d.worstCoherence()));
    d.warnings().forEach(warning -> out.println("  warning: " + warning));
    if (!d.features().isEmpty()) {
      out.println();
      features(d.features(), out);
    }
  }

  private static String method(String name, boolean nonNegative) {
    return name + (nonNegative ? ", non-negative" : ", signed");
  }

  /** A table of signed features. */
  static void features(List<Decomposition.Feature> features, PrintWriter out) {
    List<List<String>> rows = new ArrayList<>();
    for (Decomposition.Feature f : features) {
      rows.add(
          List.of(
              String.valueOf(f.index()),
              Tables.signed(f.coefficient()),
              Tables.signed(f.cosine()),
              f.label() == null ? "-" : f.label()));
    }
    Tables.table(out, Terminal.columns(), List.of("feature", "coefficient", "cosine", "label"), rows);
  }
}

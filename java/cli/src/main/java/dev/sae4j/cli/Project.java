package dev.sae4j.cli;

import dev.sae4j.Decomposition;
import dev.sae4j.Projection;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.internal.Sums;
import java.io.IOException;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.Callable;
import org.bytedeco.javacpp.FloatPointer;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "project",
    mixinStandardHelpOptions = true,
    description = "Reads a direction against each feature, with its sign: no bias, no threshold.")
final class Project implements Callable<Integer> {
  /**
   * @param vectorNorm null for many directions
   * @param features by descending |coefficient|; null for many directions: they are in the codes file
   */
  record Result(long n, String readout, String normalize, Double vectorNorm, List<Decomposition.Feature> features) {}

  /** As {@link Result}, the two signs apart. */
  record PerSign(
      long n, String readout, String normalize, Double vectorNorm, List<Decomposition.Feature> positive, List<Decomposition.Feature> negative) {}

  /** Named as they are typed. */
  enum Readout {
    decoder,
    encoder
  }

  /** Named as they are typed. */
  enum Normalize {
    none,
    unit
  }

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @ArgGroup(multiplicity = "1")
  private Directions directions;

  @Option(
      names = "--top",
      paramLabel = "K",
      defaultValue = "20",
      description = "Features to keep. Default: ${DEFAULT-VALUE}.")
  private int top;

  @Option(names = "--per-sign", description = "Keep K features of each sign.")
  private boolean perSign;

  @Option(
      names = "--readout",
      paramLabel = "SIDE",
      defaultValue = "decoder",
      description = "Read against decoder or encoder directions. Default: ${DEFAULT-VALUE}.")
  private Readout readout;

  @Option(
      names = "--normalize",
      paramLabel = "HOW",
      defaultValue = "none",
      description = "unit: divide by the decoder direction's norm. Default: ${DEFAULT-VALUE}.")
  private Normalize normalize;

  @Override
  public Integer call() throws IOException {
    Projection projection = projection();
    PrintWriter out = spec.commandLine().getOut();
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights)) {
      long d = readout == Readout.decoder ? sae.dOut() : sae.dIn();
      if (directions.areMany()) {
        long n = directions.each(model, sae, d, "project", (v, codes) -> sae.project(v, projection, codes));
        if (model.json) {
          out.println(Json.of(answer(n, null, null)));
        } else {
          Tables.facts(
              out,
              "directions", Tables.count(n),
              "kept of each", "top " + top + (perSign ? " of each sign" : "") + " against the " + readout,
              "projections", directions.out());
        }
        return 0;
      }
      Labels labels = model.labels(sae);
      float[] v = directions.one(model, d);
      List<Decomposition.Feature> features = features(weights, sae, v, projection, labels);
      if (model.json) {
        out.println(Json.of(answer(1, Sums.norm(v), features)));
      } else {
        print(Sums.norm(v), features, out);
      }
      return 0;
    }
  }

  private Projection projection() {
    if (top < 1) {
      throw model.misuse("--top must be at least 1, got " + top);
    }
    if (readout == Readout.encoder && normalize == Normalize.unit) {
      throw model.misuse("--normalize unit is for the decoder readout, got --readout encoder");
    }
    Projection.Readout side = readout == Readout.decoder ? Projection.Readout.DECODER : Projection.Readout.ENCODER;
    return new Projection(side, normalize == Normalize.unit, top, perSign);
  }

  private Object answer(long n, Double norm, List<Decomposition.Feature> features) {
    String readoutName = readout.toString();
    String normalizeName = normalize.toString();
    return perSign
        ? new PerSign(n, readoutName, normalizeName, norm, ofSign(1, features), ofSign(-1, features))
        : new Result(n, readoutName, normalizeName, norm, features);
  }

  private static List<Decomposition.Feature> ofSign(int sign, List<Decomposition.Feature> features) {
    return features == null ? null : features.stream().filter(f -> Math.signum(f.coefficient()) == sign).toList();
  }

  /** The features kept of one direction, by descending |coefficient|, ties by index. */
  static List<Decomposition.Feature> features(SaeWeights weights, SparseAutoencoder sae, float[] v, Projection projection, Labels labels) {
    boolean isDecoder = projection.readout() == Projection.Readout.DECODER;
    FloatPointer directions = isDecoder ? weights.wDec() : weights.wEnc();
    double norm = Sums.norm(v);
    List<Decomposition.Feature> features = new ArrayList<>();
    try (SparseCodes codes = sae.project(v, projection)) {
      int[] indices = new int[Math.toIntExact(codes.nnz())];
      float[] coefficients = new float[indices.length];
      codes.indices().get(indices);
      codes.values().get(coefficients);
      for (int i = 0; i < indices.length; i++) {
        float[] direction = Sums.row(directions, indices[i], v.length);
        double unit = projection.unit() ? 1 : Sums.norm(direction);
        features.add(new Decomposition.Feature(indices[i], coefficients[i], coefficients[i] / (norm * unit), labels.of(indices[i])));
      }
    }
    features.sort(Comparator.comparing(feature -> -Math.abs(feature.coefficient())));
    return features;
  }

  private void print(double norm, List<Decomposition.Feature> features, PrintWriter out) {
    out.println(
        "%s: norm %s, read against the %s%s, sign kept"
            .formatted(Output.line(directions), Tables.number(norm), readout, normalize == Normalize.unit ? " (unit rows)" : ""));
    out.println();
    if (perSign) {
      table(ofSign(1, features), out);
      out.println();
      table(ofSign(-1, features), out);
    } else {
      table(features, out);
    }
  }

  private static void table(List<Decomposition.Feature> features, PrintWriter out) {
    boolean isLabelled = features.stream().anyMatch(feature -> feature.label() != null);
    List<String> header = List.of("feature", "coefficient", "cosine", "label");
    List<List<String>> rows = new ArrayList<>();
    for (Decomposition.Feature feature : features) {
      rows.add(
          List.of(
              String.valueOf(feature.index()),
              Tables.signed(feature.coefficient()),
              Tables.signed(feature.cosine()),
              feature.label() == null ? "-" : feature.label())
              .subList(0, isLabelled ? 4 : 3));
    }
    Tables.table(out, Terminal.columns(), header.subList(0, isLabelled ? 4 : 3), rows);
  }
}

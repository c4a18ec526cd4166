package dev.sae4j.cli;

import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.CodesWriter;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "encode",
    mixinStandardHelpOptions = true,
    description = "Encodes activations [n, d_in] into codes [n, d_sae].")
final class Encode implements Callable<Integer> {
  /**
   * @param explainedVariance null unless asked for
   * @param seconds reading, encoding and writing; not loading the SAE, nor the check
   */
  record Result(
      long n,
      long dIn,
      long dSae,
      long nnz,
      double meanL0,
      Double explainedVariance,
      String device,
      String screen,
      double seconds,
      String out) {}

  /** Bytes of a chunk of rows. */
  private static final int CHUNK_BYTES = 16 << 20;

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @Option(
      names = "--in",
      required = true,
      paramLabel = "X",
      description = "Activations, [n, d_in]; formats: see 'sae4j --help'.")
  private String in;

  @Option(
      names = "--out",
      required = true,
      paramLabel = "CODES.npz",
      description = "Codes to write, for scipy.sparse.load_npz.")
  private Path out;

  @Option(names = "--check", description = "Decode too, and report the explained variance.")
  private boolean check;

  @Override
  public Integer call() throws IOException {
    Result result;
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights);
        ActivationReader rows = model.rows(in, sae.dIn())) {
      result = run(sae, rows, out, check);
    }
    PrintWriter to = spec.commandLine().getOut();
    if (model.json) {
      to.println(Json.of(result));
    } else {
      print(result, to);
    }
    return 0;
  }

  static Result run(SparseAutoencoder sae, String in, Path out, boolean check) throws IOException {
    try (ActivationReader rows = ActivationReader.open(in, sae.dIn())) {
      return run(sae, rows, out, check);
    }
  }

  private static Result run(SparseAutoencoder sae, ActivationReader rows, Path out, boolean check) throws IOException {
    try (Terminal.Progress progress = new Terminal.Progress("encode", rows.rows());
        CodesWriter writer = CodesWriter.create(out, sae.dSae())) {
      ExplainedVariance variance = check ? new ExplainedVariance(sae) : null;
      int chunkRows = chunkRows(sae.dIn());
      String screen = sae.screenFor(Math.min(chunkRows, rows.rows()));
      long start = System.nanoTime();
      sae.encode(
          check ? variance.watching(rows) : rows,
          chunkRows,
          codes -> {
            writer.accept(codes);
            if (check) {
              variance.accept(codes);
            }
            progress.step(codes.rows());
          });
      writer.commit();
      double seconds = (System.nanoTime() - start - (check ? variance.nanos() : 0)) / 1e9;
      long n = writer.rows();
      return new Result(
          n,
          sae.dIn(),
          sae.dSae(),
          writer.nnz(),
          (double) writer.nnz() / n,
          check ? variance.value() : null,
          sae.device().name(),
          screen,
          seconds,
          out.toString());
    }
  }

  /** As many rows as fit a chunk, within what makes a good batch. */
  static int chunkRows(long d) {
    return (int) Math.max(1, Math.min(8192, CHUNK_BYTES / (d * Float.BYTES)));
  }

  static void print(Result result, PrintWriter out) {
    Tables.facts(
        out,
        "rows", Tables.count(result.n()) + " of " + result.dIn() + " values",
        "mean L0", "%s of %s features".formatted(Tables.number(result.meanL0()), Tables.count(result.dSae())),
        "explained variance", result.explainedVariance() == null ? null : Tables.number(result.explainedVariance()),
        "device", result.device() + ", screen " + result.screen(),
        "seconds", Tables.number(result.seconds()),
        "codes", result.out() == null ? null : "%s (%s values)".formatted(result.out(), Tables.count(result.nnz())));
  }
}

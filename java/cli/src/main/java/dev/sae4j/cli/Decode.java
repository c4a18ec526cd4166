package dev.sae4j.cli;

import dev.sae4j.SaeException;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.CodesReader;
import dev.sae4j.io.NpyWriter;
import java.io.PrintWriter;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(name = "decode", mixinStandardHelpOptions = true, description = "Decodes codes [n, d_sae] into vectors [n, d_out].")
final class Decode implements Callable<Integer> {
  /** @param seconds reading, decoding and writing; not loading the SAE */
  record Result(long n, long dOut, boolean direction, String device, double seconds, String out) {}

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @Option(
      names = "--in",
      required = true,
      paramLabel = "CODES.npz",
      description = "Codes, as encode or scipy.sparse writes them.")
  private Path in;

  @Option(names = "--out", required = true, paramLabel = "X.npy", description = "Vectors to write.")
  private Path out;

  @Option(
      names = "--direction",
      description = "The codes are of directions, differences of activations: leave b_dec out.")
  private boolean direction;

  @Option(names = "--input", paramLabel = "X", description = "The activations, for an SAE with a skip connection.")
  private String input;

  @Override
  public Integer call() {
    Result result;
    try (SaeWeights weights = model.read();
        SparseAutoencoder sae = model.open(weights);
        ActivationReader activations = input == null ? null : model.rows(input, sae.dIn())) {
      result = run(sae, in, activations, out, direction);
    }
    PrintWriter to = spec.commandLine().getOut();
    if (model.json) {
      to.println(Json.of(result));
    } else {
      print(result, to);
    }
    return 0;
  }

  /** @param activations what was encoded, for an SAE with a skip connection; else null */
  static Result run(SparseAutoencoder sae, Path in, ActivationReader activations, Path out, boolean isDirection) {
    if (sae.form().hasSkip() != (activations != null)) {
      throw new SaeException(
          activations == null
              ? "decode needs --input X, the activations that were encoded: this SAE has a skip connection"
              : "--input is for an SAE with a skip connection; this one (%s) has none".formatted(sae.info().architecture()));
    }
    try (CodesReader reader = CodesReader.open(in)) {
      if (reader.dSae() != sae.dSae()) {
        throw new SaeException("%s: codes have %d features, expected d_sae = %d".formatted(in, reader.dSae(), sae.dSae()));
      }
      if (activations != null && activations.rows() != reader.rows()) {
        throw new SaeException(
            "--input has %d rows, expected those of %s: %d".formatted(activations.rows(), in, reader.rows()));
      }
      try (Terminal.Progress progress = new Terminal.Progress("decode", reader.rows());
          NpyWriter writer = NpyWriter.create(out, sae.dOut());
          SparseCodes codes = new SparseCodes()) {
        int d = Math.toIntExact(sae.dOut());
        int dIn = Math.toIntExact(sae.dIn());
        int chunkRows = Encode.chunkRows(Math.max(d, dIn));
        FloatBuffer chunk = Vectors.buffer(chunkRows * d);
        FloatBuffer x = activations == null ? null : Vectors.buffer(chunkRows * dIn);
        long start = System.nanoTime();
        for (long n = reader.read(codes, chunkRows); n > 0; n = reader.read(codes, chunkRows)) {
          chunk.clear().limit((int) n * d);
          if (x != null) {
            activations.read(x.clear().limit((int) n * dIn));
            x.position(0);
          }
          if (isDirection) {
            sae.decodeDirection(codes, x, chunk);
          } else {
            sae.decode(codes, x, chunk);
          }
          writer.write(chunk);
          progress.step(n);
        }
        writer.commit();
        double seconds = (System.nanoTime() - start) / 1e9;
        return new Result(reader.rows(), d, isDirection, sae.device().name(), seconds, out.toString());
      }
    }
  }

  static void print(Result result, PrintWriter out) {
    Tables.facts(
        out,
        "rows", Tables.count(result.n()) + " of " + result.dOut() + " values",
        "b_dec", result.direction() ? "left out: these are directions" : "added",
        "device", result.device(),
        "seconds", Tables.number(result.seconds()),
        "vectors", result.out());
  }
}

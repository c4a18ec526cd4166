package dev.sae4j.cli;

import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.internal.Chunks;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.CodesWriter;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.function.BiConsumer;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Option;

/** One direction, or many from a file, whose codes go to another. */
final class Directions {
  @Option(names = "--vector", paramLabel = "V", required = true, description = "One direction, [d] or [1, d].")
  private String vector;

  @ArgGroup(exclusive = false)
  private Many many;

  private static final class Many {
    @Option(names = "--in", paramLabel = "X", required = true, description = "Many directions, [n, d].")
    private String in;

    @Option(
        names = "--out",
        paramLabel = "CODES.npz",
        required = true,
        description = "Their codes, for scipy.sparse.load_npz.")
    private Path out;
  }

  boolean areMany() {
    return many != null;
  }

  float[] one(ModelOptions model, long d) {
    return model.vector(vector, d);
  }

  Path out() {
    return many.out;
  }

  /** As it was typed. */
  @Override
  public String toString() {
    return many == null ? vector : many.in;
  }

  /** Takes many directions of length d through an operation; returns how many. */
  long each(
      ModelOptions model, SparseAutoencoder sae, long d, String task, BiConsumer<FloatBuffer, SparseCodes> operation) {
    try (ActivationReader rows = model.rows(many.in, d);
        Terminal.Progress progress = new Terminal.Progress(task, rows.rows());
        CodesWriter writer = CodesWriter.create(many.out, sae.dSae());
        SparseCodes codes = new SparseCodes()) {
      FloatBuffer chunk = Vectors.buffer(Math.toIntExact(Encode.chunkRows(d) * d));
      for (long n = rows.read(chunk); n > 0; n = rows.read(chunk.clear())) {
        Chunks.call(rows.name(), writer.rows(), () -> operation.accept(chunk.flip(), codes));
        writer.accept(codes);
        progress.step(n);
      }
      writer.commit();
      return writer.rows();
    }
  }
}

package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.Pursuit;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.io.CodesWriter;
import dev.sae4j.io.NpyWriter;
import dev.sae4j.io.SaeWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.bytedeco.javacpp.FloatPointer;

/**
 * What {@code benchmarks/peers/run} gives to the peers, as files: the SAE and the activations that {@link Subject} measures on, and
 * what sae4j makes of the first rows, for the check.
 */
final class PeerFiles {
  private static final int CHECKED_ROWS = 64;
  private static final int CHECKED_DIRECTIONS = 3;
  private static final int ATOMS = 32;

  private PeerFiles() {}

  /**
   * Writes sae/ (a SAELens folder), x.npy, codes.npz and x_hat.npy, directions.npy and omp.npz, and threads.txt. Prints the rows
   * drawn, which the benchmarks must draw too: they are in SAE4J_ROWS.
   *
   * @param args shape, numbers of rows in a batch with commas, folder
   */
  public static void main(String[] args) throws IOException {
    Machine.prepare();
    int[] sizes = Subject.sizes(args[0]);
    int rows = Subject.rows(Arrays.stream(args[1].split(",")).mapToInt(Integer::parseInt).max().getAsInt());
    Path folder = Files.createDirectories(Path.of(args[2]));
    Files.writeString(folder.resolve("threads.txt"), Machine.THREADS + "\n");
    try (Planted planted = new Planted(sizes[0], sizes[1], Subject.publishedL0(args[0]), rows, Subject.SEED);
        SparseAutoencoder sae = SparseAutoencoder.open(planted.weights, Device.cpu())) {
      SaeWriter.write(planted.weights, folder.resolve("sae"));
      write(planted.x, rows, sizes[0], folder.resolve("x.npy"));
      writeEncoded(planted, sae, folder);
      writePursued(planted, sae, folder);
    }
    System.out.println(rows);
  }

  private static void writeEncoded(Planted planted, SparseAutoencoder sae, Path folder) {
    float[] x = floats(planted.x, CHECKED_ROWS * planted.dIn);
    try (SparseCodes codes = sae.encode(x); FloatPointer xHat = new FloatPointer(sae.decode(codes))) {
      write(codes, folder.resolve("codes.npz"));
      write(xHat, CHECKED_ROWS, planted.dIn, folder.resolve("x_hat.npy"));
    }
  }

  private static void writePursued(Planted planted, SparseAutoencoder sae, Path folder) {
    FloatPointer directions = planted.differences();
    write(directions, planted.rows, planted.dIn, folder.resolve("directions.npy"));
    try (SparseCodes codes = sae.pursue(floats(directions, CHECKED_DIRECTIONS * planted.dIn), Pursuit.omp(ATOMS))) {
      write(codes, folder.resolve("omp.npz"));
    }
    directions.close();
  }

  private static float[] floats(FloatPointer from, int count) {
    float[] array = new float[count];
    from.get(array);
    return array;
  }

  private static void write(FloatPointer matrix, long rows, int columns, Path file) {
    try (NpyWriter writer = NpyWriter.create(file, columns)) {
      writer.write(Planted.row(matrix, 0, columns).capacity(rows * columns).asBuffer());
      writer.commit();
    }
  }

  private static void write(SparseCodes codes, Path file) {
    try (CodesWriter writer = CodesWriter.create(file, codes.dSae())) {
      writer.accept(codes);
      writer.commit();
    }
  }
}

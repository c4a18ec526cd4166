package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.infra.BenchmarkParams;

/** The SAE under measurement, and activations for it. Batches rotate through them, so that no call repeats the one before. */
@State(Scope.Benchmark)
public class Subject {
  private static final int LEAST_ROWS = 1024;
  private static final int MOST_ROWS = 4096;
  private static final int SEED = 1;

  /** d_in x d_sae: 768x24576, 2304x16384, 2304x65536, 4096x32768 are SAEs in wide use. */
  @Param("2304x16384")
  public String shape;

  int dIn;
  int dSae;
  Planted planted;
  SparseAutoencoder sae;

  @Setup
  public void open(BenchmarkParams params) {
    Machine.prepare();
    String[] sizes = shape.split("x");
    dIn = Integer.parseInt(sizes[0]);
    dSae = Integer.parseInt(sizes[1]);
    planted = new Planted(dIn, dSae, usualL0(shape), rows(params.getParam("n")), SEED);
    sae = SparseAutoencoder.open(planted.weights, Device.cpu());
    Rates.giveBytes(4.0 * dIn * dSae); // the default: one reading of a matrix
    Machine.announce(sae);
  }

  @TearDown
  public void close() {
    sae.close();
    planted.close();
  }

  /** Mean active features a row of the published SAEs of this shape. */
  private static int usualL0(String shape) {
    return switch (shape) {
      case "2304x16384" -> 84;
      case "2304x65536" -> 73;
      default -> 50;
    };
  }

  /** Two batches or more, where they are not huge: drawing them takes time before every trial. */
  private static int rows(String n) {
    int batch = n == null ? 1 : Integer.parseInt(n);
    return Math.max(batch, Math.min(MOST_ROWS, Math.max(LEAST_ROWS, 2 * batch)));
  }

  SaeWeights weights() {
    return planted.weights;
  }

  /** For products: few rows are bound by reading the matrix, many by arithmetic. */
  void giveRate(int n) {
    if (n > 1) {
      Rates.giveFlop(2.0 * n * dIn * dSae);
    }
  }

  /** All whole batches of n rows in a [rows, d_in] matrix; no copy. */
  FloatPointer[] batches(FloatPointer matrix, int rows, int n) {
    FloatPointer[] batches = new FloatPointer[rows / n];
    for (int i = 0; i < batches.length; i++) {
      batches[i] = Planted.row(matrix, (long) i * n, dIn);
    }
    return batches;
  }
}

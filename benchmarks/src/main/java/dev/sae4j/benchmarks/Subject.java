package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import java.util.Arrays;
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
  static final int SEED = 1;
  private static final int CHECKED_ROWS = 64;

  /** d_in x d_sae: 768x24576, 2304x16384, 2304x65536, 4096x32768 are SAEs in wide use. */
  @Param("2304x16384")
  public String shape;

  /** Mean active features a row, or "published": that of the published SAEs of this shape. */
  @Param("published")
  public String l0;

  /** How many threads all sides have; a label that must be true, else the trial fails. "all": as many as the JVM sees cores. */
  @Param("all")
  public String threads;

  /** As {@link Device#of} takes it. */
  @Param("cpu")
  public String device;

  /** The name of a screen, or "default". */
  @Param("default")
  public String screen;

  /** Where a call finds its input and puts its output: host, and for a GPU pinned or device. */
  @Param("host")
  public String memory;

  boolean isOnCpu;
  Cuda cuda; // null on the CPU
  int dIn;
  int dSae;
  Planted planted;
  Floats x; // planted.x, in that memory
  SparseAutoencoder sae;

  @Setup
  public void open(BenchmarkParams params) {
    cuda = Machine.prepare(device);
    requireThreads();
    isOnCpu = Device.of(device).isCpu();
    dIn = sizes(shape)[0];
    dSae = sizes(shape)[1];
    double meanActive = l0.equals("published") ? publishedL0(shape) : Double.parseDouble(l0);
    planted = new Planted(dIn, dSae, meanActive, rowsToDraw(params.getParam("n")), SEED);
    Device where = Device.of(device).withScreen(screen.equals("default") ? null : screen);
    sae = SparseAutoencoder.open(planted.weights, where);
    x = Floats.of(cuda, memory, planted.x, (long) planted.rows * dIn);
    if (!isOnCpu) {
      requireTheCpusBits(Math.min(planted.rows, CHECKED_ROWS));
    }
    Rates.giveBytes(4.0 * dIn * dSae); // the default: one reading of a matrix
    Machine.announce(sae);
  }

  /** What is fast and wrong is not measured: codes and reconstructions of n rows, from and to this memory, to the bit. */
  private void requireTheCpusBits(int n) {
    try (SparseAutoencoder cpu = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseCodes expected = new SparseCodes();
        SparseCodes got = new SparseCodes();
        Floats xHat = Floats.allocate(cuda, memory, (long) n * dIn);
        FloatPointer brought = new FloatPointer((long) n * dIn)) {
      cpu.encode(planted.x, n, expected);
      sae.encode(x.at(), n, got);
      sae.decode(got, xHat.at());
      cuda.copy(xHat.at(), brought, (long) n * dIn);
      float[] reconstruction = new float[n * dIn];
      brought.get(reconstruction);
      boolean isSame =
          expected.nnz() == got.nnz()
              && expected.rowOffsets().asBuffer().equals(got.rowOffsets().asBuffer())
              && expected.indices().asBuffer().equals(got.indices().asBuffer())
              && expected.values().asBuffer().equals(got.values().asBuffer())
              && Arrays.equals(cpu.decode(expected), reconstruction);
      if (!isSame) {
        throw new IllegalStateException(device + " gives other results than the CPU in the first " + n + " rows");
      }
    }
  }

  @TearDown
  public void close() {
    sae.close();
    x.close();
    planted.close();
    if (cuda != null) {
      cuda.close();
    }
  }

  private void requireThreads() {
    if (!threads.equals("all") && Integer.parseInt(threads) != Machine.THREADS) {
      throw new IllegalStateException("threads=" + threads + ", but this JVM sees " + Machine.THREADS + " cores: start it by taskset");
    }
  }

  /** Mean active features a row of the published SAEs of this shape. */
  static int publishedL0(String shape) {
    return switch (shape) {
      case "2304x16384" -> 84;
      case "2304x65536" -> 73;
      case "3584x131072" -> 105;
      case "4608x131072" -> 90;
      case "4096x131072" -> 192;
      case "2304x1048576" -> 107;
      default -> 50; // 768x24576, 4096x32768
    };
  }

  /** Other numbers of rows are other data: beside peers, which get theirs from files, SAE4J_ROWS fixes it for all n. */
  private static int rowsToDraw(String n) {
    String fixed = System.getenv("SAE4J_ROWS");
    return fixed != null ? Integer.parseInt(fixed) : rows(n == null ? 1 : Integer.parseInt(n));
  }

  /** Two batches or more, where they are not huge: drawing them takes time before every trial. */
  static int rows(int batch) {
    return Math.max(batch, Math.min(MOST_ROWS, Math.max(LEAST_ROWS, 2 * batch)));
  }

  /** d_in and d_sae of 2304x16384. */
  static int[] sizes(String shape) {
    return Arrays.stream(shape.split("x")).mapToInt(Integer::parseInt).toArray();
  }

  /** The CPU's roofs and baselines have nothing to do with a GPU, and would read its memory as their own. */
  void requireCpu() {
    if (!isOnCpu) {
      throw new IllegalStateException("sgemm, readRoof and gatherRowByRow are for device=cpu alone, got " + device);
    }
  }

  /** Codes that a GPU wrote stay there until they are asked for: a call that starts on the host also ends there. */
  SparseCodes toMemory(SparseCodes codes) {
    if (!isOnCpu && !memory.equals("device")) {
      codes.values();
    }
    return codes;
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

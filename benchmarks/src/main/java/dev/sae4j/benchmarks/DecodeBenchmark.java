package dev.sae4j.benchmarks;

import static org.bytedeco.openblas.global.openblas_nolapack.cblas_saxpy;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_scopy;

import dev.sae4j.SparseCodes;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Decode against what one would write: one saxpy for each active feature of a row, rows on all threads. */
public class DecodeBenchmark extends Measured {
  /** A batch of codes, and for the baseline, on the CPU, a copy of it as Java arrays. */
  static final class Batch implements AutoCloseable {
    final SparseCodes codes = new SparseCodes();
    long[] offsets;
    int[] features;
    float[] values;

    Batch(Subject s, FloatPointer x, int n) {
      s.sae.encode(x, n, codes);
      if (s.isOnCpu) {
        codes.rowOffsets().get(offsets = new long[n + 1]);
        codes.indices().get(features = new int[(int) codes.nnz()]);
        codes.values().get(values = new float[features.length]);
      }
    }

    @Override
    public void close() {
      codes.close();
    }
  }

  @State(Scope.Benchmark)
  public static class Codes {
    @Param({"1", "64", "1024"})
    public int n;

    Batch[] batches;
    Floats out;
    FloatPointer xHat;
    int next;

    @Setup
    public void encode(Subject s) {
      batches =
          Arrays.stream(s.batches(s.x.at(), s.planted.rows, n)).map(x -> new Batch(s, x, n)).toArray(Batch[]::new);
      out = Floats.allocate(s.cuda, s.memory, (long) n * s.dIn);
      xHat = out.at();
      double nnz = Arrays.stream(batches).mapToLong(batch -> batch.codes.nnz()).average().orElseThrow();
      Rates.giveBytes(nnz * 4 * s.dIn);
      System.out.printf("# L0 %.1f in %d rows%n", nnz / n, batches.length * n);
    }

    @TearDown
    public void close() {
      Arrays.stream(batches).forEach(Batch::close);
      out.close();
    }

    Batch next() {
      return batches[next++ % batches.length];
    }
  }

  @Benchmark
  public FloatPointer decode(Subject s, Codes c) {
    s.sae.decode(c.next().codes, c.xHat);
    return c.xHat;
  }

  @Benchmark
  public FloatPointer decodeDirection(Subject s, Codes c) {
    s.sae.decodeDirection(c.next().codes, c.xHat);
    return c.xHat;
  }

  @Benchmark
  public FloatPointer gatherRowByRow(Subject s, Codes c) {
    s.requireCpu();
    Batch batch = c.next();
    IntStream.range(0, c.n).parallel().forEach(row -> gather(s, batch, row, Planted.row(c.xHat, row, s.dIn)));
    return c.xHat;
  }

  private static void gather(Subject s, Batch batch, int row, FloatPointer y) {
    FloatPointer d = new FloatPointer(s.weights().wDec()); // with a position of its own
    cblas_scopy(s.dIn, s.weights().bDec(), 1, y, 1);
    for (int i = (int) batch.offsets[row]; i < batch.offsets[row + 1]; i++) {
      cblas_saxpy(s.dIn, batch.values[i], d.position((long) batch.features[i] * s.dIn), 1, y, 1);
    }
  }
}

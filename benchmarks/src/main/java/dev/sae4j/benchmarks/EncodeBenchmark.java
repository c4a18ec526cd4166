package dev.sae4j.benchmarks;

import dev.sae4j.SparseCodes;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Encode against its roofs: the bare product for batches, one reading of W_enc for a single row. */
public class EncodeBenchmark extends Measured {
  @State(Scope.Benchmark)
  public static class Batch {
    @Param({"1", "32", "1024", "2048", "4096"})
    public int n;

    FloatPointer[] x;
    SparseCodes codes;
    int next;

    @Setup
    public void take(Subject s) {
      x = s.batches(s.x.at(), s.planted.rows, n);
      codes = new SparseCodes();
      s.giveRate(n);
    }

    @TearDown
    public void close() {
      codes.close();
    }

    FloatPointer next() {
      return x[next++ % x.length];
    }
  }

  /** What the bare product writes: [n, d_sae], or a piece of it. */
  @State(Scope.Benchmark)
  public static class Product {
    FloatPointer scores;

    @Setup
    public void allocate(Subject s, Batch b) {
      s.requireCpu();
      scores = new FloatPointer((long) b.n * Roofs.piece(b.n, s.dSae));
    }

    @TearDown
    public void free() {
      scores.close();
    }
  }

  @Benchmark
  public SparseCodes encode(Subject s, Batch b) {
    s.sae.encode(b.next(), b.n, b.codes);
    return s.toMemory(b.codes);
  }

  @Benchmark
  public FloatPointer sgemm(Subject s, Batch b, Product p) {
    Roofs.sgemmInPieces(b.next(), b.n, s.weights().wEnc(), s.dSae, s.dIn, p.scores);
    return p.scores;
  }

  @Benchmark
  public double readRoof(Subject s) {
    return Roofs.read(s.weights().wEnc(), (long) s.dSae * s.dIn);
  }
}

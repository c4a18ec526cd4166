package dev.sae4j.benchmarks;

import dev.sae4j.Projection;
import dev.sae4j.SparseCodes;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Projections of directions on the decoder rows, against the same roofs as encode. */
public class ProjectBenchmark extends Measured {
  private static final Projection TOP = Projection.top(20);
  private static final Projection TOP_PER_SIGN = Projection.topPerSign(20);

  @State(Scope.Benchmark)
  public static class Directions {
    @Param({"1", "256"})
    public int n;

    Floats all;
    FloatPointer[] v;
    SparseCodes codes;
    int next;

    @Setup
    public void take(Subject s) {
      int rows = s.planted.rows;
      all = Floats.of(s.cuda, s.memory, s.planted.differences(), (long) rows * s.dIn);
      v = s.batches(all.at(), rows, n);
      codes = new SparseCodes();
      s.giveRate(n);
    }

    @TearDown
    public void close() {
      codes.close();
      all.close();
    }

    FloatPointer next() {
      return v[next++ % v.length];
    }
  }

  /** What the dense form writes: [n, d_sae]. */
  @State(Scope.Benchmark)
  public static class Dense {
    Floats coefficients;

    @Setup
    public void allocate(Subject s, Directions d) {
      coefficients = Floats.allocate(s.cuda, s.memory, (long) d.n * s.dSae);
    }

    @TearDown
    public void free() {
      coefficients.close();
    }
  }

  /** What the bare product writes: [n, d_sae], or a piece of it. */
  @State(Scope.Benchmark)
  public static class Product {
    FloatPointer scores;

    @Setup
    public void allocate(Subject s, Directions d) {
      s.requireCpu();
      scores = new FloatPointer((long) d.n * Roofs.piece(d.n, s.dSae));
    }

    @TearDown
    public void free() {
      scores.close();
    }
  }

  @Benchmark
  public SparseCodes top20(Subject s, Directions d) {
    s.sae.project(d.next(), d.n, TOP, d.codes);
    return s.toMemory(d.codes);
  }

  @Benchmark
  public SparseCodes top20PerSign(Subject s, Directions d) {
    s.sae.project(d.next(), d.n, TOP_PER_SIGN, d.codes);
    return s.toMemory(d.codes);
  }

  @Benchmark
  public FloatPointer dense(Subject s, Directions d, Dense out) {
    s.sae.projectDense(d.next(), d.n, Projection.Readout.DECODER, false, out.coefficients.at());
    return out.coefficients.at();
  }

  @Benchmark
  public FloatPointer sgemm(Subject s, Directions d, Product p) {
    Roofs.sgemmInPieces(d.next(), d.n, s.weights().wDec(), s.dSae, s.dIn, p.scores);
    return p.scores;
  }

  @Benchmark
  public double readRoof(Subject s) {
    return Roofs.read(s.weights().wDec(), (long) s.dSae * s.dIn);
  }
}

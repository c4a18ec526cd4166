package dev.sae4j.benchmarks;

import dev.sae4j.Projection;
import dev.sae4j.Pursuit;
import dev.sae4j.SparseCodes;
import org.openjdk.jmh.annotations.Benchmark;

/** Sparse decompositions of directions. Each atom costs one projection: the pass that chooses it. */
public class PursueBenchmark extends Measured {
  private static final Pursuit OMP = Pursuit.omp(32);
  private static final Pursuit GRADIENT = Pursuit.of(Pursuit.Method.GRADIENT, 32);
  private static final Projection ONE = Projection.top(1).withUnit(true);

  @Benchmark
  public SparseCodes omp32(Subject s, ProjectBenchmark.Directions d) {
    s.sae.pursue(d.next(), d.n, OMP, d.codes);
    return s.toMemory(d.codes);
  }

  @Benchmark
  public SparseCodes gradient32(Subject s, ProjectBenchmark.Directions d) {
    s.sae.pursue(d.next(), d.n, GRADIENT, d.codes);
    return s.toMemory(d.codes);
  }

  /** The roof: what choosing one atom for each direction takes. */
  @Benchmark
  public SparseCodes project(Subject s, ProjectBenchmark.Directions d) {
    s.sae.project(d.next(), d.n, ONE, d.codes);
    return s.toMemory(d.codes);
  }
}

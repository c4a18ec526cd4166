package dev.sae4j.benchmarks;

import java.util.Collection;
import java.util.List;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;
import org.openjdk.jmh.runner.options.TimeValue;

/**
 * Puts GFLOP/s or GB/s beside each time: {@code -prof dev.sae4j.benchmarks.Rates}. (JMH's own counters can't: in average time
 * they become time per count.) It lives in the process of the benchmark, which says in its setup how much one operation does.
 */
public final class Rates implements InternalProfiler {
  private static volatile double giga;
  private static volatile String unit;

  static void giveFlop(double flopPerOperation) {
    giga = flopPerOperation * 1e-9;
    unit = "GFLOP/s";
  }

  static void giveBytes(double bytesPerOperation) {
    giga = bytesPerOperation * 1e-9;
    unit = "GB/s";
  }

  @Override
  public String getDescription() {
    return "GFLOP/s or GB/s of each benchmark";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {}

  @Override
  public Collection<? extends Result> afterIteration(
      BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
    if (unit == null || result.getRawPrimaryResults().isEmpty()) {
      return List.of();
    }
    double seconds = result.getPrimaryResult().getScore() / TimeValue.seconds(1).convertTo(benchmark.getTimeUnit());
    return List.of(new ScalarResult(unit, giga / seconds, unit, AggregationPolicy.AVG));
  }
}

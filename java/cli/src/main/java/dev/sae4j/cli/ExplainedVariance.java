package dev.sae4j.cli;

import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import java.io.IOException;
import java.nio.FloatBuffer;

/**
 * 1 - sum |x - x_hat|^2 / sum |x - mean(x)|^2 over rows that come a chunk at a time. Sums are double; each chunk is summed
 * about its own mean and then merged, so that nothing cancels however far the mean lies from 0.
 */
final class ExplainedVariance implements SparseAutoencoder.Sink {
  private final SparseAutoencoder sae;
  private final int d;
  private final double[] mean;
  private FloatBuffer x;
  private FloatBuffer xHat = FloatBuffer.allocate(0);
  private long n;
  private double aboutMean;
  private double residual;
  private long nanos;

  ExplainedVariance(SparseAutoencoder sae) {
    if (sae.dOut() != sae.dIn()) {
      throw new IllegalArgumentException(
          "--check compares x with its reconstruction: expected d_out = d_in = %d, got %d".formatted(sae.dIn(), sae.dOut()));
    }
    this.sae = sae;
    d = Math.toIntExact(sae.dIn());
    mean = new double[d];
  }

  /** The same rows; the last chunk stays known to {@link #accept}. */
  SparseAutoencoder.Rows watching(SparseAutoencoder.Rows rows) {
    return new SparseAutoencoder.Rows() {
      @Override
      public long read(FloatBuffer into) throws IOException {
        x = into.duplicate();
        return rows.read(into);
      }

      @Override
      public String name() {
        return rows.name();
      }
    };
  }

  /** @param codes of the chunk last read */
  @Override
  public void accept(SparseCodes codes) {
    long start = System.nanoTime();
    int rows = (int) codes.rows();
    if (xHat.capacity() < rows * d) {
      xHat = Vectors.buffer(rows * d);
    }
    sae.decode(codes, sae.form().hasSkip() ? x.duplicate().limit(x.position() + rows * d) : null, xHat);
    double[] chunkMean = new double[d];
    float[] row = new float[d];
    float[] rowHat = new float[d];
    for (int i = 0; i < rows; i++) {
      x.get(x.position() + i * d, row);
      xHat.get(i * d, rowHat);
      for (int c = 0; c < d; c++) {
        double error = (double) row[c] - rowHat[c];
        residual += error * error;
        chunkMean[c] += row[c];
      }
    }
    merge(rows, chunkMean, row);
    nanos += System.nanoTime() - start;
  }

  private void merge(int rows, double[] chunkMean, float[] row) {
    for (int c = 0; c < d; c++) {
      chunkMean[c] /= rows;
      double shift = chunkMean[c] - mean[c];
      aboutMean += shift * shift * ((double) n * rows / (n + rows));
      mean[c] += shift * rows / (n + rows);
    }
    for (int i = 0; i < rows; i++) {
      x.get(x.position() + i * d, row);
      for (int c = 0; c < d; c++) {
        double deviation = row[c] - chunkMean[c];
        aboutMean += deviation * deviation;
      }
    }
    n += rows;
  }

  /** NaN where the rows do not vary. */
  double value() {
    return aboutMean == 0 ? Double.NaN : 1 - residual / aboutMean;
  }

  /** Time spent here. */
  long nanos() {
    return nanos;
  }
}

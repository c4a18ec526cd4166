package dev.sae4j.benchmarks;

import static org.bytedeco.openblas.global.openblas_nolapack.CblasNoTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasRowMajor;
import static org.bytedeco.openblas.global.openblas_nolapack.CblasTrans;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sdot;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sgemm;

import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;

/** What this machine allows at best, by OpenBLAS called from Java: one plain product, one plain reading. */
final class Roofs {
  // Floats: short enough that OpenBLAS keeps a dot on the calling thread, and that its second argument comes from cache.
  private static final int CHUNK = 8192;
  private static final long MOST_SCORES = 1L << 28;

  private Roofs() {}

  /**
   * Features whose scores of n rows are held at a time: all m, unless they would take more than 1 GiB. So the roof of 8192 rows
   * by 131072 features fits beside its weights; each piece is still far larger than any cache.
   */
  static int piece(int n, int m) {
    return (int) Math.min(m, MOST_SCORES / n);
  }

  /** The product of {@link #sgemm} in pieces of features, each written over the last: c holds n {@link #piece} floats. */
  static void sgemmInPieces(FloatPointer a, int n, FloatPointer b, int m, int d, FloatPointer c) {
    int piece = piece(n, m);
    for (int first = 0; first < m; first += piece) {
      sgemm(a, n, Planted.row(b, first, d), Math.min(piece, m - first), d, c);
    }
  }

  /** c [n, m] = a [n, d] b [m, d]^T in one call, with all threads. */
  static void sgemm(FloatPointer a, int n, FloatPointer b, int m, int d, FloatPointer c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, m, d, 1, a, d, b, d, 0, c, m);
  }

  /**
   * Reads all of a matrix once, with all threads: the sum of its squares, by dots of chunks with themselves. Of the readings
   * that OpenBLAS offers (sasum, isamax, sdot, sgemv) this was the fastest.
   */
  static double read(FloatPointer matrix, long count) {
    long chunks = (count + CHUNK - 1) / CHUNK;
    int parts = 16 * Machine.THREADS; // a slow core gets fewer
    return IntStream.range(0, parts)
        .parallel()
        .mapToDouble(part -> readChunks(matrix, count, part * chunks / parts, (part + 1) * chunks / parts))
        .sum();
  }

  private static double readChunks(FloatPointer matrix, long count, long begin, long end) {
    FloatPointer chunk = new FloatPointer(matrix); // with a position of its own
    double sum = 0;
    for (long start = begin * CHUNK; start < Math.min(end * CHUNK, count); start += CHUNK) {
      chunk.position(start);
      sum += cblas_sdot((int) Math.min(CHUNK, count - start), chunk, 1, chunk, 1);
    }
    return sum;
  }
}

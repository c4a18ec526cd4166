package dev.sae4j.benchmarks;

import static org.bytedeco.openblas.global.openblas_nolapack.cblas_saxpy;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_sdot;
import static org.bytedeco.openblas.global.openblas_nolapack.cblas_snrm2;

import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * An SAE and activations with the statistics of real ones. White noise would not do: the cost of compaction and of gathering
 * depends on L0, on how unevenly rows and features fill, and on how far scores lie from their thresholds.
 *
 * <p>Decoder rows are unit vectors with weak clusters; feature densities fall as a power of the rank; x = mean + sum_j f_j d_j +
 * noise with log-normal f; encoder rows stand at cosine 0.75 to their decoder rows; thresholds are the quantiles that give each
 * feature its density. Every row has a random generator of its own, so that the result does not depend on the threads.
 */
final class Planted implements AutoCloseable {
  private static final double ENC_DEC_COS = .75;
  private static final double MEAN_SHARE = .4; // of the norm of x
  private static final double FVU = .15; // the noise's share of the variance
  private static final double AMPLITUDE_SIGMA = .4;
  private static final double MAX_DENSITY = .3;
  private static final int CLUSTER = 64; // features in each, on average
  private static final int BLOCK = 2048; // features whose pre-activations are held at a time
  private static final int QUANTILE_ROWS = 2048; // at most; of wide SAEs the products of more would take minutes

  final int dIn;
  final int dSae;
  final int rows;
  final SaeWeights weights;
  final FloatPointer x; // [rows, d_in]
  private final SplittableRandom random;

  /** Draws an SAE, and activations on which it has about l0 active features a row. */
  Planted(int dIn, int dSae, double l0, int rows, long seed) {
    this.dIn = dIn;
    this.dSae = dSae;
    this.rows = rows;
    random = new SplittableRandom(seed);
    weights = SaeWeights.allocate(dIn, dIn, dSae, new SaeInfo("planted", "jumprelu", "float32", null, null, List.of(), List.of()));
    x = new FloatPointer((long) rows * dIn);
    double[] density = densities(l0);
    drawDirections();
    drawCodes(density);
    addNoiseAndMean();
    setThresholds(density);
  }

  @Override
  public void close() {
    x.close();
    weights.close();
  }

  /** Directions as contrasts give them: [rows, d_in] differences of activations, each row's to the next. */
  FloatPointer differences() {
    float[] a = new float[dIn];
    float[] b = new float[dIn];
    FloatPointer differences = new FloatPointer((long) rows * dIn);
    for (int i = 0; i < rows; i++) {
      row(x, i, dIn).get(a);
      row(x, (i + 1) % rows, dIn).get(b);
      addScaled(a, -1, b);
      row(differences, i, dIn).put(a);
    }
    return differences;
  }

  /** Rows i, i + 1, ... of a [_, d] matrix; no copy. */
  static FloatPointer row(FloatPointer matrix, long i, long d) {
    return matrix.getPointer(i * d);
  }

  private double[] densities(double l0) {
    double[] density = IntStream.range(0, dSae).mapToDouble(rank -> Math.pow(rank + 21, -.8)).toArray();
    for (int i = dSae - 1; i > 0; i--) { // common features anywhere, not side by side
      int j = random.nextInt(i + 1);
      double swapped = density[i];
      density[i] = density[j];
      density[j] = swapped;
    }
    double factor = l0 / Arrays.stream(density).sum();
    for (int round = 0; round < 20; round++) { // what the cap takes, the others get
      factor *= l0 / capped(density, factor).sum();
    }
    return capped(density, factor).toArray();
  }

  private static DoubleStream capped(double[] density, double factor) {
    return Arrays.stream(density).map(share -> Math.min(MAX_DENSITY, share * factor));
  }

  private void drawDirections() {
    float[][] clusters = new float[Math.max(1, dSae / CLUSTER)][];
    Arrays.setAll(clusters, i -> gaussian(random));
    double noiseShare = Math.sqrt(1 - ENC_DEC_COS * ENC_DEC_COS);
    parallel(dSae, (j, rng) -> {
      float[] dec = gaussian(rng);
      addScaled(dec, .2, clusters[rng.nextInt(clusters.length)]);
      scale(dec, 1 / norm(dec));
      float[] enc = gaussian(rng);
      scale(enc, noiseShare / norm(enc));
      addScaled(enc, ENC_DEC_COS, dec);
      scale(enc, 1 / dot(enc, dec));
      row(weights.wDec(), j, dIn).put(dec);
      row(weights.wEnc(), j, dIn).put(enc);
    });
  }

  /** x = sum_j f_j d_j. */
  private void drawCodes(double[] density) {
    Pointer.memset(x, 0, 4L * rows * dIn);
    parallel(rows, (i, rng) -> {
      FloatPointer xi = row(x, i, dIn);
      FloatPointer d = new FloatPointer(weights.wDec());
      for (int j = 0; j < dSae; j++) {
        if (rng.nextFloat() < density[j]) {
          float amplitude = (float) Math.exp(AMPLITUDE_SIGMA * rng.nextGaussian());
          cblas_saxpy(dIn, amplitude, d.position((long) j * dIn), 1, xi, 1);
        }
      }
    });
  }

  private void addNoiseAndMean() {
    double squares = IntStream.range(0, rows).mapToDouble(i -> Math.pow(cblas_snrm2(dIn, row(x, i, dIn), 1), 2)).sum();
    double std = Math.sqrt(squares / rows / dIn);
    float noise = (float) (std * Math.sqrt(FVU / (1 - FVU)));
    double norm = std * Math.sqrt(dIn / (1 - FVU)); // of a row, with its noise
    float[] mean = gaussian(random);
    scale(mean, norm * MEAN_SHARE / Math.sqrt(1 - MEAN_SHARE * MEAN_SHARE) / norm(mean));
    weights.bDec().put(mean);
    parallel(rows, (i, rng) -> {
      float[] xi = new float[dIn];
      row(x, i, dIn).get(xi);
      addScaled(xi, 1, mean);
      addScaled(xi, noise, gaussian(rng));
      row(x, i, dIn).put(xi);
    });
  }

  /** b_enc = -W_enc b_dec, and thresholds at the quantile that gives each feature its density. */
  private void setThresholds(double[] density) {
    int rows = Math.min(this.rows, QUANTILE_ROWS);
    try (FloatPointer products = new FloatPointer((long) BLOCK * rows)) { // [features, rows]
      for (int first = 0; first < dSae; first += BLOCK) {
        int start = first;
        int features = Math.min(BLOCK, dSae - start);
        Roofs.sgemm(row(weights.wEnc(), start, dIn), features, x, rows, dIn, products);
        parallel(features, (i, rng) -> {
          float[] p = new float[rows];
          row(products, i, rows).get(p);
          // Rounded at random: most features are active in a handful of rows, and rounding must not shift their sum.
          int active = (int) (rows * density[start + i] + rng.nextDouble());
          setThreshold(start + i, p, active);
        });
      }
    }
  }

  private void setThreshold(int j, float[] products, int active) {
    float bEnc = -cblas_sdot(dIn, row(weights.wEnc(), j, dIn), 1, weights.bDec(), 1);
    float[] top = largest(products, active + 1);
    // Midway between two rows, whose order no rounding may change; above all where no row is to be active.
    float theta = Math.max(.05f, (active == 0 ? top[0] + .5f : (top[0] + top[1]) / 2) + bEnc);
    weights.threshold().put(j, theta - bEnc);
    weights.scale().put(j, 1);
    weights.offset().put(j, bEnc);
  }

  /** The k largest, ascending. Few enter, so this beats a sort of all. */
  private static float[] largest(float[] a, int k) {
    float[] top = new float[k];
    Arrays.fill(top, Float.NEGATIVE_INFINITY);
    for (float value : a) {
      if (value > top[0]) {
        int place = 1;
        for (; place < k && top[place] < value; place++) {
          top[place - 1] = top[place];
        }
        top[place - 1] = value;
      }
    }
    return top;
  }

  // ---- small vector arithmetic; rows in parallel, each with its own random numbers

  private interface RowTask {
    void run(int row, RandomGenerator rng);
  }

  private void parallel(int count, RowTask task) {
    long[] seeds = random.longs(count).toArray();
    IntStream.range(0, count).parallel().forEach(i -> task.run(i, new SplittableRandom(seeds[i])));
  }

  private float[] gaussian(RandomGenerator rng) {
    float[] a = new float[dIn];
    for (int i = 0; i < dIn; i++) {
      a[i] = (float) rng.nextGaussian();
    }
    return a;
  }

  private static void addScaled(float[] a, double factor, float[] b) {
    for (int i = 0; i < a.length; i++) {
      a[i] += (float) factor * b[i];
    }
  }

  private static void scale(float[] a, double factor) {
    for (int i = 0; i < a.length; i++) {
      a[i] *= (float) factor;
    }
  }

  private static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  private static double norm(float[] a) {
    return Math.sqrt(dot(a, a));
  }
}

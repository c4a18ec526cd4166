package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sae4j.Device;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class PlantedTest {
  @BeforeAll
  static void prepare() {
    Machine.prepare();
  }

  @Test
  void rowsHaveTheWantedL0() {
    int rows = 1024;
    double l0 = 20;
    try (Planted planted = new Planted(256, 2048, l0, rows, 1);
        SparseAutoencoder sae = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseCodes codes = new SparseCodes()) {
      sae.encode(planted.x, rows, codes);
      assertEquals(l0, (double) codes.nnz() / rows, .01 * l0);
    }
  }

  /** Where the commonest features reach the densest that a feature may be, the others make up for it. */
  @Test
  void manyActiveFeaturesAreAsManyAsWanted() {
    int rows = 512;
    try (Planted planted = new Planted(256, 2048, 256, rows, 1);
        SparseAutoencoder sae = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseCodes codes = new SparseCodes()) {
      sae.encode(planted.x, rows, codes);
      assertEquals(256, (double) codes.nnz() / rows, 3);
    }
  }

  @Test
  void codesExplainMostOfTheActivations() {
    int rows = 512;
    int dIn = 1024;
    try (Planted planted = new Planted(dIn, 2048, 20, rows, 1);
        SparseAutoencoder sae = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseCodes codes = new SparseCodes()) {
      float[] x = new float[rows * dIn];
      planted.x.get(x);
      sae.encode(x, codes);
      assertEquals(.5, fvu(x, sae.decode(codes), dIn), .2);
    }
  }

  @Test
  void sameSeedSameDraw() {
    try (Planted a = new Planted(64, 256, 10, 128, 7);
        Planted b = new Planted(64, 256, 10, 128, 7)) {
      for (long i = 0; i < 128 * 64; i++) {
        assertEquals(a.x.get(i), b.x.get(i));
      }
    }
  }

  /** The share of the variance of x that its reconstruction leaves unexplained. */
  private static double fvu(float[] x, float[] xHat, int d) {
    double[] mean = new double[d];
    for (int i = 0; i < x.length; i++) {
      mean[i % d] += (double) x[i] * d / x.length;
    }
    double residual = 0;
    double variance = 0;
    for (int i = 0; i < x.length; i++) {
      residual += Math.pow((double) x[i] - xHat[i], 2);
      variance += Math.pow(x[i] - mean[i % d], 2);
    }
    return residual / variance;
  }
}

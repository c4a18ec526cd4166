package dev.sae4j;

import org.bytedeco.javacpp.FloatPointer;

/** Sums in double over float32 vectors. */
final class Sums {
  private Sums() {}

  static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  static double norm(float[] v) {
    return Math.sqrt(dot(v, v));
  }

  /** NaN if one of them is zero. */
  static double cosine(float[] a, float[] b) {
    return dot(a, b) / (norm(a) * norm(b));
  }

  static double distance(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      double difference = (double) a[i] - b[i];
      sum += difference * difference;
    }
    return Math.sqrt(sum);
  }

  static float[] scaled(float[] v, double factor) {
    float[] scaled = new float[v.length];
    for (int i = 0; i < v.length; i++) {
      scaled[i] = (float) (factor * v[i]);
    }
    return scaled;
  }

  /** Row of a matrix [rows, d]. */
  static float[] row(FloatPointer matrix, long row, int d) {
    float[] values = new float[d];
    matrix.getPointer(FloatPointer.class, row * d).get(values);
    return values;
  }
}

package dev.sae4j.internal;

import org.bytedeco.javacpp.FloatPointer;

/** Sums in double over float32 vectors. Not part of the API. */
public final class Sums {
  private Sums() {}

  public static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  public static double norm(float[] v) {
    return Math.sqrt(dot(v, v));
  }

  /** NaN if one of them is zero. */
  public static double cosine(float[] a, float[] b) {
    return dot(a, b) / (norm(a) * norm(b));
  }

  public static double distance(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      double difference = (double) a[i] - b[i];
      sum += difference * difference;
    }
    return Math.sqrt(sum);
  }

  public static float[] scaled(float[] v, double factor) {
    float[] scaled = new float[v.length];
    for (int i = 0; i < v.length; i++) {
      scaled[i] = (float) (factor * v[i]);
    }
    return scaled;
  }

  /** Row of a matrix [rows, d]. */
  public static float[] row(FloatPointer matrix, long row, int d) {
    float[] values = new float[d];
    row(matrix, row, values);
    return values;
  }

  /** Row of a matrix [rows, into.length]. */
  public static void row(FloatPointer matrix, long row, float[] into) {
    matrix.getPointer(FloatPointer.class, row * into.length).get(into);
  }
}

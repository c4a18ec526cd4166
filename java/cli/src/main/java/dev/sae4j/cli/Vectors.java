package dev.sae4j.cli;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.bytedeco.javacpp.FloatPointer;

/** Sums in double over float32 vectors. */
final class Vectors {
  private Vectors() {}

  /** Native memory, which the engine uses where it lies. */
  static FloatBuffer buffer(int floats) {
    return ByteBuffer.allocateDirect(floats * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

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

  static float[] scaled(float[] v, double factor) {
    float[] scaled = new float[v.length];
    for (int i = 0; i < v.length; i++) {
      scaled[i] = (float) (factor * v[i]);
    }
    return scaled;
  }

  /** Row of a matrix [rows, into.length]. */
  static void row(FloatPointer matrix, long row, float[] into) {
    matrix.getPointer(FloatPointer.class, row * into.length).get(into);
  }
}

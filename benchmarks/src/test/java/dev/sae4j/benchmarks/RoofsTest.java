package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;

class RoofsTest {
  /** Sums of ones count what was read: every float once, ragged ends included. */
  @Test
  void readsEveryFloatOnce() {
    Machine.prepare();
    for (int count : new int[] {1, 8191, 8192, 8193, 1_000_003}) {
      float[] ones = new float[count];
      Arrays.fill(ones, 1);
      try (FloatPointer matrix = new FloatPointer(ones)) {
        assertEquals(count, Roofs.read(matrix, count));
      }
    }
  }
}

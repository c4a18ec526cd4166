package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.ShortPointer;
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

  /** 8192 rows by 131072 features fit, and what fits whole stays whole. */
  @Test
  void scoresTakeAGibibyteAtMost() {
    assertEquals(65536, Roofs.piece(4096, 65536));
    assertEquals(32768, Roofs.piece(8192, 131072));
  }

  /** Against the definition: half of the distance between neighbours is exceeded by no float, and ties go to the even one. */
  @Test
  void bf16IsTheNearest() {
    assertEquals(0x3f80, GpuRoofsBenchmark.bf16(1));
    assertEquals(0x3f80, GpuRoofsBenchmark.bf16(Float.intBitsToFloat(0x3f80_8000))); // a tie, to the even one below
    assertEquals(0x3f82, GpuRoofsBenchmark.bf16(Float.intBitsToFloat(0x3f81_8000))); // a tie, to the even one above
    assertEquals(0x3f81, GpuRoofsBenchmark.bf16(Float.intBitsToFloat(0x3f80_8001)));
    assertEquals((short) 0xbf80, GpuRoofsBenchmark.bf16(Float.intBitsToFloat(0xbf80_7fff)));
  }

  /** Drawn everywhere, in every chunk, and alike in both types. */
  @Test
  void normalFloatsFillTheArray() {
    int count = 200_001; // more than three chunks
    try (FloatPointer drawn = GpuRoofsBenchmark.normal(count);
        ShortPointer rounded = GpuRoofsBenchmark.normal16(count)) {
      double squares = 0;
      for (long i = 0; i < count; i++) {
        assertEquals(GpuRoofsBenchmark.bf16(drawn.get(i)), rounded.get(i));
        squares += drawn.get(i) * drawn.get(i);
      }
      assertEquals(1, squares / count, .02);
    }
  }
}

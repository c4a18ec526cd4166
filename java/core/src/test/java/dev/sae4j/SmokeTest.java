package dev.sae4j;

import static org.junit.jupiter.api.Assertions.*;

import java.util.List;
import org.junit.jupiter.api.Test;

class SmokeTest {
  @Test
  void encodesAndProjects() {
    System.out.println(Device.cpu().detail() + " " + Device.cpu().screens());
    try (SaeWeights w = SaeWeights.allocate(2, 2, 3, new SaeInfo("t", "standard", "float32", null, null, List.of(), List.of()))) {
      w.wEnc().put(new float[] {1, 0, 0, 1, 1, 1});
      w.wDec().put(new float[] {1, 0, 0, 2, 1, 1});
      w.scale().put(new float[] {1, 1, 1});
      w.bDec().put(new float[] {10, 20});
      try (SparseAutoencoder sae = SparseAutoencoder.open(w, Device.cpu())) {
        System.out.println(sae.describe());
        try (SparseCodes c = sae.encode(new float[] {1, -3, 2, 2})) {
          assertEquals(4, c.nnz());
          assertArrayEquals(new float[] {11, 20, 16, 28}, sae.decode(c));
        }
        assertThrows(IllegalArgumentException.class, () -> sae.encode(new float[] {1, Float.NaN}));
      }
    }
  }
}

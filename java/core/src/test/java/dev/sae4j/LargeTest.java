package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;

/** More weights than a 32-bit index counts. All rows but the last are zeros that were never written, so they take no memory. */
class LargeTest {
  @Test
  void theLastOfTwoMillionFeaturesIsFound() {
    int dIn = 1100;
    int dSae = 2_000_000;
    assertTrue((long) dIn * dSae > Integer.MAX_VALUE);
    SaeInfo info = new SaeInfo("test", "standard", "float32", null, null, List.of(), List.of());
    float[] ones = new float[dIn];
    Arrays.fill(ones, 1);
    try (SaeWeights weights = SaeWeights.allocate(dIn, 1, dSae, info)) {
      FloatPointer lastRow = weights.wEnc().getPointer(FloatPointer.class, (dSae - 1L) * dIn);
      lastRow.put(ones);
      weights.wDec().put(dSae - 1L, 3);
      for (long j = 0; j < dSae; j += 100_000) {
        float[] scale = new float[100_000];
        Arrays.fill(scale, 1);
        weights.scale().getPointer(FloatPointer.class, j).put(scale);
      }
      int[] last = {dSae - 1};
      for (Device device : Devices.isEmulated() ? List.of(Device.cpu()) : Devices.each()) { // emulated, it takes minutes
        try (SparseAutoencoder sae = SparseAutoencoder.open(weights, device);
            SparseCodes codes = sae.encode(ones)) {
          assertArrayEquals(last, Csr.of(codes).indices(), device.toString());
          assertArrayEquals(new float[] {1100}, Csr.of(codes).values(), device.toString());
          assertArrayEquals(new float[] {3300}, sae.decode(codes), device.toString());
          sae.project(ones, Projection.top(5).withReadout(Projection.Readout.ENCODER), codes);
          assertArrayEquals(last, Csr.of(codes).indices(), device.toString());
        }
      }
    }
  }
}

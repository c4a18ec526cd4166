package dev.sae4j;

import java.util.List;
import java.util.Random;

/** A small SAE as plain arrays, from a seed, and the same in native memory. */
final class TestSae {
  static final long SEED = Long.getLong("sae4j.seed", 20241217);

  final int dIn;
  final int dOut;
  final int dSae;
  final float[] wEnc; // [dSae, dIn]
  final float[] wDec; // [dSae, dOut]
  final float[] bDec;
  final float[] threshold;
  final float[] scale;
  final float[] offset;
  final Random random;
  SaeWeights.Selection selection = SaeWeights.Selection.GATE;
  int k;
  SaeWeights.Normalization normalization = SaeWeights.Normalization.NONE;
  float[] wSkip; // [dOut, dIn], or null

  /** JumpReLU-like: about a quarter of the features are active on normal activations. */
  TestSae(int dIn, int dOut, int dSae) {
    this.dIn = dIn;
    this.dOut = dOut;
    this.dSae = dSae;
    random = new Random(SEED + 31L * dIn + dSae);
    wEnc = normal(dSae * dIn);
    wDec = normal(dSae * dOut);
    bDec = normal(dOut);
    threshold = normal(dSae);
    scale = new float[dSae];
    offset = normal(dSae);
    for (int j = 0; j < dSae; j++) {
      threshold[j] *= (float) Math.sqrt(dIn);
      scale[j] = 0.5f + random.nextFloat();
    }
  }

  float[] normal(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** All features of every row are active, or none is. */
  TestSae withAll(boolean active) {
    for (int j = 0; j < dSae; j++) {
      threshold[j] = active ? Float.NEGATIVE_INFINITY : Float.POSITIVE_INFINITY;
      offset[j] = 1e4f;
    }
    return this;
  }

  TestSae with(SaeWeights.Selection selection, int k, SaeWeights.Normalization normalization, boolean hasSkip) {
    this.selection = selection;
    this.k = k;
    this.normalization = normalization;
    wSkip = hasSkip ? normal(dOut * dIn) : null;
    return this;
  }

  SaeWeights weights() {
    SaeInfo info = new SaeInfo("test", "jumprelu", "float32", null, null, List.of(), List.of());
    SaeWeights weights =
        SaeWeights.allocate(new SaeWeights.Form(dIn, dOut, dSae, selection, k, normalization, wSkip != null), info);
    weights.wEnc().put(wEnc);
    weights.wDec().put(wDec);
    weights.bDec().put(bDec);
    if (wSkip != null) {
      weights.wSkip().put(wSkip);
    }
    weights.threshold().put(threshold);
    weights.scale().put(scale);
    weights.offset().put(offset);
    return weights;
  }

  SparseAutoencoder open(Device device) {
    try (SaeWeights weights = weights()) {
      return SparseAutoencoder.open(weights, device);
    }
  }
}

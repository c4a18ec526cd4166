package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.internal.Sums;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;

/** An SAE that is right for its activations by construction, and the same one loaded wrong in the ways that are usual. */
class SelfCheckTest {
  private static final int D = 96;
  private static final int FEATURES = 160;
  private static final int ROWS = 200;

  private final Random random = new Random(5);
  private final float[][] directions = new float[FEATURES][D];
  private final float[] bDec = new float[D];
  private final float[] x = new float[ROWS * D];

  SelfCheckTest() {
    for (float[] direction : directions) {
      double norm = 0;
      for (int i = 0; i < D; i++) {
        direction[i] = (float) random.nextGaussian();
        norm += direction[i] * direction[i];
      }
      for (int i = 0; i < D; i++) {
        direction[i] /= (float) Math.sqrt(norm);
      }
    }
    for (int i = 0; i < D; i++) {
      bDec[i] = (float) random.nextGaussian();
    }
    for (int row = 0; row < ROWS; row++) {
      for (int i = 0; i < D; i++) {
        x[row * D + i] = bDec[i];
      }
      for (int k = 0; k < 4; k++) {
        int feature = random.nextInt(FEATURES);
        for (int i = 0; i < D; i++) {
          x[row * D + i] += (6 + 2 * random.nextFloat()) * directions[feature][i];
        }
      }
    }
  }

  /** A threshold of 3 or 4.5 is above what most directions that are not there read by chance. */
  private SelfCheck check(boolean subtractsBDec, float threshold, double scale, Double publishedL0) {
    return check(subtractsBDec, threshold, scale, publishedL0, "jumprelu", x);
  }

  private SelfCheck check(
      boolean subtractsBDec, float threshold, double scale, Double publishedL0, String architecture, float[] rows) {
    SaeInfo info =
        new SaeInfo("test", architecture, "float32", null, null, List.of(), List.of(), null, publishedL0, List.of());
    try (SaeWeights weights = SaeWeights.allocate(D, D, FEATURES, info)) {
      weights.bDec().put(bDec);
      for (int j = 0; j < FEATURES; j++) {
        double delta = 0;
        for (int i = 0; i < D; i++) {
          weights.wEnc().put((long) j * D + i, directions[j][i]);
          weights.wDec().put((long) j * D + i, directions[j][i]);
          delta += directions[j][i] * bDec[i];
        }
        float offset = subtractsBDec ? (float) -delta : 0;
        weights.offset().put(j, offset);
        weights.scale().put(j, 1);
        weights.threshold().put(j, threshold - offset);
      }
      try (SparseAutoencoder sae = SparseAutoencoder.open(weights, Device.cpu())) {
        float[] scaled = rows.clone();
        for (int i = 0; i < scaled.length; i++) {
          scaled[i] *= (float) scale;
        }
        return SelfCheck.of(sae, scaled);
      }
    }
  }

  @Test
  void aRightLoadIsPlausible() {
    SelfCheck check = check(true, 4.5f, 1, 4.0);
    assertEquals(List.of(), check.warnings());
    assertEquals(ROWS, check.n());
    assertTrue(check.l0() > 3 && check.l0() < 6, check.toString());
    assertTrue(check.explainedVariance() > 0.8, check.toString());
    assertTrue(check.normRatio() > 0.8 && check.normRatio() < 1.2, check.toString());
  }

  /** The first rows are so many times as long as they were, and of all features at once: more than the SAE can decode. */
  private float[] withHugeRows(int count, double factor) {
    float[] rows = x.clone();
    float[] huge = constant(new float[D]);
    for (int row = 0; row < count; row++) {
      double norm = factor * Sums.norm(Arrays.copyOfRange(x, row * D, (row + 1) * D));
      System.arraycopy(Sums.scaled(huge, norm / Sums.norm(huge)), 0, rows, row * D, D);
    }
    return rows;
  }

  @Test
  void aFewHugeRowsAreNamedAndGiveNoAdvice() {
    SelfCheck check = check(true, 4.5f, 1, 4.0, "jumprelu", withHugeRows(4, 60));
    assertEquals(4, check.outlierRows());
    assertTrue(check.explainedVariance() < 0, check.toString());
    assertTrue(check.typical().explainedVariance() > 0.8, check.toString());
    assertTrue(check.typical().normRatio() > 0.8 && check.typical().normRatio() < 1.2, check.toString());
    assertTrue(check.typical().l0() > 3 && check.typical().l0() < 6, check.toString());
    assertEquals(1, check.warnings().size(), check.toString());
    assertWarns(check, "4 of 200 rows have more than 5 times the median norm");
  }

  @Test
  void adviceHelpsMostRows() {
    for (int i = 0; i < x.length; i++) {
      x[i] = (x[i] - bDec[i % D]) * (i < 40 * D ? 3.5f : 1); // a fifth rules the sums, and would fare better by layer norm
    }
    Arrays.fill(bDec, 0);
    SelfCheck check = check(true, 4.5f, 1, null);
    assertEquals(0, check.outlierRows());
    assertEquals(check.explainedVariance(), check.typical().explainedVariance());
    assertTrue(check.explainedVariance() < 0, check.toString());
    assertTrue(check.warnings().stream().noneMatch(warning -> warning.contains("layer_norm")), check.toString());
  }

  @Test
  void rowsOfZeroAreNoOutliersAndMakeNone() {
    float[] rows = x.clone();
    Arrays.fill(rows, 0, (ROWS / 2 + 10) * D, 0);
    assertEquals(0, check(true, 4.5f, 1, null, "jumprelu", rows).outlierRows());
  }

  @Test
  void namesTheLikelyCause() {
    assertWarns(check(false, 3, 1, null), "b_dec is subtracted from the input first");
    assertWarns(check(true, Float.NEGATIVE_INFINITY, 1, null, "standard", x), "explained variance is");
    assertWarns(check(true, 3, 0.001, null), "no feature is active");
    assertWarns(check(true, 3, 1, 40.0), "published is 40");
  }

  /** As a file that was read by a format of other equations than its own. */
  @Test
  void namesALostKAndWhetherBDecIsSubtracted() {
    assertWarns(check(true, Float.NEGATIVE_INFINITY, 1, null, "standard", x), "if only the 4 or so largest features");
    assertWarns(
        check(false, Float.NEGATIVE_INFINITY, 1, null, "standard", x),
        "if b_dec is subtracted from the input first and only the 4 or so largest features");
  }

  @Test
  void namesALostThreshold() {
    float[] loud = x.clone();
    assertWarns(check(false, Float.NEGATIVE_INFINITY, 1, null, "standard", constant(loud)), "more than half");
  }

  /** Every feature along itself. */
  private float[] constant(float[] rows) {
    for (int i = 0; i < rows.length; i++) {
      double sum = 0;
      for (float[] direction : directions) {
        sum += direction[i % D];
      }
      rows[i] = (float) sum;
    }
    return rows;
  }

  @Test
  void aTranscoderIsNoReconstruction() {
    SelfCheck check = check(true, 3, 1, null, "transcoder", x);
    assertNull(check.explainedVariance());
    assertNull(check.normRatio());
    assertTrue(check.l0() > 3, check.toString());
  }

  @Test
  void refusesNothing() {
    assertThrows(IllegalArgumentException.class, () -> check(true, 3, 1, null, "jumprelu", new float[0]));
  }

  private static void assertWarns(SelfCheck check, String fragment) {
    assertTrue(check.warnings().stream().anyMatch(warning -> warning.contains(fragment)), check.toString());
  }

  // ---- the geometry alone

  private List<String> geometry(int d, boolean turnsDecoder, String architecture) {
    SaeInfo info = new SaeInfo("test", architecture, "float32", null, null, List.of(), List.of());
    try (SaeWeights weights = SaeWeights.allocate(d, d, d, info)) {
      for (int j = 0; j < d; j++) {
        for (int i = 0; i < d; i++) {
          float value = directions[j % FEATURES][i % D];
          weights.wEnc().put((long) j * d + i, value);
          weights.wDec().put(turnsDecoder ? (long) i * d + j : (long) j * d + i, value);
        }
      }
      return SelfCheck.geometry(weights);
    }
  }

  /** All features read u = (1, 0, ...) alone, and each row of a random dictionary has a little of it. */
  @Test
  void aDictionaryThatIsAllButRandomIsNamed() {
    SaeInfo info = new SaeInfo("test", "standard", "float32", null, null, List.of(), List.of());
    float[] along = new float[ROWS * D];
    for (int row = 0; row < ROWS; row++) {
      along[row * D] = (float) random.nextGaussian();
    }
    try (SaeWeights weights = SaeWeights.allocate(D, D, FEATURES, info)) {
      for (int j = 0; j < FEATURES; j++) {
        int sign = j % 2 == 0 ? 1 : -1;
        weights.wEnc().put((long) j * D, 0.053f * sign);
        directions[j][0] = 0.08f * sign;
        weights.wDec().getPointer(FloatPointer.class, (long) j * D).put(directions[j]);
        weights.threshold().put(j, Float.NEGATIVE_INFINITY);
        weights.scale().put(j, 1);
      }
      assertEquals(List.of(), SelfCheck.geometry(weights));
      try (SparseAutoencoder sae = SparseAutoencoder.open(weights, Device.cpu())) {
        SelfCheck check = SelfCheck.of(sae, along);
        assertTrue(check.explainedVariance() > 0.1 && check.explainedVariance() < 0.5, check.toString());
        assertWarns(check, "the SAE may be untrained");
      }
    }
  }

  private List<String> geometryOf(int collapsed, boolean isRandom) {
    SaeInfo info = new SaeInfo("test", "standard", "float32", null, null, List.of(), List.of());
    try (SaeWeights weights = SaeWeights.allocate(D, D, FEATURES, info)) {
      for (int j = 0; j < FEATURES; j++) {
        float size = j < collapsed ? 2.7e-5f : 1;
        boolean isOther = isRandom || j < collapsed;
        for (int i = 0; i < D; i++) {
          weights.wEnc().put((long) j * D + i, directions[j][i]);
          weights.wDec().put((long) j * D + i, size * directions[isOther ? (j + 1) % FEATURES : j][i]);
        }
      }
      return SelfCheck.geometry(weights);
    }
  }

  @Test
  void collapsedRowsAreNamedAndNotTakenForATransposedMatrix() {
    List<String> warnings = geometryOf(131, false);
    assertEquals(1, warnings.size(), warnings.toString());
    String expected = "131 of 160 decoder rows (82 %) have collapsed: their median norm is 2.700e-05";
    assertTrue(warnings.get(0).startsWith(expected), warnings.get(0));
    assertEquals(List.of(), geometryOf(0, false));
    assertTrue(geometryOf(0, true).get(0).contains("or the SAE untrained"));
  }

  @Test
  void seesATransposedSquareMatrix() {
    assertEquals(List.of(), geometry(D, false, "standard"));
    List<String> warnings = geometry(D, true, "standard");
    assertEquals(2, warnings.size(), warnings.toString());
    assertTrue(warnings.get(0).contains("hardly agree"), warnings.toString());
    assertTrue(warnings.get(1).contains("may be transposed"), warnings.toString());
    assertEquals(List.of(), geometry(D, true, "transcoder"));
    assertEquals(List.of(), geometry(8, true, "standard"));
  }
}

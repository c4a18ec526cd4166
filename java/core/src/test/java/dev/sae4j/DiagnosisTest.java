package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Figures on SAEs small enough to reckon by hand, and findings on both sides of what bears them out. */
class DiagnosisTest {
  /**
   * Four dimensions; features 0..3 are the axes, 4 opposes axis 0 (cosine -0.8), 5 is always on by its bias. ReLU.
   */
  private static TestSae axes() {
    TestSae sae = new TestSae(4, 4, 6);
    Arrays.fill(sae.wDec, 0);
    for (int j = 0; j < 4; j++) {
      sae.wDec[j * 4 + j] = 1;
    }
    sae.wDec[4 * 4] = -0.8f;
    sae.wDec[4 * 4 + 1] = 0.6f;
    sae.wDec[5 * 4 + 2] = 0.6f;
    sae.wDec[5 * 4 + 3] = 0.8f;
    System.arraycopy(sae.wDec, 0, sae.wEnc, 0, sae.wDec.length);
    Arrays.fill(sae.wEnc, 5 * 4, 6 * 4, 0);
    Arrays.fill(sae.bDec, 1);
    Arrays.fill(sae.threshold, Float.NEGATIVE_INFINITY);
    Arrays.fill(sae.scale, 1);
    Arrays.fill(sae.offset, -0.1f);
    sae.offset[5] = 2;
    return sae;
  }

  private static Diagnosis diagnose(TestSae sae, float[] v, double[] norms, float[] positive, float[] negative) {
    return diagnose(sae, v, norms, positive, negative, Device.cpu());
  }

  private static Diagnosis diagnose(
      TestSae sae, float[] v, double[] norms, float[] positive, float[] negative, Device device) {
    try (SaeWeights weights = sae.weights();
        SparseAutoencoder engine = SparseAutoencoder.open(weights, device)) {
      return Diagnosis.of(
          weights, engine, v, Pursuit.omp(3), norms, rows(positive, sae.dIn), rows(negative, sae.dIn), j -> "label " + j);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static SparseAutoencoder.Rows rows(float[] values, int d) {
    if (values == null) {
      return null;
    }
    FloatBuffer left = FloatBuffer.wrap(values);
    return into -> {
      int n = Math.min(into.remaining(), left.remaining()) / d;
      for (int i = 0; i < n * d; i++) {
        into.put(left.get());
      }
      return n;
    };
  }

  @Test
  void figuresByHand() {
    float[] v = {-2, 0, 0, 0};
    double[] norms = new double[101];
    Arrays.setAll(norms, i -> 10 + i * 0.1);
    float[] positive = {1, 0, 0, 0, 3, 0, 0, 0};
    Diagnosis d = diagnose(axes(), v, norms, positive, new float[] {0, 4, 0, 0});
    assertEquals(2, d.vectorNorm());
    assertEquals(15, d.activationNorm().mean(), 1e-9);
    assertEquals(10.1, d.activationNorm().p01(), 1e-9);
    assertEquals(19.9, d.activationNorm().p99(), 1e-9);
    assertEquals(2 / 15.0, d.normRatio(), 1e-9);
    assertEquals(2 / 15.0, d.medianNormRatio(), 1e-9);
    assertEquals(List.of(new Diagnosis.Active(5, 2, "label 5")), d.zeroVector());
    assertEquals(List.of(5, 4), d.plainEncode().stream().map(Diagnosis.Plain::index).toList());
    assertEquals(1, d.plainEncode().get(0).biasShare());
    assertEquals(-0.1 / 1.5, d.plainEncode().get(1).biasShare(), 1e-6);
    assertEquals(0.5, d.biasJaccard());
    // f = 2 at feature 5, 1.5 at 4: (-1.2, 0.9, 1.2, 1.6), and 1 more each with b_dec
    assertEquals(1.2 / Math.sqrt(1.44 + 0.81 + 1.44 + 2.56), d.reconstructionCosine(), 1e-6);
    assertEquals(0.2 / Math.sqrt(0.04 + 3.61 + 4.84 + 6.76), d.reconstructionCosineWithBDec(), 1e-6);
    assertEquals(List.of(0), d.negativeProjections().stream().map(Decomposition.Feature::index).toList());
    assertEquals(-1, d.negativeProjections().get(0).cosine(), 1e-9);
    assertEquals(4 / (4 + 2.56), d.lostNegativeEnergy(), 1e-6);
    assertEquals(1, d.spuriousAntipodal().size());
    Diagnosis.Antipode antipode = d.spuriousAntipodal().get(0);
    assertEquals(List.of(4, 0), List.of(antipode.active(), antipode.opposes()));
    assertEquals(-0.8, antipode.cosine(), 1e-6);
    assertEquals(List.of(new Decomposition.Feature(0, -2, -1, "label 0")), d.decomposition().features());
    assertEquals("residual", d.decomposition().stop());
    assertEquals(1, d.decomposition().negativeShare());
    assertEquals(List.of(4), d.decompositionNonNegative().features().stream().map(Decomposition.Feature::index).toList());
    assertEquals(0.64, d.decompositionNonNegative().explainedVariance(), 1e-6);
    // means: feature 0 1.9, against 1: 3.9, 4: 2.3; the bias cancels
    assertEquals(List.of(1, 4, 0), d.differenceOfEncodings().stream().map(Diagnosis.Difference::index).toList());
    assertEquals(-3.9, d.differenceOfEncodings().get(0).difference(), 1e-6);
    assertEquals(1.9, d.differenceOfEncodings().get(2).difference(), 1e-6);
    assertEquals(8, d.scaleSweep().size());
    assertTrue(d.findings().size() <= 8);
  }

  /** Of three rows two oppose the one between, one of them exactly, the other nearly. All features are active. */
  private static TestSae opposed() {
    TestSae sae = new TestSae(200, 200, 300).withAll(true);
    for (int j = 1; j < 300; j += 3) {
      for (int i = 0; i < 200; i++) {
        sae.wDec[(j + 1) * 200 + i] = -sae.wDec[j * 200 + i];
        sae.wDec[(j - 1) * 200 + i] = (j % 2 - 2) * sae.wDec[j * 200 + i] + 0.1f * sae.wDec[(j - 1) * 200 + i];
      }
    }
    return sae;
  }

  @Test
  void equalInEveryBitOnAllDevices() {
    TestSae sae = opposed();
    float[] v = sae.normal(200);
    double[] norms = {10, 11, 12};
    float[] positive = sae.normal(400);
    float[] negative = sae.normal(600);
    Diagnosis expected = diagnose(sae, v, norms, positive, negative);
    assertEquals(Diagnosis.TOP, expected.spuriousAntipodal().size());
    for (Device device : Devices.fast()) {
      assertEquals(expected, diagnose(sae, v, norms, positive, negative, device), device.toString());
    }
  }

  @Test
  void aFeatureIsNotSpuriousWhereItsOppositeIsTheWeaker() {
    float[] towards4 = {-0.8f, 0.6f, 0, 0}; // <v, d_4> = 1, <v, d_0> = -0.8
    Diagnosis d = diagnose(axes(), towards4, null, null, null);
    assertTrue(d.plainEncode().stream().anyMatch(f -> f.index() == 4));
    assertTrue(d.negativeProjections().stream().anyMatch(f -> f.index() == 0));
    assertEquals(List.of(), d.spuriousAntipodal());
    assertFalse(d.findings().stream().anyMatch(f -> f.contains("spurious")), d.findings().toString());
  }

  @Test
  void exactOppositesOfAnyNormCount() {
    TestSae sae = axes();
    sae.wDec[4 * 4] = -3;
    sae.wDec[4 * 4 + 1] = 0;
    Diagnosis d = diagnose(sae, new float[] {-2, 0, 0, 0}, null, null, null);
    assertEquals(List.of(new Diagnosis.Antipode(4, 0, -1, "label 4")), d.spuriousAntipodal());
  }

  @Test
  void normsOfNumbersOnly() {
    SparseAutoencoder.Rows rows = rows(new float[] {1, 2, 3, Float.POSITIVE_INFINITY}, 2);
    String message = assertThrows(IllegalArgumentException.class, () -> Diagnosis.norms(rows, 2)).getMessage();
    assertEquals("activations must be finite, got Infinity at row 1, column 1", message);
  }

  @Test
  void findingsWithTheirNumbers() {
    double[] norms = {10, 11, 12};
    List<String> findings = diagnose(axes(), new float[] {-2, 0, 0, 0}, norms, null, null).findings();
    assertSaid(findings, "its norm is 2.00, 0.18 of the activations' median");
    assertSaid(findings, "it has cosine 0.48 with the vector; the signed decomposition has 1.00");
    assertSaid(findings, "a Jaccard overlap of 0.50");
    assertSaid(findings, "Scaling does not repair it");
    assertSaid(findings, "61 % of the squared projections");
    assertSaid(findings, "4 opposes feature 0 (cosine -0.80)");
    assertSaid(findings, "1 signed features explain 100 % of the vector, 1 non-negative ones 64 %");
  }

  @Test
  void noFindingThatTheFiguresDoNotBearOut() {
    TestSae sae = axes();
    sae.offset[5] = -1;
    Arrays.fill(sae.wDec, 4 * 4, 6 * 4, 0);
    Diagnosis d = diagnose(sae, new float[] {3, 0, 0, 0}, new double[] {2, 3, 4}, null, null);
    assertEquals(List.of(), d.findings());
    assertNull(d.differenceOfEncodings());
    assertEquals(1, d.stability().perturbed());
  }

  @Test
  void silenceAndBiasAreToldApart() {
    TestSae silent = axes();
    Arrays.fill(silent.offset, -100);
    List<String> findings = diagnose(silent, new float[] {1, 2, 0, 0}, null, null, null).findings();
    assertSaid(findings, "silent: 0 features are active");
    assertFalse(findings.stream().anyMatch(finding -> finding.contains("encoder bias")), findings.toString());

    TestSae biased = axes();
    for (int j = 0; j < 4; j++) {
      biased.threshold[j] = 5; // JumpReLU: none is on at zero, though the bias is most of what shows
      biased.offset[j] = 9;
    }
    biased.offset[5] = -1;
    assertSaid(
        diagnose(biased, new float[] {6, 0, 0, 0}, null, null, null).findings(), "The encoder bias makes up 60 % of what");
  }

  @Test
  void anUnstableChoiceIsSaid() {
    TestSae sae = new TestSae(30, 30, 2000);
    Diagnosis d = diagnose(sae, sae.normal(30), null, null, null);
    boolean isSaid = d.findings().stream().anyMatch(finding -> finding.contains("not firm"));
    assertEquals(d.stability().perturbed() < 0.9, isSaid);
    assertNull(d.activationNorm());
    assertNull(d.normRatio());
  }

  @Test
  void aZeroVectorHasAClearAnswer() {
    Diagnosis d = diagnose(axes(), new float[4], new double[] {1, 2}, null, null);
    assertEquals(1, d.findings().size());
    assertSaid(d.findings(), "The vector is zero");
    assertEquals(0, d.decomposition().atoms());
    assertTrue(Double.isNaN(d.decomposition().cosine()));
    assertEquals(7, d.scaleSweep().size());
  }

  @Test
  void whatCannotBeDiagnosedIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> diagnose(axes(), new float[3], null, null, null));
    assertThrows(IllegalArgumentException.class, () -> diagnose(axes(), new float[] {1, Float.NaN, 0, 0}, null, null, null));
    TestSae transcoder = new TestSae(4, 5, 6);
    String message =
        assertThrows(IllegalArgumentException.class, () -> diagnose(transcoder, new float[4], null, null, null)).getMessage();
    assertTrue(message.contains("transcoder"), message);
    String empty =
        assertThrows(
                IllegalArgumentException.class, () -> diagnose(axes(), new float[] {1, 0, 0, 0}, null, new float[0], new float[4]))
            .getMessage();
    assertTrue(empty.contains("the positive activations have no rows"), empty);
  }

  private static void assertSaid(List<String> findings, String part) {
    assertTrue(findings.stream().anyMatch(finding -> finding.contains(part)), () -> "\"" + part + "\" in " + findings);
  }
}

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
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** Each finding alone, just beyond its figure and just short of it; and the figures that {@link DiagnosisTest} leaves out. */
class FindingsTest {
  // ---- figures

  /** d = 3; feature 0 fires by its bias alone, 1 and 2 never; the rows 1 and 2 oppose row 0, with cosines -1 and -0.8. */
  private static TestSae antipodal() {
    TestSae sae = new TestSae(3, 3, 4);
    Arrays.fill(sae.wEnc, 0);
    Arrays.fill(sae.bDec, 0);
    Arrays.fill(sae.scale, 1);
    System.arraycopy(new float[] {1, 0, 0, -1, 0, 0, -0.8f, 0, -0.6f, 0, 2, 0}, 0, sae.wDec, 0, 12);
    System.arraycopy(new float[] {-1, 1, 1, 1}, 0, sae.threshold, 0, 4);
    System.arraycopy(new float[] {2, 0, 0, 0}, 0, sae.offset, 0, 4);
    return sae;
  }

  private static Diagnosis diagnose(TestSae sae, Pursuit how, float... v) {
    return diagnose(sae, how, null, null, v);
  }

  private static Diagnosis diagnose(
      TestSae sae, Pursuit how, SparseAutoencoder.Rows positive, SparseAutoencoder.Rows negative, float... v) {
    try (SaeWeights weights = sae.weights();
        SparseAutoencoder engine = SparseAutoencoder.open(weights, Device.cpu())) {
      return Diagnosis.of(weights, engine, v, how, null, positive, negative, j -> j == 0 ? "zero" : null);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void biasAndAntipode() {
    Diagnosis d = diagnose(antipodal(), Pursuit.omp(1), 0, 0, 1);
    assertEquals(List.of(new Diagnosis.Active(0, 2, "zero")), d.zeroVector());
    assertEquals(List.of(new Diagnosis.Plain(0, 2, 1, "zero")), d.plainEncode());
    assertEquals(1, d.biasJaccard());
    assertEquals(0, d.reconstructionCosine(), "row 0 is at right angles to v");
    assertEquals(1, d.lostNegativeEnergy(), "row 2 alone is not at right angles to v");
    assertEquals(List.of(2), d.negativeProjections().stream().map(Decomposition.Feature::index).toList());
    // Row 1 opposes row 0 more, but v does not project on it.
    assertEquals(1, d.spuriousAntipodal().size());
    Diagnosis.Antipode antipode = d.spuriousAntipodal().get(0);
    assertEquals(0, antipode.active());
    assertEquals(2, antipode.opposes());
    assertEquals(-0.8, antipode.cosine(), 1e-6);
    assertNull(d.differenceOfEncodings());
    assertNull(d.activationNorm());

    assertTrue(diagnose(antipodal(), Pursuit.omp(1), 0, 0, -1).spuriousAntipodal().isEmpty(), "v projects on row 2 positively");
    TestSae oblique = antipodal();
    System.arraycopy(new float[] {-0.6f, 0, -0.8f}, 0, oblique.wDec, 6, 3);
    assertTrue(diagnose(oblique, Pursuit.omp(1), 0, 0, 1).spuriousAntipodal().isEmpty(), "a cosine of -0.6");
  }

  @Test
  void energyIsThatOfTheScaledRows() {
    Decomposition d = diagnose(antipodal(), Pursuit.omp(2), -3, 4, 0).decomposition();
    // v = 3 (-1, 0, 0) or -3 (1, 0, 0), and 2 (0, 2, 0); ties go to the lower index.
    assertEquals(List.of(0, 3), d.features().stream().map(Decomposition.Feature::index).toList());
    assertEquals(0.5, d.negativeShare());
    assertEquals(9.0 / 25, d.negativeEnergy(), 1e-9);
    assertEquals(1, d.explainedVariance(), 1e-9);
    assertEquals(0, d.worstCoherence());
  }

  @Test
  void coefficientsOnCollapsedRowsAreNamed() {
    TestSae sae = antipodal();
    assertEquals(List.of(), diagnose(sae, Pursuit.omp(2), -3, 4, 0).decomposition().warnings());
    sae.wDec[0] = 1e-5f;
    sae.wDec[3] = 0; // what else reads the first axis exactly
    Decomposition d = diagnose(sae, Pursuit.omp(2), -3, 4, 0).decomposition();
    assertEquals(-3e5, d.features().get(0).coefficient(), 1);
    assertEquals(1, d.warnings().size());
    assertTrue(d.warnings().get(0).startsWith("1 of 2 features have decoder rows of next to no norm"), d.toString());
  }

  @Test
  void differenceOfMeanCodes() {
    TestSae sae = antipodal();
    sae.wEnc[9] = 1; // feature 3 reads x_0 beyond 1
    Diagnosis d = diagnose(sae, Pursuit.omp(1), rows(3, 5, 0, 0, 0, 0, 0), rows(3, 2, 0, 0), 0, 1, 0);
    assertEquals(List.of(new Diagnosis.Difference(3, 2.5 - 2, null)), d.differenceOfEncodings());
    assertThrows(
        IllegalArgumentException.class, () -> diagnose(sae, Pursuit.omp(1), rows(3), rows(3, 2, 0, 0), 0, 1, 0), "no rows");
  }

  private static SparseAutoencoder.Rows rows(int d, float... x) {
    FloatBuffer left = FloatBuffer.wrap(x);
    return into -> {
      int n = Math.min(into.remaining(), left.remaining()) / d;
      into.put(left.slice().limit(n * d));
      left.position(left.position() + n * d);
      return n;
    };
  }

  @Test
  void activationNorm() {
    double[] norms = new double[101];
    for (int i = 0; i <= 100; i++) {
      norms[i] = 100 - i;
    }
    assertEquals(new Diagnosis.ActivationNorm(50, 50, 1, 99), Diagnosis.ActivationNorm.of(norms));
    assertEquals(new Diagnosis.ActivationNorm(3, 3, 3, 3), Diagnosis.ActivationNorm.of(new double[] {3}));
  }

  // ---- findings

  /** What a diagnosis says; as it stands, nothing that would be a finding. */
  private static final class Figures {
    double norm = 10;
    double median = 10;
    List<Diagnosis.Plain> plain = List.of(new Diagnosis.Plain(1, 2, 0.49, null));
    double jaccard = 0.49;
    double cosine = 0.9;
    double scaledCosine = 0.9;
    double negativeEnergy = 0.09;
    List<Diagnosis.Antipode> antipodes = List.of();
    double signed = 0.9;
    double nonNegative = 0.86;
    double perturbed = 0.91;
    List<String> warnings = List.of();

    List<String> findings() {
      Diagnosis d =
          new Diagnosis(
              norm, new Diagnosis.ActivationNorm(100, median, 8, 12), norm / 100, norm / median, List.of(), plain, jaccard,
              cosine, cosine, List.of(new Diagnosis.Scale(4, 7, 0, scaledCosine)), List.of(), negativeEnergy, antipodes,
              decomposition(signed), decomposition(nonNegative), null, new Diagnosis.Stability(1, 1, perturbed), List.of());
      return Diagnosis.Findings.of(d);
    }

    /** The cosine stays at 0.9. */
    private Decomposition decomposition(double explained) {
      return new Decomposition("omp", 16, false, "atoms", 10, 0.9, explained, 1, 0.5, 0.5, 0.3, List.of(), warnings);
    }
  }

  private static List<String> findings(Consumer<Figures> change) {
    Figures figures = new Figures();
    change.accept(figures);
    return figures.findings();
  }

  private static void assertFinding(String expected, Consumer<Figures> change) {
    List<String> findings = findings(change);
    assertEquals(1, findings.size(), findings.toString());
    assertTrue(findings.get(0).contains(expected), findings.toString());
    assertTrue(findings.get(0).matches(".*\\d.*"), "each has its number: " + findings);
  }

  @Test
  void nothingIsFoundThatTheFiguresDoNotSupport() {
    assertEquals(List.of(), findings(figures -> {}));
    assertEquals(List.of(), findings(figures -> figures.norm = 8));
    assertEquals(List.of(), findings(figures -> figures.norm = 12));
    assertEquals(List.of(), findings(figures -> figures.cosine = 0.86));
    assertEquals(List.of(), findings(figures -> figures.scaledCosine = 0.86));
    assertEquals(List.of(), findings(figures -> figures.jaccard = Double.NaN));
    assertEquals(List.of(), findings(figures -> figures.perturbed = Double.NaN));
    assertEquals(List.of(), findings(figures -> figures.nonNegative = 0.95));
    assertEquals(
        List.of(), findings(figures -> figures.plain = List.of(new Diagnosis.Plain(1, 2, -3, null))), "bias against it");
  }

  @Test
  void eachFindingComesAloneWithItsFigures() {
    assertFinding("its norm is 7.90, 0.79 of the activations' median", figures -> figures.norm = 7.9);
    assertFinding("its norm is 12.10, 1.21 of the activations' median", figures -> figures.norm = 12.1);
    assertFinding("0 features are active", figures -> figures.plain = List.of());
    assertFinding("it has cosine 0.80 with the vector; the signed decomposition has 0.90", figures -> figures.cosine = 0.8);
    assertFinding("a Jaccard overlap of 0.50", figures -> figures.jaccard = 0.5);
    assertFinding("makes up 60 %", figures -> figures.plain = List.of(new Diagnosis.Plain(1, 2, 0.6, null)));
    assertFinding("makes up 100 %", figures -> figures.plain = List.of(new Diagnosis.Plain(1, 2, 1.2, null)));
    assertFinding("4.00, gives 7 features and a cosine of 0.80", figures -> figures.scaledCosine = 0.8);
    assertFinding("10 % of the squared projections", figures -> figures.negativeEnergy = 0.1);
    assertFinding(
        "1 opposes feature 2 (cosine -0.82)",
        figures -> figures.antipodes = List.of(new Diagnosis.Antipode(1, 2, -0.82, null)));
    assertFinding("explain 90 % of the vector, 16 non-negative ones 60 %", figures -> figures.nonNegative = 0.6);
    assertFinding("In the signed decomposition 3 are huge", figures -> figures.warnings = List.of("3 are huge"));
    assertFinding("keeps 80 % of them", figures -> figures.perturbed = 0.8);
  }

  @Test
  void atMostEight() {
    List<String> findings =
        findings(
            figures -> {
              figures.norm = 1;
              figures.cosine = figures.scaledCosine = 0.1;
              figures.jaccard = figures.negativeEnergy = 1;
              figures.antipodes = List.of(new Diagnosis.Antipode(1, 2, -0.82, null));
              figures.nonNegative = figures.perturbed = 0;
              figures.warnings = List.of("3 are huge");
            });
    assertEquals(8, findings.size());
    assertFalse(findings.stream().anyMatch(finding -> finding.contains("NaN")), findings.toString());
  }
}

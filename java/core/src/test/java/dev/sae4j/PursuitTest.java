package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Decompositions against what defines them: optimality conditions, planted answers and every support of a small dictionary. */
class PursuitTest {
  private static final Device CPU = Device.cpu();

  // ---- the same bits everywhere

  @ParameterizedTest
  @EnumSource(Pursuit.Method.class)
  void everyDeviceThreadBatchAndSplitGivesTheSameBits(Pursuit.Method method) {
    TestSae sae = new TestSae(5, 67, 300);
    int n = 70;
    float[] v = sae.normal(n * sae.dOut);
    for (boolean nonNegative : new boolean[] {false, true}) {
      Pursuit how = Pursuit.of(method, 9).withNonNegative(nonNegative).withPenalty(0.2);
      Csr expected = null;
      for (Device device : Devices.fast()) {
        try (SparseAutoencoder engine = sae.open(device);
            SparseCodes codes = engine.pursue(v, how)) {
          Csr got = Csr.of(codes);
          expected = expected == null ? got : expected;
          expected.assertSame(got, device + ", " + how);
          try (SparseCodes one = engine.pursue(Arrays.copyOfRange(v, 33 * 67, 34 * 67), how)) {
            int begin = (int) got.rowOffsets()[33];
            int end = (int) got.rowOffsets()[34];
            assertArrayEquals(Arrays.copyOfRange(got.indices(), begin, end), Csr.of(one).indices(), device.toString());
            assertArrayEquals(Arrays.copyOfRange(got.values(), begin, end), Csr.of(one).values(), 0, device.toString());
            assertEquals(codes.stop(33), one.stop(0));
          }
        }
      }
      assertTrue(expected.values().length > n, "something was found");
    }
  }

  /** Plain dictionaries, and one of few dimensions and repeated atoms, on which fits meet dependent atoms at every turn. */
  @ParameterizedTest
  @EnumSource(Pursuit.Method.class)
  void plainJavaGivesTheSameBits(Pursuit.Method method) {
    TestSae wide = new TestSae(5, 67, 300);
    TestSae cramped = new TestSae(3, 5, 40);
    System.arraycopy(cramped.wDec, 0, cramped.wDec, 20 * 5, 20 * 5);
    for (TestSae sae : List.of(wide, cramped)) {
      int n = sae == wide ? 6 : 60;
      float[] v = sae.normal(n * sae.dOut);
      Arrays.fill(v, sae.dOut, 2 * sae.dOut, 0);
      for (boolean nonNegative : new boolean[] {false, true}) {
        for (double gain : new double[] {0, 0.03}) {
          Pursuit how = Pursuit.of(method, 14).withNonNegative(nonNegative).withPenalty(0.1).withGain(gain);
          List<Pursuit.Stop> stops = new ArrayList<>();
          Csr expected = CanonicalPursuit.pursue(sae, v, how, stops);
          try (SparseAutoencoder engine = sae.open(CPU);
              SparseCodes codes = engine.pursue(v, how)) {
            expected.assertSame(Csr.of(codes), how.toString());
            for (int row = 0; row < n; row++) {
              assertEquals(stops.get(row), codes.stop(row), how + ", row " + row);
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Pursuit.Method.class)
  void negatingTheDirectionNegatesTheCoefficientsAndNothingElse(Pursuit.Method method) {
    TestSae sae = new TestSae(5, 40, 200);
    float[] v = sae.normal(8 * 40);
    float[] negated = v.clone();
    for (int i = 0; i < v.length; i++) {
      negated[i] = -v[i];
    }
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(v, Pursuit.of(method, 12));
        SparseCodes opposite = engine.pursue(negated, Pursuit.of(method, 12))) {
      Csr a = Csr.of(codes);
      Csr b = Csr.of(opposite);
      assertArrayEquals(a.indices(), b.indices());
      for (int k = 0; k < a.values().length; k++) {
        assertEquals(a.values()[k], -b.values()[k], 0);
      }
    }
  }

  // ---- orthogonal matching pursuit

  @Test
  void theResidualIsOrthogonalToTheSupportAndNeverGrows() {
    TestSae sae = new TestSae(3, 60, 150);
    float[] v = sae.normal(60);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      double last = norm(doubles(v));
      for (int k = 1; k <= 40; k++) {
        try (SparseCodes codes = engine.pursue(v, Pursuit.omp(k))) {
          Csr csr = Csr.of(codes);
          assertEquals(k, csr.indices().length);
          double[] r = residual(sae, v, csr);
          for (int j : csr.indices()) {
            assertEquals(0, cosine(sae, j, r), 1e-4 * norm(doubles(v)) / norm(r) * 0.1, "atom " + j + " of " + k);
          }
          assertTrue(norm(r) <= last * (1 + 1e-6), "residual grew at " + k);
          last = norm(r);
          float[] sum = engine.decodeDirection(codes);
          for (int i = 0; i < 60; i++) {
            assertEquals(v[i] - r[i], sum[i], 1e-4);
          }
        }
      }
    }
  }

  @Test
  void moreAtomsThanDimensionsEndAtTheResidual() {
    TestSae sae = new TestSae(3, 20, 90);
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(sae.normal(20), Pursuit.omp(1000))) {
      assertEquals(Pursuit.Stop.RESIDUAL, codes.stop(0));
      assertTrue(codes.nnz() <= 21, "atoms: " + codes.nnz());
    }
  }

  @Test
  void oneAtomComesBackToAnUlp() {
    TestSae sae = new TestSae(3, 300, 400);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      for (int j = 0; j < 400; j += 7) {
        float c = (float) (sae.random.nextGaussian() * Math.pow(10, sae.random.nextInt(20) - 10));
        float[] v = new float[300];
        for (int i = 0; i < 300; i++) {
          v[i] = c * sae.wDec[j * 300 + i];
        }
        try (SparseCodes codes = engine.pursue(v, Pursuit.omp(5))) {
          assertArrayEquals(new int[] {j}, Csr.of(codes).indices());
          assertEquals(c, Csr.of(codes).values()[0], Math.ulp(c));
          assertEquals(Pursuit.Stop.RESIDUAL, codes.stop(0));
        }
      }
    }
  }

  /** Every support of 3 of 24 atoms: the pursuit can't beat the best, and finds it where the atoms are nearly orthogonal. */
  @Test
  void bruteForce() {
    for (int seed = 0; seed < 30; seed++) {
      boolean incoherent = seed % 2 == 0;
      TestSae sae = new TestSae(3, incoherent ? 400 : 6, 24);
      Random random = new Random(TestSae.SEED + seed);
      float[] v = new float[sae.dOut];
      if (incoherent) {
        for (int atom : new int[] {random.nextInt(8), 8 + random.nextInt(8), 16 + random.nextInt(8)}) {
          double c = (random.nextBoolean() ? 1 : -1) * (1 + random.nextDouble());
          for (int i = 0; i < v.length; i++) {
            v[i] += (float) (c * sae.wDec[atom * v.length + i]);
          }
        }
      }
      for (int i = 0; i < v.length; i++) {
        v[i] += (float) (0.1 * random.nextGaussian());
      }
      double best = Double.POSITIVE_INFINITY;
      int[] bestSupport = null;
      for (int a = 0; a < 24; a++) {
        for (int b = a + 1; b < 24; b++) {
          for (int c = b + 1; c < 24; c++) {
            double left = leastSquaresResidual(sae, v, a, b, c);
            if (left < best) {
              best = left;
              bestSupport = new int[] {a, b, c};
            }
          }
        }
      }
      try (SparseAutoencoder engine = sae.open(CPU);
          SparseCodes codes = engine.pursue(v, Pursuit.omp(3))) {
        Csr csr = Csr.of(codes);
        double left = norm(residual(sae, v, csr));
        assertTrue(left >= best * (1 - 1e-5), "better than the optimum: %g < %g".formatted(left, best));
        if (incoherent) {
          assertArrayEquals(bestSupport, csr.indices());
          assertEquals(best, left, 1e-5 * best);
        }
      }
    }
  }

  /** Eight signed atoms in 2304 x 16384 under noise of a tenth of their length: all seeds in one batch. */
  @Test
  void plantedAtomsAreRecovered() {
    int d = 2304;
    int dSae = 16384;
    int seeds = 100;
    TestSae sae = new TestSae(1, d, dSae);
    float[] v = new float[seeds * d];
    List<TreeSet<Integer>> planted = new ArrayList<>();
    for (int seed = 0; seed < seeds; seed++) {
      Random random = new Random(TestSae.SEED + seed);
      TreeSet<Integer> atoms = new TreeSet<>();
      while (atoms.size() < 8) {
        atoms.add(random.nextInt(dSae));
      }
      for (int atom : atoms) {
        double c = (random.nextBoolean() ? 1 : -1) * (0.5 + random.nextDouble());
        for (int i = 0; i < d; i++) {
          v[seed * d + i] += (float) (c * sae.wDec[atom * d + i]);
        }
      }
      for (int i = 0; i < d; i++) {
        v[seed * d + i] += (float) (0.3 * random.nextGaussian());
      }
      planted.add(atoms);
    }
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(v, Pursuit.omp(8))) {
      Csr csr = Csr.of(codes);
      long recovered =
          IntStream.range(0, seeds)
              .filter(
                  row ->
                      Arrays.stream(csr.indices(), (int) csr.rowOffsets()[row], (int) csr.rowOffsets()[row + 1])
                          .boxed()
                          .collect(Collectors.toCollection(TreeSet::new))
                          .equals(planted.get(row)))
              .count();
      assertTrue(recovered >= 99, "recovered " + recovered + " of 100");
    }
  }

  // ---- optimality: non-negative least squares and l1

  @Test
  void nonNegativeFitsMeetTheirConditions() {
    TestSae sae = new TestSae(3, 30, 80);
    float[] v = sae.normal(30);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      for (int k = 1; k <= 60; k++) {
        try (SparseCodes codes = engine.pursue(v, Pursuit.omp(k).withNonNegative(true))) {
          Csr csr = Csr.of(codes);
          double[] r = residual(sae, v, csr);
          for (int i = 0; i < csr.indices().length; i++) {
            assertTrue(csr.values()[i] > 0, "a coefficient is not positive");
            assertEquals(0, correlation(sae, csr.indices()[i], r), 1e-4, "not a least-squares fit");
          }
        }
      }
      try (SparseCodes all = engine.pursue(v, Pursuit.omp(10_000).withNonNegative(true))) {
        double[] r = residual(sae, v, Csr.of(all));
        for (int j = 0; j < sae.dSae; j++) {
          assertTrue(correlation(sae, j, r) < 1e-3, "feature " + j + " would still lower the residual");
        }
      }
    }
  }

  @Test
  void theL1AnswerMeetsItsConditions() {
    TestSae sae = new TestSae(3, 50, 400);
    float[] v = sae.normal(50);
    for (boolean nonNegative : new boolean[] {false, true}) {
      for (double penalty : new double[] {0.02, 0.1, 0.5, 0.99}) {
        try (SparseAutoencoder engine = sae.open(CPU);
            SparseCodes codes =
                engine.pursue(v, Pursuit.of(Pursuit.Method.L1, 500).withPenalty(penalty).withNonNegative(nonNegative))) {
          assertEquals(Pursuit.Stop.CONVERGED, codes.stop(0));
          Csr csr = Csr.of(codes);
          double largest = 0;
          for (int j = 0; j < sae.dSae; j++) {
            double q = correlation(sae, j, doubles(v));
            largest = Math.max(largest, nonNegative ? q : Math.abs(q));
          }
          double lambda = penalty * largest;
          double[] r = residual(sae, v, csr);
          for (int j = 0; j < sae.dSae; j++) {
            double q = correlation(sae, j, r);
            int at = Arrays.binarySearch(csr.indices(), j);
            double slack = 2e-3 * lambda + 1e-4;
            if (at >= 0) {
              assertEquals(Math.signum(csr.values()[at]) * lambda, q, slack, "active " + j);
              assertTrue(!nonNegative || csr.values()[at] > 0);
            } else {
              assertTrue((nonNegative ? q : Math.abs(q)) <= lambda + slack, "inactive " + j);
            }
          }
        }
      }
    }
  }

  /** Few dimensions, many atoms, half of them repeated: the fits meet dependent atoms at every turn, and must not end there. */
  @Test
  void crampedDictionariesAreSolvedToTheEnd() {
    TestSae sae = new TestSae(3, 5, 40);
    System.arraycopy(sae.wDec, 0, sae.wDec, 20 * 5, 20 * 5);
    int n = 3000;
    float[] v = sae.normal(n * 5);
    Pursuit l1 = Pursuit.of(Pursuit.Method.L1, 10_000).withPenalty(0.05);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      for (Pursuit how : List.of(l1, l1.withNonNegative(true), Pursuit.omp(10_000).withNonNegative(true))) {
        try (SparseCodes codes = engine.pursue(v, how)) {
          // 20 random atoms surround the origin of 5 dimensions, so that non-negative sums reach everything
          Pursuit.Stop end = how.method() == Pursuit.Method.L1 ? Pursuit.Stop.CONVERGED : Pursuit.Stop.RESIDUAL;
          for (int row = 0; row < n; row++) {
            assertEquals(end, codes.stop(row), how + ", row " + row + ", seed " + TestSae.SEED);
          }
        }
      }
    }
  }

  // ---- matching and gradient pursuit, in float64

  @Test
  void matchingPursuitIsItsDefinition() {
    TestSae sae = new TestSae(3, 40, 100);
    float[] v = sae.normal(40);
    double[] r = doubles(v);
    double[] a = new double[100];
    for (int step = 0; step < 25; step++) {
      int best = 0;
      for (int j = 1; j < 100; j++) {
        if (Math.abs(correlation(sae, j, r)) > Math.abs(correlation(sae, best, r))) {
          best = j;
        }
      }
      double c = correlation(sae, best, r) / norm(row(sae, best));
      a[best] += c;
      for (int i = 0; i < 40; i++) {
        r[i] -= c * sae.wDec[best * 40 + i];
      }
    }
    assertMatches(sae, v, Pursuit.of(Pursuit.Method.MATCHING, 25), a);
  }

  @Test
  void gradientPursuitIsItsDefinition() {
    TestSae sae = new TestSae(3, 40, 100);
    float[] v = sae.normal(40);
    double[] a = new double[100];
    TreeSet<Integer> chosen = new TreeSet<>();
    for (int step = 0; step < 15; step++) {
      double[] r = residual(sae, v, a);
      int best = 0;
      for (int j = 1; j < 100; j++) {
        if (Math.abs(correlation(sae, j, r)) > Math.abs(correlation(sae, best, r))) {
          best = j;
        }
      }
      chosen.add(best);
      double[] g = new double[100];
      double[] c = new double[40];
      for (int j : chosen) {
        g[j] = dot(row(sae, j), r);
        for (int i = 0; i < 40; i++) {
          c[i] += g[j] * sae.wDec[j * 40 + i];
        }
      }
      double rate = dot(c, r) / dot(c, c);
      for (int j : chosen) {
        a[j] += rate * g[j];
      }
    }
    assertMatches(sae, v, Pursuit.of(Pursuit.Method.GRADIENT, 15), a);
  }

  private static void assertMatches(TestSae sae, float[] v, Pursuit how, double[] a) {
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(v, how)) {
      Csr csr = Csr.of(codes);
      assertArrayEquals(IntStream.range(0, a.length).filter(j -> a[j] != 0).toArray(), csr.indices());
      for (int k = 0; k < csr.indices().length; k++) {
        assertEquals(a[csr.indices()[k]], csr.values()[k], 1e-5);
      }
      assertEquals(Pursuit.Stop.ATOMS, codes.stop(0));
    }
  }

  // ---- awkward dictionaries and input

  @ParameterizedTest
  @EnumSource(Pursuit.Method.class)
  void duplicateAntipodalAndZeroRows(Pursuit.Method method) {
    TestSae sae = new TestSae(3, 30, 60);
    System.arraycopy(sae.wDec, 5 * 30, sae.wDec, 20 * 30, 30); // 20 repeats 5
    for (int i = 0; i < 30; i++) {
      sae.wDec[40 * 30 + i] = -2 * sae.wDec[5 * 30 + i]; // 40 is its longer antipode
      sae.wDec[50 * 30 + i] = sae.wDec[5 * 30 + i] + 1e-4f * sae.wDec[51 * 30 + i]; // 50 is nearly it
      sae.wDec[7 * 30 + i] = 0;
    }
    float[] v = new float[30];
    for (int i = 0; i < 30; i++) {
      v[i] = 3 * sae.wDec[5 * 30 + i] + 0.5f * (float) sae.random.nextGaussian();
    }
    for (boolean nonNegative : new boolean[] {false, true}) {
      try (SparseAutoencoder engine = sae.open(CPU);
          SparseCodes codes = engine.pursue(v, Pursuit.of(method, 50).withNonNegative(nonNegative))) {
        Csr csr = Csr.of(codes);
        TreeSet<Integer> support = Arrays.stream(csr.indices()).boxed().collect(Collectors.toCollection(TreeSet::new));
        assertTrue(support.contains(5), support.toString());
        assertTrue(!support.contains(20) && !support.contains(7), support.toString());
        assertTrue(nonNegative || !support.contains(40), support.toString());
        assertTrue(norm(residual(sae, v, csr)) < norm(doubles(v)));
      }
    }
  }

  @Test
  void aZeroDirectionHasNoAtoms() {
    TestSae sae = new TestSae(3, 30, 60);
    for (Pursuit.Method method : Pursuit.Method.values()) {
      try (SparseAutoencoder engine = sae.open(CPU);
          SparseCodes codes = engine.pursue(new float[60], Pursuit.of(method, 3))) {
        assertEquals(2, codes.rows());
        assertEquals(0, codes.nnz());
        assertEquals(Pursuit.Stop.RESIDUAL, codes.stop(1));
        engine.project(sae.normal(30), Projection.top(3), codes);
        assertEquals(Pursuit.Stop.NONE, codes.stop(0), "a reason stayed from an earlier pursuit");
      }
    }
  }

  @Test
  void nothingPositiveToFindIsSaid() {
    TestSae sae = new TestSae(3, 4, 4);
    Arrays.fill(sae.wDec, 1);
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(new float[] {-1, -1, -1, -1}, Pursuit.omp(2).withNonNegative(true))) {
      assertEquals(0, codes.nnz());
      assertEquals(Pursuit.Stop.EXHAUSTED, codes.stop(0));
    }
  }

  @Test
  void gainStopsBeforeAPoorStep() {
    TestSae sae = new TestSae(3, 60, 150);
    float[] v = sae.normal(60);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      for (Pursuit.Method method : List.of(Pursuit.Method.OMP, Pursuit.Method.GRADIENT, Pursuit.Method.MATCHING)) {
        try (SparseCodes codes = engine.pursue(v, Pursuit.of(method, 100).withGain(0.03))) {
          assertEquals(Pursuit.Stop.GAIN, codes.stop(0));
          int taken = (int) codes.nnz();
          double before = Math.pow(norm(residual(sae, v, Csr.of(codes))), 2);
          try (SparseCodes same = engine.pursue(v, Pursuit.of(method, taken));
              SparseCodes next = engine.pursue(v, Pursuit.of(method, taken + 1))) {
            if (method == Pursuit.Method.OMP) {
              Csr.of(same).assertSame(Csr.of(codes), "the step that was not taken left a trace");
              double after = Math.pow(norm(residual(sae, v, Csr.of(next))), 2);
              assertTrue(before - after < 0.03 * Math.pow(norm(doubles(v)), 2));
            }
          }
        }
      }
    }
  }

  @Test
  void tinyAndHugeDirectionsScale() {
    TestSae sae = new TestSae(3, 30, 60);
    float[] v = sae.normal(30);
    try (SparseAutoencoder engine = sae.open(CPU);
        SparseCodes codes = engine.pursue(v, Pursuit.omp(6))) {
      for (int exponent : new int[] {-90, 90}) {
        float[] scaled = v.clone();
        for (int i = 0; i < 30; i++) {
          scaled[i] = Math.scalb(v[i], exponent);
        }
        try (SparseCodes other = engine.pursue(scaled, Pursuit.omp(6))) {
          assertArrayEquals(Csr.of(codes).indices(), Csr.of(other).indices());
          for (int k = 0; k < 6; k++) {
            assertEquals(Math.scalb(Csr.of(codes).values()[k], exponent), Csr.of(other).values()[k], 0);
          }
        }
      }
    }
  }

  @Test
  void badInputIsRefusedByName() {
    TestSae sae = new TestSae(3, 4, 6);
    try (SparseAutoencoder engine = sae.open(CPU)) {
      float[] bad = {1, 2, 3, 4, 5, Float.NaN, 7, 8};
      assertRefused("v must be finite, got nan at row 1, column 1", () -> engine.pursue(bad, Pursuit.omp(2)));
      assertRefused("v", () -> engine.pursue(new float[5], Pursuit.omp(2)));
      assertRefused("atoms must be 1 to 2147483647, got 0", () -> engine.pursue(new float[4], Pursuit.omp(0)));
      assertRefused("residual", () -> engine.pursue(new float[4], Pursuit.omp(1).withResidual(1)));
      assertRefused("gain", () -> engine.pursue(new float[4], Pursuit.omp(1).withGain(Double.NaN)));
      assertRefused(
          "penalty must be above 0",
          () -> engine.pursue(new float[4], Pursuit.of(Pursuit.Method.L1, 1).withPenalty(0)));
    }
  }

  private static void assertRefused(String message, org.junit.jupiter.api.function.Executable call) {
    String got = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(got.contains(message), got);
  }

  // ---- float64

  private static double[] row(TestSae sae, int j) {
    return doubles(Arrays.copyOfRange(sae.wDec, j * sae.dOut, (j + 1) * sae.dOut));
  }

  private static double[] doubles(float[] v) {
    return IntStream.range(0, v.length).mapToDouble(i -> v[i]).toArray();
  }

  private static double dot(double[] a, double[] b) {
    return IntStream.range(0, a.length).mapToDouble(i -> a[i] * b[i]).sum();
  }

  private static double norm(double[] a) {
    return Math.sqrt(dot(a, a));
  }

  /** <r, d_j> / ||d_j||. */
  private static double correlation(TestSae sae, int j, double[] r) {
    double[] atom = row(sae, j);
    return norm(atom) == 0 ? 0 : dot(atom, r) / norm(atom);
  }

  private static double cosine(TestSae sae, int j, double[] r) {
    return correlation(sae, j, r) / norm(r);
  }

  private static double[] residual(TestSae sae, float[] v, double[] a) {
    double[] r = doubles(v);
    for (int j = 0; j < a.length; j++) {
      for (int i = 0; i < r.length && a[j] != 0; i++) {
        r[i] -= a[j] * sae.wDec[j * r.length + i];
      }
    }
    return r;
  }

  private static double[] residual(TestSae sae, float[] v, Csr csr) {
    double[] a = new double[sae.dSae];
    for (int k = 0; k < csr.indices().length; k++) {
      a[csr.indices()[k]] = csr.values()[k];
    }
    return residual(sae, v, a);
  }

  /** ||v - best combination of three atoms||, by Gram-Schmidt. */
  private static double leastSquaresResidual(TestSae sae, float[] v, int... support) {
    double[] r = doubles(v);
    List<double[]> basis = new ArrayList<>();
    for (int j : support) {
      double[] q = row(sae, j);
      for (int pass = 0; pass < 2; pass++) {
        for (double[] b : basis) {
          double c = dot(q, b);
          for (int i = 0; i < q.length; i++) {
            q[i] -= c * b[i];
          }
        }
      }
      double length = norm(q);
      for (int i = 0; i < q.length; i++) {
        q[i] /= length;
      }
      basis.add(q);
    }
    for (double[] b : basis) {
      double c = dot(r, b);
      for (int i = 0; i < r.length; i++) {
        r[i] -= c * b[i];
      }
    }
    return norm(r);
  }
}

package dev.sae4j;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Pursuit in plain Java, in the order of sums that {@code sae4j.h} defines: every device must equal it in every bit. Atoms are chosen by
 * {@link CanonicalSae}; the rest is double.
 *
 * <p>z are coefficients of the normalised atoms u_i = d_i / ||d_i||, in the order in which they were chosen.
 */
final class CanonicalPursuit {
  private final TestSae sae;
  private final Pursuit how;
  private final float[] v;
  private final double vNorm;
  private final double[] r;
  private double rNorm;
  private double lambda;
  private Pursuit.Stop stop;
  private final List<Integer> atoms = new ArrayList<>();
  private final List<Double> norms = new ArrayList<>();
  private double[] z = {};
  private final List<Double> b = new ArrayList<>(); // <v, u_i>
  private final List<double[]> gram = new ArrayList<>(); // <u_i, u_j>, j <= i
  private final List<Integer> signs = new ArrayList<>(); // 0 for an atom that takes no part in the fit
  private final List<Integer> active = new ArrayList<>();
  private final List<double[]> cholesky = new ArrayList<>(); // of the active atoms' part of gram

  private CanonicalPursuit(TestSae sae, Pursuit how, float[] v) {
    this.sae = sae;
    this.how = how;
    this.v = v;
    r = doubles(v);
    double[] s = partialSums(r, r);
    vNorm = Math.sqrt(Arrays.stream(s).reduce(0, Double::sum));
    rNorm = vNorm;
    stop = vNorm == 0 ? Pursuit.Stop.RESIDUAL : null;
  }

  /** The codes of v [n, dOut], and why each row stopped. */
  static Csr pursue(TestSae sae, float[] v, Pursuit how, List<Pursuit.Stop> stops) {
    List<Integer> indices = new ArrayList<>();
    List<Float> values = new ArrayList<>();
    long[] rowOffsets = new long[v.length / sae.dOut + 1];
    for (int row = 0; row + 1 < rowOffsets.length; row++) {
      CanonicalPursuit one = new CanonicalPursuit(sae, how, Arrays.copyOfRange(v, row * sae.dOut, (row + 1) * sae.dOut));
      one.run();
      one.atoms.stream().sorted().forEach(
          atom -> {
            int i = one.atoms.indexOf(atom);
            float value = (float) (one.z[i] / one.norms.get(i));
            if (value != 0) {
              indices.add(atom);
              values.add(value);
            }
          });
      rowOffsets[row + 1] = indices.size();
      stops.add(one.stop);
    }
    float[] plain = new float[values.size()];
    for (int k = 0; k < plain.length; k++) {
      plain[k] = values.get(k);
    }
    return new Csr(rowOffsets, indices.stream().mapToInt(i -> i).toArray(), plain);
  }

  // ---- sums

  /** Eight: element i joins sum i mod 8, but those beyond the last whole eight join sum 0. */
  private static double[] partialSums(double[] x, double[] y) {
    double[] s = new double[8];
    int whole = x.length / 8 * 8;
    for (int i = 0; i < x.length; i++) {
      s[i < whole ? i % 8 : 0] += x[i] * y[i];
    }
    return s;
  }

  private static double dot(double[] x, double[] y) {
    double[] s = partialSums(x, y);
    for (int half = 4; half >= 1; half /= 2) {
      for (int i = 0; i < half; i++) {
        s[i] += s[i + half];
      }
    }
    return s[0];
  }

  private static double[] doubles(float[] values) {
    double[] result = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      result[i] = values[i];
    }
    return result;
  }

  /** d_j of an atom. */
  private double[] row(int i) {
    return doubles(Arrays.copyOfRange(sae.wDec, atoms.get(i) * sae.dOut, (atoms.get(i) + 1) * sae.dOut));
  }

  // ---- steps

  private void run() {
    for (int steps = 0; stop == null; steps++) {
      int exponent = Math.getExponent(rNorm);
      float[] rounded = new float[r.length];
      for (int i = 0; i < r.length; i++) {
        rounded[i] = (float) (r[i] * Math.scalb(1.0, -exponent));
      }
      Csr best =
          new CanonicalSae(sae).project(rounded, new Projection(Projection.Readout.DECODER, true, 1, how.nonNegative()));
      int k = best.indices().length - 1;
      while (how.nonNegative() && k >= 0 && best.values()[k] < 0) {
        k--;
      }
      float correlation = k < 0 ? 0 : best.values()[k];
      step(steps, k < 0 ? -1 : best.indices()[k], correlation, Math.abs((double) correlation) * Math.scalb(1.0, exponent));
    }
  }

  private void step(int steps, int atom, float correlation, double size) {
    Pursuit.Method method = how.method();
    boolean isL1 = method == Pursuit.Method.L1;
    if (isL1 && steps == 0) {
      lambda = how.penalty() * size;
    }
    if (atom < 0 || size <= 0x1p-16 * rNorm) {
      stop = Pursuit.Stop.EXHAUSTED;
    } else if (isL1 && dualityGap(size) <= 1e-6 * vNorm * vNorm / 2) {
      stop = Pursuit.Stop.CONVERGED;
    } else if (steps == how.atoms()) {
      stop = Pursuit.Stop.ATOMS;
    } else {
      take(atom, correlation < 0 ? -1 : 1);
      if (stop == null && !isL1) {
        stop = rNorm <= Math.max(how.residual(), 1e-12) * vNorm
            ? Pursuit.Stop.RESIDUAL
            : steps + 1 == how.atoms() ? Pursuit.Stop.ATOMS : null;
      }
    }
  }

  private void take(int atom, int sign) {
    double[] before = z.clone();
    double squared = rNorm * rNorm;
    boolean isNew = !atoms.contains(atom);
    if (isNew) {
      atoms.add(atom);
      norms.add(Math.sqrt(dot(row(atoms.size() - 1), row(atoms.size() - 1))));
      z = Arrays.copyOf(z, z.length + 1);
    }
    int place = atoms.indexOf(atom);
    boolean isMoved =
        switch (how.method()) {
          case OMP, L1 -> isNew && fit(place, sign);
          case GRADIENT -> gradientStep(place);
          case MATCHING -> matchingStep(place);
        };
    if (!isMoved) {
      forget(before);
      stop = Pursuit.Stop.EXHAUSTED;
      return;
    }
    computeResidual();
    if (how.method() == Pursuit.Method.OMP) {
      refine();
    }
    if (how.method() != Pursuit.Method.L1 && how.gain() > 0 && squared - rNorm * rNorm < how.gain() * vNorm * vNorm) {
      forget(before);
      computeResidual();
      stop = Pursuit.Stop.GAIN;
    }
  }

  private void forget(double[] before) {
    z = before;
    while (atoms.size() > z.length) {
      atoms.remove(atoms.size() - 1);
      norms.remove(norms.size() - 1);
    }
  }

  private void computeResidual() {
    System.arraycopy(doubles(v), 0, r, 0, r.length);
    for (int i = 0; i < z.length; i++) {
      if (z[i] != 0) {
        add(-z[i] / norms.get(i), row(i), r);
      }
    }
    rNorm = Math.sqrt(dot(r, r));
  }

  private static void add(double factor, double[] row, double[] sum) {
    for (int i = 0; i < row.length; i++) {
      sum[i] += factor * row[i];
    }
  }

  private boolean matchingStep(int place) {
    z[place] += dot(r, row(place)) / norms.get(place);
    z[place] = how.nonNegative() ? Math.max(z[place], 0) : z[place];
    return true;
  }

  private boolean gradientStep(int place) {
    double[] g = new double[z.length];
    double[] c = new double[r.length];
    for (int i = 0; i < z.length; i++) {
      if (!how.nonNegative() || z[i] != 0 || i == place) {
        g[i] = dot(r, row(i));
        add(g[i], row(i), c);
      }
    }
    double length = dot(c, c);
    double rate = length > 0 ? dot(c, r) / length : 0;
    for (int i = 0; i < z.length && length > 0; i++) {
      z[i] += rate * g[i] * norms.get(i);
      z[i] = how.nonNegative() ? Math.max(z[i], 0) : z[i];
    }
    return true;
  }

  private double dualityGap(double largest) {
    double l1 = Arrays.stream(z).map(Math::abs).reduce(0, Double::sum);
    double shrink = Math.min(1, lambda / largest);
    double distance = 0;
    for (int i = 0; i < r.length; i++) {
      double difference = v[i] - shrink * r[i];
      distance += difference * difference;
    }
    return rNorm * rNorm / 2 + lambda * l1 - (vNorm * vNorm - distance) / 2;
  }

  // ---- the small problem: Cholesky, and the active set of l1 and of non-negative least squares

  private double gram(int i, int j) {
    return i >= j ? gram.get(i)[j] : gram.get(j)[i];
  }

  private boolean fit(int place, int sign) {
    double[] row = new double[place + 1];
    row[place] = 1;
    for (int j = 0; j < place; j++) {
      row[j] = dot(row(place), row(j)) / (norms.get(place) * norms.get(j));
    }
    gram.add(row);
    b.add(dot(doubles(v), row(place)) / norms.get(place));
    signs.add(0);
    if (how.method() == Pursuit.Method.L1 || how.nonNegative()) {
      return fitSigned(place, sign);
    }
    if (!enter(place, sign)) {
      return false;
    }
    z = optimum(); // all atoms are active, in their order
    return true;
  }

  private boolean fitSigned(int entering, int sign) {
    if (!enterOrExchange(entering, sign)) {
      return false;
    }
    boolean[] refused = new boolean[z.length];
    for (int round = 0; round < 10 * z.length + 10; round++) {
      double[] before = z.clone();
      int blocking = approachOptimum();
      if (blocking >= 0) {
        refused[active.get(blocking)] = before[active.get(blocking)] == 0;
        leave(blocking);
        continue;
      }
      int violated = mostViolated(refused);
      if (violated < 0) {
        break;
      }
      refused[violated] = !enterOrExchange(violated, slope(violated) < 0 ? -1 : 1);
    }
    return true;
  }

  private boolean enter(int i, int sign) {
    int n = active.size();
    double[] row = new double[n + 1];
    double pivot = 1;
    for (int j = 0; j < n; j++) {
      double sum = gram(i, active.get(j));
      for (int k = 0; k < j; k++) {
        sum -= row[k] * cholesky.get(j)[k];
      }
      row[j] = sum / cholesky.get(j)[j];
      pivot -= row[j] * row[j];
    }
    if (!(pivot >= 0x1p-40)) {
      return false;
    }
    row[n] = Math.sqrt(pivot);
    cholesky.add(row);
    active.add(i);
    signs.set(i, sign);
    return true;
  }

  private void leave(int place) {
    List<Integer> behind = List.copyOf(active.subList(place + 1, active.size()));
    z[active.get(place)] = 0;
    signs.set(active.get(place), 0);
    active.subList(place, active.size()).clear();
    cholesky.subList(place, cholesky.size()).clear();
    for (int i : behind) {
      if (!enter(i, signs.get(i))) {
        z[i] = 0;
        signs.set(i, 0);
      }
    }
  }

  private boolean enterOrExchange(int i, int sign) {
    if (enter(i, sign)) {
      return true;
    }
    if (lambda == 0) {
      return false;
    }
    double[] w = active.stream().mapToDouble(j -> gram(i, j)).toArray();
    solve(w);
    int first = -1;
    double t = 0;
    for (int k = 0; k < w.length; k++) {
      double toZero = Math.abs(z[active.get(k)] / w[k]);
      if (w[k] * sign * signs.get(active.get(k)) > 0 && (first < 0 || toZero < t)) {
        first = k;
        t = toZero;
      }
    }
    if (first < 0) {
      return false;
    }
    for (int k = 0; k < w.length; k++) {
      z[active.get(k)] -= t * sign * w[k];
    }
    leave(first);
    if (!enter(i, sign)) {
      return false;
    }
    z[i] = t * sign;
    return true;
  }

  /** L L^T x = right, in place. */
  private void solve(double[] right) {
    for (int i = 0; i < right.length; i++) {
      for (int k = 0; k < i; k++) {
        right[i] -= cholesky.get(i)[k] * right[k];
      }
      right[i] /= cholesky.get(i)[i];
    }
    for (int i = right.length - 1; i >= 0; i--) {
      for (int k = i + 1; k < right.length; k++) {
        right[i] -= cholesky.get(k)[i] * right[k];
      }
      right[i] /= cholesky.get(i)[i];
    }
  }

  private double[] optimum() {
    double[] solution = active.stream().mapToDouble(i -> b.get(i) - lambda * signs.get(i)).toArray();
    solve(solution);
    return solution;
  }

  /** The place of the active atom that is the first to become 0 on the way; -1 if none does. */
  private int approachOptimum() {
    double[] solution = optimum();
    double part = 1;
    int blocking = -1;
    for (int k = 0; k < solution.length; k++) {
      double from = z[active.get(k)];
      if (solution[k] * signs.get(active.get(k)) > 0) {
        continue;
      }
      double toZero = from == 0 ? 0 : from / (from - solution[k]);
      if (blocking < 0 || toZero < part) {
        blocking = k;
        part = toZero;
      }
    }
    for (int k = 0; k < solution.length; k++) {
      int i = active.get(k);
      z[i] = blocking >= 0 ? z[i] + part * (solution[k] - z[i]) : solution[k];
    }
    return blocking;
  }

  private double slope(int i) {
    double sum = b.get(i);
    for (int j : active) {
      sum -= gram(i, j) * z[j];
    }
    return sum;
  }

  private int mostViolated(boolean[] refused) {
    int violated = -1;
    double most = lambda + 1e-12 * vNorm;
    for (int i = 0; i < z.length; i++) {
      double value = how.nonNegative() ? slope(i) : Math.abs(slope(i));
      if (signs.get(i) == 0 && !refused[i] && value > most) {
        most = value;
        violated = i;
      }
    }
    return violated;
  }

  /** OMP: one step of iterative refinement. */
  private void refine() {
    double[] change = new double[active.size()];
    for (int k = 0; k < change.length; k++) {
      change[k] = dot(r, row(active.get(k))) / norms.get(active.get(k));
    }
    solve(change);
    for (int k = 0; k < change.length; k++) {
      if (how.nonNegative() && !(z[active.get(k)] + change[k] > 0)) {
        return;
      }
    }
    for (int k = 0; k < change.length; k++) {
      z[active.get(k)] += change[k];
    }
    computeResidual();
  }
}

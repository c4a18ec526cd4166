package dev.sae4j;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/** The canonical arithmetic in plain Java: every device must equal it in every bit. */
final class CanonicalSae {
  private record Entry(int feature, float value) {}

  private final TestSae sae;
  private final Map<float[], float[]> products = new IdentityHashMap<>(); // computed once for each array of vectors

  CanonicalSae(TestSae sae) {
    this.sae = sae;
  }

  /** 128 partial sums by fused multiply-add, halved seven times, + 0. */
  static float dot(float[] x, int xStart, float[] w, int wStart, int d) {
    float[] s = new float[128];
    for (int i = 0; i < d; i++) {
      s[i % 128] = Math.fma(x[xStart + i], w[wStart + i], s[i % 128]);
    }
    for (int half = 64; half >= 1; half /= 2) {
      for (int i = 0; i < half; i++) {
        s[i] += s[i + half];
      }
    }
    return s[0] + 0.0f;
  }

  /** [n, dSae]: every vector with every row of w [dSae, d]. */
  private float[] products(float[] x, float[] w, int d) {
    return products.computeIfAbsent(
        x,
        key -> {
          float[] p = new float[x.length / d * sae.dSae];
          for (int i = 0; i < p.length; i++) {
            p[i] = dot(x, i / sae.dSae * d, w, i % sae.dSae * d, d);
          }
          return p;
        });
  }

  Csr encode(float[] x) {
    int n = x.length / sae.dIn;
    boolean normalizes = sae.normalization != SaeWeights.Normalization.NONE;
    float[] scale = normalizes ? new float[n] : null;
    float[] shift = normalizes ? new float[n] : null;
    float[] products = products(normalizes ? normalize(x, scale, shift) : x, sae.wEnc, sae.dIn);
    List<List<Entry>> rows = new ArrayList<>();
    for (int start = 0; start < products.length; start += sae.dSae) {
      List<Entry> row = new ArrayList<>();
      for (int j = 0; j < sae.dSae; j++) {
        float p = products[start + j];
        if (p > sae.threshold[j]) {
          row.add(new Entry(j, Math.fma(sae.scale[j], p, sae.offset[j])));
        }
      }
      rows.add(select(row));
    }
    Csr codes = csr(rows);
    return new Csr(codes.rowOffsets(), codes.indices(), codes.values(), scale, shift);
  }

  /** Of a row's features that pass the gate. */
  private List<Entry> select(List<Entry> row) {
    List<Entry> kept =
        switch (sae.selection) {
          case GATE, TOP -> row.stream().filter(e -> e.value() > 0).toList();
          case TOP_SIGNED, TOP_ABS -> row.stream().filter(e -> e.value() != 0).toList();
        };
    if (sae.selection == SaeWeights.Selection.GATE) {
      return kept;
    }
    boolean abs = sae.selection == SaeWeights.Selection.TOP_ABS;
    return kept.stream()
        .sorted(Comparator.comparingDouble((Entry e) -> -(abs ? Math.abs(e.value()) : e.value())).thenComparingInt(Entry::feature))
        .limit(sae.k)
        .sorted(Comparator.comparingInt(Entry::feature))
        .toList();
  }

  /** Statistics in double, i ascending; each result rounded once. */
  private float[] normalize(float[] x, float[] scale, float[] shift) {
    int d = sae.dIn;
    float[] normalized = new float[x.length];
    for (int row = 0; row < scale.length; row++) {
      boolean layer = sae.normalization == SaeWeights.Normalization.LAYER;
      double mean = 0;
      for (int i = row * d; layer && i < (row + 1) * d; i++) {
        mean += x[i];
      }
      mean /= d;
      double squares = 0;
      for (int i = row * d; i < (row + 1) * d; i++) {
        squares += (x[i] - mean) * (x[i] - mean);
      }
      double s = layer ? Math.sqrt(squares / (d - 1)) : Math.sqrt(squares) / Math.sqrt(d);
      for (int i = row * d; i < (row + 1) * d; i++) {
        normalized[i] = layer ? (float) ((x[i] - mean) / (s + 1e-5)) : s == 0 ? 0 : (float) (x[i] / s);
      }
      scale[row] = (float) s;
      shift[row] = (float) mean;
    }
    return normalized;
  }

  float[] decode(Csr codes, float[] x, boolean direction) {
    int n = codes.rowOffsets().length - 1;
    float[] xHat = new float[n * sae.dOut];
    for (int row = 0; row < n; row++) {
      for (int i = 0; i < sae.dOut; i++) {
        float sum = 0;
        for (int k = (int) codes.rowOffsets()[row]; k < codes.rowOffsets()[row + 1]; k++) {
          sum = Math.fma(codes.values()[k], sae.wDec[codes.indices()[k] * sae.dOut + i], sum);
        }
        if (!direction) {
          sum += sae.bDec[i];
        }
        if (sae.wSkip != null) {
          sum += dot(x, row * sae.dIn, sae.wSkip, i * sae.dIn, sae.dIn);
        }
        if (codes.scale() != null) {
          sum = direction ? codes.scale()[row] * sum : Math.fma(codes.scale()[row], sum, codes.shift()[row]);
        }
        xHat[row * sae.dOut + i] = sum;
      }
    }
    return xHat;
  }

  Csr project(float[] v, Projection projection) {
    boolean decoder = projection.readout() == Projection.Readout.DECODER;
    int d = decoder ? sae.dOut : sae.dIn;
    float[] w = decoder ? sae.wDec : sae.wEnc;
    float[] products = products(v, w, d);
    List<List<Entry>> rows = new ArrayList<>();
    for (int start = 0; start < products.length; start += sae.dSae) {
      List<Entry> all = new ArrayList<>();
      for (int j = 0; j < sae.dSae; j++) {
        float norm = projection.unit() ? (float) Math.sqrt(dot(w, j * d, w, j * d, d)) : 1;
        float coefficient = norm == 0 ? 0 : products[start + j] / norm;
        if (coefficient != 0) {
          all.add(new Entry(j, coefficient));
        }
      }
      all.sort(Comparator.comparingDouble((Entry e) -> -Math.abs(e.value())).thenComparingInt(Entry::feature));
      List<Entry> kept = new ArrayList<>();
      if (projection.perSign()) {
        all.stream().filter(e -> e.value() > 0).limit(projection.k()).forEach(kept::add);
        all.stream().filter(e -> e.value() < 0).limit(projection.k()).forEach(kept::add);
      } else {
        all.stream().limit(projection.k()).forEach(kept::add);
      }
      kept.sort(Comparator.comparingInt(Entry::feature));
      rows.add(kept);
    }
    return csr(rows);
  }

  private static Csr csr(List<List<Entry>> rows) {
    long[] rowOffsets = new long[rows.size() + 1];
    for (int row = 0; row < rows.size(); row++) {
      rowOffsets[row + 1] = rowOffsets[row] + rows.get(row).size();
    }
    List<Entry> all = rows.stream().flatMap(List::stream).toList();
    int[] indices = all.stream().mapToInt(Entry::feature).toArray();
    float[] values = new float[indices.length];
    for (int k = 0; k < values.length; k++) {
      values[k] = all.get(k).value();
    }
    return new Csr(rowOffsets, indices, values);
  }
}

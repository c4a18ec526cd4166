package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import dev.sae4j.SelfCheck;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoublePredicate;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.FloatPointer;

/**
 * One SAE as its file has it, filled in by a format's reader, to be streamed into native memory: feature-major, folded. No array is
 * ever whole on the Java heap.
 *
 * <p>The equations of the file, from which {@link #load} makes (threshold, scale, offset) of each feature in double, rounded once:
 *
 * <pre>
 * q_j = inputScale &lt;x, w_j&gt; + biasScale b_enc_j - [subtractsBDec] deltaScale &lt;b_dec, w_j&gt;, times n_j if foldsDecoderNorm
 * active iff q_j &gt; theta_j (none: always) and v_j &gt; 0, v_j = q_j; Gated: by other biases and a factor, see {@link Gated}
 * decode: sum_j v_j (decoderScale d_j / n_j if foldsDecoderNorm) + bDecScale b_dec
 * </pre>
 */
final class Checkpoint {
  private static final int TILE_ROWS = 64; // 256 bytes a write: whole cache lines
  private static final int TILE_COLUMNS = 4096;
  private static final int SEQUENTIAL_TILE = 1 << 22; // values; deflated rows can't be taken in pieces
  private static final int BLOCK = 16; // columns turned at a time
  private static final int CHUNK = 1 << 15;
  private static final int PARTS = 16;
  private static final int EXPONENT = 0x7f800000;

  /**
   * A matrix of features. One that only fits turned round is turned.
   *
   * @param byFeature whether row j is feature j by the format's convention; else column j
   */
  record Matrix(Tensor tensor, boolean byFeature) {}

  /** Gated: active iff &lt;x, w_j&gt; - delta_j + b_gate &gt; 0; v = exp(r_mag) (&lt;x, w_j&gt; - delta_j) + b_mag. */
  record Gated(Tensor bGate, Tensor bMag, Tensor rMag) {}

  final Path path;
  final String format;
  String architecture = "standard";
  String modelName;
  String hookName;
  Double publishedL0;
  final List<String> folded = new ArrayList<>();
  final List<String> warnings = new ArrayList<>();
  final List<String> notes = new ArrayList<>();

  Matrix wEnc;
  Matrix wDec;
  /** [d_sae], or null for none. */
  Tensor bEnc;
  /** [d_out], or null for none. */
  Tensor bDec;
  /** [d_out, d_in], or null. */
  Tensor wSkip;
  /** Whether it lies as [d_in, d_out] instead. */
  boolean turnsSkip;
  /** [d_sae], or of one value for all; null for none. */
  Tensor threshold;
  /** For all features, where there is no tensor of it; -infinity for none. */
  double scalarThreshold = Double.NEGATIVE_INFINITY;
  /** Whether the tensor holds logarithms. */
  boolean thresholdIsLog;
  /** Of the tensor's thresholds. */
  double thresholdScale = 1;
  /** In place of b_enc and threshold, or null. */
  Gated gated;
  /** [d_sae]: decode multiplies each feature by it; or null. */
  Tensor decodeFactor;

  /** Whether d_out, the length of b_dec, may be another than d_in. Then b_dec can't be subtracted. */
  boolean isTranscoder;
  boolean subtractsBDec;
  double inputScale = 1;
  /** sqrt(d_in) / mean norm, where the input is scaled by it; else null. */
  Double normScalingFactor;
  double biasScale = 1;
  double deltaScale = 1;
  double decoderScale = 1;
  double bDecScale = 1;
  boolean foldsDecoderNorm;
  Selection selection = Selection.GATE;
  long k;
  Normalization normalization = Normalization.NONE;
  /** Features from this one on are left out (Matryoshka); 0 for none. */
  long prefix;
  /** A square matrix is taken by its convention only where the format is beyond doubt. */
  boolean conventionIsSure = true;

  Checkpoint(Path path, String format) {
    this.path = path;
    this.format = format;
  }

  /** What its features are, for a user who has to choose. */
  String equation() {
    String pre = subtractsBDec ? "W_enc (x - b_dec) + b_enc" : "W_enc x + b_enc";
    String features =
        switch (selection) {
          case GATE -> (gated != null ? "Gated(%s)" : threshold != null ? "JumpReLU(%s)" : "ReLU(%s)").formatted(pre);
          case TOP -> "the k largest of ReLU(%s)".formatted(pre);
          case TOP_SIGNED -> "the k largest of %s, negative ones too".formatted(pre);
          case TOP_ABS -> "the k of %s that are largest by magnitude".formatted(pre);
        };
    return features + (subtractsBDec || bDec == null ? "" : ", b_dec not subtracted");
  }

  /** All that can be told without reading the matrices. */
  SaeWeights.Form requireShapes() {
    SaeWeights.Form form = form();
    for (Tensor tensor : vectors()) {
      tensor.requireFloating();
    }
    wEnc.tensor.requirePlausibleSize();
    wDec.tensor.requirePlausibleSize();
    isTurned(wEnc, form.dSae(), form.dIn());
    isTurned(wDec, form.dSae(), form.dOut());
    requireVectors(form.dSae());
    return form;
  }

  SaeWeights load() {
    SaeWeights.Form form = requireShapes();
    boolean turnsEncoder = isTurned(wEnc, form.dSae(), form.dIn());
    boolean turnsDecoder = isTurned(wDec, form.dSae(), form.dOut());
    SaeWeights weights = SaeWeights.allocate(form, info(form, turnsEncoder, turnsDecoder));
    try {
      copyMatrix(wEnc.tensor, wEnc.byFeature == turnsEncoder, weights.wEnc());
      copyMatrix(wDec.tensor, wDec.byFeature == turnsDecoder, weights.wDec());
      if (bDec != null) {
        copy(bDec, weights.bDec());
      }
      if (wSkip != null) {
        copyMatrix(wSkip, turnsSkip, weights.wSkip());
      }
      new Folding(weights).run();
      weights.warn(SelfCheck.geometry(weights));
      return weights;
    } catch (RuntimeException | Error e) {
      weights.close();
      throw e;
    }
  }

  /** All tensors there are. */
  private List<Tensor> vectors() {
    List<Tensor> all = new ArrayList<>(Arrays.asList(wEnc.tensor, wDec.tensor, bEnc, bDec, wSkip, threshold, decodeFactor));
    if (gated != null) {
      all.addAll(List.of(gated.bGate, gated.bMag, gated.rMag));
    }
    all.removeIf(tensor -> tensor == null);
    return all;
  }

  // ---- shapes

  /** The dimensions: d_sae and d_out by the biases where there are such, the others by what is left of the matrices. */
  private SaeWeights.Form form() {
    long dSae = bEnc != null ? length(bEnc) : gated != null ? length(gated.bGate) : dimension(wEnc, true);
    long dOut = bDec != null ? length(bDec) : other(wDec, dSae);
    long dIn = isTranscoder || bDec == null ? other(wEnc, dSae) : dOut;
    requireSkip(dIn, dOut);
    if (prefix > dSae) {
      throw new IllegalArgumentException("the prefix must be 1 to d_sae = %d, got %d".formatted(dSae, prefix));
    }
    try {
      return new SaeWeights.Form(dIn, dOut, dSae, selection, selection == Selection.GATE ? 0 : k, normalization, wSkip != null);
    } catch (IllegalArgumentException e) {
      throw new SaeFormatException(path + ": " + e.getMessage(), e);
    }
  }

  private void requireSkip(long dIn, long dOut) {
    if (wSkip != null && !(turnsSkip ? wSkip.hasShape(dIn, dOut) : wSkip.hasShape(dOut, dIn))) {
      throw wSkip.error(
          "shape is %s, expected [%d, %d] by d_in = %d and d_out = %d"
              .formatted(wSkip.shapeText(), turnsSkip ? dIn : dOut, turnsSkip ? dOut : dIn, dIn, dOut));
    }
  }

  private void requireVectors(long dSae) {
    for (Tensor vector : Arrays.asList(gated == null ? null : gated.bMag, gated == null ? null : gated.rMag, decodeFactor)) {
      requireLength(vector, dSae);
    }
    if (threshold != null && !isScalar(threshold)) {
      requireLength(threshold, dSae);
    }
  }

  static boolean isScalar(Tensor tensor) {
    return tensor.size == 1 && tensor.shape.length <= 1;
  }

  private static long length(Tensor vector) {
    if (vector.shape.length != 1) {
      throw vector.error("shape is %s, expected one dimension".formatted(vector.shapeText()));
    }
    return vector.shape[0];
  }

  private static void requireLength(Tensor vector, long expected) {
    if (vector != null && !vector.hasShape(expected)) {
      throw vector.error("shape is %s, expected [%d]".formatted(vector.shapeText(), expected));
    }
  }

  private static void requireRank2(Matrix matrix) {
    if (matrix.tensor.shape.length != 2) {
      throw matrix.tensor.error("shape is %s, expected two dimensions".formatted(matrix.tensor.shapeText()));
    }
  }

  private static long dimension(Matrix matrix, boolean ofFeatures) {
    requireRank2(matrix);
    return matrix.tensor.shape[matrix.byFeature == ofFeatures ? 0 : 1];
  }

  /** The dimension that is not d_sae. */
  private static long other(Matrix matrix, long dSae) {
    requireRank2(matrix);
    boolean byConvention = dimension(matrix, true) == dSae;
    if (!byConvention && dimension(matrix, false) != dSae) {
      throw matrix.tensor.error("shape is %s, expected d_sae = %d in it".formatted(matrix.tensor.shapeText(), dSae));
    }
    return dimension(matrix, !byConvention);
  }

  /** Whether the matrix is stored against its format's convention. */
  private boolean isTurned(Matrix matrix, long dSae, long d) {
    Tensor tensor = matrix.tensor;
    long[] byConvention = matrix.byFeature ? new long[] {dSae, d} : new long[] {d, dSae};
    if (d == dSae && !conventionIsSure) {
      throw tensor.error(
          "d_sae is d = %d and this format can't be told from others of the same names: which way the matrix lies is unknown; name the format"
              .formatted(d));
    }
    if (tensor.hasShape(byConvention)) {
      return false;
    }
    if (!tensor.hasShape(byConvention[1], byConvention[0])) {
      throw tensor.error(
          "shape is %s, expected [%d, %d] by the lengths of b_enc and b_dec"
              .formatted(tensor.shapeText(), byConvention[0], byConvention[1]));
    }
    return true;
  }

  // ---- what was folded

  private SaeInfo info(SaeWeights.Form form, boolean turnsEncoder, boolean turnsDecoder) {
    if (turnsEncoder) {
      warnings.add(turned(wEnc.tensor));
    }
    if (turnsDecoder) {
      warnings.add(turned(wDec.tensor));
    }
    if (threshold != null && threshold.type.bytes < DType.F32.bytes) {
      warnings.add(
          "threshold is stored as %s: features near it may differ from those of the float32 original"
              .formatted(threshold.type.label));
    }
    if (prefix > 0) {
      folded.add("only the first %d of %d features can be active (prefix): thresholds beyond are infinite".formatted(prefix, form.dSae()));
    }
    Tensor enc = wEnc.tensor;
    Tensor dec = wDec.tensor;
    String dtype = enc.type == dec.type ? enc.type.label : "W_enc %s, W_dec %s".formatted(enc.type.label, dec.type.label);
    return new SaeInfo(
        format, architecture, dtype, modelName, hookName, folded, warnings, path.toString(), publishedL0, notes);
  }

  private static String turned(Tensor matrix) {
    return "%s is stored as %s, against the format's convention; turned by its shape"
        .formatted(matrix.name, matrix.shapeText());
  }

  // ---- copies

  /** Some of the units that a tensor is copied in, by one thread. */
  @FunctionalInterface
  private interface Part {
    void copy(Tensor from, NativeFloats into, long begin, long end);
  }

  private static void copyMatrix(Tensor matrix, boolean turn, FloatPointer into) {
    if (matrix.transposed != null) {
      copyMatrix(matrix.transposed, !turn, into);
    } else if (turn) {
      inParts(matrix, into, divideUp(matrix.shape[0], tileRows(matrix)), Checkpoint::transpose);
    } else {
      copy(matrix, into);
    }
  }

  private static void copy(Tensor from, FloatPointer into) {
    inParts(from, into, divideUp(from.size, CHUNK), Checkpoint::copy);
  }

  /** On several threads, but for a deflated array, which is read from front to back. Of several failures the first counts. */
  private static void inParts(Tensor from, FloatPointer into, long units, Part part) {
    int parts = from.isSequential() ? 1 : (int) Math.min(units, PARTS);
    RuntimeException[] failures = new RuntimeException[parts];
    IntStream.range(0, parts)
        .parallel()
        .forEach(
            i -> {
              try {
                part.copy(parts == 1 ? from : from.fork(), new NativeFloats(into), units * i / parts, units * (i + 1) / parts);
              } catch (RuntimeException e) {
                failures[i] = e;
              }
            });
    for (RuntimeException failure : failures) {
      if (failure != null) {
        throw failure;
      }
    }
  }

  private static long divideUp(long a, long b) {
    return (a + b - 1) / b;
  }

  private static void copy(Tensor from, NativeFloats into, long begin, long end) {
    float[] values = new float[CHUNK];
    for (long first = begin * CHUNK; first < Math.min(from.size, end * CHUNK); first += CHUNK) {
      int count = (int) Math.min(CHUNK, from.size - first);
      from.read(first, values, 0, count);
      requireFinite(from, values, 0, count, first);
      into.put(first, values, 0, count);
    }
  }

  private static int tileColumns(Tensor from) {
    return (int) Math.min(from.shape[1], from.isSequential() ? SEQUENTIAL_TILE : TILE_COLUMNS);
  }

  private static int tileRows(Tensor from) {
    return (int) Math.min(from.shape[0], Math.min(TILE_ROWS, Math.max(1, SEQUENTIAL_TILE / tileColumns(from))));
  }

  /**
   * [rows, columns] on disk to [columns, rows] in memory, by tiles of rows x columns: read in runs, turned within the cache,
   * written in whole cache lines. A deflated matrix is read strictly from front to back. Units are tiles of rows.
   */
  private static void transpose(Tensor from, NativeFloats into, long begin, long end) {
    long rows = from.shape[0];
    long columns = from.shape[1];
    int tileColumns = tileColumns(from);
    int tileRows = tileRows(from);
    int stride = tileColumns + BLOCK; // not a power of two: rows of a tile must not share their places in the cache
    float[] tile = new float[tileRows * stride];
    float[] turned = new float[BLOCK * tileRows];
    for (long row = begin * tileRows; row < Math.min(rows, end * tileRows); row += tileRows) {
      int height = (int) Math.min(tileRows, rows - row);
      for (long column = 0; column < columns; column += tileColumns) {
        int width = (int) Math.min(tileColumns, columns - column);
        for (int r = 0; r < height; r++) {
          long first = (row + r) * columns + column;
          from.read(first, tile, r * stride, width);
          requireFinite(from, tile, r * stride, width, first);
        }
        for (int c = 0; c < width; c += BLOCK) {
          int count = Math.min(BLOCK, width - c);
          turn(tile, c, stride, height, count, turned);
          for (int k = 0; k < count; k++) {
            into.put((column + c + k) * rows + row, turned, k * height, height);
          }
        }
      }
    }
  }

  private static void turn(float[] tile, int first, int stride, int height, int width, float[] turned) {
    for (int r = 0; r < height; r++) {
      for (int k = 0; k < width; k++) {
        turned[k * height + r] = tile[r * stride + first + k];
      }
    }
  }

  private static void requireFinite(Tensor from, float[] values, int at, int count, long first) {
    int max = 0;
    for (int i = at; i < at + count; i++) {
      max = Math.max(max, Float.floatToRawIntBits(values[i]) & EXPONENT);
    }
    if (max == EXPONENT) {
      int i = at;
      while (Float.isFinite(values[i])) {
        i++;
      }
      throw from.error("%s at %s, expected a finite weight".formatted(values[i], from.place(first + i - at)));
    }
  }

  // ---- folding

  /** Features a chunk at a time, in double, rounded once; the matrices as float32 has them: what the engine will multiply by. */
  private final class Folding {
    private final long dIn;
    private final long dOut;
    private final long dSae;
    private final FloatPointer wEncArray;
    private final FloatPointer bDecArray;
    private final NativeFloats wDecMemory;
    private final NativeFloats bDecMemory;
    private final NativeFloats thresholds;
    private final NativeFloats scales;
    private final NativeFloats offsets;
    private final double[] bias = new double[CHUNK];
    private final double[] theta = new double[CHUNK];
    private final double[] delta = new double[CHUNK];
    private final double[] norm = new double[CHUNK];
    private final double[] factor = new double[CHUNK];
    private final double[] other = new double[CHUNK];
    private final float[] rounded = new float[CHUNK];

    Folding(SaeWeights weights) {
      dIn = weights.dIn();
      dOut = weights.dOut();
      dSae = weights.dSae();
      wEncArray = weights.wEnc();
      bDecArray = weights.bDec();
      wDecMemory = new NativeFloats(weights.wDec());
      bDecMemory = new NativeFloats(weights.bDec());
      thresholds = new NativeFloats(weights.threshold());
      scales = new NativeFloats(weights.scale());
      offsets = new NativeFloats(weights.offset());
    }

    void run() {
      for (long first = 0; first < dSae; first += CHUNK) {
        int count = (int) Math.min(CHUNK, dSae - first);
        Arrays.fill(delta, 0);
        if (subtractsBDec) {
          computeDelta(first, count);
        }
        scaleDecoder(first, count);
        if (gated == null) {
          foldGate(first, count);
        } else {
          foldGated(first, count);
        }
      }
      if (bDecScale != 1) {
        scaleBDec();
      }
    }

    /** delta_j = deltaScale &lt;b_dec, w_j&gt;. */
    private void computeDelta(long first, int count) {
      IntStream.range(0, PARTS).parallel().forEach(i -> computeDelta(first, count * i / PARTS, count * (i + 1) / PARTS));
    }

    private void computeDelta(long first, int begin, int end) {
      int length = (int) Math.min(CHUNK, dIn);
      float[] w = new float[length];
      float[] b = new float[length];
      NativeFloats wEncMemory = new NativeFloats(wEncArray);
      NativeFloats bDecMemory = new NativeFloats(bDecArray);
      for (int j = begin; j < end; j++) {
        double sum = 0;
        for (long from = 0; from < dIn; from += length) {
          int n = (int) Math.min(length, dIn - from);
          wEncMemory.get((first + j) * dIn + from, w, n);
          bDecMemory.get(from, b, n);
          sum += dot(w, b, n);
        }
        delta[j] = deltaScale * sum;
      }
    }

    /** Rows times decoderScale and decodeFactor, and, with foldsDecoderNorm, over their norm, which is kept. */
    private void scaleDecoder(long first, int count) {
      Arrays.fill(norm, 1);
      if (decoderScale == 1 && decodeFactor == null && !foldsDecoderNorm) {
        return;
      }
      Arrays.fill(factor, 1);
      if (decodeFactor != null) {
        readFinite(decodeFactor, first, factor, count);
      }
      int length = (int) Math.min(CHUNK, dOut);
      float[] d = new float[length];
      for (int j = 0; j < count; j++) {
        double scale = decoderScale * factor[j];
        if (foldsDecoderNorm) {
          norm[j] = Math.abs(scale) * rowNorm(first + j, d);
          scale = norm[j] == 0 ? 0 : scale / norm[j];
        }
        for (long from = 0; from < dOut; from += length) {
          int n = (int) Math.min(length, dOut - from);
          long at = (first + j) * dOut + from;
          wDecMemory.get(at, d, n);
          for (int i = 0; i < n; i++) {
            d[i] = (float) (d[i] * scale);
          }
          requireFinite(wDec.tensor, d, 0, n, at);
          wDecMemory.put(at, d, 0, n);
        }
      }
    }

    private double rowNorm(long feature, float[] d) {
      double sum = 0;
      for (long from = 0; from < dOut; from += d.length) {
        int n = (int) Math.min(d.length, dOut - from);
        wDecMemory.get(feature * dOut + from, d, n);
        sum += dot(d, d, n);
      }
      return Math.sqrt(sum);
    }

    /** p is inputScale &lt;x, w_j&gt;, in units of which threshold and offset are. */
    private void foldGate(long first, int count) {
      readBias(first, count);
      readThresholds(first, count);
      for (int i = 0; i < count; i++) {
        double c = bias[i] - delta[i];
        set(i, first, theta[i] / norm[i] - c, 1, c);
      }
      store(first, count);
    }

    private void foldGated(long first, int count) {
      gated.bGate.read(first, theta, count); // infinite: always, or never
      readFinite(gated.bMag, first, bias, count);
      readFinite(gated.rMag, first, other, count);
      for (int i = 0; i < count; i++) {
        double a = Math.exp(other[i]);
        set(i, first, delta[i] - theta[i], a, bias[i] - a * delta[i]);
      }
      store(first, count);
    }

    private void readBias(long first, int count) {
      Arrays.fill(bias, 0);
      if (bEnc != null) {
        readFinite(bEnc, first, bias, count);
        for (int i = 0; i < count; i++) {
          bias[i] *= biasScale;
        }
      }
    }

    private static void readFinite(Tensor from, long first, double[] into, int count) {
      from.read(first, into, count);
      for (int i = 0; i < count; i++) {
        if (!Double.isFinite(into[i])) {
          throw from.error("%s at [%d], expected a finite weight".formatted(into[i], first + i));
        }
      }
    }

    private void readThresholds(long first, int count) {
      Arrays.fill(theta, scalarThreshold);
      if (threshold == null) {
        return;
      }
      if (isScalar(threshold) && dSae != 1) {
        double[] one = new double[1];
        threshold.read(0, one, 1);
        Arrays.fill(theta, one[0]);
      } else {
        threshold.read(first, theta, count);
      }
      for (int i = 0; i < count; i++) {
        theta[i] = thresholdScale * (thresholdIsLog ? Math.exp(theta[i]) : theta[i]);
      }
    }

    /** Feature first + i, of which (t, a, c) is known for p = inputScale &lt;x, w_j&gt; and features that are not yet normed. */
    private void set(int i, long first, double t, double a, double c) {
      boolean isOut = norm[i] == 0 || prefix > 0 && first + i >= prefix;
      theta[i] = isOut ? Double.POSITIVE_INFINITY : t / inputScale;
      factor[i] = norm[i] == 0 ? 1 : a * inputScale * norm[i];
      bias[i] = c * norm[i];
      if (Double.isNaN(theta[i]) || Float.isInfinite((float) theta[i]) && !Double.isInfinite(theta[i])) {
        throw (threshold == null ? wEnc.tensor : threshold)
            .error("%s at [%d], with the bias, is not a threshold in float32".formatted(t, first + i));
      }
      if (!(factor[i] > 0) || !((float) factor[i] > 0) || Float.isInfinite((float) factor[i])) {
        throw (gated == null ? wDec.tensor : gated.rMag)
            .error("%s as the scale of feature %d is not a positive float32".formatted(factor[i], first + i));
      }
    }

    private void store(long first, int count) {
      round(theta, count);
      thresholds.put(first, rounded, 0, count);
      round(factor, count);
      scales.put(first, rounded, 0, count);
      round(bias, count);
      requireFinite(bEnc != null ? bEnc : gated != null ? gated.bMag : wEnc.tensor, rounded, 0, count, first);
      offsets.put(first, rounded, 0, count);
    }

    private void round(double[] values, int count) {
      for (int i = 0; i < count; i++) {
        rounded[i] = (float) values[i];
      }
    }

    private void scaleBDec() {
      int length = (int) Math.min(CHUNK, dOut);
      float[] b = new float[length];
      for (long from = 0; from < dOut; from += length) {
        int n = (int) Math.min(length, dOut - from);
        bDecMemory.get(from, b, n);
        for (int i = 0; i < n; i++) {
          b[i] = (float) (b[i] * bDecScale);
        }
        requireFinite(bDec, b, 0, n, from);
        bDecMemory.put(from, b, 0, n);
      }
    }
  }

  /** For a JumpReLU that may not end in a ReLU. */
  void refuseNegativeThresholds() {
    long negative = firstNot(value -> !(value < 0), threshold);
    if (negative >= 0) {
      throw threshold.error(
          "is below 0 at %s, where a feature could be active and negative: not supported"
              .formatted(threshold.place(negative)));
    }
  }

  static boolean isAllOnes(Tensor factor) {
    return firstNot(value -> value == 1, factor) < 0;
  }

  /** The index of the first value that is none of these; -1 if all are. */
  static long firstNot(DoublePredicate expected, Tensor tensor) {
    tensor.requireFloating();
    double[] values = new double[CHUNK];
    for (long first = 0; first < tensor.size; first += CHUNK) {
      int count = (int) Math.min(CHUNK, tensor.size - first);
      tensor.read(first, values, count);
      for (int i = 0; i < count; i++) {
        if (!expected.test(values[i])) {
          return first + i;
        }
      }
    }
    return -1;
  }

  private static double dot(float[] w, float[] b, int n) {
    double s0 = 0; // four sums, or each addition would wait for the one before
    double s1 = 0;
    double s2 = 0;
    double s3 = 0;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
      s0 += (double) w[i] * b[i];
      s1 += (double) w[i + 1] * b[i + 1];
      s2 += (double) w[i + 2] * b[i + 2];
      s3 += (double) w[i + 3] * b[i + 3];
    }
    for (; i < n; i++) {
      s0 += (double) w[i] * b[i];
    }
    return (s0 + s1) + (s2 + s3);
  }
}

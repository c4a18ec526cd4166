package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * One ReLU or JumpReLU SAE as a file has it, to be streamed into native memory: feature-major, folded. No array is ever whole
 * on the Java heap.
 *
 * @param wEnc [d_in, d_sae] by both families' convention; one that only fits turned round is turned
 * @param wDec [d_sae, d_in], likewise
 * @param bEnc [d_sae]
 * @param bDec [d_in]
 * @param threshold [d_sae], or null for ReLU
 * @param scalingFactor [d_sae], or null
 * @param appliesBDec whether b_dec is subtracted from the input
 */
record Checkpoint(
    Path path,
    String format,
    Tensor wEnc,
    Tensor wDec,
    Tensor bEnc,
    Tensor bDec,
    Tensor threshold,
    Tensor scalingFactor,
    boolean appliesBDec,
    String modelName,
    String hookName,
    List<String> warnings) {
  private static final int TILE_ROWS = 64; // 256 bytes a write: whole cache lines
  private static final int TILE_COLUMNS = 4096;
  private static final int SEQUENTIAL_TILE = 1 << 22; // values; deflated rows can't be taken in pieces
  private static final int BLOCK = 16; // columns turned at a time
  private static final int CHUNK = 1 << 15;
  private static final int EXPONENT = 0x7f800000;

  SaeWeights load() {
    long dSae = length(bEnc);
    long dIn = length(bDec);
    boolean wEncByConvention = isByConvention(wEnc, dIn, dSae);
    boolean wDecByConvention = isByConvention(wDec, dSae, dIn);
    requireLength(threshold, dSae);
    requireLength(scalingFactor, dSae);
    for (Tensor tensor : Arrays.asList(wEnc, wDec, bEnc, bDec, threshold, scalingFactor)) {
      if (tensor != null) {
        tensor.requireFloating();
      }
    }
    wEnc.requirePlausibleSize();
    wDec.requirePlausibleSize();
    requireOnes();
    SaeWeights weights = allocate(dIn, dSae, info(wEncByConvention, wDecByConvention));
    try {
      NativeFloats wEncMemory = new NativeFloats(weights.wEnc());
      copyMatrix(wEnc, wEncByConvention, wEncMemory);
      copyMatrix(wDec, !wDecByConvention, new NativeFloats(weights.wDec()));
      NativeFloats bDecMemory = new NativeFloats(weights.bDec());
      copy(bDec, bDecMemory);
      fold(weights, wEncMemory, bDecMemory);
      return weights;
    } catch (RuntimeException | Error e) {
      weights.close();
      throw e;
    }
  }

  // ---- shapes

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

  private static boolean isByConvention(Tensor matrix, long rows, long columns) {
    if (matrix.hasShape(rows, columns)) {
      return true;
    }
    if (!matrix.hasShape(columns, rows)) {
      throw matrix.error(
          "shape is %s, expected [%d, %d] by the lengths of b_enc and b_dec".formatted(matrix.shapeText(), rows, columns));
    }
    return false;
  }

  private SaeWeights allocate(long dIn, long dSae, SaeInfo info) {
    try {
      return SaeWeights.allocate(dIn, dIn, dSae, info);
    } catch (IllegalArgumentException e) {
      throw new SaeFormatException(path + ": " + e.getMessage(), e);
    }
  }

  private SaeInfo info(boolean wEncByConvention, boolean wDecByConvention) {
    List<String> folded = new ArrayList<>();
    if (appliesBDec) {
      folded.add("b_dec is subtracted from the input (apply_b_dec_to_input): b_enc becomes b_enc - <b_dec, w_j>");
    }
    if (threshold != null) {
      folded.add("threshold applies after the bias: it becomes threshold - b_enc" + (appliesBDec ? " + <b_dec, w_j>" : ""));
    }
    if (scalingFactor != null) {
      folded.add("scaling_factor is 1 for every feature and was dropped");
    }
    List<String> allWarnings = new ArrayList<>(warnings);
    if (!wEncByConvention) {
      allWarnings.add(turned(wEnc));
    }
    if (!wDecByConvention) {
      allWarnings.add(turned(wDec));
    }
    if (threshold != null && threshold.type.bytes < DType.F32.bytes) {
      allWarnings.add(
          "threshold is stored as %s: features near it may differ from those of the float32 original"
              .formatted(threshold.type.label));
    }
    String dtype = wEnc.type == wDec.type ? wEnc.type.label : "W_enc %s, W_dec %s".formatted(wEnc.type.label, wDec.type.label);
    String architecture = threshold == null ? "standard" : "jumprelu";
    return new SaeInfo(format, architecture, dtype, modelName, hookName, folded, allWarnings);
  }

  private static String turned(Tensor matrix) {
    return "%s is stored as %s, against the format's convention; turned by its shape"
        .formatted(matrix.name, matrix.shapeText());
  }

  // ---- copies

  private static void copyMatrix(Tensor matrix, boolean turn, NativeFloats into) {
    if (turn) {
      transpose(matrix, into);
    } else {
      copy(matrix, into);
    }
  }

  private static void copy(Tensor from, NativeFloats into) {
    float[] values = new float[CHUNK];
    for (long first = 0; first < from.size; first += CHUNK) {
      int count = (int) Math.min(CHUNK, from.size - first);
      from.read(first, values, 0, count);
      requireFinite(from, values, 0, count, first);
      into.put(first, values, 0, count);
    }
  }

  /**
   * [rows, columns] on disk to [columns, rows] in memory, by tiles of rows x columns: read in runs, turned within the cache,
   * written in whole cache lines. A deflated matrix is read strictly from front to back.
   */
  private static void transpose(Tensor from, NativeFloats into) {
    long rows = from.shape[0];
    long columns = from.shape[1];
    boolean sequential = from.isSequential();
    int tileColumns = (int) Math.min(columns, sequential ? SEQUENTIAL_TILE : TILE_COLUMNS);
    int tileRows = (int) Math.min(rows, Math.min(TILE_ROWS, Math.max(1, SEQUENTIAL_TILE / tileColumns)));
    int stride = tileColumns + BLOCK; // not a power of two: rows of a tile must not share their places in the cache
    float[] tile = new float[tileRows * stride];
    float[] turned = new float[BLOCK * tileRows];
    for (long row = 0; row < rows; row += tileRows) {
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

  // ---- folding: scale 1, offset b_enc - delta, threshold theta - (b_enc - delta), delta = <b_dec, w_j> or 0

  private void requireOnes() {
    if (scalingFactor == null) {
      return;
    }
    double[] values = new double[CHUNK];
    for (long first = 0; first < scalingFactor.size; first += CHUNK) {
      int count = (int) Math.min(CHUNK, scalingFactor.size - first);
      scalingFactor.read(first, values, count);
      for (int i = 0; i < count; i++) {
        if (values[i] != 1) {
          throw scalingFactor.error(
              "%s at %s: a finetuned scaling_factor is not supported, expected 1 for every feature"
                  .formatted(values[i], scalingFactor.place(first + i)));
        }
      }
    }
  }

  /** In double, rounded once. */
  private void fold(SaeWeights weights, NativeFloats wEncMemory, NativeFloats bDecMemory) {
    NativeFloats scale = new NativeFloats(weights.scale());
    NativeFloats offset = new NativeFloats(weights.offset());
    NativeFloats thresholds = new NativeFloats(weights.threshold());
    double[] bias = new double[CHUNK];
    double[] theta = new double[CHUNK];
    float[] rounded = new float[CHUNK];
    for (long first = 0; first < bEnc.size; first += CHUNK) {
      int count = (int) Math.min(CHUNK, bEnc.size - first);
      bEnc.read(first, bias, count);
      Arrays.fill(rounded, 1);
      scale.put(first, rounded, 0, count);
      if (appliesBDec) {
        subtractDelta(bias, first, count, weights.dIn(), wEncMemory, bDecMemory);
      }
      for (int i = 0; i < count; i++) {
        rounded[i] = (float) bias[i];
      }
      requireFinite(bEnc, rounded, 0, count, first);
      offset.put(first, rounded, 0, count);
      if (threshold == null) {
        Arrays.fill(rounded, Float.NEGATIVE_INFINITY);
      } else {
        threshold.read(first, theta, count);
        for (int i = 0; i < count; i++) {
          rounded[i] = shifted(theta[i], bias[i], first + i);
        }
      }
      thresholds.put(first, rounded, 0, count);
    }
  }

  private float shifted(double theta, double bias, long feature) {
    float shifted = (float) (theta - bias);
    if (Float.isNaN(shifted) || Float.isInfinite(shifted) && !Double.isInfinite(theta)) {
      throw threshold.error(
          "%s at [%d], with the bias %s, is not a threshold in float32".formatted(theta, feature, bias));
    }
    return shifted;
  }

  /** bias_j -= <b_dec, w_j>, with the weights as float32 has them: what the engine will multiply by. */
  private static void subtractDelta(
      double[] bias, long first, int count, long dIn, NativeFloats wEncMemory, NativeFloats bDecMemory) {
    int length = (int) Math.min(CHUNK, dIn);
    float[] w = new float[length];
    float[] b = new float[length];
    for (int j = 0; j < count; j++) {
      double delta = 0;
      for (long from = 0; from < dIn; from += length) {
        int n = (int) Math.min(length, dIn - from);
        wEncMemory.get((first + j) * dIn + from, w, n);
        bDecMemory.get(from, b, n);
        delta += dot(w, b, n);
      }
      bias[j] -= delta;
    }
  }

  private static double dot(float[] w, float[] b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum += (double) w[i] * b[i];
    }
    return sum;
  }
}

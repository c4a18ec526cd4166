package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.internal.FileNames;
import java.io.File;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Activations or directions [n, d] from a file, a chunk of rows at a time. float32, float16, bfloat16, float8, float64 and
 * integers of 8 to 64 bits are read; what float32 does not hold is rounded to the nearest, ties to even. numpy's arrays may be in
 * Fortran order and big-endian, PyTorch's tensors views of any strides. Files, by their extension:
 *
 * <ul>
 *   <li>.npy, .npz, .safetensors;
 *   <li>.pt, .pth: what torch.save writes; tensors in dicts and lists are named by their path, {@code a.b}, {@code
 *       a[0]}; nothing in it is run;
 *   <li>.gguf: a control vector, {@code direction.N}; .svec: directions by layer, {@code N}.
 * </ul>
 *
 * <p>A spec is {@code FILE}, {@code FILE#name} for one of several tensors, and {@code FILE#name[row]} or {@code
 * FILE#[row]} for one row of it; where a tensor has the whole of {@code name[row]} for its name, it is meant. Without
 * a name the file must hold exactly one tensor of floats, or none and one of integers. Leading dimensions are flattened:
 * [a, b, d] is a * b rows; [d] is one row. Where d is known and the last dimension has another length, the last two may
 * make it, as [a, b, heads, d_head] of an attention layer do. Belongs to one thread.
 */
public final class ActivationReader implements SparseAutoencoder.Rows, AutoCloseable {
  private static final Pattern SELECTOR = Pattern.compile("(.*?)(?:\\[(\\d{1,18})\\])?");
  private static final int CHUNK = 1 << 15;
  private static final int EXPONENT = 0x7f800000; // all ones: infinite or NaN

  private final TensorFile file;
  private final Tensor tensor;
  private final long columns;
  private final long end;
  private final float[] chunk = new float[CHUNK];
  private long next;

  /** @param d 0 if any length will do */
  private ActivationReader(TensorFile file, Tensor tensor, Long row, long d) {
    this.file = file;
    this.tensor = tensor;
    tensor.requireNumbers();
    int rank = tensor.shape.length;
    long last = rank == 0 ? 0 : tensor.shape[rank - 1];
    columns = last != d && rank > 1 && last * tensor.shape[rank - 2] == d && d > 0 ? d : last;
    if (columns == 0) {
      throw tensor.error("shape is %s, expected [n, d] or [d]".formatted(tensor.shapeText()));
    }
    long rows = tensor.size / columns;
    if (row != null && row >= rows) {
      throw tensor.error("row %d was asked for, it has %d (shape %s)".formatted(row, rows, tensor.shapeText()));
    }
    next = row == null ? 0 : row;
    end = row == null ? rows : row + 1;
  }

  /**
   * Opens the tensor that a spec names.
   *
   * @param spec as described above
   * @throws SaeException if it can't be read; a SaeFormatException if the file does not hold it or the spec leaves a choice,
   *     naming the tensors there are
   */
  public static ActivationReader open(String spec) {
    return openAny(spec, 0);
  }

  private static ActivationReader openAny(String spec, long d) {
    int hash = new File(spec).exists() ? -1 : spec.lastIndexOf('#'); // not a Path: a tensor's name need not be one
    Path path = FileNames.path(hash < 0 ? spec : spec.substring(0, hash));
    TensorFile file = TensorFile.open(path);
    try {
      return select(file, hash < 0 ? "" : spec.substring(hash + 1), d);
    } catch (RuntimeException | Error e) {
      file.close();
      throw e;
    }
  }

  private static ActivationReader select(TensorFile file, String selection, long d) {
    if (!selection.isEmpty() && file.tensors().containsKey(selection)) {
      return new ActivationReader(file, file.require(selection), null, d);
    }
    Matcher selector = SELECTOR.matcher(selection);
    if (!selector.matches()) {
      throw new SaeException(file.path() + ": expected FILE#name, FILE#name[row] or FILE#[row]");
    }
    String name = selector.group(1);
    Long row = selector.group(2) == null ? null : Long.valueOf(selector.group(2));
    return new ActivationReader(file, name.isEmpty() ? file.requireOnly() : file.require(name), row, d);
  }

  /**
   * As {@link #open(String)}, for rows of a known length: the tensor's last dimension, else its last two (heads and d_head).
   *
   * @param d the length, e.g. d_in of the SAE
   * @throws SaeException if the rows have another length, with both numbers
   */
  public static ActivationReader open(String spec, long d) {
    ActivationReader reader = openAny(spec, d);
    if (reader.columns != d) {
      reader.close();
      boolean isVector = reader.tensor.shape.length == 1;
      String other = ", or heads x d_head in the last two dimensions; else reshape to [n, %d]".formatted(d);
      throw reader.tensor.error(
          "rows have %d values (shape %s), expected d = %d%s"
              .formatted(reader.columns, reader.tensor.shapeText(), d, isVector ? "" : other));
    }
    return reader;
  }

  /**
   * One vector, [d], [1, d] or a row that the spec picks.
   *
   * @param d its length
   * @throws SaeException if the length is another, or there are several rows and none was picked
   */
  public static float[] readVector(String spec, long d) {
    try (ActivationReader reader = open(spec, d)) {
      return reader.readVector();
    }
  }

  /**
   * The only row.
   *
   * @throws SaeException if there are several, or none
   */
  public float[] readVector() {
    if (rows() != 1) {
      throw tensor.error(
          "has %d vectors (shape %s), expected one; pick a row with FILE#%s[row]"
              .formatted(rows(), tensor.shapeText(), tensor.name));
    }
    float[] vector = new float[Math.toIntExact(columns)];
    read(FloatBuffer.wrap(vector));
    return vector;
  }

  /** Rows that are left to read: n before the first read. */
  public long rows() {
    return end - next;
  }

  /** d. */
  public long columns() {
    return columns;
  }

  /** One sentence on what in the file a careful user should look at; null if there is nothing. */
  public String warning() {
    boolean isOneOfTwo = tensor.shape.length == 2 && tensor.shape[1] != columns;
    return isOneOfTwo
        ? "%s: shape %s is taken for one row of %d values, heads x d_head".formatted(tensor.where, tensor.shapeText(), columns)
        : file.warning();
  }

  /** The file, and the tensor in it. */
  @Override
  public String name() {
    return tensor.where;
  }

  /**
   * Writes the next rows into the buffer, from its position on, as many as fit.
   *
   * @return rows written; 0 when there are no more
   * @throws SaeException if the file can't be read; a SaeFormatException if a value is NaN or infinite, naming its row of the tensor
   *     and its column, or a finite float64 is too large for float32, naming the place
   */
  @Override
  public long read(FloatBuffer into) {
    if (into.remaining() < columns) {
      throw new IllegalArgumentException(
          "the buffer has room for %d values, expected d = %d".formatted(into.remaining(), columns));
    }
    long count = Math.min(rows(), into.remaining() / columns);
    long last = (next + count) * columns;
    for (long first = next * columns; first < last; first += CHUNK) {
      int n = (int) Math.min(CHUNK, last - first);
      tensor.read(first, chunk, 0, n);
      requireFinite(first, n);
      into.put(chunk, 0, n);
    }
    next += count;
    return count;
  }

  private void requireFinite(long first, int count) {
    int max = 0;
    for (int i = 0; i < count; i++) {
      max = Math.max(max, Float.floatToRawIntBits(chunk[i]) & EXPONENT);
    }
    for (int i = 0; max == EXPONENT; i++) {
      if (!Float.isFinite(chunk[i])) {
        throw tensor.error(
            "values must be finite, got %s at row %d, column %d".formatted(chunk[i], (first + i) / columns, (first + i) % columns));
      }
    }
  }

  @Override
  public void close() {
    file.close();
  }
}

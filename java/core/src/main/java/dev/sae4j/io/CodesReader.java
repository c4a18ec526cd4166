package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SparseCodes;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;

/**
 * Reads codes [n, d_sae] from an .npz file as {@code scipy.sparse.save_npz} or {@link CodesWriter} writes them: CSR in
 * canonical form, int32 or int64 indices, float32 or float64 values, stored or deflated, with {@code scale} and {@code shift} [n]
 * where the SAE normalised; a chunk of rows at a time. Belongs to one thread.
 */
public final class CodesReader implements AutoCloseable {
  private static final int MAX_VALUES = 1 << 20; // of a chunk, unless one row has more
  private static final int MAX_ROW = 1 << 24;
  private static final int CHUNK = 1 << 15;

  private final TensorFile file;
  private final Tensor indptr;
  private final Tensor indices;
  private final Tensor data;
  private final Tensor scale; // null where the codes have none
  private final Tensor shift;
  private final long n;
  private final long dSae;
  private final long nnz;
  private final long[] place = new long[CHUNK];
  private final float[] value = new float[CHUNK];
  private LongBuffer rowOffsets = longs(0);
  private IntBuffer chunkIndices = bytes(0, Integer.BYTES).asIntBuffer();
  private FloatBuffer chunkValues = floats(0);
  private FloatBuffer chunkScale = floats(0);
  private FloatBuffer chunkShift = floats(0);
  private long nextRow;
  private long nextValue;

  private CodesReader(TensorFile file) {
    this.file = file;
    requireCsr(file.require("format"));
    Tensor shape = file.require("shape");
    indptr = file.require("indptr");
    indices = file.require("indices");
    data = file.require("data");
    data.requireFloating();
    if (!shape.hasShape(2)) {
      throw shape.error("has shape %s, expected [2]: n and d_sae".formatted(shape.shapeText()));
    }
    long[] sizes = new long[2];
    shape.read(0, sizes, 2);
    n = sizes[0];
    dSae = sizes[1];
    if (n < 0 || n == Long.MAX_VALUE || dSae < 1 || dSae > Integer.MAX_VALUE) {
      throw shape.error("is [%d, %d], expected n from 0 and d_sae from 1 to %d".formatted(n, dSae, Integer.MAX_VALUE));
    }
    requireLength(indptr, n + 1, "n + 1");
    if (indices.shape.length != 1) {
      throw indices.error("has shape %s, expected one dimension".formatted(indices.shapeText()));
    }
    nnz = indices.size;
    requireLength(data, nnz, "one for each index");
    boolean normalized = file.tensors().containsKey("scale") || file.tensors().containsKey("shift");
    scale = normalized ? requirePerRow("scale") : null;
    shift = normalized ? requirePerRow("shift") : null;
    indptr.read(0, place, 1);
    if (place[0] != 0) {
      throw indptr.error("begins with %d, expected 0".formatted(place[0]));
    }
  }

  private static void requireCsr(Tensor format) {
    String name = new String(format.readBytes(64), StandardCharsets.ISO_8859_1).replace("\0", ""); // '|S3', or '<U3' in UTF-32
    if (!name.equals("csr")) {
      throw format.error("is %s, expected \"csr\" (scipy: matrix.tocsr())".formatted(Failures.quote(name)));
    }
  }

  private Tensor requirePerRow(String name) {
    Tensor tensor = file.require(name);
    tensor.requireFloating();
    requireLength(tensor, n, "one for each row");
    return tensor;
  }

  private static void requireLength(Tensor vector, long expected, String why) {
    if (!vector.hasShape(expected)) {
      throw vector.error("has shape %s, expected [%d]: %s".formatted(vector.shapeText(), expected, why));
    }
  }

  /**
   * Opens a file and checks its dtypes and shapes.
   *
   * @throws SaeException if it can't be read; a SaeFormatException if it is not such a file, naming expected and got
   */
  public static CodesReader open(Path path) {
    if (!path.toString().toLowerCase().endsWith(".npz")) {
      throw new SaeException(path + ": unknown format, expected a .npz file of codes");
    }
    TensorFile file = TensorFile.open(path);
    try {
      return new CodesReader(file);
    } catch (RuntimeException | Error e) {
      file.close();
      throw e;
    }
  }

  /** n. */
  public long rows() {
    return n;
  }

  public long dSae() {
    return dSae;
  }

  /** Number of stored values, over all rows. */
  public long nnz() {
    return nnz;
  }

  /**
   * Reads the next rows: at most maxRows, fewer where they hold very many values.
   *
   * @param codes receives [rows, d_sae]; holds no rows at the end of the file
   * @return rows read; 0 when there are no more
   * @throws dev.sae4j.SaeFormatException if the rows break a rule of canonical CSR or a value is not finite, naming the place
   */
  public long read(SparseCodes codes, int maxRows) {
    if (maxRows < 1) {
      throw new IllegalArgumentException("maxRows must be at least 1, got " + maxRows);
    }
    int rows = readOffsets((int) Math.min(maxRows, n - nextRow));
    int count = Math.toIntExact(rowOffsets.get(rows));
    readIndices(rows, count);
    chunkValues = read(data, nextValue, count, chunkValues);
    if (scale != null) {
      chunkScale = read(scale, nextRow, rows, chunkScale);
      chunkShift = read(shift, nextRow, rows, chunkShift);
    }
    try (LongPointer offsets = new LongPointer(rowOffsets.slice(0, rows + 1));
        IntPointer features = new IntPointer(chunkIndices.slice(0, count));
        FloatPointer values = new FloatPointer(chunkValues.slice(0, count));
        FloatPointer rowScale = scale == null ? null : new FloatPointer(chunkScale.slice(0, rows));
        FloatPointer rowShift = shift == null ? null : new FloatPointer(chunkShift.slice(0, rows))) {
      codes.assign(rows, dSae, offsets, features, values, rowScale, rowShift);
    }
    nextRow += rows;
    nextValue += count;
    return rows;
  }

  /** Fills rowOffsets from 0 on; returns the rows that fit a chunk. */
  private int readOffsets(int maxRows) {
    if (rowOffsets.capacity() <= maxRows) {
      rowOffsets = longs(maxRows + 1);
    }
    rowOffsets.put(0, 0);
    long before = 0;
    for (int done = 0, count; done < maxRows; done += count) {
      count = Math.min(CHUNK, maxRows - done);
      indptr.read(nextRow + 1 + done, place, count);
      for (int i = 0; i < count; i++) {
        int row = done + i;
        if (place[i] < nextValue + before || place[i] > nnz || nextRow + row + 1 == n && place[i] != nnz) {
          throw indptr.error(
              "%d at [%d], expected no decrease and at last %d, the number of indices"
                  .formatted(place[i], nextRow + row + 1, nnz));
        }
        long end = place[i] - nextValue;
        if (end - before > Math.min(dSae, MAX_ROW)) {
          throw indptr.error(
              "row %d has %d values, expected at most d_sae = %d and %d"
                  .formatted(nextRow + row, end - before, dSae, MAX_ROW));
        }
        if (end > MAX_VALUES && row > 0) {
          return row;
        }
        rowOffsets.put(row + 1, end);
        before = end;
      }
    }
    return maxRows;
  }

  private void readIndices(int rows, int count) {
    if (chunkIndices.capacity() < count) {
      chunkIndices = bytes(count, Integer.BYTES).asIntBuffer();
    }
    int row = 0;
    long before = -1;
    for (int done = 0, length; done < count; done += length) {
      length = Math.min(CHUNK, count - done);
      indices.read(nextValue + done, place, length);
      for (int i = 0; i < length; i++) {
        while (rowOffsets.get(row + 1) <= done + i) {
          row++;
          before = -1;
        }
        long feature = place[i];
        if (feature <= before || feature >= dSae) {
          throw indices.error(
              "row %d has feature %d after %d, expected ascending ones below d_sae = %d (scipy: sum_duplicates())"
                  .formatted(nextRow + row, feature, before, dSae));
        }
        before = feature;
        chunkIndices.put(done + i, (int) feature);
      }
    }
  }

  /** Finite values from a place on, into the buffer or a larger one. */
  private FloatBuffer read(Tensor tensor, long from, int count, FloatBuffer buffer) {
    FloatBuffer into = buffer.capacity() < count ? floats(count) : buffer;
    for (int done = 0, length; done < count; done += length) {
      length = Math.min(CHUNK, count - done);
      tensor.read(from + done, value, 0, length);
      for (int i = 0; i < length; i++) {
        if (!Float.isFinite(value[i])) {
          throw tensor.error("%s at [%d], expected a finite value".formatted(value[i], from + done + i));
        }
      }
      into.put(done, value, 0, length);
    }
    return into;
  }

  private static LongBuffer longs(int count) {
    return bytes(count, Long.BYTES).asLongBuffer();
  }

  private static FloatBuffer floats(int count) {
    return bytes(count, Float.BYTES).asFloatBuffer();
  }

  /** Direct, since the engine copies from there. At least one: an empty buffer has no address. */
  private static ByteBuffer bytes(int count, int size) {
    return ByteBuffer.allocateDirect(Math.multiplyExact(Math.max(count, 1), size)).order(ByteOrder.nativeOrder());
  }

  @Override
  public void close() {
    file.close();
  }
}

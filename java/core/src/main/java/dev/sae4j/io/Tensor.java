package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** One row-major array in a file, read a piece at a time. Belongs to one thread. */
final class Tensor {
  private static final int STAGE_BYTES = 1 << 18; // stays in the second-level cache between decoding steps
  private static final long BOMB_BYTES = 1L << 24;
  private static final long BOMB_RATIO = 100;

  final String name;
  final String where;
  final DType type;
  final String typeName;
  final long[] shape;
  final long size;
  /** The same matrix turned round, where it lies so in the file, to be read from front to back; else null. */
  final Tensor transposed;
  private final ByteSource bytes;
  private final long start;
  private ByteBuffer stage;

  /**
   * @param where file and name, for messages
   * @param type null where it is not one that is read here
   * @param typeName as the file has it
   * @param start of the data in the bytes
   */
  Tensor(String name, String where, DType type, String typeName, long[] shape, ByteSource bytes, long start) {
    this(name, where, type, typeName, shape, bytes, start, null);
  }

  private Tensor(String name, String where, DType type, String typeName, long[] shape, ByteSource bytes, long start, Tensor transposed) {
    this.name = name;
    this.where = where;
    this.type = type;
    this.typeName = typeName;
    this.shape = shape;
    this.bytes = bytes;
    this.start = start;
    this.transposed = transposed;
    this.size = product(where, shape);
    long length = bytes.size() - start;
    boolean overflows = size > Long.MAX_VALUE / Long.BYTES;
    if (type != null && (overflows || size * type.bytes != length)) {
      throw error(
          "shape %s of %s needs %s bytes, got %d"
              .formatted(shapeText(), type.label, overflows ? "too many" : size * type.bytes, length));
    }
  }

  /**
   * An array that looks at a storage by strides.
   *
   * @param width bytes of an element
   * @param offset of the first element, in elements, as strides are
   */
  static Tensor strided(
      String name, String where, DType type, String typeName, int width, long[] shape, ByteSource storage, long offset, long[] stride) {
    Tensor transposed = null;
    if (View.isTransposed(shape, stride)) {
      long[] turned = {shape[1], shape[0]};
      ByteSource rows = View.of(where, storage, width, offset, turned, new long[] {turned[1], 1});
      transposed = new Tensor(name, where + ", transposed", type, typeName, turned, rows, 0);
    }
    return new Tensor(name, where, type, typeName, shape, View.of(where, storage, width, offset, shape, stride), 0, transposed);
  }

  /** The same array for another thread, to be read at the same time. Only where it is not sequential. */
  Tensor fork() {
    return new Tensor(name, where, type, typeName, shape, bytes, start);
  }

  /** The same values in one dimension. */
  Tensor flattened() {
    return new Tensor(name, where, type, typeName, new long[] {size}, bytes, start);
  }

  private static long product(String where, long[] shape) {
    long product = 1;
    try {
      for (long length : shape) {
        product = Math.multiplyExact(product, length);
      }
    } catch (ArithmeticException e) {
      throw new SaeFormatException("%s: shape %s is too large".formatted(where, Arrays.toString(shape)));
    }
    return product;
  }

  String shapeText() {
    return Arrays.toString(shape);
  }

  boolean hasShape(long... expected) {
    return Arrays.equals(shape, expected);
  }

  boolean isFloating() {
    return type != null && type.isFloating();
  }

  boolean isSequential() {
    return bytes.isSequential();
  }

  SaeFormatException error(String message) {
    return new SaeFormatException(where + ": " + message);
  }

  /** "[3, 17]" for an index into the flat array. */
  String place(long index) {
    long[] place = new long[shape.length];
    long rest = index;
    for (int i = shape.length - 1; i >= 0; i--) {
      place[i] = rest % shape[i];
      rest /= shape[i];
    }
    return Arrays.toString(place);
  }

  void requireFloating() {
    if (!isFloating()) {
      throw error(
          "dtype %s is not supported, expected float32, float16, bfloat16, float64 or float8".formatted(Failures.quote(typeName)));
    }
  }

  void requireNumbers() {
    if (type == null) {
      throw error(
          "dtype %s is not supported, expected float32, float16, bfloat16, float64, float8 or whole numbers"
              .formatted(Failures.quote(typeName)));
    }
  }

  /** Refuses an array that memory would be taken for on the word of a few bytes. */
  void requirePlausibleSize() {
    if (bytes.size() > BOMB_BYTES && bytes.size() / BOMB_RATIO > bytes.storedSize()) {
      throw error(
          "%d bytes that deflate to %d are not weights (more than %d to 1)"
              .formatted(bytes.size(), bytes.storedSize(), BOMB_RATIO));
    }
  }

  /** Decodes count values, rounded to float32. */
  void read(long first, float[] into, int at, int count) {
    requireNumbers();
    for (int done = 0, n; done < count; done += n) {
      n = Math.min(count - done, STAGE_BYTES / type.bytes);
      ByteBuffer from = fill(first + done, n * type.bytes);
      if (type == DType.F64) {
        for (int i = 0; i < n; i++) {
          into[at + done + i] = narrow(from.getDouble(8 * i), first + done + i);
        }
      } else {
        type.decode(from, into, at + done, n);
      }
    }
  }

  private float narrow(double value, long index) {
    float narrowed = (float) value;
    if (Float.isInfinite(narrowed) && !Double.isInfinite(value)) {
      throw error("%s at %s is too large for float32".formatted(value, place(index)));
    }
    return narrowed;
  }

  /** Decodes count values of a floating array, float64 in full. */
  void read(long first, double[] into, int count) {
    requireFloating();
    if (type == DType.F64) {
      for (int done = 0, n; done < count; done += n) {
        n = Math.min(count - done, STAGE_BYTES / type.bytes);
        fill(first + done, n * type.bytes).asDoubleBuffer().get(into, done, n);
      }
    } else {
      float[] narrow = new float[count];
      read(first, narrow, 0, count);
      for (int i = 0; i < count; i++) {
        into[i] = narrow[i];
      }
    }
  }

  /** Decodes count values of an array of integers, uint64 excepted. */
  void read(long first, long[] into, int count) {
    if (type == null || type.isFloating() || type == DType.U64) {
      throw error("dtype %s is not supported, expected int32 or int64".formatted(Failures.quote(typeName)));
    }
    for (int done = 0, n; done < count; done += n) {
      n = Math.min(count - done, STAGE_BYTES / type.bytes);
      ByteBuffer from = fill(first + done, n * type.bytes);
      for (int i = 0; i < n; i++) {
        into[done + i] = type.integer(from, i);
      }
    }
  }

  /** The data as it is, of an array of any dtype, at most this many bytes. */
  byte[] readBytes(int max) {
    long length = bytes.size() - start;
    if (length > max) {
      throw error("has %d bytes, expected at most %d".formatted(length, max));
    }
    byte[] copy = new byte[(int) length];
    read(0, ByteBuffer.wrap(copy));
    return copy;
  }

  /** Frees what reading holds; the next read takes it again. */
  void release() {
    bytes.release();
  }

  private ByteBuffer fill(long first, int length) {
    if (stage == null) {
      stage = ByteBuffer.allocateDirect((int) Math.min(STAGE_BYTES, size * type.bytes)).order(ByteOrder.LITTLE_ENDIAN);
    }
    read(first * type.bytes, stage.clear().limit(length));
    return stage.flip();
  }

  private void read(long offset, ByteBuffer into) {
    try {
      bytes.read(start + offset, into);
    } catch (IOException e) {
      throw Failures.of(where, e);
    }
  }
}

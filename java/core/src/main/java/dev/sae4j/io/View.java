package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * A strided view of a storage, as the bytes of a row-major array. Where runs of neighbours follow each other forwards
 * (a tensor as it was made, rows of it, leading columns) they are read where they lie, at any size. Where dimensions have
 * changed places (a transpose, Fortran order) as many rows as fit {@link #MAX_COPY} bytes are put together at a time, so they are
 * best read from front to back. Any other order is picked out of a copy of the part of the storage that is looked at, which may
 * take as many bytes.
 */
final class View implements ByteSource {
  private static final long MAX_COPY = 64L << 20;

  private final String where;
  private final ByteSource storage;
  private final int width;
  private final long offset;
  private final long[] shape;
  private final long[] stride;
  private final long size;
  private final long span;
  private final boolean isForward;
  /** The dimensions by ascending stride, where no two elements share a place and runs of neighbours lie side by side; else null. */
  private final int[] bySource;
  private byte[] copy;
  private long copiedRow;
  private int copiedRows;

  /**
   * @param width bytes of an element
   * @param offset of the first element, in elements, as strides are
   * @throws SaeFormatException if it looks beyond the storage
   */
  static View of(String where, ByteSource storage, int width, long offset, long[] shape, long[] stride) {
    long count = 1;
    long last = 0;
    try {
      for (int i = 0; i < shape.length; i++) {
        count = Math.multiplyExact(count, shape[i]);
        last = Math.addExact(last, Math.multiplyExact(Math.max(0, shape[i] - 1), stride[i]));
      }
      last = Math.addExact(last, offset);
      Math.multiplyExact(count, Long.BYTES);
    } catch (ArithmeticException e) {
      last = Long.MAX_VALUE;
    }
    long elements = storage.size() / width;
    if (count != 0 && last >= elements) {
      throw new SaeFormatException(
          "%s: shape %s with strides %s from element %d on looks beyond its storage of %d elements"
              .formatted(where, Arrays.toString(shape), Arrays.toString(stride), offset, elements));
    }
    View view = new View(where, storage, width, offset, count, count == 0 ? 0 : last + 1 - offset, shape, stride);
    if (view.bySource == null) {
      view.requireModest(Math.max(view.span, view.size));
    }
    return view;
  }

  /** Whether it is a whole matrix turned round, which may be read the way it lies instead. */
  static boolean isTransposed(long[] shape, long[] stride) {
    return shape.length == 2 && shape[0] > 1 && shape[1] > 1 && stride[0] == 1 && stride[1] == shape[0];
  }

  private View(String where, ByteSource storage, int width, long offset, long count, long span, long[] shape, long[] stride) {
    long[] mergedShape = new long[shape.length + 1];
    long[] mergedStride = new long[shape.length + 1];
    int rank = merge(shape, stride, mergedShape, mergedStride);
    this.where = where;
    this.storage = storage;
    this.width = width;
    this.offset = offset;
    this.size = count * width;
    this.span = span * width;
    this.shape = Arrays.copyOf(mergedShape, rank);
    this.stride = Arrays.copyOf(mergedStride, rank);
    boolean forward = this.stride[rank - 1] == 1;
    for (int i = 1; i < rank; i++) {
      forward &= this.stride[i - 1] >= this.stride[i] * this.shape[i]; // the next run begins after this one
    }
    this.isForward = forward;
    this.bySource = bySource();
  }

  private int[] bySource() {
    int[] order = IntStream.range(0, shape.length).boxed().sorted(Comparator.comparing(i -> stride[i])).mapToInt(i -> i).toArray();
    boolean isReordered = stride[order[0]] == 1;
    for (int i = 1; i < order.length; i++) {
      isReordered &= stride[order[i]] >= stride[order[i - 1]] * shape[order[i - 1]];
    }
    return isReordered ? order : null;
  }

  /** Drops dimensions of one element, joins those that follow each other without a gap; returns how many are left. */
  private static int merge(long[] shape, long[] stride, long[] mergedShape, long[] mergedStride) {
    int rank = 0;
    for (int i = 0; i < shape.length; i++) {
      if (shape[i] == 1) {
        continue;
      }
      if (rank > 0 && mergedStride[rank - 1] == stride[i] * shape[i]) {
        mergedShape[rank - 1] *= shape[i];
        mergedStride[rank - 1] = stride[i];
      } else {
        mergedShape[rank] = shape[i];
        mergedStride[rank++] = stride[i];
      }
    }
    if (rank == 0) { // a single element
      mergedShape[0] = 1;
      mergedStride[0] = 1;
      return 1;
    }
    return rank;
  }

  private void requireModest(long bytes) {
    if (!isForward && bytes > MAX_COPY) {
      throw new SaeFormatException(
          "%s: strides %s pick %d bytes out of %d, at most %d can be reordered: save it with .contiguous()"
              .formatted(where, Arrays.toString(stride), size, span, MAX_COPY));
    }
  }

  @Override
  public long size() {
    return size;
  }

  @Override
  public long storedSize() {
    return storage.storedSize();
  }

  @Override
  public boolean isSequential() {
    return storage.isSequential() || !isForward && bySource != null && size > MAX_COPY;
  }

  @Override
  public void read(long position, ByteBuffer into) throws IOException {
    if (position + into.remaining() > size) {
      throw new EOFException("ends at byte %d, expected %d".formatted(size, position + into.remaining()));
    }
    if (!isForward && bySource != null) {
      readRows(position, into);
      return;
    }
    int end = into.limit();
    for (long at = position; into.position() < end; ) {
      long element = at / width;
      int skipped = (int) (at % width);
      int count = (int) Math.min(end - into.position(), run(element) * width - skipped);
      readRun((offset + place(element)) * width + skipped, into.limit(into.position() + count));
      at += count;
    }
    into.limit(end);
  }

  /** Elements from this one on that lie side by side. */
  private long run(long element) {
    int last = shape.length - 1;
    return stride[last] == 1 ? shape[last] - element % shape[last] : 1;
  }

  /** Where an element lies, from the first one on. */
  private long place(long element) {
    long place = 0;
    long rest = element;
    for (int i = shape.length - 1; i >= 0; i--) {
      place += rest % shape[i] * stride[i];
      rest /= shape[i];
    }
    return place;
  }

  private void readRun(long at, ByteBuffer into) throws IOException {
    if (isForward) {
      storage.read(at, into);
    } else {
      readCopy(at, into);
    }
  }

  private synchronized void readCopy(long at, ByteBuffer into) throws IOException {
    if (copy == null) {
      ByteBuffer bytes = ByteBuffer.allocate((int) span);
      storage.read(offset * width, bytes);
      copy = bytes.array();
    }
    into.put(copy, (int) (at - offset * width), into.remaining());
  }

  private synchronized void readRows(long position, ByteBuffer into) throws IOException {
    long rowBytes = size / shape[0];
    requireModest(rowBytes);
    for (long at = position; into.hasRemaining(); ) {
      long row = at / rowBytes;
      if (copy == null || row < copiedRow || row >= copiedRow + copiedRows) {
        copyRows(row, (int) Math.min(shape[0] - row, MAX_COPY / rowBytes));
      }
      long start = at - copiedRow * rowBytes;
      int count = (int) Math.min(into.remaining(), copiedRows * rowBytes - start);
      into.put(copy, (int) start, count);
      at += count;
    }
  }

  /** Puts rows of the first dimension together, out of runs that are read in the order in which they lie. */
  private void copyRows(long firstRow, int rows) throws IOException {
    long[] counts = shape.clone();
    counts[0] = rows;
    long[] place = new long[counts.length]; // in the copy, of an element's neighbour in each dimension
    long total = 1;
    for (int i = counts.length - 1; i >= 0; i--) {
      place[i] = total;
      total *= counts[i];
    }
    if (copy == null || copy.length < total * width) {
      copy = new byte[(int) total * width];
    }
    copiedRows = 0; // until all is there
    int along = bySource[0];
    byte[] run = new byte[(int) counts[along] * width];
    for (long i = 0; i < total / counts[along]; i++) {
      long from = offset + firstRow * stride[0];
      long to = 0;
      long rest = i;
      for (int k = 1; k < bySource.length; k++) {
        int dimension = bySource[k];
        from += rest % counts[dimension] * stride[dimension];
        to += rest % counts[dimension] * place[dimension];
        rest /= counts[dimension];
      }
      storage.read(from * width, ByteBuffer.wrap(run));
      for (int k = 0; k < counts[along]; k++) {
        System.arraycopy(run, k * width, copy, (int) (to + k * place[along]) * width, width);
      }
    }
    copiedRow = firstRow;
    copiedRows = rows;
  }

  @Override
  public void release() {
    copy = null;
    storage.release();
  }
}

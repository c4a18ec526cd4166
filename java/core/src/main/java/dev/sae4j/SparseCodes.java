package dev.sae4j;

import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.CodesHandle;
import dev.sae4j.internal.bindings.Sae4j;
import java.lang.ref.Reference;
import java.util.concurrent.locks.StampedLock;
import java.util.function.Function;
import java.util.function.ToLongFunction;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Sparse feature values of n rows as CSR, in native memory: row offsets [n + 1], feature indices [nnz] ascending within a row,
 * values [nnz], which may be negative; and the scale and shift [n] that an SAE which normalises took out of each row. Reuse one
 * object for many calls: it grows, and never shrinks.
 *
 * <p>Codes that a model on a CUDA device wrote stay there, where its decode finds them, until one of the arrays is asked for: that
 * brings all three, once, or throws a SaeException. Any model of the same dSae can decode them, whatever its device.
 *
 * <p>Belongs to one thread at a time; a second one gets an IllegalStateException.
 *
 * <p>The pointers given out keep these codes from being freed while they, or pointers made from them, are reachable; buffers made
 * from them ({@code asBuffer}) don't. Neither may be used after {@link #close}.
 */
public final class SparseCodes implements AutoCloseable {
  private final CodesHandle handle;
  private final Owned memory;
  private final StampedLock lock = new StampedLock();
  private boolean closed;

  /** Codes of no rows. */
  public SparseCodes() {
    Native.load();
    CodesHandle created = new CodesHandle();
    Native.check(Sae4j.sae_codes_create(created));
    handle = created;
    memory = Owned.by(this, "SparseCodes", () -> Sae4j.sae_codes_destroy(created));
  }

  /**
   * Codes from copies of CSR arrays.
   *
   * @param dSae number of features
   * @param rowOffsets [n + 1], from 0, not decreasing
   * @param indices [nnz], in [0, dSae), strictly ascending within a row
   * @param values [nnz], finite
   * @throws IllegalArgumentException if the arrays break one of these rules, naming the place
   */
  public static SparseCodes of(long dSae, long[] rowOffsets, int[] indices, float[] values) {
    return of(dSae, rowOffsets, indices, values, null, null);
  }

  /**
   * As {@link #of(long, long[], int[], float[])}, with what an SAE that normalises took out of each row.
   *
   * @param rowScale [n], finite, or null
   * @param rowShift [n], finite; null where rowScale is
   */
  public static SparseCodes of(
      long dSae, long[] rowOffsets, int[] indices, float[] values, float[] rowScale, float[] rowShift) {
    if (rowOffsets.length == 0 || rowOffsets[rowOffsets.length - 1] != indices.length) {
      throw new IllegalArgumentException(
          "rowOffsets must end at the %d indices given, got %s"
              .formatted(indices.length, rowOffsets.length == 0 ? "none" : rowOffsets[rowOffsets.length - 1]));
    }
    if (indices.length != values.length) {
      throw new IllegalArgumentException(
          "values must be as many as indices: expected %d, got %d".formatted(indices.length, values.length));
    }
    requireRows(rowScale, rowOffsets.length - 1, "rowScale");
    requireRows(rowShift, rowOffsets.length - 1, "rowShift");
    SparseCodes codes = new SparseCodes();
    try {
      Native.check(
          Sae4j.sae_codes_assign(
              codes.handle, rowOffsets.length - 1L, dSae, rowOffsets, indices, values, rowScale, rowShift));
      return codes;
    } catch (RuntimeException e) {
      codes.close();
      throw e;
    }
  }

  private static void requireRows(float[] array, int n, String name) {
    if (array != null && array.length != n) {
      throw new IllegalArgumentException("%s must have a value for each row: expected %d, got %d".formatted(name, n, array.length));
    }
  }

  /** As {@link #of(long, long[], int[], float[])}, from native arrays, into this object. On failure the codes hold no rows. */
  public void assign(long n, long dSae, LongPointer rowOffsets, IntPointer indices, FloatPointer values) {
    assign(n, dSae, rowOffsets, indices, values, null, null);
  }

  /** As {@link #of(long, long[], int[], float[], float[], float[])}, likewise. */
  public void assign(
      long n,
      long dSae,
      LongPointer rowOffsets,
      IntPointer indices,
      FloatPointer values,
      FloatPointer rowScale,
      FloatPointer rowShift) {
    long use = begin();
    try {
      Native.check(Sae4j.sae_codes_assign(handle, n, dSae, rowOffsets, indices, values, rowScale, rowShift));
    } finally {
      end(use);
    }
  }

  /** n. */
  public long rows() {
    long use = begin();
    try {
      return Sae4j.sae_codes_rows(handle);
    } finally {
      end(use);
    }
  }

  public long dSae() {
    long use = begin();
    try {
      return Sae4j.sae_codes_features(handle);
    } finally {
      end(use);
    }
  }

  /** Number of stored values, over all rows. */
  public long nnz() {
    long use = begin();
    try {
      return Sae4j.sae_codes_nnz(handle);
    } finally {
      end(use);
    }
  }

  /** [n + 1]: no copy, valid until these codes are next written or closed. */
  public LongPointer rowOffsets() {
    return array(Sae4j::sae_codes_row_offsets, codes -> Sae4j.sae_codes_rows(codes) + 1, LongPointer::new);
  }

  /** [nnz]: no copy, valid until these codes are next written or closed. */
  public IntPointer indices() {
    return array(Sae4j::sae_codes_indices, Sae4j::sae_codes_nnz, IntPointer::new);
  }

  /** [nnz]: no copy, valid until these codes are next written or closed. */
  public FloatPointer values() {
    return array(Sae4j::sae_codes_values, Sae4j::sae_codes_nnz, FloatPointer::new);
  }

  /**
   * [n]: what the SAE divided each row by, as {@link SaeWeights.Normalization} says; null where it does not normalise. No copy,
   * valid until these codes are next written or closed.
   */
  public FloatPointer rowScale() {
    return isNormalized() ? array(Sae4j::sae_codes_scale, Sae4j::sae_codes_rows, FloatPointer::new) : null;
  }

  /** [n]: what the SAE subtracted from each row, as {@link #rowScale}. */
  public FloatPointer rowShift() {
    return isNormalized() ? array(Sae4j::sae_codes_shift, Sae4j::sae_codes_rows, FloatPointer::new) : null;
  }

  /** A pointer that keeps these codes, whose memory it is, from being freed while it is reachable. */
  private <P extends Pointer> P array(
      Function<CodesHandle, P> start, ToLongFunction<CodesHandle> length, Function<Pointer, P> pointer) {
    long use = begin();
    try {
      Native.check(Sae4j.sae_codes_to_host(handle));
      P first = Native.check(start.apply(handle));
      return pointer.apply(new OwnedArray(this, first, length.applyAsLong(handle)));
    } finally {
      end(use);
    }
  }

  private boolean isNormalized() {
    long use = begin();
    try {
      return Sae4j.sae_codes_normalized(handle) != 0;
    } finally {
      end(use);
    }
  }

  /** Why the pursuit that wrote these codes ended in a row; {@code NONE} if none did. */
  public Pursuit.Stop stop(long row) {
    long use = begin();
    try {
      return Pursuit.Stop.values()[Sae4j.sae_codes_stop(handle, row)];
    } finally {
      end(use);
    }
  }

  /** The native object for a call, until {@link #end}: exclusive, so that two threads can't tear it. */
  long begin() {
    long use = lock.tryWriteLock();
    if (use == 0) {
      throw new IllegalStateException("these SparseCodes are in use by another thread");
    }
    if (closed) {
      lock.unlockWrite(use);
      throw new IllegalStateException("these SparseCodes are closed");
    }
    return use;
  }

  void end(long use) {
    lock.unlockWrite(use);
    Reference.reachabilityFence(this); // nothing else keeps these from being freed during the call
  }

  CodesHandle handle() {
    return handle;
  }

  /** Frees the memory, once a running call on it is over. Idempotent. */
  @Override
  public void close() {
    long use = lock.writeLock();
    try {
      if (!closed) {
        closed = true;
        memory.release();
      }
    } finally {
      lock.unlockWrite(use);
    }
  }
}

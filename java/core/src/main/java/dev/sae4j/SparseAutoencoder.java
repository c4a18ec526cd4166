package dev.sae4j;

import dev.sae4j.internal.Chunks;
import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.CodesHandle;
import dev.sae4j.internal.bindings.ModelHandle;
import dev.sae4j.internal.bindings.Sae4j;
import dev.sae4j.internal.bindings.WeightsStruct;
import java.io.IOException;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.concurrent.locks.StampedLock;
import org.bytedeco.javacpp.FloatPointer;

/**
 * One sparse autoencoder, ready on one device. Immutable, shared by any number of threads.
 *
 * <p>Vectors are float32, row-major [n, d]. Each operation takes them in three forms: a {@link FloatPointer} with n, for native
 * memory of any size; a {@link FloatBuffer}, with n = remaining / d; a {@code float[]}, with n = length / d. Pointers and direct
 * buffers in native byte order are used where they lie; arrays and heap buffers are copied in and out on each call.
 *
 * <p>On a CUDA device a {@link FloatPointer}, given or to be written, may also be the address of memory on that device; rows of
 * d % 128 == 0 floats, aligned to 16 bytes, are used where they lie, others are copied on the device. Calls are synchronous: what
 * they write is there when they return.
 *
 * <p>Common errors: IllegalArgumentException if a length is not a multiple of d, or a value is NaN or infinite (naming row and
 * column); IllegalStateException after close.
 */
public final class SparseAutoencoder implements AutoCloseable {
  /** Rows for {@link #encode(Rows, int, Sink)}, a chunk at a time. */
  @FunctionalInterface
  public interface Rows {
    /**
     * Writes the next rows into the buffer, from its position on, as many as fit.
     *
     * @param into space for whole rows of dIn floats
     * @return rows written; 0 when there are no more
     */
    long read(FloatBuffer into) throws IOException;

    /** What errors call the rows, such as a file's name; null if there is none. */
    default String name() {
      return null;
    }
  }

  /** Takes the codes of each chunk. */
  @FunctionalInterface
  public interface Sink {
    /**
     * @param codes of the next rows; valid during this call only
     */
    void accept(SparseCodes codes) throws IOException;
  }

  private final SaeWeights weights;
  private final Device device;
  private final ModelHandle model;
  private final Owned memory;
  private final StampedLock lock = new StampedLock();
  private boolean closed;

  private SparseAutoencoder(SaeWeights weights, Device device) {
    this.weights = weights;
    this.device = device;
    ModelHandle opened = new ModelHandle();
    weights.retain();
    try (WeightsStruct arrays = weights.struct()) {
      Native.check(
          device.isCpu()
              ? Sae4j.sae_cpu_open(arrays, device.effectiveThreads(), device.screen(), device.kernel(), opened)
              : Sae4j.sae_cuda_open(
                  device.index(), arrays, device.effectiveThreads(), device.screen(), Native.address(device.stream()), opened));
    } catch (RuntimeException e) {
      weights.release();
      throw e;
    }
    this.model = opened;
    this.memory =
        Owned.by(
            this,
            "SparseAutoencoder",
            () -> {
              Sae4j.sae_close(opened);
              weights.release();
            });
  }

  /**
   * Reads an SAE and opens it on {@link Device#auto()}.
   *
   * @param path folder or file of a format that {@link dev.sae4j.io.SaeReader} knows
   * @throws SaeException if it can't be read
   */
  public static SparseAutoencoder open(Path path) {
    return open(path, Device.auto());
  }

  /** As {@link #open(Path)}, on a device of choice. */
  public static SparseAutoencoder open(Path path, Device device) {
    requireAvailable(device);
    try (SaeWeights weights = SaeWeights.read(path)) {
      return open(weights, device);
    }
  }

  /**
   * Opens weights on a device. The CPU borrows them; to a CUDA device they are copied, and held on the host too until close.
   *
   * @throws IllegalArgumentException if a weight is NaN or infinite, or a scale is not positive, naming the place
   * @throws SaeException if the device, screen or kernel can't serve here, with the reason, or its memory does not suffice, with
   *     the bytes needed and free; another device is never taken instead
   */
  public static SparseAutoencoder open(SaeWeights weights, Device device) {
    requireAvailable(device);
    return new SparseAutoencoder(weights, device);
  }

  private static void requireAvailable(Device device) {
    String reason = device.reason();
    if (reason != null) {
      throw new SaeException("device " + device.name() + " is not available: " + reason);
    }
  }

  public long dIn() {
    return weights.dIn();
  }

  /** The length of a decoded vector: dIn but for transcoders. */
  public long dOut() {
    return weights.dOut();
  }

  public long dSae() {
    return weights.dSae();
  }

  /** Sizes, selection, normalisation, skip connection. */
  public SaeWeights.Form form() {
    return weights.form();
  }

  public SaeInfo info() {
    return weights.info();
  }

  SaeWeights weights() {
    return weights;
  }

  public Device device() {
    return device;
  }

  /** One line: device, kernel, threads, libraries. */
  public String describe() {
    long use = begin();
    try {
      return Native.text(Sae4j.sae_describe(model));
    } finally {
      end(use);
    }
  }

  /** The screen that encode uses for n rows. */
  public String screenFor(long n) {
    long use = begin();
    try {
      return Native.text(Sae4j.sae_screen_for(model, n));
    } finally {
      end(use);
    }
  }

  /**
   * Bytes of native memory, beside the weights, that the screen's copies take now: in 8 bits, of W_enc from the beginning, of W_dec from the
   * first top-k projection on it. {@link Device#withScreen} with another screen than int8 avoids them.
   */
  public long screenBytes() {
    long use = begin();
    try {
      return Sae4j.sae_screen_bytes(model);
    } finally {
      end(use);
    }
  }

  // ---- encode: p = <x, w_j>, x normalised where the SAE does so; active iff p > threshold_j and v = fma(scale_j, p, offset_j) is
  // selected: v > 0, or the k best; value v

  /**
   * Encodes activations.
   *
   * @param x activations, [n, dIn]
   * @param codes receives [n, dSae], and each row's scale and shift if the SAE normalises; holds no rows after a failure
   */
  public void encode(FloatPointer x, long n, SparseCodes codes) {
    requireFloats(x, n, dIn(), "x");
    encodeAny(x, n, codes);
  }

  /** As {@link #encode(FloatPointer, long, SparseCodes)}; reads from position to limit and moves neither. */
  public void encode(FloatBuffer x, SparseCodes codes) {
    requireNativeOrder(x, "x");
    encodeAny(x, rows(x.remaining(), dIn(), "x"), codes);
  }

  /** As {@link #encode(FloatPointer, long, SparseCodes)}; x is copied. */
  public void encode(float[] x, SparseCodes codes) {
    encodeAny(x, rows(x.length, dIn(), "x"), codes);
  }

  /** As {@link #encode(float[], SparseCodes)}, into new codes that the caller closes. */
  public SparseCodes encode(float[] x) {
    SparseCodes codes = new SparseCodes();
    try {
      encode(x, codes);
      return codes;
    } catch (RuntimeException e) {
      codes.close();
      throw e;
    }
  }

  /**
   * Encodes more rows than fit in memory, a chunk at a time.
   *
   * @param source gives the rows
   * @param chunkRows rows a call; 1024 and more let batches run at full speed
   * @param sink takes the codes of each chunk, in order
   * @return rows encoded
   * @throws IllegalArgumentException as {@link #encode(FloatPointer, long, SparseCodes)}, naming the row counted from the source's
   *     first, and the source
   */
  public long encode(Rows source, int chunkRows, Sink sink) throws IOException {
    if (chunkRows < 1 || chunkRows * dIn() > Integer.MAX_VALUE / Float.BYTES) {
      throw new IllegalArgumentException(
          "chunkRows must be 1 to %d for d_in %d, got %d".formatted(Integer.MAX_VALUE / Float.BYTES / dIn(), dIn(), chunkRows));
    }
    FloatBuffer x =
        ByteBuffer.allocateDirect((int) (chunkRows * dIn() * Float.BYTES)).order(ByteOrder.nativeOrder()).asFloatBuffer();
    long total = 0;
    try (SparseCodes codes = new SparseCodes()) {
      for (long n = source.read(x.clear()); n > 0; n = source.read(x.clear())) {
        x.position(0).limit((int) (n * dIn()));
        Chunks.call(source.name(), total, () -> encode(x, codes));
        sink.accept(codes);
        total += n;
      }
    }
    return total;
  }

  private void encodeAny(Object x, long n, SparseCodes codes) {
    long use = begin();
    try {
      long codesUse = codes.begin();
      try {
        CodesHandle c = codes.handle();
        Native.check(
            x instanceof FloatPointer p
                ? Sae4j.sae_encode(model, p, n, c)
                : x instanceof FloatBuffer b ? Sae4j.sae_encode(model, b, n, c) : Sae4j.sae_encode(model, (float[]) x, n, c));
      } finally {
        codes.end(codesUse);
      }
    } finally {
      end(use);
    }
  }

  // ---- decode: x_hat = sum_j f_j d_j (+ b_dec), features ascending; + W_skip x, then times scale (+ shift), where the SAE has them

  /**
   * Decodes codes of activations: sum_j f_j d_j + b_dec, and what the SAE took out of a row before, if it normalises.
   *
   * <p>An SAE with a skip connection ({@link SaeWeights.Form#hasSkip}) needs x, [n, dIn], what was encoded, and adds W_skip x; no
   * other takes it.
   *
   * @param codes [n, dSae]; with {@link SparseCodes#rowScale} if the SAE normalises, and only then
   * @param xHat receives [n, dOut]
   */
  public void decode(SparseCodes codes, FloatPointer xHat) {
    decode(codes, (FloatPointer) null, xHat);
  }

  /** As {@link #decode(SparseCodes, FloatPointer)}, of an SAE with a skip connection. */
  public void decode(SparseCodes codes, FloatPointer x, FloatPointer xHat) {
    long n = codes.rows();
    if (x != null) {
      requireFloats(x, n, dIn(), "x");
    }
    requireFloats(xHat, n, dOut(), "xHat");
    decodeAny(codes, x, false, xHat);
  }

  /** As {@link #decode(SparseCodes, FloatPointer)}; writes from the position on and moves it not. */
  public void decode(SparseCodes codes, FloatBuffer xHat) {
    decode(codes, null, xHat);
  }

  /** As {@link #decode(SparseCodes, FloatBuffer)}, of an SAE with a skip connection; reads x from position to limit. */
  public void decode(SparseCodes codes, FloatBuffer x, FloatBuffer xHat) {
    long n = codes.rows();
    if (x != null) {
      requireNativeOrder(x, "x");
      requireRows(x.remaining(), n, dIn());
    }
    requireOutput(xHat, n, dOut(), "xHat");
    decodeAny(codes, x, false, xHat);
  }

  /** As {@link #decode(SparseCodes, FloatPointer)}, into a new array. */
  public float[] decode(SparseCodes codes) {
    return decode(codes, (float[]) null);
  }

  /** As {@link #decode(SparseCodes)}, of an SAE with a skip connection; x is copied. */
  public float[] decode(SparseCodes codes, float[] x) {
    long n = codes.rows();
    if (x != null) {
      requireRows(x.length, n, dIn());
    }
    float[] xHat = newArray(n, dOut());
    decodeAny(codes, x, false, xHat);
    return xHat;
  }

  /**
   * Decodes codes of a direction, that is of a difference of activations: as {@link #decode(SparseCodes, FloatPointer)}, but
   * without b_dec and the row's shift, which a difference does not hold.
   *
   * @param codes [n, dSae]
   * @param vHat receives [n, dOut]
   */
  public void decodeDirection(SparseCodes codes, FloatPointer vHat) {
    decodeDirection(codes, (FloatPointer) null, vHat);
  }

  /** As {@link #decodeDirection(SparseCodes, FloatPointer)}, of an SAE with a skip connection. */
  public void decodeDirection(SparseCodes codes, FloatPointer x, FloatPointer vHat) {
    long n = codes.rows();
    if (x != null) {
      requireFloats(x, n, dIn(), "x");
    }
    requireFloats(vHat, n, dOut(), "vHat");
    decodeAny(codes, x, true, vHat);
  }

  /** As {@link #decodeDirection(SparseCodes, FloatPointer)}; writes from the position on and moves it not. */
  public void decodeDirection(SparseCodes codes, FloatBuffer vHat) {
    decodeDirection(codes, null, vHat);
  }

  /** As {@link #decodeDirection(SparseCodes, FloatBuffer)}, of an SAE with a skip connection; reads x from position to limit. */
  public void decodeDirection(SparseCodes codes, FloatBuffer x, FloatBuffer vHat) {
    long n = codes.rows();
    if (x != null) {
      requireNativeOrder(x, "x");
      requireRows(x.remaining(), n, dIn());
    }
    requireOutput(vHat, n, dOut(), "vHat");
    decodeAny(codes, x, true, vHat);
  }

  /** As {@link #decodeDirection(SparseCodes, FloatPointer)}, into a new array. */
  public float[] decodeDirection(SparseCodes codes) {
    return decodeDirection(codes, (float[]) null);
  }

  /** As {@link #decodeDirection(SparseCodes)}, of an SAE with a skip connection; x is copied. */
  public float[] decodeDirection(SparseCodes codes, float[] x) {
    long n = codes.rows();
    if (x != null) {
      requireRows(x.length, n, dIn());
    }
    float[] vHat = newArray(n, dOut());
    decodeAny(codes, x, true, vHat);
    return vHat;
  }

  private void decodeAny(SparseCodes codes, Object x, boolean isDirection, Object out) {
    int direction = isDirection ? 1 : 0;
    long use = begin();
    try {
      long codesUse = codes.begin();
      try {
        CodesHandle c = codes.handle();
        Native.check(
            out instanceof FloatPointer p
                ? Sae4j.sae_decode(model, c, (FloatPointer) x, direction, p)
                : out instanceof FloatBuffer b
                    ? Sae4j.sae_decode(model, c, (FloatBuffer) x, direction, b)
                    : Sae4j.sae_decode(model, c, (float[]) x, direction, (float[]) out));
      } finally {
        codes.end(codesUse);
      }
    } finally {
      end(use);
    }
  }

  // ---- project: signed <v, d_j>, <v, d_j> / ||d_j|| or <v, w_j>; no bias, no threshold

  /**
   * The strongest features of directions, with their sign.
   *
   * @param v directions, [n, dOut] for the decoder readout, [n, dIn] for the encoder readout
   * @param codes receives [n, dSae]; features ascend by index, ties went to the lower one, zeros are left out
   */
  public void project(FloatPointer v, long n, Projection projection, SparseCodes codes) {
    requireFloats(v, n, readoutLength(projection.readout()), "v");
    projectAny(v, n, projection, codes);
  }

  /** As {@link #project(FloatPointer, long, Projection, SparseCodes)}. */
  public void project(FloatBuffer v, Projection projection, SparseCodes codes) {
    requireNativeOrder(v, "v");
    projectAny(v, rows(v.remaining(), readoutLength(projection.readout()), "v"), projection, codes);
  }

  /** As {@link #project(FloatPointer, long, Projection, SparseCodes)}; v is copied. */
  public void project(float[] v, Projection projection, SparseCodes codes) {
    projectAny(v, rows(v.length, readoutLength(projection.readout()), "v"), projection, codes);
  }

  /** As {@link #project(float[], Projection, SparseCodes)}, into new codes that the caller closes. */
  public SparseCodes project(float[] v, Projection projection) {
    SparseCodes codes = new SparseCodes();
    try {
      project(v, projection, codes);
      return codes;
    } catch (RuntimeException e) {
      codes.close();
      throw e;
    }
  }

  private void projectAny(Object v, long n, Projection projection, SparseCodes codes) {
    int readout = projection.readout().ordinal();
    int unit = projection.unit() ? 1 : 0;
    int perSign = projection.perSign() ? 1 : 0;
    long k = projection.k();
    long use = begin();
    try {
      long codesUse = codes.begin();
      try {
        CodesHandle c = codes.handle();
        Native.check(
            v instanceof FloatPointer p
                ? Sae4j.sae_project_top(model, p, n, readout, unit, k, perSign, c)
                : v instanceof FloatBuffer b
                    ? Sae4j.sae_project_top(model, b, n, readout, unit, k, perSign, c)
                    : Sae4j.sae_project_top(model, (float[]) v, n, readout, unit, k, perSign, c));
      } finally {
        codes.end(codesUse);
      }
    } finally {
      end(use);
    }
  }

  /**
   * The coefficients of all features. Within the float32 bound of the exact value; unlike all else here the last bits may
   * depend on n.
   *
   * @param v as in {@link #project(FloatPointer, long, Projection, SparseCodes)}
   * @param unit divide by ||d_j|| (decoder readout only); features of norm 0 read 0
   * @param coefficients receives [n, dSae]
   */
  public void projectDense(FloatPointer v, long n, Projection.Readout readout, boolean unit, FloatPointer coefficients) {
    requireFloats(v, n, readoutLength(readout), "v");
    requireFloats(coefficients, n, dSae(), "coefficients");
    projectDenseAny(v, n, readout, unit, coefficients);
  }

  /** As {@link #projectDense(FloatPointer, long, Projection.Readout, boolean, FloatPointer)}. */
  public void projectDense(FloatBuffer v, Projection.Readout readout, boolean unit, FloatBuffer coefficients) {
    requireNativeOrder(v, "v");
    long n = rows(v.remaining(), readoutLength(readout), "v");
    requireOutput(coefficients, n, dSae(), "coefficients");
    projectDenseAny(v, n, readout, unit, coefficients);
  }

  /** As {@link #projectDense(FloatPointer, long, Projection.Readout, boolean, FloatPointer)}, into a new array. */
  public float[] projectDense(float[] v, Projection.Readout readout, boolean unit) {
    long n = rows(v.length, readoutLength(readout), "v");
    float[] coefficients = newArray(n, dSae());
    projectDenseAny(v, n, readout, unit, coefficients);
    return coefficients;
  }

  private void projectDenseAny(Object v, long n, Projection.Readout readout, boolean isUnit, Object out) {
    int r = readout.ordinal();
    int unit = isUnit ? 1 : 0;
    long use = begin();
    try {
      Native.check(
          v instanceof FloatPointer p
              ? Sae4j.sae_project_dense(model, p, n, r, unit, (FloatPointer) out)
              : v instanceof FloatBuffer b
                  ? Sae4j.sae_project_dense(model, b, n, r, unit, (FloatBuffer) out)
                  : Sae4j.sae_project_dense(model, (float[]) v, n, r, unit, (float[]) out));
    } finally {
      end(use);
    }
  }

  private long readoutLength(Projection.Readout readout) {
    return readout == Projection.Readout.DECODER ? dOut() : dIn();
  }

  // ---- shapes

  private static long rows(long length, long d, String name) {
    if (length % d != 0) {
      throw new IllegalArgumentException("%s has %d values, expected a multiple of d = %d".formatted(name, length, d));
    }
    return length / d;
  }

  // ---- pursue: v ~ sum_j a_j d_j with few, signed a_j; b_dec plays no part

  /**
   * Decomposes directions sparsely over the decoder rows. Each step chooses the atom with the largest |&lt;r, d_j&gt;| / ||d_j|| of
   * the residual r; ties go to the lower index, rows of norm 0 are never chosen. {@code sae4j.h} states each method to the bit.
   *
   * @param v directions, [n, dOut]
   * @param codes receives [n, dSae] and, for each row, why it ended ({@link SparseCodes#stop}); {@link #decodeDirection} of them
   *     is the decomposition's sum
   */
  public void pursue(FloatPointer v, long n, Pursuit pursuit, SparseCodes codes) {
    requireFloats(v, n, dOut(), "v");
    pursueAny(v, n, pursuit, codes);
  }

  /** As {@link #pursue(FloatPointer, long, Pursuit, SparseCodes)}; reads from position to limit and moves neither. */
  public void pursue(FloatBuffer v, Pursuit pursuit, SparseCodes codes) {
    requireNativeOrder(v, "v");
    pursueAny(v, rows(v.remaining(), dOut(), "v"), pursuit, codes);
  }

  /** As {@link #pursue(FloatPointer, long, Pursuit, SparseCodes)}; v is copied. */
  public void pursue(float[] v, Pursuit pursuit, SparseCodes codes) {
    pursueAny(v, rows(v.length, dOut(), "v"), pursuit, codes);
  }

  /** As {@link #pursue(float[], Pursuit, SparseCodes)}, into new codes that the caller closes. */
  public SparseCodes pursue(float[] v, Pursuit pursuit) {
    SparseCodes codes = new SparseCodes();
    try {
      pursue(v, pursuit, codes);
      return codes;
    } catch (RuntimeException e) {
      codes.close();
      throw e;
    }
  }

  private void pursueAny(Object v, long n, Pursuit how, SparseCodes codes) {
    int method = how.method().ordinal();
    int nonNegative = how.nonNegative() ? 1 : 0;
    long use = begin();
    try {
      long codesUse = codes.begin();
      try {
        CodesHandle c = codes.handle();
        Native.check(
            v instanceof FloatPointer p
                ? Sae4j.sae_pursue(
                    model, p, n, method, nonNegative, how.atoms(), how.residual(), how.gain(), how.penalty(), c)
                : v instanceof FloatBuffer b
                    ? Sae4j.sae_pursue(
                        model, b, n, method, nonNegative, how.atoms(), how.residual(), how.gain(), how.penalty(), c)
                    : Sae4j.sae_pursue(
                        model, (float[]) v, n, method, nonNegative, how.atoms(), how.residual(), how.gain(), how.penalty(), c));
      } finally {
        codes.end(codesUse);
      }
    } finally {
      end(use);
    }
  }

  private static void requireRows(long length, long n, long d) {
    if (length != n * d) {
      throw new IllegalArgumentException(
          "x has %d values, expected those of the codes' rows: n * d = %d * %d".formatted(length, n, d));
    }
  }

  private static void requireFloats(FloatPointer array, long n, long d, String name) {
    long known = array.limit() - array.position(); // 0 for a bare address, whose size nobody knows
    if (n < 0 || (array.limit() > 0 && known / d < n)) {
      throw new IllegalArgumentException("%s has %d values, expected n * d = %d * %d".formatted(name, known, n, d));
    }
  }

  private static void requireOutput(FloatBuffer out, long n, long d, String name) {
    requireNativeOrder(out, name);
    if (out.isReadOnly()) {
      throw new IllegalArgumentException(name + " is read-only, expected a buffer to write to");
    }
    if (out.remaining() / d < n) {
      throw new IllegalArgumentException("%s has room for %d values, expected n * d = %d * %d".formatted(name, out.remaining(), n, d));
    }
  }

  private static void requireNativeOrder(FloatBuffer buffer, String name) {
    if (buffer.isDirect() && buffer.order() != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException(
          name + " is in " + buffer.order() + " byte order, expected " + ByteOrder.nativeOrder());
    }
    if (!buffer.isDirect() && !buffer.hasArray()) {
      throw new IllegalArgumentException(name + " is a read-only heap buffer, expected a direct buffer or an array");
    }
  }

  private static float[] newArray(long n, long d) {
    if (n * d > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException("n * d = %d * %d does not fit a Java array; use a FloatPointer".formatted(n, d));
    }
    return new float[(int) (n * d)];
  }

  // ---- lifetime

  private long begin() {
    long use = lock.readLock();
    if (closed) {
      lock.unlockRead(use);
      throw new IllegalStateException("this SparseAutoencoder is closed");
    }
    return use;
  }

  private void end(long use) {
    lock.unlockRead(use);
    Reference.reachabilityFence(this); // nothing else keeps this from being freed during the call
  }

  /** Waits for running calls, then frees what is held. Idempotent. */
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

package dev.sae4j;

import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.Sae4j;
import dev.sae4j.io.SaeReader;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicInteger;
import org.bytedeco.javacpp.FloatPointer;

/**
 * The weights of one SAE in native memory, in the one form that every operation takes: feature-major float32, everything
 * folded. Feature j of activation x is active iff p = &lt;x, w_j&gt; &gt; threshold_j and v = scale_j p + offset_j &gt; 0; its value is
 * v. (ReLU: threshold -infinity, scale 1, offset b_enc. JumpReLU with threshold theta: theta - b_enc, 1, b_enc.)
 *
 * <p>Fill the arrays after {@link #allocate}, then open models on them; from then on they must not change. Models borrow the
 * memory: closing the weights gives it back once the last model is closed too.
 */
public final class SaeWeights implements AutoCloseable {
  private static final long MAX_DIMENSION = 1L << 24;
  private static final int ALIGNMENT = 16; // floats: a cache line

  private final long dIn;
  private final long dOut;
  private final long dSae;
  private final SaeInfo info;
  private final FloatPointer wEnc;
  private final FloatPointer wDec;
  private final FloatPointer bDec;
  private final FloatPointer threshold;
  private final FloatPointer scale;
  private final FloatPointer offset;
  private final AtomicInteger users = new AtomicInteger(1);
  private final Owned memory;
  private volatile boolean closed;

  private SaeWeights(long dIn, long dOut, long dSae, SaeInfo info) {
    this.dIn = dIn;
    this.dOut = dOut;
    this.dSae = dSae;
    this.info = info;
    long[] lengths = {dSae * dIn, dSae * dOut, dOut, dSae, dSae, dSae};
    long total = 0;
    for (long length : lengths) {
      total += aligned(length);
    }
    Native.load();
    FloatPointer block = Sae4j.sae_alloc(total);
    if (block == null) {
      throw new SaeException(
          "no memory for weights of d_in %d, d_out %d, d_sae %d: %d bytes".formatted(dIn, dOut, dSae, 4 * total));
    }
    memory = Owned.by(this, "SaeWeights", () -> Sae4j.sae_free(block));
    FloatPointer[] arrays = new FloatPointer[lengths.length];
    long start = 0;
    for (int i = 0; i < lengths.length; i++) {
      arrays[i] = block.getPointer(FloatPointer.class, start);
      arrays[i].capacity(lengths[i]);
      start += aligned(lengths[i]);
    }
    wEnc = arrays[0];
    wDec = arrays[1];
    bDec = arrays[2];
    threshold = arrays[3];
    scale = arrays[4];
    offset = arrays[5];
  }

  private static long aligned(long length) {
    return (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  /**
   * Zeroed arrays to fill. Scale must be set: it has to be positive.
   *
   * @throws IllegalArgumentException if a dimension is below 1 or absurd
   * @throws SaeException if there is no memory
   */
  public static SaeWeights allocate(long dIn, long dOut, long dSae, SaeInfo info) {
    requireDimension(dIn, "d_in", MAX_DIMENSION);
    requireDimension(dOut, "d_out", MAX_DIMENSION);
    requireDimension(dSae, "d_sae", Integer.MAX_VALUE);
    return new SaeWeights(dIn, dOut, dSae, info);
  }

  private static void requireDimension(long value, String name, long max) {
    if (value < 1 || value > max) {
      throw new IllegalArgumentException(name + " must be 1 to " + max + ", got " + value);
    }
  }

  /**
   * Reads an SAE from a folder or file of a known format; see {@link SaeReader}.
   *
   * @throws SaeException if it can't be read, naming file, expected and got
   */
  public static SaeWeights read(Path path) {
    return SaeReader.read(path, null);
  }

  public long dIn() {
    return dIn;
  }

  /** The length of a decoded vector: d_in but for transcoders. */
  public long dOut() {
    return dOut;
  }

  public long dSae() {
    return dSae;
  }

  public SaeInfo info() {
    return info;
  }

  /** [d_sae, d_in]: row j is the encoder direction of feature j. */
  public FloatPointer wEnc() {
    return open(wEnc);
  }

  /** [d_sae, d_out]: row j is the decoder direction of feature j. */
  public FloatPointer wDec() {
    return open(wDec);
  }

  /** [d_out]. */
  public FloatPointer bDec() {
    return open(bDec);
  }

  /** [d_sae]: t, compared with the bare product; may be +-infinity. */
  public FloatPointer threshold() {
    return open(threshold);
  }

  /** [d_sae]: a, positive. */
  public FloatPointer scale() {
    return open(scale);
  }

  /** [d_sae]: c. */
  public FloatPointer offset() {
    return open(offset);
  }

  /** Bytes of native memory held. */
  public long bytes() {
    return 4 * (dSae * (dIn + dOut + 3) + dOut);
  }

  private FloatPointer open(FloatPointer array) {
    if (closed) {
      throw new IllegalStateException("these SaeWeights are closed");
    }
    return array;
  }

  /** Keeps the memory for a model; paired with {@link #release}. */
  void retain() {
    if (closed || users.getAndUpdate(count -> count == 0 ? 0 : count + 1) == 0) {
      throw new IllegalStateException("these SaeWeights are closed");
    }
  }

  void release() {
    if (users.decrementAndGet() == 0) {
      memory.release();
    }
  }

  /** Gives the memory back, once no open model borrows it. Idempotent. */
  @Override
  public void close() {
    synchronized (this) {
      if (closed) {
        return;
      }
      closed = true;
    }
    release();
  }
}

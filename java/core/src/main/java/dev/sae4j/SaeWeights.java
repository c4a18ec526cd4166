package dev.sae4j;

import dev.sae4j.internal.Native;
import dev.sae4j.internal.bindings.Sae4j;
import dev.sae4j.internal.bindings.WeightsStruct;
import dev.sae4j.io.SaeReader;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.bytedeco.javacpp.FloatPointer;

/**
 * The weights of one SAE in native memory, in the one form that every operation takes: feature-major float32, everything
 * folded. Feature j of activation x is active iff p = &lt;x, w_j&gt; &gt; threshold_j and v = scale_j p + offset_j &gt; 0; its value is
 * v. (ReLU: threshold -infinity, scale 1, offset b_enc. JumpReLU with threshold theta: theta - b_enc, 1, b_enc.) What differs
 * from that is the {@link Form}'s: TopK's {@link Selection}, a {@link Normalization} of each row, a skip connection.
 *
 * <p>Fill the arrays after {@link #allocate}, then open models on them; from then on they must not change. Models borrow the
 * memory: closing the weights gives it back once the last model is closed too. The pointers given out keep these weights from
 * being freed while they, or pointers made from them, are reachable; buffers made from them ({@code asBuffer}) don't. None may be
 * used once the memory is given back.
 */
public final class SaeWeights implements AutoCloseable {
  /** Which features of a row are active: among those with p &gt; threshold_j. Ties go to the lower index. */
  public enum Selection {
    /** All with v &gt; 0. */
    GATE,
    /** The k largest v, where v &gt; 0: TopK that ends in a ReLU. */
    TOP,
    /** The k largest v, negative ones too, but no zero. */
    TOP_SIGNED,
    /** The k largest |v|, but no zero. */
    TOP_ABS
  }

  /** What encode does to each row of x first, with statistics in double; decode undoes it. */
  public enum Normalization {
    NONE,
    /** (x - mean) / (std + 1e-5), std with d - 1. */
    LAYER,
    /** x sqrt(d_in) / ||x||; 0 stays 0. */
    CONSTANT
  }

  /**
   * All but the numbers.
   *
   * @param dOut the length of a decoded vector: dIn but for transcoders
   * @param k for a selection other than GATE, 1 to dSae; else 0
   * @param hasSkip whether x adds {@link SaeWeights#wSkip} x to its reconstruction
   */
  public record Form(
      long dIn, long dOut, long dSae, Selection selection, long k, Normalization normalization, boolean hasSkip) {
    private static final long MAX_DIMENSION = 1L << 24;

    /**
     * @throws IllegalArgumentException if a dimension is below 1 or absurd, or k does not go with the selection
     */
    public Form {
      requireRange(dIn, normalization == Normalization.LAYER ? 2 : 1, MAX_DIMENSION, "d_in");
      requireRange(dOut, 1, MAX_DIMENSION, "d_out");
      requireRange(dSae, 1, Integer.MAX_VALUE, "d_sae");
      requireRange(k, selection == Selection.GATE ? 0 : 1, selection == Selection.GATE ? 0 : dSae, "k");
      if (normalization != Normalization.NONE && dOut != dIn) {
        throw new IllegalArgumentException(
            "an SAE that normalises must have d_out = d_in = %d, got %d".formatted(dIn, dOut));
      }
    }

    /** Selects by the gate alone, and neither normalises nor skips. */
    public static Form of(long dIn, long dOut, long dSae) {
      return new Form(dIn, dOut, dSae, Selection.GATE, 0, Normalization.NONE, false);
    }

    private static void requireRange(long value, long min, long max, String name) {
      if (value < min || value > max) {
        throw new IllegalArgumentException(name + " must be " + min + " to " + max + ", got " + value);
      }
    }
  }

  private static final int ALIGNMENT = 16; // floats: a cache line

  private final Form form;
  private final long dIn;
  private final long dOut;
  private final long dSae;
  private SaeInfo info;
  private final OwnedArray wEnc;
  private final OwnedArray wDec;
  private final OwnedArray bDec;
  private final OwnedArray wSkip;
  private final OwnedArray threshold;
  private final OwnedArray scale;
  private final OwnedArray offset;
  private final AtomicInteger users = new AtomicInteger(1);
  private final Owned memory;
  private volatile boolean closed;

  private SaeWeights(Form form, SaeInfo info) {
    this.form = form;
    this.dIn = form.dIn;
    this.dOut = form.dOut;
    this.dSae = form.dSae;
    this.info = info;
    long[] lengths = {dSae * dIn, dSae * dOut, dOut, dSae, dSae, dSae, form.hasSkip ? dOut * dIn : 0};
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
    OwnedArray[] arrays = new OwnedArray[lengths.length];
    long start = 0;
    for (int i = 0; i < lengths.length; i++) {
      arrays[i] = new OwnedArray(this, block.getPointer(start), lengths[i]);
      start += aligned(lengths[i]);
    }
    wEnc = arrays[0];
    wDec = arrays[1];
    bDec = arrays[2];
    threshold = arrays[3];
    scale = arrays[4];
    offset = arrays[5];
    wSkip = form.hasSkip ? arrays[6] : null;
  }

  private static long aligned(long length) {
    return (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  /**
   * Zeroed arrays to fill. Scale must be set: it has to be positive.
   *
   * @throws SaeException if there is no memory
   */
  public static SaeWeights allocate(Form form, SaeInfo info) {
    return new SaeWeights(form, info);
  }

  /** As {@link #allocate(Form, SaeInfo)}, of an SAE that selects by its gate alone. */
  public static SaeWeights allocate(long dIn, long dOut, long dSae, SaeInfo info) {
    return allocate(Form.of(dIn, dOut, dSae), info);
  }

  /**
   * Reads an SAE from a folder or file of a known format; see {@link SaeReader}.
   *
   * @throws SaeException if it can't be read, naming file, expected and got
   */
  public static SaeWeights read(Path path) {
    return SaeReader.read(path);
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

  /** Adds to the warnings of {@link #info}: for who fills the arrays, before models are opened. */
  public void warn(List<String> sentences) {
    info = info.withWarnings(sentences);
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

  /** [d_out, d_in]: what x adds to x_hat past the features; null but for transcoders with a skip connection. */
  public FloatPointer wSkip() {
    return wSkip == null ? null : open(wSkip);
  }

  public Form form() {
    return form;
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
    return 4 * (dSae * (dIn + dOut + 3) + dOut + (form.hasSkip ? dOut * dIn : 0));
  }

  /** Each time a new pointer: its position is its holder's. */
  private FloatPointer open(OwnedArray array) {
    if (closed) {
      throw new IllegalStateException("these SaeWeights are closed");
    }
    return new FloatPointer(array);
  }

  /** What the native engine takes; the arrays are still these. */
  WeightsStruct struct() {
    return new WeightsStruct()
        .d_in(dIn).d_out(dOut).d_sae(dSae)
        .w_enc(wEnc()).w_dec(wDec()).b_dec(bDec()).w_skip(wSkip())
        .threshold(threshold()).scale(scale()).offset(offset())
        .selection(form.selection.ordinal()).k(form.k)
        .normalization(form.normalization.ordinal());
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

package dev.sae4j.benchmarks;

import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.ShortPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** What a GPU allows at best: plain copies, and products of the other benchmarks' shapes, by CUDA's own libraries. */
public class GpuRoofsBenchmark extends Measured {
  @State(Scope.Benchmark)
  public static class Copy {
    private static final long COUNT = 1L << 28; // 1 GiB: many times what any cache holds

    @Param("cuda")
    public String device;

    Cuda cuda;
    FloatPointer from;
    FloatPointer to;

    @Setup
    public void allocate() {
      cuda = Machine.prepare(device);
      from = cuda.allocate(COUNT);
      to = cuda.allocate(COUNT);
      try (FloatPointer some = normal(1 << 20)) {
        for (long start = 0; start < COUNT; start += 1 << 20) {
          cuda.copy(some, from.getPointer(start), 1 << 20);
        }
      }
      Rates.giveBytes(2 * 4.0 * COUNT); // read and written
    }

    @TearDown
    public void free() {
      cuda.free(from);
      cuda.free(to);
      cuda.close();
    }
  }

  /** Rows x [n, d_in], to be copied in. */
  @State(Scope.Benchmark)
  public static class Rows {
    @Param("cuda")
    public String device;

    @Param("2304x65536")
    public String shape;

    @Param({"1", "1024", "8192"})
    public int n;

    Cuda cuda;
    long count;
    FloatPointer pageable;
    FloatPointer pinned;
    FloatPointer x;

    @Setup
    public void allocate() {
      cuda = Machine.prepare(device);
      count = (long) n * Subject.sizes(shape)[0];
      pageable = normal(count);
      pinned = cuda.allocatePinned(count);
      x = cuda.allocate(count);
      cuda.copy(pageable, pinned, count);
      Rates.giveBytes(4.0 * count);
    }

    @TearDown
    public void free() {
      pageable.close();
      cuda.freePinned(pinned);
      cuda.free(x);
      cuda.close();
    }
  }

  /** x [n, d_in], W [d_sae, d_in] and the scores [n, d_sae], in float32 and in bfloat16. */
  @State(Scope.Benchmark)
  public static class Product {
    @Param("cuda")
    public String device;

    @Param("2304x65536")
    public String shape;

    @Param({"1", "1024", "8192"})
    public int n;

    int d;
    int m;
    FloatPointer x;
    FloatPointer w;
    FloatPointer scores;
    FloatPointer x16; // two bfloat16 in each float's place, as in the other two
    FloatPointer w16;
    FloatPointer scores16;
    Cuda cuda;

    @Setup
    public void allocate() {
      cuda = Machine.prepare(device);
      d = Subject.sizes(shape)[0];
      m = Subject.sizes(shape)[1];
      x = onDevice((long) n * d);
      w = onDevice((long) m * d);
      scores = cuda.allocate((long) n * m);
      x16 = onDevice16((long) n * d);
      w16 = onDevice16((long) m * d);
      scores16 = cuda.allocate(((long) n * m + 1) / 2);
      Rates.giveFlop(2.0 * n * m * d);
    }

    private FloatPointer onDevice(long count) {
      FloatPointer array = cuda.allocate(count);
      try (FloatPointer drawn = normal(count)) {
        cuda.copy(drawn, array, count);
      }
      return array;
    }

    private FloatPointer onDevice16(long count) {
      FloatPointer array = cuda.allocate((count + 1) / 2);
      try (ShortPointer rounded = normal16(count + count % 2)) {
        cuda.copy(rounded, array, (count + 1) / 2);
      }
      return array;
    }

    @TearDown
    public void free() {
      for (FloatPointer array : new FloatPointer[] {x, w, scores, x16, w16, scores16}) {
        cuda.free(array);
      }
      cuda.close();
    }
  }

  /** count independent standard normal floats on the host. Zeros would not do: GPUs multiply them faster. */
  static FloatPointer normal(long count) {
    FloatPointer array = new FloatPointer(count);
    draw(count, (begin, drawn) -> array.<FloatPointer>getPointer(begin).put(drawn));
    return array;
  }

  /** As {@link #normal}, rounded to bfloat16. */
  static ShortPointer normal16(long count) {
    ShortPointer array = new ShortPointer(count);
    draw(count, (begin, drawn) -> {
      short[] rounded = new short[drawn.length];
      for (int i = 0; i < drawn.length; i++) {
        rounded[i] = bf16(drawn[i]);
      }
      array.<ShortPointer>getPointer(begin).put(rounded);
    });
    return array;
  }

  /** Rounded to nearest, ties to even, as bits; of finite values. */
  static short bf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    return (short) ((bits + 0x7fff + (bits >>> 16 & 1)) >>> 16);
  }

  private interface Chunk {
    void put(long begin, float[] drawn);
  }

  private static void draw(long count, Chunk into) {
    int length = 1 << 16;
    IntStream.range(0, (int) ((count + length - 1) / length)).parallel().forEach(i -> {
      SplittableRandom random = new SplittableRandom(i);
      long begin = (long) i * length;
      float[] drawn = new float[(int) Math.min(length, count - begin)];
      for (int k = 0; k < drawn.length; k++) {
        drawn[k] = (float) random.nextGaussian();
      }
      into.put(begin, drawn);
    });
  }

  /** Within device memory. */
  @Benchmark
  public FloatPointer deviceCopy(Copy c) {
    c.cuda.copy(c.from, c.to, Copy.COUNT);
    return c.to;
  }

  @Benchmark
  public FloatPointer copyInPinned(Rows r) {
    r.cuda.copy(r.pinned, r.x, r.count);
    return r.x;
  }

  @Benchmark
  public FloatPointer copyInPageable(Rows r) {
    r.cuda.copy(r.pageable, r.x, r.count);
    return r.x;
  }

  @Benchmark
  public FloatPointer gemmBf16(Product p) {
    p.cuda.gemmBf16(p.x16, p.n, p.w16, p.m, p.d, p.scores16);
    p.cuda.await();
    return p.scores16;
  }

  /** The plain way in float32: all scores, then one reading of them, the least that a comparison with thresholds does. */
  @Benchmark
  public float sgemmAndRead(Product p) {
    p.cuda.sgemm(p.x, p.n, p.w, p.m, p.d, p.scores, cublas.CUBLAS_DEFAULT_MATH);
    return p.cuda.read(p.scores, Math.multiplyExact(p.n, p.m));
  }
}

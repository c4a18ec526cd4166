package dev.sae4j.benchmarks;

import dev.sae4j.Device;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** What a call costs beside its arithmetic: one row, almost no weights, every form of input. With {@code -prof gc}: B/op. */
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class CallOverheadBenchmark extends Measured {
  private static final int D_SAE = 8;

  @State(Scope.Benchmark)
  public static class Tiny {
    @Param("8")
    public int dIn;

    SaeWeights weights;
    SparseAutoencoder sae;
    SparseCodes codes;
    FloatPointer pointer;
    FloatBuffer buffer;
    float[] array;

    @Setup
    public void open() {
      Machine.prepare();
      array = new float[dIn];
      Arrays.fill(array, 1);
      pointer = new FloatPointer(array);
      buffer = ByteBuffer.allocateDirect(4 * dIn).order(ByteOrder.nativeOrder()).asFloatBuffer().put(array).flip();
      SaeInfo info = new SaeInfo("tiny", "standard", "float32", null, null, List.of(), List.of());
      weights = SaeWeights.allocate(dIn, dIn, D_SAE, info);
      for (int j = 0; j < D_SAE; j++) { // half of the features are active
        float[] w = new float[dIn];
        Arrays.fill(w, j % 2 == 0 ? 1 : -1);
        Planted.row(weights.wEnc(), j, dIn).put(w);
        Planted.row(weights.wDec(), j, dIn).put(w);
        weights.scale().put(j, 1);
      }
      sae = SparseAutoencoder.open(weights, Device.cpu());
      codes = sae.encode(array);
      Machine.announce(sae);
    }

    @TearDown
    public void close() {
      codes.close();
      sae.close();
      weights.close();
      pointer.close();
    }
  }

  @Benchmark
  public SparseCodes encodePointer(Tiny t) {
    t.sae.encode(t.pointer, 1, t.codes);
    return t.codes;
  }

  @Benchmark
  public SparseCodes encodeBuffer(Tiny t) {
    t.sae.encode(t.buffer, t.codes);
    return t.codes;
  }

  @Benchmark
  public SparseCodes encodeArray(Tiny t) {
    t.sae.encode(t.array, t.codes);
    return t.codes;
  }

  @Benchmark
  public SparseCodes encodeNoRows(Tiny t) {
    t.sae.encode(t.pointer, 0, t.codes);
    return t.codes;
  }

  @Benchmark
  public FloatPointer decodePointer(Tiny t) {
    t.sae.decode(t.codes, t.pointer);
    return t.pointer;
  }
}

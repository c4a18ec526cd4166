package dev.sae4j.benchmarks;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxTensorLike;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import dev.sae4j.SparseCodes;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.bytedeco.javacpp.FloatPointer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/**
 * ONNX Runtime, what a JVM would otherwise run an SAE with: the dense graph, from and to memory that is used again. It ends with
 * dense codes, in which no active feature was found yet: no operator gives CSR.
 */
public class OnnxRuntimePeer extends Measured {
  private static final double TOLERANCE = 1e-4;

  @State(Scope.Benchmark)
  public static class Graph {
    private final Map<String, OnnxTensorLike> weights = new HashMap<>();
    private OrtEnvironment environment;
    private OrtSession session;
    private FloatPointer dense;
    private OnnxTensor codes;
    private OnnxTensor[] x;
    private int next;

    @Setup
    public void open(Subject s, EncodeBenchmark.Batch b) throws OrtException {
      s.requireCpu();
      environment = OrtEnvironment.getEnvironment();
      giveWeights(s);
      OrtSession.SessionOptions options = new OrtSession.SessionOptions();
      options.setIntraOpNumThreads(Machine.THREADS);
      options.addExternalInitializers(weights);
      session = environment.createSession(OnnxGraph.jumpRelu(b.n, s.dIn, s.dSae), options);
      dense = new FloatPointer((long) b.n * s.dSae);
      codes = tensor(dense, b.n, s.dSae);
      x = new OnnxTensor[b.x.length];
      for (int i = 0; i < x.length; i++) {
        x[i] = tensor(b.x[i], b.n, s.dIn);
      }
      System.out.printf("%n# ONNX Runtime %s, %d threads%n", environment.getVersion(), Machine.THREADS);
      requireSae4jsCodes(s, b);
    }

    /** On the pre-activation scale, as SAELens and ONNX have them: theta = t + b_enc. All are positive, which makes a ReLU idle. */
    private void giveWeights(Subject s) throws OrtException {
      float[] thresholds = new float[s.dSae];
      for (int j = 0; j < s.dSae; j++) {
        thresholds[j] = s.weights().threshold().get(j) + s.weights().offset().get(j);
      }
      weights.put("W_enc", tensor(s.weights().wEnc(), s.dSae, s.dIn));
      weights.put("b_enc", tensor(s.weights().offset(), s.dSae));
      weights.put("threshold", tensor(new FloatPointer(thresholds), s.dSae));
      weights.put("zero", tensor(new FloatPointer(1).put(0, 0), 1));
    }

    /** Over the memory as it is; no copy. */
    private OnnxTensor tensor(FloatPointer memory, long... shape) throws OrtException {
      long count = 1;
      for (long length : shape) {
        count *= length;
      }
      return OnnxTensor.createTensor(environment, Planted.row(memory, 0, 0).capacity(count).asBuffer(), shape);
    }

    /** The same features, but for those whose score is at their threshold, and their values. */
    private void requireSae4jsCodes(Subject s, EncodeBenchmark.Batch b) throws OrtException {
      next = 0;
      run();
      next = 0;
      s.sae.encode(b.x[0], b.n, b.codes);
      float[] expected = new float[s.dSae];
      float[] got = new float[s.dSae];
      for (int i = 0; i < b.n; i++) {
        scatter(b.codes, i, expected);
        Planted.row(dense, i, s.dSae).get(got);
        for (int j = 0; j < s.dSae; j++) {
          requireClose(s, i, j, got[j], expected[j]);
        }
      }
    }

    private static void scatter(SparseCodes codes, int row, float[] to) {
      Arrays.fill(to, 0);
      for (long at = codes.rowOffsets().get(row); at < codes.rowOffsets().get(row + 1); at++) {
        to[codes.indices().get(at)] = codes.values().get(at);
      }
    }

    private static void requireClose(Subject s, int row, int feature, float got, float expected) {
      boolean isActiveInOne = got == 0 || expected == 0;
      float theta = s.weights().threshold().get(feature) + s.weights().offset().get(feature);
      float error = isActiveInOne ? got + expected - theta : got - expected;
      if (got != expected && !(Math.abs(error) <= TOLERANCE * Math.max(1, expected))) {
        throw new IllegalStateException(
            "ONNX Runtime disagrees with sae4j: row %d, feature %d: %s, expected %s (threshold %s)"
                .formatted(row, feature, got, expected, theta));
      }
    }

    OnnxTensor run() throws OrtException {
      session.run(Map.of("x", x[next++ % x.length]), Set.of(), Map.of("codes", codes)).close();
      return codes;
    }

    @TearDown
    public void close() throws OrtException {
      session.close();
      codes.close();
      dense.close();
      for (OnnxTensor batch : x) {
        batch.close();
      }
      weights.values().forEach(OnnxTensorLike::close);
    }
  }

  @Benchmark
  public OnnxTensor encodeDense(Graph graph) throws OrtException {
    return graph.run();
  }

  /** Prints the version. */
  public static void main(String[] args) {
    System.out.println("ONNX Runtime " + OrtEnvironment.getEnvironment().getVersion());
  }
}

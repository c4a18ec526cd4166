package dev.sae4j.benchmarks;

import com.sun.management.ThreadMXBean;
import dev.sae4j.Device;
import dev.sae4j.Projection;
import dev.sae4j.Pursuit;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.benchmarks.Gate.Guard;
import java.lang.management.ManagementFactory;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;

/** What the gate guards: the operations at one shape, on planted data, each with its roof. Belongs to one thread. */
abstract class GateOperations implements AutoCloseable {
  private static final int SEED = 1;
  private static final Projection TOP = Projection.top(20);

  final Planted planted;
  final SparseAutoencoder sae;
  final SparseCodes codes = new SparseCodes();
  final int batch;
  private final SparseCodes encoded = new SparseCodes();
  private final Floats x;
  private final Floats xHat;
  private int next;

  /** @param cuda null on the CPU, else all data lie on the GPU */
  private GateOperations(int dIn, int dSae, double l0, int batch, Device device, Cuda cuda) {
    this.batch = batch;
    String memory = cuda == null ? "host" : "device";
    planted = new Planted(dIn, dSae, l0, 2 * batch, SEED);
    sae = SparseAutoencoder.open(planted.weights, device);
    x = Floats.of(cuda, memory, planted.x, (long) planted.rows * dIn);
    xHat = Floats.allocate(cuda, memory, (long) batch * dIn);
    sae.encode(x.at(), batch, encoded);
  }

  abstract List<Guard> guards();

  /** Rows that rotate through the activations. */
  final FloatPointer x(int n) {
    int batches = planted.rows / n;
    return Planted.row(x.at(), (long) (next++ % batches) * n, planted.dIn);
  }

  final Runnable encode(int n) {
    return () -> sae.encode(x(n), n, codes);
  }

  final Runnable top20(int n) {
    return () -> sae.project(x(n), n, TOP, codes);
  }

  final Runnable decode() {
    return () -> sae.decode(encoded, xHat.at());
  }

  /** Java heap that a call takes when all is reused; must be 0. */
  final double bytesAllocated() {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    FloatPointer row = x(1);
    int calls = 2000;
    for (int i = 0; i < calls; i++) { // until it is compiled
      sae.encode(row, 1, codes);
      sae.decode(codes, xHat.at());
    }
    long before = threads.getCurrentThreadAllocatedBytes();
    for (int i = 0; i < calls; i++) {
      sae.encode(row, 1, codes);
      sae.decode(codes, xHat.at());
    }
    return (double) (threads.getCurrentThreadAllocatedBytes() - before) / calls;
  }

  final String describe() {
    return sae.describe();
  }

  @Override
  public void close() {
    codes.close();
    encoded.close();
    xHat.close();
    x.close();
    sae.close();
    planted.close();
  }

  /** On the CPU, over OpenBLAS's product and readings. */
  static final class OnCpu extends GateOperations {
    private final FloatPointer scores;

    /** @param isSlow by the slowest kernel and no screen, to show that the gate closes */
    OnCpu(int dIn, int dSae, double l0, int batch, boolean isSlow) {
      super(dIn, dSae, l0, batch, isSlow ? Device.cpu().withScreen("canonical").withKernel("portable") : Device.cpu(), null);
      scores = new FloatPointer((long) batch * dSae);
    }

    @Override
    List<Guard> guards() {
      FloatPointer wEnc = planted.weights.wEnc();
      FloatPointer wDec = planted.weights.wDec();
      Pursuit omp = Pursuit.omp(8);
      return List.of(
          new Guard("encode, 1 row, over reading W_enc", encode(1), () -> read(wEnc, 1)),
          new Guard("encode, " + batch + " rows, over sgemm", encode(batch), () -> sgemm(wEnc)),
          new Guard("top 20, 1 row, over reading W_dec", top20(1), () -> read(wDec, 1)),
          new Guard("top 20, " + batch + " rows, over sgemm", top20(batch), () -> sgemm(wDec)),
          new Guard("decode, " + batch + " rows, over sgemm", decode(), () -> sgemm(wEnc)),
          new Guard("omp of 8 atoms, 1 row, over 8 readings of W_dec", () -> sae.pursue(x(1), 1, omp, codes), () -> read(wDec, 8)));
    }

    private void sgemm(FloatPointer matrix) {
      Roofs.sgemm(x(batch), batch, matrix, planted.dSae, planted.dIn, scores);
    }

    private void read(FloatPointer matrix, int times) {
      for (int i = 0; i < times; i++) {
        Roofs.read(matrix, (long) planted.dSae * planted.dIn);
      }
    }

    @Override
    public void close() {
      scores.close();
      super.close();
    }
  }

  /** On a GPU, all data there, over copies and a bfloat16 product by CUDA's own libraries. */
  static final class OnGpu extends GateOperations {
    private final Cuda cuda;
    private final GpuRoofsBenchmark roofs = new GpuRoofsBenchmark();
    private final GpuRoofsBenchmark.Copy copy = new GpuRoofsBenchmark.Copy();
    private final GpuRoofsBenchmark.Product product = new GpuRoofsBenchmark.Product();

    OnGpu(String device, int dIn, int dSae, double l0, int batch) {
      this(device, dIn, dSae, l0, batch, Machine.prepare(device));
    }

    private OnGpu(String device, int dIn, int dSae, double l0, int batch, Cuda cuda) {
      super(dIn, dSae, l0, batch, Device.of(device), cuda);
      this.cuda = cuda;
      copy.device = device;
      copy.allocate();
      product.device = device;
      product.shape = dIn + "x" + dSae;
      product.n = batch;
      product.allocate();
    }

    @Override
    List<Guard> guards() {
      Runnable copied = () -> roofs.deviceCopy(copy);
      Runnable multiplied = () -> roofs.gemmBf16(product);
      return List.of(
          new Guard("encode, 1 row, over a copy of 1 GiB", encode(1), copied),
          new Guard("encode, " + batch + " rows, over a bf16 GEMM", encode(batch), multiplied),
          new Guard("top 20, 1 row, over a copy of 1 GiB", top20(1), copied),
          new Guard("top 20, " + batch + " rows, over a bf16 GEMM", top20(batch), multiplied),
          new Guard("decode, " + batch + " rows, over a copy of 1 GiB", decode(), copied));
    }

    @Override
    public void close() {
      product.free();
      copy.free();
      super.close();
      cuda.close();
    }
  }
}

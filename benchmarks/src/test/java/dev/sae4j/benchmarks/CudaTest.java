package dev.sae4j.benchmarks;

import static org.bytedeco.cuda.global.cublas.CUBLAS_DEFAULT_MATH;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.Device;
import dev.sae4j.Projection;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Vectors that lie on the device already, and work on a stream of the caller's. Needs a GPU: {@code -Dsae4j.device=cuda}. */
class CudaTest {
  private Cuda cuda;

  @BeforeEach
  void open() {
    Assumptions.assumeTrue("cuda".equals(System.getProperty("sae4j.device")), "sae4j.device is not cuda");
    cuda = new Cuda(0);
  }

  @AfterEach
  void close() {
    if (cuda != null) {
      cuda.close();
    }
  }

  private FloatPointer onDevice(FloatPointer host, long count) {
    FloatPointer array = cuda.allocate(count);
    cuda.copy(host, array, count);
    return array;
  }

  private float[] onHost(FloatPointer array, int count) {
    float[] values = new float[count];
    try (FloatPointer host = new FloatPointer((long) count)) {
      cuda.copy(array, host, count);
      host.get(values);
    }
    return values;
  }

  private static void assertSame(SparseCodes expected, SparseCodes got) {
    assertTrue(expected.nnz() > 0);
    assertEquals(expected.rows(), got.rows());
    assertEquals(expected.nnz(), got.nnz());
    for (long row = 0; row <= expected.rows(); row++) {
      assertEquals(expected.rowOffsets().get(row), got.rowOffsets().get(row));
    }
    int[][] indices = new int[2][(int) got.nnz()];
    float[][] values = new float[2][(int) got.nnz()];
    expected.indices().get(indices[0]);
    got.indices().get(indices[1]);
    expected.values().get(values[0]);
    got.values().get(values[1]);
    assertArrayEquals(indices[0], indices[1]);
    assertArrayEquals(values[0], values[1], 0);
  }

  @Test
  void sgemmIsTheProduct() {
    int n = 3;
    int m = 5;
    int d = 7;
    float[] a = new float[n * d];
    float[] b = new float[m * d];
    for (int i = 0; i < a.length; i++) {
      a[i] = i % 5 - 2;
    }
    for (int i = 0; i < b.length; i++) {
      b[i] = i % 7 - 3;
    }
    float[] expected = new float[n * m];
    for (int i = 0; i < n * m; i++) {
      for (int k = 0; k < d; k++) {
        expected[i] += a[i / m * d + k] * b[i % m * d + k];
      }
    }
    try (FloatPointer hostA = new FloatPointer(a);
        FloatPointer hostB = new FloatPointer(b)) {
      FloatPointer onA = onDevice(hostA, n * d);
      FloatPointer onB = onDevice(hostB, m * d);
      FloatPointer c = cuda.allocate(n * m);
      cuda.sgemm(onA, n, onB, m, d, c, CUBLAS_DEFAULT_MATH);
      cuda.await();
      assertArrayEquals(expected, onHost(c, n * m), 0);
      cuda.free(onA);
      cuda.free(onB);
      cuda.free(c);
    }
  }

  /** 256: used where they lie. 100: rows are padded on the device. */
  @ParameterizedTest
  @ValueSource(ints = {256, 100})
  void vectorsOnTheDeviceGiveTheSameBits(int d) {
    int n = 64;
    try (Planted planted = new Planted(d, 512, 20, n, 1);
        SparseAutoencoder cpu = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseAutoencoder gpu = SparseAutoencoder.open(planted.weights, Device.cuda(0));
        SparseCodes expected = new SparseCodes();
        SparseCodes got = new SparseCodes();
        FloatPointer xHat = new FloatPointer((long) n * d)) {
      FloatPointer x = onDevice(planted.x, n * d);
      cpu.encode(planted.x, n, expected);
      gpu.encode(x, n, got);
      assertSame(expected, got);
      // From the second row on: a pointer into the middle.
      cpu.encode(Planted.row(planted.x, 1, d), n - 1, expected);
      gpu.encode(Planted.row(x, 1, d), n - 1, got);
      assertSame(expected, got);

      FloatPointer xHatOnDevice = cuda.allocate(n * d);
      cpu.decode(expected, xHat);
      gpu.decode(got, xHatOnDevice);
      float[] decoded = new float[(n - 1) * d];
      xHat.get(decoded);
      assertArrayEquals(decoded, onHost(xHatOnDevice, decoded.length), 0);

      cpu.project(planted.x, n, Projection.topPerSign(5), expected);
      gpu.project(x, n, Projection.topPerSign(5), got);
      assertSame(expected, got);

      try (FloatPointer dense = new FloatPointer(n * 512L)) {
        FloatPointer denseOnDevice = cuda.allocate(n * 512L);
        cpu.projectDense(planted.x, n, Projection.Readout.DECODER, true, dense);
        gpu.projectDense(x, n, Projection.Readout.DECODER, true, denseOnDevice);
        float[] coefficients = new float[n * 512];
        dense.get(coefficients);
        assertArrayEquals(coefficients, onHost(denseOnDevice, n * 512), 1e-3f);
        cuda.free(denseOnDevice);
      }
      cuda.free(x);
      cuda.free(xHatOnDevice);
    }
  }

  /** x is still being computed on the stream, behind a long queue, when encode is called. */
  @Test
  void callsAwaitTheCallersStream() {
    int d = 1024;
    int n = 1024;
    try (Planted planted = new Planted(d, 2048, 20, n, 1);
        SparseAutoencoder cpu = SparseAutoencoder.open(planted.weights, Device.cpu());
        SparseAutoencoder gpu = SparseAutoencoder.open(planted.weights, Device.cuda(0).withStream(cuda.stream()));
        SparseCodes expected = new SparseCodes();
        SparseCodes got = new SparseCodes();
        FloatPointer identity = new FloatPointer((long) d * d)) {
      for (long i = 0; i < (long) d * d; i++) {
        identity.put(i, i % (d + 1) == 0 ? 1 : 0);
      }
      cpu.encode(planted.x, n, expected);
      FloatPointer source = onDevice(planted.x, (long) n * d);
      FloatPointer unit = onDevice(identity, (long) d * d);
      FloatPointer other = cuda.allocate((long) n * d);
      FloatPointer x = onDevice(identity, (long) n * d); // anything but the activations
      gpu.encode(x, n, got); // first use: what it costs is not part of the race
      for (int i = 0; i < 500; i++) {
        cuda.sgemm(source, n, unit, d, d, other, CUBLAS_DEFAULT_MATH);
      }
      cuda.sgemm(source, n, unit, d, d, x, CUBLAS_DEFAULT_MATH); // x = planted.x, exactly
      gpu.encode(x, n, got);
      assertSame(expected, got);
      for (FloatPointer array : new FloatPointer[] {source, unit, other, x}) {
        cuda.free(array);
      }
    }
  }
}

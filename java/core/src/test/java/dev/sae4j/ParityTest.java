package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every device against float64 within the bounds, and against plain Java to the bit. */
class ParityTest {
  // Around every width at which a kernel changes its path: a vector (8, 16), a block (64), the 128 partial sums, a slab (256).
  private static final int[] ODD = {1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257};
  private static final int[] ROWS = {0, 1, 2, 7, 64};

  record Shape(int dIn, int dOut, int dSae) {}

  static Stream<Shape> shapes() {
    // Each size meets others as the other dimension; dOut differs from dIn as in a transcoder.
    return IntStream.range(0, ODD.length)
        .mapToObj(i -> new Shape(ODD[i], ODD[(i + 7) % ODD.length], ODD[(5 * i + 3) % ODD.length]));
  }

  @ParameterizedTest
  @MethodSource("shapes")
  void everyDeviceMeetsTheReference(Shape shape) {
    TestSae sae = new TestSae(shape.dIn, shape.dOut, shape.dSae);
    for (int n : ROWS) {
      assertAllDevices(sae, n);
    }
  }

  @Test
  void thousandRows() {
    assertAllDevices(new TestSae(129, 65, 257), 1000);
  }

  @Test
  void moreRowsThanATile() {
    assertAllDevices(new TestSae(17, 9, 33), 2500);
  }

  @Test
  void moreFeaturesThanATile() {
    TestSae sae = new TestSae(3, 2, 40_000);
    assertDevices(sae, 67, Devices.fast());
  }

  @Test
  void rowsWithNoFeatureAndWithAll() {
    assertAllDevices(new TestSae(65, 33, 129).withAll(false), 64);
    assertAllDevices(new TestSae(65, 33, 129).withAll(true), 64);
  }

  @Test
  void realisticShape() {
    assertDevices(new TestSae(2304, 2304, 16384), 7, Devices.fast());
  }

  private static void assertAllDevices(TestSae sae, int n) {
    assertDevices(sae, n, Devices.all());
  }

  private static void assertDevices(TestSae sae, int n, List<Device> devices) {
    float[] x = sae.normal(n * sae.dIn);
    float[] v = sae.normal(n * sae.dOut);
    CanonicalSae canonical = new CanonicalSae(sae);
    ReferenceSae reference = new ReferenceSae(sae);
    Csr codes = canonical.encode(x);
    float[] point = canonical.decode(codes, null, false);
    float[] direction = canonical.decode(codes, null, true);
    reference.assertEncoded(x, codes);
    reference.assertDecoded(codes, null, false, point);
    reference.assertDecoded(codes, null, true, direction);
    List<Projection> projections =
        List.of(
            Projection.top(1),
            Projection.top(10).withUnit(true),
            Projection.topPerSign(4),
            Projection.topPerSign(sae.dSae + 5L),
            Projection.topPerSign(3).withReadout(Projection.Readout.ENCODER));
    List<Csr> projected = projections.stream().map(p -> canonical.project(vector(p, x, v), p)).toList();
    try (SaeWeights weights = sae.weights()) {
      for (Device device : devices) {
        int rows = Devices.rows(device, n, (long) sae.dSae * (Math.max(sae.dIn, sae.dOut) + 127 & -128));
        float[] xs = Arrays.copyOf(x, rows * sae.dIn);
        float[] vs = Arrays.copyOf(v, rows * sae.dOut);
        String where = device + ", n " + rows + ", d_in " + sae.dIn + ", d_sae " + sae.dSae + ", seed " + TestSae.SEED;
        try (SparseAutoencoder engine = SparseAutoencoder.open(weights, device);
            SparseCodes got = engine.encode(xs)) {
          codes.firstRows(rows).assertSame(Csr.of(got), where);
          assertArrayEquals(Arrays.copyOf(point, rows * sae.dOut), engine.decode(got), 0, where);
          assertArrayEquals(Arrays.copyOf(direction, rows * sae.dOut), engine.decodeDirection(got), 0, where);
          for (int p = 0; p < projections.size(); p++) {
            engine.project(vector(projections.get(p), xs, vs), projections.get(p), got);
            projected.get(p).firstRows(rows).assertSame(Csr.of(got), where + ", " + projections.get(p));
          }
          for (Projection.Readout readout : Projection.Readout.values()) {
            boolean decoder = readout == Projection.Readout.DECODER;
            float[] dense = engine.projectDense(decoder ? vs : xs, readout, decoder);
            reference.assertProjected(decoder ? vs : xs, readout, decoder, dense, decoder ? sae.dOut : sae.dIn);
          }
        }
      }
    }
  }

  private static float[] vector(Projection projection, float[] x, float[] v) {
    return projection.readout() == Projection.Readout.DECODER ? v : x;
  }

  @Test
  void oneCallEqualsTheSameRowsSplit() {
    TestSae sae = new TestSae(129, 64, 500);
    int n = 100;
    float[] x = sae.normal(n * sae.dIn);
    for (Device device : Devices.all()) {
      try (SparseAutoencoder engine = sae.open(device);
          SparseCodes whole = engine.encode(x);
          SparseCodes part = new SparseCodes()) {
        Csr expected = Csr.of(whole);
        int row = 0;
        for (int rows : new int[] {1, 2, 5, 30, 62}) {
          engine.encode(Arrays.copyOfRange(x, row * sae.dIn, (row + rows) * sae.dIn), part);
          Csr got = Csr.of(part);
          int begin = (int) expected.rowOffsets()[row];
          int end = (int) expected.rowOffsets()[row + rows];
          assertArrayEquals(Arrays.copyOfRange(expected.indices(), begin, end), got.indices(), device.toString());
          assertArrayEquals(Arrays.copyOfRange(expected.values(), begin, end), got.values(), 0, device.toString());
          row += rows;
        }
        assertEquals(n, row);
      }
    }
  }

  /** Small integers: products are exact, so equality is exact too. p == threshold is inactive; v == 0 is inactive. */
  @Test
  void exactlyOnTheThresholdIsInactive() {
    TestSae sae = new TestSae(40, 40, 60);
    for (int i = 0; i < sae.wEnc.length; i++) {
      sae.wEnc[i] = sae.random.nextInt(9) - 4;
    }
    float[] x = new float[40];
    for (int i = 0; i < x.length; i++) {
      x[i] = sae.random.nextInt(9) - 4;
    }
    for (int j = 0; j < sae.dSae; j++) {
      float p = CanonicalSae.dot(x, 0, sae.wEnc, j * 40, 40);
      sae.scale[j] = 1;
      switch (j % 4) {
        case 0 -> { // on the threshold
          sae.threshold[j] = p;
          sae.offset[j] = 1000;
        }
        case 1 -> { // an ulp above it
          sae.threshold[j] = Math.nextDown(p);
          sae.offset[j] = 1000;
        }
        case 2 -> { // the value is exactly zero
          sae.threshold[j] = Float.NEGATIVE_INFINITY;
          sae.offset[j] = -p;
        }
        default -> { // a negative threshold does not let a negative value through
          sae.threshold[j] = p - 1;
          sae.offset[j] = -p - 1;
        }
      }
    }
    float[] batch = new float[20 * 40];
    for (int row = 0; row < 20; row++) {
      System.arraycopy(x, 0, batch, row * 40, 40);
    }
    for (Device device : Devices.all()) {
      try (SparseAutoencoder engine = sae.open(device);
          SparseCodes codes = engine.encode(batch)) {
        int[] onlyAbove = IntStream.range(0, 20 * 15).map(i -> i % 15 * 4 + 1).toArray();
        assertArrayEquals(onlyAbove, Csr.of(codes).indices(), device.toString());
      }
    }
  }

  /** Many equal values: ties go to the lower index, zeros are never returned, rows of norm zero read 0. */
  @Test
  void tiesGoToTheLowerIndex() {
    TestSae sae = new TestSae(8, 8, 200);
    for (int i = 0; i < sae.wDec.length; i++) {
      sae.wDec[i] = sae.random.nextInt(3) - 1;
    }
    Arrays.fill(sae.wDec, 8 * 50, 8 * 60, 0);
    float[] v = new float[30 * 8];
    for (int i = 0; i < v.length; i++) {
      v[i] = sae.random.nextInt(3) - 1;
    }
    CanonicalSae canonical = new CanonicalSae(sae);
    for (Device device : Devices.all()) {
      try (SparseAutoencoder engine = sae.open(device)) {
        for (int k : new int[] {1, 2, 20, 199, 200, 1000}) {
          for (Projection p :
              List.of(Projection.top(k), Projection.topPerSign(k), Projection.top(k).withUnit(true))) {
            try (SparseCodes codes = engine.project(v, p)) {
              canonical.project(v, p).assertSame(Csr.of(codes), device + ", " + p);
              assertTrue(Arrays.stream(Csr.of(codes).indices()).noneMatch(j -> j >= 50 && j < 60), "a zero was returned");
            }
          }
        }
      }
    }
  }
}

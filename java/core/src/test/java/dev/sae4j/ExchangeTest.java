package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Codes go from device to device: whoever wrote them, anyone reads and decodes the same. */
class ExchangeTest {
  private final TestSae sae = new TestSae(20, 30, 70);
  private final CanonicalSae canonical = new CanonicalSae(sae);

  static Stream<Arguments> pairs() {
    return Devices.each().stream().flatMap(from -> Devices.each().stream().map(to -> Arguments.of(from, to)));
  }

  @ParameterizedTest
  @MethodSource("pairs")
  void oneDevicesCodesAreDecodedOnAnother(Device from, Device to) {
    float[] x = sae.normal(5 * sae.dIn);
    Csr expected = canonical.encode(x);
    try (SparseAutoencoder writer = sae.open(from);
        SparseAutoencoder reader = sae.open(to);
        SparseCodes codes = new SparseCodes()) {
      for (boolean readFirst : new boolean[] {false, true}) {
        writer.encode(x, codes);
        if (readFirst) {
          expected.assertSame(Csr.of(codes), "before decode");
        }
        assertArrayEquals(canonical.decode(expected, null, false), reader.decode(codes), 0);
        assertArrayEquals(canonical.decode(expected, null, true), writer.decodeDirection(codes), 0);
        expected.assertSame(Csr.of(codes), "after decode");
      }
    }
  }

  /** The same object, written in turn by two devices and from arrays, with more rows and with fewer. */
  @ParameterizedTest
  @MethodSource("pairs")
  void codesAreReusedAcrossDevices(Device one, Device other) {
    try (SparseAutoencoder first = sae.open(one);
        SparseAutoencoder second = sae.open(other);
        SparseCodes codes = new SparseCodes()) {
      for (int n : new int[] {3, 11, 0, 2}) {
        for (SparseAutoencoder engine : List.of(first, second)) {
          float[] x = sae.normal(n * sae.dIn);
          engine.encode(x, codes);
          assertEquals(n, codes.rows());
          assertEquals(sae.dSae, codes.dSae());
          Csr expected = canonical.encode(x);
          expected.assertSame(Csr.of(codes), engine.device() + ", n " + n);
          for (SparseAutoencoder reader : List.of(second, first)) {
            assertArrayEquals(canonical.decode(expected, null, false), reader.decode(codes), 0);
          }
          float[] v = sae.normal(n * sae.dOut);
          engine.project(v, Projection.topPerSign(3), codes);
          canonical.project(v, Projection.topPerSign(3)).assertSame(Csr.of(codes), engine.device() + ", project");
        }
        Csr arrays = new Csr(new long[] {0, 1, 3}, new int[] {69, 0, 5}, new float[] {-1, 2, 3});
        try (SparseCodes made = SparseCodes.of(sae.dSae, arrays.rowOffsets(), arrays.indices(), arrays.values())) {
          codes.assign(2, sae.dSae, made.rowOffsets(), made.indices(), made.values());
        }
        for (SparseAutoencoder reader : List.of(first, second)) {
          assertArrayEquals(canonical.decode(arrays, null, true), reader.decodeDirection(codes), 0, "assigned");
        }
        first.pursue(sae.normal(sae.dOut), Pursuit.omp(3), codes);
        assertEquals(Pursuit.Stop.ATOMS, codes.stop(0));
        assertArrayEquals(canonical.decode(Csr.of(codes), null, true), second.decodeDirection(codes), 0, "pursued");
      }
    }
  }

  @ParameterizedTest
  @MethodSource("dev.sae4j.Devices#each")
  void codesOutliveTheModelThatWroteThem(Device device) {
    float[] x = sae.normal(4 * sae.dIn);
    try (SparseCodes codes = new SparseCodes()) {
      try (SparseAutoencoder engine = sae.open(device)) {
        engine.encode(x, codes);
      }
      Csr expected = canonical.encode(x);
      assertEquals(expected.values().length, codes.nnz());
      expected.assertSame(Csr.of(codes), device.toString());
      try (SparseAutoencoder engine = sae.open(device)) {
        assertArrayEquals(canonical.decode(expected, null, false), engine.decode(codes), 0);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("pairs")
  void aFailedCallLeavesNoRowsOfAnother(Device from, Device to) {
    try (SparseAutoencoder writer = sae.open(from);
        SparseAutoencoder failing = sae.open(to);
        SparseCodes codes = writer.encode(sae.normal(4 * sae.dIn))) {
      float[] bad = new float[sae.dIn];
      bad[7] = Float.NEGATIVE_INFINITY;
      Exception e = assertThrows(IllegalArgumentException.class, () -> failing.encode(bad, codes));
      assertEquals("x must be finite, got -inf at row 0, column 7", e.getMessage());
      assertEquals(0, codes.rows());
      assertEquals(0, codes.nnz());
      assertEquals(0, failing.decode(codes).length);
    }
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ActivationReaderTest {
  private static final int D = 5;

  @TempDir Path folder;

  private static String spec(String name) {
    int hash = name.indexOf('#');
    return hash < 0
        ? Fixtures.path(name).toString()
        : Fixtures.path(name.substring(0, hash)) + name.substring(hash);
  }

  private static float[] readAll(String spec, int chunkRows) {
    try (ActivationReader reader = ActivationReader.open(spec, D)) {
      assertEquals(D, reader.columns());
      float[] all = new float[(int) reader.rows() * D];
      FloatBuffer chunk = FloatBuffer.allocate(chunkRows * D + D - 1); // what is left of a row stays untouched
      int done = 0;
      for (long n = reader.read(chunk); n > 0; n = reader.read(chunk.clear())) {
        chunk.flip().get(all, done, (int) n * D);
        done += (int) n * D;
      }
      assertEquals(all.length, done);
      return all;
    }
  }

  @ParameterizedTest
  @CsvSource({
    "x_f2.npy, x_f2.npy", "x_f4.npy, x_f4.npy", "x_f8.npy, x_f8.npy", "x.npz, x_f4.npy", "x.npz#acts, x_f4.npy",
    "x.safetensors, x.safetensors", "two.npz#a, x_f4.npy", "two.npz#b, two.npz#b", "two.safetensors#b, two.npz#b",
    "rank3.npy, rank3.npy", "vector.npy, vector.npy", "fortran.npy, x_f4.npy", "big_endian.npy, x_f4.npy"
  })
  void readsWhatPythonWroteInAnyChunks(String name, String expected) {
    for (int chunkRows : new int[] {1, 2, 100}) {
      assertArrayEquals(Fixtures.expectedBits(expected), Fixtures.bits(readAll(spec(name), chunkRows)));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"x_f4.npy#[3]", "x.npz#[3]", "x.npz#acts[3]", "two.safetensors#a[3]", "fortran.npy#[3]", "big_endian.npy#[3]"})
  void picksARow(String name) {
    int[] row = Arrays.copyOfRange(Fixtures.expectedBits("x_f4.npy"), 3 * D, 4 * D);
    assertArrayEquals(row, Fixtures.bits(readAll(spec(name), 2)));
    assertArrayEquals(row, Fixtures.bits(ActivationReader.readVector(spec(name), D)));
  }

  @Test
  void readsOneVector() {
    assertArrayEquals(
        Fixtures.expectedBits("vector.npy"), Fixtures.bits(ActivationReader.readVector(spec("vector.npy"), D)));
    refused(() -> ActivationReader.readVector(spec("x_f4.npy"), D), "7 vectors", "[7, 5]", "FILE#[row]");
    refused(() -> ActivationReader.readVector(spec("two.npz#a"), D), "FILE#a[row]");
    refused(() -> ActivationReader.readVector(spec("vector.npy"), 6), "5 values", "expected d = 6");
  }

  @Test
  void theLastTwoDimensionsMayBeHeads() throws IOException {
    float[] values = new float[24];
    for (int i = 0; i < values.length; i++) {
      values[i] = i;
    }
    String heads = write("h.npy", Fixtures.npy("<f4", "(2, 2, 3, 2)", Fixtures.floatBytes(values)));
    try (ActivationReader reader = ActivationReader.open(heads, 6)) {
      assertEquals(4, reader.rows());
      assertEquals(6, reader.columns());
      FloatBuffer all = FloatBuffer.allocate(24);
      assertEquals(4, reader.read(all));
      assertArrayEquals(values, all.array());
      assertNull(reader.warning());
    }
    assertArrayEquals(new float[] {18, 19, 20, 21, 22, 23}, ActivationReader.readVector(heads + "#[3]", 6));
    refused(() -> ActivationReader.open(heads + "#[4]", 6), "row 4", "it has 4");
    try (ActivationReader reader = ActivationReader.open(heads, 2)) {
      assertEquals(12, reader.rows()); // the last dimension comes first
    }
    refused(() -> ActivationReader.open(heads, 12), "rows have 2 values (shape [2, 2, 3, 2]), expected d = 12", "reshape to [n, 12]");
    try (ActivationReader reader = ActivationReader.open(spec("x_f4.npy"), 7 * D)) {
      assertEquals(1, reader.rows());
      assertTrue(reader.warning().contains("shape [7, 5] is taken for one row of 35 values"), reader.warning());
    }
  }

  @Test
  void aFileMayHaveAHashInItsName() throws IOException {
    Path file = Files.copy(Fixtures.path("x_f4.npy"), folder.resolve("a#b.npy"));
    assertEquals(7 * D, readAll(file.toString(), 7).length);
    assertEquals(D, readAll(file + "#[6]", 7).length);
  }

  @Test
  void refusesAmbiguousAndMissing() {
    refused(() -> ActivationReader.open(spec("two.npz")), "2 tensors", "FILE#NAME", "\"a\", \"b\"");
    refused(() -> ActivationReader.open(spec("two.safetensors")), "\"a\", \"b\"");
    refused(() -> ActivationReader.open(spec("two.npz#c")), "no tensor \"c\"", "\"a\", \"b\"");
    refused(() -> ActivationReader.open(spec("two.npz#\0")), "no tensor \"?\""); // no path has a NUL
    refused(() -> ActivationReader.open(spec("x_f4.npy#[7]")), "row 7", "it has 7");
    refused(() -> ActivationReader.open(spec("x_f4.npy#acts")), "without a name");
    failed(() -> ActivationReader.open(folder + "/x.npy"), "no such file");
    failed(() -> ActivationReader.open(folder.toString()), "is a folder");
  }

  @Test
  void refusesWhatItCannotRead() throws IOException {
    refused(() -> readAll(write("s.npy", Fixtures.npy("<f4", "()", new byte[4])), 1), "single number");
    refused(() -> readAll(write("e.npy", Fixtures.npy("<f4", "(3, 0)", new byte[0])), 1), "[3, 0]");
    failed(() -> ActivationReader.open(write("v.txt", new byte[4])), "unknown format", ".safetensors");
    try (ActivationReader reader = ActivationReader.open(spec("too_large.npy"))) {
      refused(() -> reader.read(FloatBuffer.allocate(2)), "-1.0E300 at [0, 1]", "too large for float32");
    }
    try (ActivationReader reader = ActivationReader.open(spec("x_f4.npy"))) {
      assertThrows(IllegalArgumentException.class, () -> reader.read(FloatBuffer.allocate(4)));
    }
  }

  private String write(String name, byte[] content) throws IOException {
    return Files.write(folder.resolve(name), content).toString();
  }

  @Test
  void noRowsAreNoError() throws IOException {
    assertEquals(0, readAll(write("none.npy", Fixtures.npy("<f4", "(0, 5)", new byte[0])), 1).length);
  }

  @Test
  void offsetsBeyond32Bits() throws IOException {
    long rows = 1L << 28; // 5 GiB of float32, a hole but for its last row
    byte[] header = Npy.header("<f4", "(%d, %d)".formatted(rows, D));
    Path path = folder.resolve("large.npy");
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      file.write(header);
      file.seek(header.length + (rows - 1) * D * Float.BYTES);
      file.write(Fixtures.floatBytes(1, 2, 3, 4, 5));
    }
    assertArrayEquals(new float[] {1, 2, 3, 4, 5}, ActivationReader.readVector(path + "#[" + (rows - 1) + "]", D));
  }

  @Test
  void everyFloat16IsExact() throws IOException {
    byte[] all = new byte[2 << 16];
    for (int bits = 0; bits < 1 << 16; bits++) {
      all[2 * bits] = (byte) bits;
      all[2 * bits + 1] = (byte) (bits >> 8);
    }
    try (TensorFile file = TensorFile.open(Path.of(write("h.npy", Fixtures.npy("<f2", "(65536, 1)", all))))) {
      float[] values = new float[1 << 16];
      file.require("").read(0, values, 0, values.length);
      for (int bits = 0; bits < 1 << 16; bits++) {
        int exponent = bits >> 10 & 31;
        double fraction = (bits & 1023) / 1024.0;
        double magnitude =
            exponent == 31
                ? fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN
                : exponent == 0 ? fraction * Math.pow(2, -14) : (1 + fraction) * Math.pow(2, exponent - 15);
        float expected = (float) (bits < 1 << 15 ? magnitude : -magnitude);
        assertEquals(expected, values[bits], "bits " + bits); // tells -0 from 0
      }
    }
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floatBytes;
import static dev.sae4j.io.Fixtures.longBytes;
import static dev.sae4j.io.Fixtures.npy;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import dev.sae4j.SparseCodes;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CodesFileTest {
  @TempDir Path folder;

  /** CSR on the heap: what is in a file. */
  private record Csr(long rows, long dSae, long[] rowOffsets, int[] indices, float[] values) {
    static Csr random(int rows, int dSae, long seed) {
      Random random = new Random(seed);
      long[] rowOffsets = new long[rows + 1];
      int[] indices = new int[rows * dSae];
      float[] values = new float[rows * dSae];
      int nnz = 0;
      for (int row = 0; row < rows; row++) {
        double density = row % 5 == 1 ? 0 : random.nextDouble();
        for (int feature = 0; feature < dSae; feature++) {
          if (random.nextDouble() < density) {
            indices[nnz] = feature;
            values[nnz++] = (float) random.nextGaussian();
          }
        }
        rowOffsets[row + 1] = nnz;
      }
      return new Csr(rows, dSae, rowOffsets, Arrays.copyOf(indices, nnz), Arrays.copyOf(values, nnz));
    }

    SparseCodes part(int from, int to) {
      int first = (int) rowOffsets[from];
      int last = (int) rowOffsets[to];
      long[] offsets = Arrays.stream(rowOffsets, from, to + 1).map(offset -> offset - first).toArray();
      return SparseCodes.of(dSae, offsets, Arrays.copyOfRange(indices, first, last), Arrays.copyOfRange(values, first, last));
    }

    Path write(Path path, int chunkRows) {
      try (CodesWriter writer = CodesWriter.create(path, dSae)) {
        for (int row = 0; row < rows; row += chunkRows) {
          try (SparseCodes codes = part(row, (int) Math.min(row + chunkRows, rows))) {
            writer.accept(codes);
          }
        }
        assertEquals(rows, writer.rows());
        assertEquals(values.length, writer.nnz());
        writer.commit();
      }
      return path;
    }

    static Csr read(Path path, int chunkRows) {
      try (CodesReader reader = CodesReader.open(path);
          SparseCodes codes = new SparseCodes()) {
        long[] rowOffsets = new long[(int) reader.rows() + 1];
        int[] indices = new int[(int) reader.nnz()];
        float[] values = new float[(int) reader.nnz()];
        int row = 0;
        int at = 0;
        for (long n = reader.read(codes, chunkRows); n > 0; n = reader.read(codes, chunkRows)) {
          assertEquals(n, codes.rows());
          for (int i = 1; i <= n; i++) {
            rowOffsets[row + i] = at + codes.rowOffsets().get(i);
          }
          int nnz = (int) codes.nnz();
          if (nnz > 0) {
            codes.indices().asBuffer().get(indices, at, nnz);
            codes.values().asBuffer().get(values, at, nnz);
          }
          row += (int) n;
          at += nnz;
        }
        assertEquals(reader.rows(), row);
        return new Csr(reader.rows(), reader.dSae(), rowOffsets, indices, values);
      }
    }

    void assertSame(Csr other) {
      assertEquals(rows, other.rows);
      assertEquals(dSae, other.dSae);
      assertArrayEquals(rowOffsets, other.rowOffsets);
      assertArrayEquals(indices, other.indices);
      assertArrayEquals(Fixtures.bits(values), Fixtures.bits(other.values));
    }
  }

  @Test
  void whatIsWrittenInChunksIsReadInChunks() throws IOException {
    Csr codes = Csr.random(50, 70, 1);
    byte[] first = Files.readAllBytes(codes.write(folder.resolve("a.npz"), 7));
    byte[] second = Files.readAllBytes(codes.write(folder.resolve("b.npz"), 50));
    assertArrayEquals(first, second, "equal codes, equal files");
    for (int chunkRows : new int[] {1, 3, 1000}) {
      codes.assertSame(Csr.read(folder.resolve("a.npz"), chunkRows));
    }
  }

  @Test
  void chunksOfManyValuesAreCutShort() {
    Csr codes = Csr.random(30, 200_000, 2);
    codes.assertSame(Csr.read(codes.write(folder.resolve("many.npz"), 10), 1000));
  }

  @Test
  void noRows() {
    Csr none = Csr.random(0, 9, 3);
    none.assertSame(Csr.read(none.write(folder.resolve("none.npz"), 1), 10));
  }

  @ParameterizedTest
  @ValueSource(strings = {"codes.npz", "codes_wide.npz"})
  void readsWhatScipyWrites(String name) {
    JsonObject expected = Fixtures.expected(name);
    int[] shape = Fixtures.ints(expected.getAsJsonArray("shape"));
    Csr got = Csr.read(Fixtures.path(name), 4);
    assertEquals(shape[0], got.rows);
    assertEquals(shape[1], got.dSae);
    assertArrayEquals(
        Fixtures.ints(expected.getAsJsonArray("indptr")), Arrays.stream(got.rowOffsets).mapToInt(Math::toIntExact).toArray());
    assertArrayEquals(Fixtures.ints(expected.getAsJsonArray("indices")), got.indices);
    assertArrayEquals(Fixtures.ints(expected.getAsJsonArray("data")), Fixtures.bits(got.values));
  }

  @Test
  void scipyReadsWhatIsWritten() throws Exception {
    assumeTrue(python("import scipy.sparse").equals(""), "python3 with scipy is not here");
    Csr codes = Csr.random(50, 70, 4);
    Path path = codes.write(folder.resolve("codes.npz"), 9);
    double sum = 0;
    for (int i = 0; i < codes.values.length; i++) {
      sum += (double) codes.values[i] * (codes.indices[i] + 1);
    }
    String script =
        """
        import sys, numpy, scipy.sparse
        m = scipy.sparse.load_npz(sys.argv[1])
        m.check_format(full_check=True)
        assert m.format == "csr" and m.has_canonical_format and m.data.dtype == numpy.float32, m.dtype
        s = (m.data.astype(float) * (m.indices + 1)).sum()
        print(*m.shape, m.nnz, m.indptr[25], abs(s - float(sys.argv[2])) < 1e-6)
        """;
    String expected = "50 70 %d %d True".formatted(codes.values.length, codes.rowOffsets[25]);
    assertEquals(expected, python(script, path.toString(), Double.toString(sum)));
  }

  private static String python(String script, String... arguments) throws Exception {
    List<String> command = Stream.concat(Stream.of("python3", "-c", script), Arrays.stream(arguments)).toList();
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
      process.waitFor();
      return output;
    } catch (IOException e) {
      return e.getMessage();
    }
  }

  // ---- hostile codes: 3 rows of 4 features, {0: 1, 2: 2}, {}, {3: 3}

  private static Map<String, byte[]> arrays() {
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    arrays.put("format", npy("|S3", "()", "csr".getBytes(StandardCharsets.US_ASCII)));
    arrays.put("shape", npy("<i8", "(2,)", longBytes(3, 4)));
    arrays.put("indptr", npy("<i8", "(4,)", longBytes(0, 2, 2, 3)));
    arrays.put("indices", npy("<i8", "(3,)", longBytes(0, 2, 3)));
    arrays.put("data", npy("<f4", "(3,)", floatBytes(1, 2, 3)));
    return arrays;
  }

  private void refusedWith(String name, byte[] array, String... fragments) throws IOException {
    Map<String, byte[]> arrays = arrays();
    if (array == null) {
      arrays.remove(name);
    } else {
      arrays.put(name, array);
    }
    for (boolean deflated : new boolean[] {false, true}) {
      Path path = Files.write(folder.resolve("codes.npz"), Fixtures.npz(deflated, arrays));
      for (int chunkRows : new int[] {1, 10}) {
        refused(() -> Csr.read(path, chunkRows), fragments);
      }
    }
  }

  // ---- codes of an SAE that normalises

  private Path normalized(int chunkRows) {
    Path path = folder.resolve("normalized" + chunkRows + ".npz");
    try (CodesWriter writer = CodesWriter.create(path, 3)) {
      for (int row = 0; row < 20; row += chunkRows) {
        int n = Math.min(chunkRows, 20 - row);
        float[] scale = new float[n];
        float[] shift = new float[n];
        for (int i = 0; i < n; i++) {
          scale[i] = row + i + 0.5f;
          shift[i] = -row - i;
        }
        try (SparseCodes codes = SparseCodes.of(3, new long[n + 1], new int[0], new float[0], scale, shift)) {
          writer.accept(codes);
        }
      }
      writer.commit();
    }
    return path;
  }

  @Test
  void scaleAndShiftTravelWithTheCodes() throws IOException {
    assertArrayEquals(Files.readAllBytes(normalized(7)), Files.readAllBytes(normalized(20)), "equal codes, equal files");
    for (int chunkRows : new int[] {1, 6, 100}) {
      try (CodesReader reader = CodesReader.open(normalized(7));
          SparseCodes codes = new SparseCodes()) {
        int row = 0;
        for (long n = reader.read(codes, chunkRows); n > 0; n = reader.read(codes, chunkRows)) {
          for (int i = 0; i < n; i++, row++) {
            assertEquals(row + 0.5f, codes.rowScale().get(i));
            assertEquals(-row, codes.rowShift().get(i));
          }
        }
        assertEquals(20, row);
      }
    }
  }

  @Test
  void scipyPassesOverScaleAndShift() throws Exception {
    assumeTrue(python("import scipy.sparse").equals(""), "python3 with scipy is not here");
    String script =
        """
        import sys, numpy, scipy.sparse
        m, f = scipy.sparse.load_npz(sys.argv[1]), numpy.load(sys.argv[1])
        print(*m.shape, f["scale"].dtype, f["scale"][3], f["shift"].shape, f["shift"][3])
        """;
    assertEquals("20 3 float32 3.5 (20,) -3.0", python(script, normalized(7).toString()));
  }

  @Test
  void refusesScaleAndShiftOfSomeRowsOnly() throws IOException {
    refusedWith("scale", npy("<f4", "(3,)", floatBytes(1, 2, 3)), "no tensor \"shift\"");
    refusedWith("shift", npy("<f4", "(3,)", floatBytes(1, 2, 3)), "no tensor \"scale\"");
    Map<String, byte[]> arrays = arrays();
    arrays.put("scale", npy("<f4", "(3,)", floatBytes(1, 2, 3)));
    arrays.put("shift", npy("<f4", "(2,)", floatBytes(1, 2)));
    Path path = Files.write(folder.resolve("codes.npz"), Fixtures.npz(false, arrays));
    refused(() -> CodesReader.open(path), "shift", "[2]", "expected [3]: one for each row");
    arrays.put("shift", npy("<f4", "(3,)", floatBytes(1, Float.POSITIVE_INFINITY, 3)));
    Files.write(path, Fixtures.npz(false, arrays));
    refused(() -> Csr.read(path, 2), "shift", "Infinity at [1]");
    try (CodesWriter writer = CodesWriter.create(folder.resolve("mixed.npz"), 3);
        SparseCodes with = SparseCodes.of(3, new long[2], new int[0], new float[0], new float[1], new float[1]);
        SparseCodes without = SparseCodes.of(3, new long[2], new int[0], new float[0])) {
      writer.accept(with);
      assertThrows(IllegalArgumentException.class, () -> writer.accept(without));
    }
  }

  @Test
  void theBaseOfTheseTestsLoads() throws IOException {
    Path path = Files.write(folder.resolve("codes.npz"), Fixtures.npz(true, arrays()));
    new Csr(3, 4, new long[] {0, 2, 2, 3}, new int[] {0, 2, 3}, new float[] {1, 2, 3}).assertSame(Csr.read(path, 2));
  }

  @Test
  void refusesBrokenCodes() throws IOException {
    for (String name : arrays().keySet()) {
      refusedWith(name, null, "no tensor \"" + name + "\"");
    }
    refusedWith("format", npy("|S3", "()", "csc".getBytes(StandardCharsets.US_ASCII)), "\"csc\"", "expected \"csr\"");
    refusedWith("format", npy("|S99", "()", new byte[99]), "99 bytes");
    refusedWith("shape", npy("<i8", "(3,)", longBytes(3, 4, 5)), "[3]", "expected [2]");
    refusedWith("shape", npy("<f8", "(2,)", longBytes(3, 4)), "\"<f8\"", "expected int32 or int64");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(-1, 4)), "[-1, 4]");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(Long.MAX_VALUE, 4)), "expected n from 0");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(3, 1L << 31)), "expected n from 0");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(4, 4)), "indptr", "expected [5]");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(3, 3)), "row 2 has feature 3", "d_sae = 3");
    refusedWith("shape", npy("<i8", "(2,)", longBytes(3, 1)), "row 0 has 2 values", "d_sae = 1");
    refusedWith("indptr", npy("<i8", "(4,)", longBytes(1, 2, 2, 3)), "begins with 1");
    refusedWith("indptr", npy("<i8", "(4,)", longBytes(0, 2, 1, 3)), "1 at [2]", "no decrease");
    refusedWith("indptr", npy("<i8", "(4,)", longBytes(0, 2, 2, 2)), "2 at [3]", "at last 3");
    refusedWith("indptr", npy("<i8", "(4,)", longBytes(0, 2, 4, 3)), "4 at [2]");
    refusedWith("indptr", npy("<i8", "(4,)", longBytes(0, 2, Long.MIN_VALUE, 3)), "at [2]");
    refusedWith("indices", npy("<i8", "(3,)", longBytes(2, 0, 3)), "row 0 has feature 0 after 2", "sum_duplicates");
    refusedWith("indices", npy("<i8", "(3,)", longBytes(2, 2, 3)), "row 0 has feature 2 after 2");
    refusedWith("indices", npy("<i8", "(3,)", longBytes(0, 2, -1)), "row 2 has feature -1");
    refusedWith("indices", npy("<i8", "(3,)", longBytes(0, 2, 1L << 32)), "row 2 has feature 4294967296");
    refusedWith("indices", npy("<i8", "(2,)", longBytes(0, 2)), "data", "expected [2]");
    refusedWith("indices", npy("<i8", "(3, 1)", longBytes(0, 2, 3)), "[3, 1]", "one dimension");
    refusedWith("data", npy("<f4", "(3,)", floatBytes(1, Float.NaN, 3)), "NaN at [1]");
    refusedWith("data", npy("<i8", "(3,)", longBytes(1, 2, 3)), "\"<i8\" is not supported");
    refusedWith("data", npy("<f8", "(3,)", longBytes(0, 0, Double.doubleToRawLongBits(1e300))), "1.0E300 at [2] is too large");
    refused(() -> CodesReader.open(Fixtures.path("codes_csc.npz")), "\"csc\"");
    failed(() -> CodesReader.open(Fixtures.path("x_f4.npy")), "expected a .npz file");
  }

  // ---- writing

  private long files() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.count();
    }
  }

  @Test
  void whatIsNotCommittedLeavesNoTrace() throws IOException {
    Path path = Files.writeString(folder.resolve("codes.npz"), "old");
    try (CodesWriter writer = CodesWriter.create(path, 70);
        SparseCodes codes = Csr.random(5, 70, 5).part(0, 5)) {
      writer.accept(codes);
      assertTrue(files() > 1);
    }
    assertEquals(1, files());
    assertEquals("old", Files.readString(path));
    try (CodesWriter writer = CodesWriter.create(path, 70)) {
      writer.commit();
    }
    assertEquals(1, files());
    assertEquals(0, Csr.read(path, 1).rows);
  }

  @Test
  void refusesCodesOfAnotherSae() {
    try (CodesWriter writer = CodesWriter.create(folder.resolve("codes.npz"), 71);
        SparseCodes codes = Csr.random(5, 70, 6).part(0, 5)) {
      assertThrows(IllegalArgumentException.class, () -> writer.accept(codes));
    }
  }

  @Test
  void refusesFoldersThatCannotBeWrittenTo() throws IOException {
    failed(() -> CodesWriter.create(folder.resolve("missing/codes.npz"), 7), "codes.npz: cannot be written: no such");
    failed(() -> CodesWriter.create(folder, 7), "is a folder");
    Path file = Files.writeString(folder.resolve("file"), "");
    failed(() -> CodesWriter.create(file.resolve("codes.npz"), 7), "cannot be written");
    assertEquals(1, files());
  }
}

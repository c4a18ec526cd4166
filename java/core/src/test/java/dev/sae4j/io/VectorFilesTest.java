package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** .pt, .gguf and .svec files: as PyTorch, gguf-py and json wrote them (make_vectors.py), damaged, and real. */
class VectorFilesTest {
  private static final Path DATA = Path.of(System.getProperty("sae4j.root", "."), "../shared/data");

  @TempDir Path folder;

  private static Path fixture(String name) {
    return Fixtures.path("vectors/" + name);
  }

  private static JsonObject expected() throws IOException {
    return JsonParser.parseString(Files.readString(fixture("expected.json"))).getAsJsonObject();
  }

  static Stream<String> files() throws IOException {
    return expected().keySet().stream();
  }

  private static float[] readAll(ActivationReader reader, int chunkRows) {
    float[] all = new float[(int) (reader.rows() * reader.columns())];
    FloatBuffer chunk = FloatBuffer.allocate((int) (chunkRows * reader.columns()));
    int done = 0;
    for (long n = reader.read(chunk); n > 0; n = reader.read(chunk.clear())) {
      int count = (int) (n * reader.columns());
      chunk.flip().get(all, done, count);
      done += count;
    }
    assertEquals(all.length, done);
    return all;
  }

  // ---- files that others wrote

  @ParameterizedTest
  @MethodSource("files")
  void readsWhatPythonWrote(String file) throws IOException {
    JsonObject tensors = expected().getAsJsonObject(file);
    try (TensorFile open = TensorFile.open(fixture(file))) {
      assertEquals(new ArrayList<>(tensors.keySet()), new ArrayList<>(open.tensors().keySet()));
    }
    for (Map.Entry<String, JsonElement> entry : tensors.entrySet()) {
      String spec = fixture(file) + (entry.getKey().isEmpty() ? "" : "#" + entry.getKey());
      if (entry.getValue().isJsonNull()) {
        refused(() -> ActivationReader.open(spec), "is not supported, expected float32");
        continue;
      }
      JsonObject tensor = entry.getValue().getAsJsonObject();
      int[] shape = Fixtures.ints(tensor.getAsJsonArray("shape"));
      if (shape.length == 0) {
        refused(() -> ActivationReader.open(spec), "shape is []");
        continue;
      }
      for (int chunkRows : new int[] {1, 2, 100}) {
        try (ActivationReader reader = ActivationReader.open(spec)) {
          assertEquals(shape[shape.length - 1], reader.columns(), spec);
          int[] bits = Fixtures.bits(readAll(reader, chunkRows));
          assertArrayEquals(Fixtures.ints(tensor.getAsJsonArray("bits")), bits, spec);
        }
      }
    }
  }

  @Test
  void readsIntegersOfAnArchive() {
    try (TensorFile file = TensorFile.open(fixture("integers.pt"))) {
      for (String name : List.of("int64", "int32")) {
        long[] values = new long[3];
        file.require(name).read(1, values, 3);
        assertArrayEquals(new long[] {1, 2, 3}, values);
      }
      assertArrayEquals(new byte[] {0, 1, 2, 3}, file.require("uint8").readBytes(4));
    }
  }

  @Test
  void readsScalarsOfNumpyAsPlainValues() {
    Map<?, ?> dict = (Map<?, ?>) PyTorch.value(fixture("numpy_mixed.pt"));
    assertEquals(8L, dict.get("k"));
    assertEquals(0.5, dict.get("scale"));
    assertEquals(2.0, dict.get("big"));
    assertEquals(true, dict.get("flag"));
    assertArrayEquals(new byte[] {(byte) 0xff}, (byte[]) dict.get("bytes"));
  }

  @Test
  void namesTheDtypeOfObjects() {
    refused(() -> ActivationReader.open(fixture("numpy.pt") + "#objects"), "\"objects\": dtype \"|O8\" is not supported");
    refused(() -> ActivationReader.open(fixture("numpy.pt") + "#text"), "dtype \"<U2\" is not supported");
    refused(() -> ActivationReader.open(fixture("numbers.npz") + "#bool"), "dtype \"|b1\" is not supported");
  }

  @Test
  void picksRowsOfViewsInAnyOrder() throws IOException {
    JsonObject tensors = expected().getAsJsonObject("views.pt");
    for (String name : List.of("transposed", "columns", "every_other_row", "expanded", "permuted")) {
      JsonObject tensor = tensors.getAsJsonObject(name);
      int[] bits = Fixtures.ints(tensor.getAsJsonArray("bits"));
      int[] shape = Fixtures.ints(tensor.getAsJsonArray("shape"));
      int d = shape[shape.length - 1];
      for (int row = bits.length / d - 1; row >= 0; row--) {
        int[] rowBits = Arrays.copyOfRange(bits, row * d, (row + 1) * d);
        String spec = "%s#%s[%d]".formatted(fixture("views.pt"), name, row);
        assertArrayEquals(rowBits, Fixtures.bits(ActivationReader.readVector(spec, d)), spec);
      }
    }
  }

  @Test
  void aListsElementComesBeforeARow() {
    Path path = fixture("nested.pt");
    float[] first = ActivationReader.readVector(path + "#layers[0]", 4);
    assertArrayEquals(first, ActivationReader.readVector(path + "#layers[2][0]", 4));
    assertArrayEquals(first, ActivationReader.readVector(path + "#by.layers[0]", 4));
    assertArrayEquals(first, ActivationReader.readVector(path + "#layers[0][0]", 4));
    refused(() -> ActivationReader.open(path + "#layers[3]"), "no tensor \"layers\"");
    refused(() -> ActivationReader.open(path + "#layers[0][1]"), "row 1", "it has 1");
    try (ActivationReader reader = ActivationReader.open(fixture("list.pt") + "#[1]")) {
      assertEquals(2, reader.rows());
    }
  }

  @Test
  void listsADozenNames() {
    String many = fixture("many.pt").toString();
    String message = refused(() -> ActivationReader.open(many), "15 tensors", "\"v11\" and 3 more");
    assertTrue(!message.contains("\"v12\""), message);
    refused(() -> ActivationReader.open(fixture("control.gguf").toString()), "\"direction.1\", \"direction.2\"");
    refused(() -> ActivationReader.open(fixture("two.svec") + "#2"), "no tensor \"2\"; it has \"1\", \"12\"");
    refused(() -> ActivationReader.open(fixture("f32.pt") + "#v"), "without a name");
  }

  @Test
  void warnsOfLayersFromZero() {
    try (ActivationReader zero = ActivationReader.open(fixture("zero_based.gguf") + "#direction.2");
        ActivationReader one = ActivationReader.open(fixture("control.gguf") + "#direction.2")) {
      assertTrue(zero.warning().contains("direction.0") && zero.warning().lines().count() == 1, zero.warning());
      assertNull(one.warning());
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "legacy.pt      | PyTorch's legacy format, expected a zip file",
        "big_endian.pt  | byteorder is \"big\"",
        "short.pt       | its storage of 15 float32 has 56 bytes",
        "no_storage.pt  | there is no \"f32/data/0\" in the archive",
        "command.pt     | refuses \"posix.system\"",
        "masked.pt      | refuses \"numpy.ma.core._mareconstruct\"",
        "complex.pt     | refuses \"torch.ComplexFloatStorage\"",
        "tuple_key.pt   | a tuple for a key",
        "same_name.pt   | two tensors of this name",
        "cycle.pt       | nested too deeply",
        "doubling.pt    | too many values",
        "script.pt      | TorchScript",
        "big_endian.gguf | is big-endian",
        "model.gguf     | \"token_embd.weight\": not a control vector",
        "lengths.gguf   | \"direction.2\": shape is [4], expected one dimension, and the length of \"direction.1\"",
        "matrix.gguf    | shape is [3, 5], expected one dimension",
      })
  void refusesByName(String file, String message) {
    refused(() -> TensorFile.open(fixture(file)), file, message);
  }

  @Test
  void refusesQuantisedTensorsWhenAskedForThem() {
    Path path = fixture("quantised.gguf");
    refused(() -> ActivationReader.open(path + "#direction.2"), "dtype \"Q8_0\" is not supported");
    assertEquals(1, ActivationReader.readVector(path + "#direction.1", 32)[31]);
  }

  // ---- damaged files

  @ParameterizedTest
  @ValueSource(strings = {"f32.pt", "deflated.pt", "control.gguf", "two.svec"})
  void refusesTruncationAnywhere(String file) throws IOException {
    byte[] whole = Files.readAllBytes(fixture(file));
    int padding = file.endsWith(".svec") ? 1 : file.endsWith(".gguf") ? 12 : 0; // a line feed, zeros: no loss
    int end = whole.length - padding;
    for (int length = 0; length < end; length++) {
      Path path = Files.write(folder.resolve(file), Arrays.copyOf(whole, length));
      refused(() -> TensorFile.open(path).close(), file);
    }
  }

  @ParameterizedTest
  @CsvSource({"x.pt", "x.gguf", "x.svec"})
  void refusesOtherContent(String name) throws IOException {
    Path path = Files.write(folder.resolve(name), "0123456789 not of this format".getBytes(StandardCharsets.US_ASCII));
    refused(() -> TensorFile.open(path), name, "not ");
  }

  @Test
  void refusesAPlainPickle() throws IOException {
    Path path = Files.write(folder.resolve("x.pt"), new byte[] {(byte) 0x80, 4, 'N', '.'});
    refused(() -> TensorFile.open(path), "bare pickle");
  }

  /** Bytes in hexadecimal, and text after a ', with _ for a line feed. */
  private static byte[] pickle(String program) {
    ByteBuffer bytes = ByteBuffer.allocate(1 << 10);
    for (String piece : program.split(" ")) {
      if (piece.startsWith("'")) {
        bytes.put(piece.substring(1).replace('_', '\n').getBytes(StandardCharsets.US_ASCII));
      } else {
        bytes.put((byte) Integer.parseInt(piece, 16));
      }
    }
    return Arrays.copyOf(bytes.array(), bytes.position());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "                        'cos_system_ | refuses \"os.system\"",
        "              8c 02 'os 8c 04 'eval 93 | refuses \"os.eval\"",
        "                        'cbuiltins_getattr_ | refuses \"builtins.getattr\"",
        "                        'ctorch_FloatStorage_ ') 'R | torch.FloatStorage can't be called",
        "                        'ccollections_OrderedDict_ 'K 01 85 'R | made of 1 arguments",
        "                        'ctorch_Size_ ') 'R | 0 arguments, expected more than 0",
        "                        'ctorch_Size_ 'N 85 'R | expected a tuple, got None",
        "                        'K 01 ') 'R | expected a function, got a number",
        "                        'K 01 'N 'b | expected an OrderedDict, got a number",
        "                        'N 'Q | expected a tuple, got None",
        "                        ') 'Q | 0 arguments, expected more than 1",
        "                        ') '0 '0 | empty stack",
        "                        'N '( 85 | empty stack",
        "                        't | no mark",
        "                        'N 'N 'a | expected a list, got None",
        "                        '} '( 'N 'u | a key without a value",
        "                        '} 'N 'N 's | None for a key",
        "                        '} 'K 01 'N 's 'K 01 'N 's | the key \"1\" is there twice",
        "                        'h 07 | recalls 7",
        "                        'j ff ff ff ff | recalls 4294967295",
        "                        'X ff ff ff 7f | ends too early",
        "                        8d ff ff ff ff ff ff ff ff | ends too early: text of 18446744073709551615 bytes",
        "                        8a ff | ends too early",
        "                        'cos | ends too early",
        "                        80 06 | protocol is 6",
        "                        'cnumpy_save_ | refuses \"numpy.save\"",
        "   'cnumpy.core.multiarray_ 5f 'reconstruct_ 'N 85 'R | makes an array of None, expected numpy.ndarray",
        "   'cnumpy.core.multiarray_ 5f 'reconstruct_ 'cnumpy_ndarray_ 85 'R 'N 'b | expected an array's state, got None",
        "   'cnumpy.core.numeric_ 5f 'frombuffer_ '( 'N 'N 'N 'X 01 00 00 00 'K 't 'R | lies in the order \"K\", expected C or F",
        "   'cnumpy_dtype_ 'N 85 'R | expected a dtype, got None",
        "   'cnumpy_dtype_ 'X 02 00 00 00 'f4 85 'R 'N ') 86 'b | expected a byte order, got a tuple",
        "   'c 5f 'codecs_encode_ 'X 01 00 00 00 'a 'X 03 00 00 00 'hex 86 'R | encoded as \"hex\", expected latin1",
        "   'c 5f 'codecs_encode_ 'X 02 00 00 00 c4 80 'X 06 00 00 00 'latin1 86 'R | a character beyond 255",
        "   'c 5f 5f 'builtin 5f 5f 0a 'bytes_ 'K 09 85 'R | made of 1 arguments, expected none",
        "                        'B ff ff ff 7f | ends too early",
        "                        'i | opcode 0x69 is not supported",
        "                        81 | opcode 0x81 is not supported",
      })
  void refusesOtherPrograms(String program, String message) {
    refused(() -> Pickle.read("x.pt", pickle(program + " '.")), "x.pt: pickle, byte", message);
  }

  @ParameterizedTest
  @CsvSource(quoteCharacter = '`', value = {
    "8a 00, 0", "8a 01 ff, -1", "8a 02 ff 00, 255", "8a 06 00 00 00 00 00 ff, -1099511627776", "'J fe ff ff ff, -2",
    "8a 08 ff ff ff ff ff ff ff 7f, 9223372036854775807", "'M ff ff, 65535", "'K ff, 255"
  })
  void readsWholeNumbers(String program, long expected) {
    assertEquals(expected, Pickle.read("x.pt", pickle(program + " '.")));
  }

  @Test
  void refusesEndlessPrograms() {
    byte[] lists = new byte[1 << 21];
    Arrays.fill(lists, (byte) ']');
    refused(() -> Pickle.read("x.pt", lists), "more than 524288 steps");
  }

  // ---- views

  private static View view(long offset, long[] shape, long... stride) {
    return (View) View.of("x.pt", new ByteSource.Memory(new byte[48]), 4, offset, shape, stride);
  }

  @Test
  void refusesViewsBeyondTheirStorage() {
    assertEquals(48, view(0, new long[] {3, 4}, 4, 1).size());
    refused(() -> view(1, new long[] {3, 4}, 4, 1), "from element 1 on looks beyond its storage of 12 elements");
    refused(() -> view(0, new long[] {3, 4}, 5, 1), "looks beyond");
    refused(() -> view(Long.MAX_VALUE, new long[] {2}, 1), "looks beyond");
    refused(() -> view(0, new long[] {2, 2}, Long.MAX_VALUE, Long.MAX_VALUE), "looks beyond");
    refused(() -> view(0, new long[] {1L << 40, 1L << 40}, 0, 0), "looks beyond");
    refused(() -> view(0, new long[] {1L << 62}, 0), "looks beyond");
    refused(() -> view(0, new long[] {1L << 25}, 0), "can be reordered", ".contiguous()");
    refused(() -> view(0, new long[] {1L << 23, 4}, 0, 1), "can be reordered"); // neighbours, but again and again
    assertEquals(0, view(100, new long[] {0, 4}, 4, 1).size());
  }

  @Test
  void readsLargeViewsWithoutACopy() throws IOException {
    Path path = folder.resolve("hole");
    long rows = 1L << 20;
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      file.seek(rows * 1024 - 4);
      file.write(Fixtures.floatBytes(7));
      ByteSource storage = new ByteSource.Plain(file.getChannel(), 0, rows * 1024);
      ByteSource last = View.of("x.pt", storage, 4, 192, new long[] {rows, 64}, new long[] {256, 1});
      ByteBuffer two = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
      last.read(last.size() - 8, two);
      assertEquals(7, two.getFloat(4));
    }
  }

  /** Fortran order: a few hundred rows at a time fit the copy. */
  @Test
  void readsLargeTurnedViews() throws IOException {
    Path path = folder.resolve("hole");
    int rows = 1 << 14;
    int columns = 1 << 11;
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      int[][] places = {{0, 1}, {rows / 2 + 7, 3}, {rows - 1, columns - 1}};
      for (int i = 0; i < places.length; i++) {
        file.seek(4L * ((long) places[i][1] * rows + places[i][0]));
        file.write(Fixtures.floatBytes(i + 1));
      }
      ByteSource storage = new ByteSource.Plain(file.getChannel(), 0, 4L * rows * columns);
      ByteSource turned = View.of("x.npy", storage, 4, 0, new long[] {rows, columns}, new long[] {1, rows});
      assertTrue(turned.isSequential()); // for a reader on several threads
      ByteBuffer one = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN);
      for (int i : new int[] {0, 1, 2, 0}) {
        turned.read(4L * ((long) places[i][0] * columns + places[i][1]), one.clear());
        assertEquals(i + 1, one.getFloat(0));
      }
      long wide = 1L << 25;
      file.setLength(8 * wide);
      ByteSource all = new ByteSource.Plain(file.getChannel(), 0, 8 * wide);
      ByteSource row = View.of("x.npy", all, 4, 0, new long[] {2, wide}, new long[] {1, 2});
      refused(() -> row.read(0, one.clear()), "at most 67108864 can be reordered");
    }
  }

  // ---- gguf

  private void refusedGguf(int at, int width, long value, String message) throws IOException {
    byte[] whole = Files.readAllBytes(fixture("aligned.gguf"));
    ByteBuffer bytes = ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < width; i++) {
      bytes.put(at + i, (byte) (value >> 8 * i));
    }
    Path path = Files.write(folder.resolve("x.gguf"), whole);
    refused(() -> TensorFile.open(path), "x.gguf", message);
  }

  @Test
  void refusesBrokenGguf() throws IOException {
    byte[] whole = Files.readAllBytes(fixture("aligned.gguf"));
    String text = new String(whole, StandardCharsets.ISO_8859_1);
    int tensor = text.indexOf("direction.2") + "direction.2".length(); // then rank, length, type, offset
    int alignment = text.indexOf("general.alignment") + "general.alignment".length(); // then type, value
    int tags = text.indexOf("controlvector.tags") + "controlvector.tags".length(); // then type, element type, count
    refusedGguf(4, 4, 1, "version 1 is not known");
    refusedGguf(4, 4, 4, "version 4 is not known");
    refusedGguf(8, 8, -1, "18446744073709551615 tensors");
    refusedGguf(8, 8, 1 << 20, "1048576 tensors, expected at most 65536");
    refusedGguf(16, 8, Long.MAX_VALUE, "9223372036854775807 metadata values");
    refusedGguf(16, 8, 9, "x.gguf");
    refusedGguf(tags, 4, 13, "type 13");
    refusedGguf(tags + 4, 4, 99, "type 99");
    refusedGguf(tags + 8, 8, Long.MAX_VALUE, "9223372036854775807 elements");
    refusedGguf(alignment + 4, 4, 0, "general.alignment is 0");
    refusedGguf(alignment + 4, 4, 24, "general.alignment is 24");
    refusedGguf(tensor, 4, 5, "rank 5");
    refusedGguf(tensor, 4, -1, "rank 4294967295");
    refusedGguf(tensor + 4, 8, Long.MAX_VALUE, "shape is [9223372036854775807]");
    refusedGguf(tensor + 16, 8, 128, "not aligned to 1024");
    refusedGguf(tensor + 16, 8, 1 << 20, "outside of the data");
    refusedGguf(tensor + 16, 8, Long.MIN_VALUE, "outside of the data");
    refusedGguf(tensor - 1, 1, '1', "two tensors \"direction.1\"");
    refusedGguf(tensor - 1, 1, 'x', "\"direction.x\": not a control vector");
  }

  // ---- svec

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{'model_type': 'm'}                     | has no \"directions\"",
        "{'directions': []}                      | expected an object",
        "{'directions': {'1': 2}}                | expected a list of numbers",
        "{'directions': {'1': ['2']}}            | expected a number",
        "{'directions': {'1': [NaN]}}            | not valid JSON",
        "{'directions': {'1': [1e999]}}          | not valid JSON",
        "{'directions': {'1': [[1]]}}            | expected a number",
        "{'directions': {'1': [1], '1': [2]}}    | \"1\": there are two directions",
        "{'directions': {}, 'directions': {}}    | is there twice",
        "[]                                      | expected an object",
      })
  void refusesBrokenSvec(String json, String message) throws IOException {
    Path path = Files.writeString(folder.resolve("x.svec"), json.replace('\'', '"'));
    refused(() -> TensorFile.open(path), "x.svec", message);
  }

  // ---- real files

  private static Path real(String name) {
    Path path = DATA.resolve(name);
    assumeTrue(Files.exists(path), () -> path + " is not here");
    return path;
  }

  private static double norm(float[] values) {
    double squares = 0;
    for (float value : values) {
      squares += (double) value * value;
    }
    return Math.sqrt(squares);
  }

  /** Smallest and largest norm of a file's rows. */
  private static void assertNorms(ActivationReader reader, long rows, int d, double smallest, double largest) {
    assertEquals(rows, reader.rows());
    assertEquals(d, reader.columns());
    double[] norms = new double[(int) rows];
    FloatBuffer row = FloatBuffer.allocate(d);
    for (int i = 0; i < rows; i++) {
      reader.read(row.clear());
      norms[i] = norm(row.array());
    }
    Arrays.sort(norms);
    assertEquals(smallest, norms[0], 1e-5 * smallest);
    assertEquals(largest, norms[norms.length - 1], 1e-5 * largest);
  }

  @Test
  void realArchives() {
    String means = real("refusal_direction/gemma-2b-it_mean_diffs.pt").toString();
    try (ActivationReader reader = ActivationReader.open(means)) {
      assertNorms(reader, 90, 2048, 1.21469e-14, 37.1232);
    }
    String view = real("refusal_direction/gemma-2b-it_direction.pt").toString();
    float[] direction = ActivationReader.readVector(view, 2048);
    assertEquals((float) .09754041435304753, direction[0]);
    assertEquals((float) .0394956821410124, direction[1]);
    assertEquals(10.0644, norm(direction), 1e-4);
    String same = means + "#[" + (3 * 18 + 10) + "]";
    assertArrayEquals(Fixtures.bits(direction), Fixtures.bits(ActivationReader.readVector(same, 2048)));
    String feature = real("easysteer/2534.pt").toString();
    assertEquals((float) -.012896834872663021, ActivationReader.readVector(feature, 3584)[0]);
    float[] decoderRow = ActivationReader.readVector(real("easysteer/15973.pt").toString(), 3584);
    assertEquals((float) -.015431312844157219, decoderRow[0]);
    assertEquals(1, norm(decoderRow), 1e-5);
    float[] task = ActivationReader.readVector(real("easysteer/task_vector_layer-10.pt").toString(), 4096);
    assertEquals(.754219, norm(task), 1e-5);
    String npy = real("easysteer/task_vector_layer-10.npy").toString();
    assertArrayEquals(Fixtures.bits(ActivationReader.readVector(npy, 4096)), Fixtures.bits(task));
    try (ActivationReader reader = ActivationReader.open(real("neuronpedia/contrast_vectors.pt").toString())) {
      assertNorms(reader, 80, 8192, .0228369, 5.90399);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "happy_diffmean, 28, 1536, 1, 1", "create, 32, 4096, 1, 1", "execution_avg_vector, 28, 1536, 26.1562, 465.852"
  })
  void realControlVectors(String name, int layers, int d, double smallest, double largest) {
    Path path = real("easysteer/" + name + ".gguf");
    double[] norms = new double[layers];
    for (int layer = 0; layer < layers; layer++) {
      norms[layer] = norm(ActivationReader.readVector(path + "#direction." + layer, d));
    }
    Arrays.sort(norms);
    assertEquals(smallest, norms[0], 1e-5 * smallest);
    assertEquals(largest, norms[layers - 1], 1e-5 * largest);
    refused(() -> ActivationReader.open(path + "#direction." + layers), "no tensor", "and " + (layers - 12) + " more");
    try (ActivationReader reader = ActivationReader.open(path + "#direction.0")) {
      assertTrue(reader.warning().contains("counts from 1"), reader.warning());
    }
  }

  @ParameterizedTest
  @CsvSource({"0, 50.5795", "5, 68.2795", "11, 528.8263"})
  void realActivations(int layer, double meanNorm) {
    String spec = real("gpt2_latents/val_activations_plain.npz") + "#layer_" + layer;
    double sum = 0;
    for (int row = 0; row < 100; row++) {
      sum += norm(ActivationReader.readVector(spec + "[" + row + "]", 768));
    }
    assertEquals(meanNorm, sum / 100, 1e-4);
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.npy;
import static dev.sae4j.io.Fixtures.refused;
import static dev.sae4j.io.Fixtures.safetensors;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The containers under hostile input: safetensors, .npy, .npz. */
class ContainerTest {
  @TempDir Path folder;

  private Path write(String name, byte[] content) throws IOException {
    return Files.write(folder.resolve(name), content);
  }

  private void refusedFile(String name, byte[] content, String... fragments) throws IOException {
    Path path = write(name, content);
    refused(() -> TensorFile.open(path).close(), fragments);
  }

  // ---- safetensors: 8 bytes of data each

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'a':{'dtype':'F32','shape':[3],'data_offsets':[0,8]}}                  | needs 12 bytes, got 8",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,9]}}                  | [0, 9] do not lie in the 8 bytes",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[8,0]}}                  | [8, 0] do not lie",
        "{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]}}                  | its tensors 4",
        "{'a':{'dtype':'F32','shape':[1],'data_offsets':[4,8]}}                  | expected 0 (gap)",
        "{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]},'b':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}} | overlap",
        "{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]},'a':{'dtype':'F32','shape':[1],'data_offsets':[4,8]}} | two tensors",
        "{'a':{'dtype':'F32','dtype':'F32','shape':[2],'data_offsets':[0,8]}}    | the key \"dtype\" twice",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8],'x':1}}            | unknown key \"x\"",
        "{'a':{'dtype':'F32','shape':[2]}}                                       | two data_offsets",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0]}}                    | two data_offsets",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8,8]}}                | at most 2 numbers",
        "{'a':{'dtype':'F32','shape':[-2],'data_offsets':[0,8]}}                 | whole number from 0",
        "{'a':{'dtype':'F32','shape':[2.0],'data_offsets':[0,8]}}                | whole number from 0",
        "{'a':{'dtype':'F32','shape':['2'],'data_offsets':[0,8]}}                | expected a whole number",
        "{'a':{'dtype':'F32','shape':2,'data_offsets':[0,8]}}                    | expected a list",
        "{'a':{'dtype':'F32','shape':[1e400],'data_offsets':[0,8]}}              | whole number from 0",
        "{'a':{'dtype':'F32','shape':[99999999999999999999],'data_offsets':[0,8]}} | whole number from 0",
        "{'a':{'dtype':'F32','shape':[4294967296,4294967296],'data_offsets':[0,8]}} | is too large",
        "{'a':{'dtype':'F32','shape':[2305843009213693953],'data_offsets':[0,8]}} | whole number from 0",
        "{'a':{'dtype':'F32','shape':[1073741824,1073741824,2],'data_offsets':[0,8]}} | too many bytes",
        "{'a':{'dtype':'F32','shape':[1,1,1,1,1,1,1,1,2],'data_offsets':[0,8]}}  | at most 8 numbers",
        "{'a':{'dtype':4,'shape':[2],'data_offsets':[0,8]}}                      | expected a string",
        "{'a':[]}                                                                | expected an object",
        "[]                                                                      | expected an object",
        "{'a':                                                                   | not valid JSON",
        "{} {}                                                                   | not valid JSON",
        "{'a\\nb':[]}                                                            | expected an object",
      })
  void refusesBrokenSafetensors(String header, String message) throws IOException {
    refusedFile("x.safetensors", safetensors(header.replace('\'', '"'), new byte[8]), "x.safetensors", message);
  }

  @ParameterizedTest
  @CsvSource({
    "-9223372036854775808, 9223372036854775808", "-1, 18446744073709551615", "0, header length is 0",
    "100000001, expected 2 to 100000000", "40, truncated"
  })
  void refusesHeaderLengths(long length, String message) throws IOException {
    refusedFile("x.safetensors", safetensors(length, "{}", new byte[8]), message);
  }

  @Test
  void refusesTruncationAnywhere() throws IOException {
    byte[] whole = Files.readAllBytes(Fixtures.path("x.safetensors"));
    for (int length = 0; length < whole.length; length++) {
      refusedFile("x.safetensors", Arrays.copyOf(whole, length), "x.safetensors");
    }
    refusedFile("x.safetensors", Arrays.copyOf(whole, whole.length + 1), "x.safetensors");
  }

  @Test
  void refusesHugeAndDeepHeaders() throws IOException {
    refusedFile("x.safetensors", safetensors("{\"" + "a".repeat(1 << 20) + "\":1}", new byte[0]), "more than 65536 characters");
    refusedFile("x.safetensors", safetensors("{\"a\":" + "[".repeat(1 << 20), new byte[0]), "expected an object");
    refusedFile("x.safetensors", safetensors("{\"__metadata__\":" + "[".repeat(1 << 20), new byte[0]), "not valid JSON");
    String tensor = "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},";
    StringBuilder many = new StringBuilder("{");
    for (int i = 0; i <= 1 << 16; i++) {
      many.append('"').append(i).append("\":").append(tensor);
    }
    refusedFile("x.safetensors", safetensors(many.toString(), new byte[0]), "more than 65536 tensors");
  }

  @Test
  void metadataOfAnySizeAndUnknownDtypesAreNoHindrance() throws IOException {
    String header =
        "{\"__metadata__\":{\"t\":\"%s\"},\"a\":{\"dtype\":\"F8_E8M0\",\"shape\":[4],\"data_offsets\":[0,4]},"
            + "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}   ";
    Path path = write("x.safetensors", safetensors(header.formatted("t".repeat(1 << 20)), Fixtures.floatBytes(0, 7)));
    assertArrayEquals(new float[] {7}, ActivationReader.readVector(path.toString(), 1));
    refused(() -> ActivationReader.open(path + "#a"), "dtype \"F8_E8M0\" is not supported");
  }

  // ---- npy

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }     | needs 12 bytes, got 8",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }     | needs 4 bytes, got 8",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }    | not a list of sizes",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, x), }   | not a list of sizes",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), } | not a list of sizes",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 999999999999), } | too large",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }    | needs 4 bytes, got 8",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (999999999999, 999999999999), } | too large",
        "{'descr': '<f4', 'shape': (2, 1), }                           | not a numpy array header",
        "{'descr': '<f4', 'fortran_order': False}                      | not a numpy array header",
        "'descr'                                                       | not a numpy array header",
      })
  void refusesBrokenNpyHeaders(String header, String message) throws IOException {
    refusedFile("x.npy", npy(header, new byte[8]), "x.npy", message);
  }

  @Test
  void refusesBrokenNpy() throws IOException {
    byte[] whole = Files.readAllBytes(Fixtures.path("x_f4.npy"));
    for (int length = 0; length < whole.length; length++) {
      refusedFile("x.npy", Arrays.copyOf(whole, length), "x.npy");
    }
    byte[] version = whole.clone();
    version[6] = 9;
    refusedFile("x.npy", version, "version 9");
    refusedFile("x.npy", npy(" ".repeat(60_000), new byte[0]), "not a numpy array header");
    refusedFile("x.npy", npy("<f4", "(" + "1, ".repeat(33) + ")", new byte[4]), "rank is 33");
  }

  // ---- npz

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void refusesTruncatedNpz(boolean deflated) throws IOException {
    byte[] whole = Fixtures.npz(deflated, Map.of("a", npy("<f4", "(2, 1)", new byte[8])));
    for (int length = 0; length < whole.length; length++) {
      refusedFile("x.npz", Arrays.copyOf(whole, length), "x.npz");
    }
  }

  /** Changes a field of the one entry's directory record, given by its place in it. */
  private void refusedDirectory(boolean deflated, int field, int value, String... fragments) throws IOException {
    byte[] whole = Fixtures.npz(deflated, Map.of("a", npy("<f4", "(2, 1)", new byte[8])));
    ByteBuffer bytes = ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN);
    int directory = bytes.getInt(whole.length - 22 + 16);
    bytes.putInt(directory + field, value);
    Path path = write("x.npz", whole);
    refused(() -> ActivationReader.readVector(path + "#[0]", 1), fragments);
    refused(() -> readBoth(path), fragments);
  }

  private static void readBoth(Path path) {
    try (TensorFile file = TensorFile.open(path)) {
      file.require("a").read(0, new float[2], 0, 2);
    }
  }

  @Test
  void refusesDirectoriesThatLie() throws IOException {
    int method = 8;
    int size = 24;
    int storedSize = 20;
    int offset = 42;
    refusedDirectory(true, size, 1 << 30, "claims 1073741824 bytes");
    refusedDirectory(true, size, 100, "needs 8 bytes");
    refusedDirectory(false, size, 1 << 30, "expected its size");
    refusedDirectory(true, storedSize, 1 << 30, "truncated");
    // What java.util.zip refuses has its wording, on one line.
    refusedDirectory(true, storedSize, 0, "x.npz");
    refusedDirectory(false, storedSize, -1, "x.npz");
    refusedDirectory(true, offset, 1 << 30, "x.npz");
    refusedDirectory(true, offset, 7, "x.npz");
    refusedDirectory(true, method, 1 | 8 << 16, "not a readable zip file", "encrypted");
    refusedDirectory(true, method, 12 << 16, "not a readable zip file", "12");
    refusedDirectory(true, 0, 0, "not a readable zip file");
  }

  @Test
  void refusesDeflatedDataThatIsDamagedOrGoesOn() throws IOException {
    byte[] content = npy("<f4", "(2, 1)", new byte[8]);
    byte[] whole = Fixtures.npz(true, Map.of("a", content));
    ByteBuffer bytes = ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN);
    int directory = bytes.getInt(whole.length - 22 + 16);
    bytes.putInt(directory + 16, 12345); // CRC
    Path crc = write("crc.npz", whole);
    refused(() -> readBoth(crc), "a.npy", "damaged data: expected CRC 00003039");

    byte[] longer = Fixtures.npz(true, Map.of("a", npy("<f4", "(2, 1)", new byte[12])));
    bytes = ByteBuffer.wrap(longer).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putInt(bytes.getInt(longer.length - 22 + 16) + 24, content.length);
    Path more = write("more.npz", longer);
    refused(() -> readBoth(more), "goes on after the");
  }

  @Test
  void refusesTwoEntriesOfOneName() throws IOException {
    byte[] array = npy("<f4", "(1,)", new byte[4]);
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    arrays.put("a", array);
    arrays.put("b", array);
    byte[] whole = Fixtures.npz(false, arrays);
    String text = new String(whole, StandardCharsets.ISO_8859_1).replace("b.npy", "a.npy");
    refusedFile("x.npz", text.getBytes(StandardCharsets.ISO_8859_1), "two entries of this name");
  }

  @Test
  void zip64WithAnEntryBeyond4GiB() throws IOException {
    long rows = 1L << 30; // a hole but for its last row; then one more entry, beyond 32 bits
    byte[] header = Npy.header("<f4", "(%d, 1)".formatted(rows));
    byte[] small = npy("<f4", "(1,)", Fixtures.floatBytes(9));
    Path path = folder.resolve("zip64.npz");
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      long largeSize = header.length + 4 * rows;
      file.write(zip64Local("large.npy"));
      file.write(header);
      file.seek(file.getFilePointer() + 4 * (rows - 1));
      file.write(Fixtures.floatBytes(7));
      long smallOffset = file.getFilePointer();
      file.write(zip64Local("small.npy"));
      file.write(small);
      long directory = file.getFilePointer();
      file.write(zip64Central("large.npy", largeSize, 0, 0));
      file.write(zip64Central("small.npy", small.length, smallOffset, crc(small)));
      file.write(zip64End(directory, file.getFilePointer()));
    }
    assertArrayEquals(new float[] {7}, ActivationReader.readVector(path + "#large[" + (rows - 1) + "]", 1));
    assertArrayEquals(new float[] {9}, ActivationReader.readVector(path + "#small", 1));
    try (TensorFile file = TensorFile.open(path)) {
      assertEquals(rows, file.require("large").size);
    }
  }

  private static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static byte[] zip64Local(String name) {
    ByteBuffer local = little(30 + name.length());
    local.putInt(0, 0x04034b50).putInt(18, -1).putInt(22, -1).putShort(26, (short) name.length());
    return local.put(30, name.getBytes(StandardCharsets.US_ASCII)).array();
  }

  private static int crc(byte[] bytes) {
    CRC32 crc = new CRC32();
    crc.update(bytes);
    return (int) crc.getValue();
  }

  /** The CRC of an array that is never read whole is never looked at. */
  private static byte[] zip64Central(String name, long size, long offset, int crc) {
    ByteBuffer central = little(46 + name.length() + 28);
    central.putInt(0, 0x02014b50).putInt(16, crc).putInt(20, -1).putInt(24, -1).putInt(42, -1);
    central.putShort(28, (short) name.length()).putShort(30, (short) 28);
    central.put(46, name.getBytes(StandardCharsets.US_ASCII)).position(46 + name.length());
    return central.putShort((short) 1).putShort((short) 24).putLong(size).putLong(size).putLong(offset).array();
  }

  private static byte[] zip64End(long directory, long end) {
    ByteBuffer bytes = little(56 + 20 + 22);
    bytes.putInt(0, 0x06064b50).putLong(4, 44).putLong(24, 2).putLong(32, 2);
    bytes.putLong(40, end - directory).putLong(48, directory);
    bytes.putInt(56, 0x07064b50).putLong(64, end).putInt(72, 1);
    bytes.putInt(76, 0x06054b50).putInt(84, -1).putInt(88, -1).putInt(92, -1);
    return bytes.array();
  }
}

package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrowsExactly;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.function.Executable;

/** The files that make_fixtures.py wrote, what they must load as, and bytes of files that nobody should write. */
final class Fixtures {
  private static final JsonObject EXPECTED = parse(path("expected.json"));

  private Fixtures() {}

  static Path path(String name) {
    try {
      return Path.of(Fixtures.class.getResource("/io/" + name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }

  private static JsonObject parse(Path path) {
    try {
      return JsonParser.parseString(Files.readString(path)).getAsJsonObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static JsonObject expected(String name) {
    return EXPECTED.getAsJsonObject(name);
  }

  static int[] expectedBits(String name) {
    return ints(EXPECTED.getAsJsonArray(name));
  }

  static int[] ints(JsonArray array) {
    int[] ints = new int[array.size()];
    for (int i = 0; i < ints.length; i++) {
      ints[i] = array.get(i).getAsInt();
    }
    return ints;
  }

  static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = Float.floatToRawIntBits(values[i]);
    }
    return bits;
  }

  static float[] floats(FloatPointer pointer) {
    float[] values = new float[(int) pointer.capacity()];
    pointer.asBuffer().get(values);
    return values;
  }

  /** The one-line message of the refusal of what a file holds, which must hold all the fragments. */
  static String refused(Executable executable, String... fragments) {
    return oneLine(assertThrowsExactly(SaeFormatException.class, executable).getMessage(), fragments);
  }

  /** As {@link #refused}, for what is no fault of a file's content. */
  static String failed(Executable executable, String... fragments) {
    return oneLine(assertThrowsExactly(SaeException.class, executable).getMessage(), fragments);
  }

  private static String oneLine(String message, String... fragments) {
    assertEquals(1, message.lines().count(), message);
    for (String fragment : fragments) {
      assertTrue(message.contains(fragment), () -> "expected \"" + fragment + "\" in: " + message);
    }
    return message;
  }

  static byte[] safetensors(String header, byte[] data) {
    return safetensors(header.getBytes(StandardCharsets.UTF_8).length, header, data);
  }

  static byte[] safetensors(long headerLength, String header, byte[] data) {
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer file = ByteBuffer.allocate(8 + text.length + data.length).order(ByteOrder.LITTLE_ENDIAN);
    return file.putLong(headerLength).put(text).put(data).array();
  }

  /** An .npy file with any header. */
  static byte[] npy(String header, byte[] data) {
    ByteBuffer file = ByteBuffer.allocate(10 + header.length() + data.length).order(ByteOrder.LITTLE_ENDIAN);
    file.put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0}).putShort((short) header.length());
    return file.put(header.getBytes(StandardCharsets.ISO_8859_1)).put(data).array();
  }

  static byte[] npy(String descr, String shape, byte[] data) {
    return npy("{'descr': '%s', 'fortran_order': False, 'shape': %s, }".formatted(descr, shape), data);
  }

  static byte[] floatBytes(float... values) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    return bytes.array();
  }

  static byte[] longBytes(long... values) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asLongBuffer().put(values);
    return bytes.array();
  }

  /** A zip file of arrays by name. */
  static byte[] npz(boolean deflated, Map<String, byte[]> arrays) throws IOException {
    return npz(deflated, Deflater.DEFAULT_COMPRESSION, arrays);
  }

  static byte[] npz(boolean deflated, int level, Map<String, byte[]> arrays) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
      zip.setLevel(level);
      for (Map.Entry<String, byte[]> array : arrays.entrySet()) {
        ZipEntry entry = new ZipEntry(array.getKey() + ".npy");
        if (!deflated) {
          CRC32 crc = new CRC32();
          crc.update(array.getValue());
          entry.setMethod(ZipEntry.STORED);
          entry.setSize(array.getValue().length);
          entry.setCrc(crc.getValue());
        }
        zip.putNextEntry(entry);
        zip.write(array.getValue());
        zip.closeEntry();
      }
    }
    return bytes.toByteArray();
  }
}

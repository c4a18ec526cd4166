package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The header of numpy's array format. */
final class Npy {
  /** All headers written here have this length: 64-bit sizes fit, and it can be written again once n is known. */
  static final int HEADER_BYTES = 128;

  private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};
  private static final int MAX_HEADER = 1 << 16;
  private static final int MAX_RANK = 32;
  private static final Pattern DESCR = Pattern.compile("['\"]descr['\"] *: *['\"]([^'\"]{1,40})['\"]");
  private static final Pattern ORDER = Pattern.compile("['\"]fortran_order['\"] *: *(True|False)");
  private static final Pattern SHAPE = Pattern.compile("['\"]shape['\"] *: *\\(([^)]*)\\)");
  private static final Pattern LENGTH = Pattern.compile("\\d{1,18}L?");

  private Npy() {}

  static Map<String, Tensor> readFile(Path path, FileChannel file) throws IOException {
    return Map.of("", parse("", path.toString(), new ByteSource.Plain(file, 0, file.size())));
  }

  /** An array from its bytes, header included. */
  static Tensor parse(String name, String where, ByteSource bytes) throws IOException {
    int prefix = (int) Math.min(12, bytes.size());
    ByteBuffer start = ByteBuffer.allocate(12).order(ByteOrder.LITTLE_ENDIAN);
    bytes.read(0, start.limit(prefix));
    start.clear(); // what is missing is 0: refused below
    for (int i = 0; i < MAGIC.length; i++) {
      if (prefix < 10 || start.get(i) != MAGIC[i]) {
        throw new SaeFormatException(where + ": not a numpy array: it does not begin with \\x93NUMPY");
      }
    }
    int major = start.get(6);
    if (major < 1 || major > 3) {
      throw new SaeFormatException("%s: numpy format version %d is not known, expected 1 to 3".formatted(where, major));
    }
    int headerStart = major == 1 ? 10 : 12;
    long headerLength = major == 1 ? start.getShort(8) & 0xffffL : start.getInt(8) & 0xffffffffL;
    if (headerLength > MAX_HEADER || headerStart + headerLength > bytes.size()) {
      throw new SaeFormatException(
          "%s: header length is %d, expected at most %d and no more than the %d bytes there are"
              .formatted(where, headerLength, MAX_HEADER, bytes.size()));
    }
    ByteBuffer header = ByteBuffer.allocate((int) headerLength);
    bytes.read(headerStart, header);
    String text = new String(header.array(), StandardCharsets.ISO_8859_1).strip();
    return tensor(name, where, text, bytes, headerStart + headerLength);
  }

  private static Tensor tensor(String name, String where, String header, ByteSource bytes, long dataStart) {
    Matcher descr = DESCR.matcher(header);
    Matcher order = ORDER.matcher(header);
    Matcher shapeText = SHAPE.matcher(header);
    if (!header.startsWith("{") || !header.endsWith("}") || !order.find() || !shapeText.find()) {
      throw new SaeFormatException(where + ": not a numpy array header: " + Failures.quote(header));
    }
    String dtype = descr.find() ? descr.group(1) : "structured";
    long[] shape = shape(where, shapeText.group(1));
    return array(name, where, dtype, order.group(1).equals("True"), shape, new ByteSource.Rest(bytes, dataStart));
  }

  /**
   * An array from its bytes alone.
   *
   * @param descr byte order and kind, e.g. {@code ">f4"}
   */
  static Tensor array(String name, String where, String descr, boolean isFortran, long[] shape, ByteSource bytes) {
    DType type = type(descr);
    ByteSource elements = type != null && descr.charAt(0) == '>' ? new ByteSource.Swapped(bytes, type.bytes) : bytes;
    Tensor array = new Tensor(name, where, type, descr, shape, elements, 0);
    if (!isFortran || type == null || array.size == 0) {
      return array;
    }
    long[] stride = new long[shape.length];
    long next = 1;
    for (int i = 0; i < shape.length; i++) {
      stride[i] = next;
      next *= shape[i];
    }
    return Tensor.strided(name, where, type, descr, type.bytes, shape, elements, 0, stride);
  }

  /** Null for a descr that is not read here. */
  static DType type(String descr) {
    DType type = DType.ofNumpy(descr.substring(1));
    boolean hasOrder = descr.charAt(0) == '<' || descr.charAt(0) == '>';
    return hasOrder || type != null && type.bytes == 1 && descr.charAt(0) == '|' ? type : null;
  }

  private static long[] shape(String where, String text) {
    if (text.isBlank()) {
      return new long[0];
    }
    String[] lengths = text.strip().split(",");
    long[] shape = new long[lengths.length];
    if (shape.length > MAX_RANK) {
      throw new SaeFormatException("%s: rank is %d, expected at most %d".formatted(where, shape.length, MAX_RANK));
    }
    for (int i = 0; i < shape.length; i++) {
      String length = lengths[i].strip();
      if (!LENGTH.matcher(length).matches()) {
        throw new SaeFormatException("%s: shape (%s) is not a list of sizes".formatted(where, Failures.oneLine(text)));
      }
      shape[i] = Long.parseLong(length.replace("L", ""));
    }
    return shape;
  }

  /** @param shape as Python writes it, e.g. {@code "(3, 4)"}: not by a format, whose digits are the locale's */
  static byte[] header(String descr, String shape) {
    String text = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }".formatted(descr, shape);
    ByteBuffer header = ByteBuffer.allocate(HEADER_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    header.put(MAGIC).put((byte) 1).put((byte) 0).putShort((short) (HEADER_BYTES - 10));
    header.put(text.getBytes(StandardCharsets.US_ASCII));
    while (header.remaining() > 1) {
      header.put((byte) ' ');
    }
    return header.put((byte) '\n').array();
  }
}

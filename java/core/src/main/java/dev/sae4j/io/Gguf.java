package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Control vectors in GGUF, versions 2 and 3, by llama.cpp's rules: tensors {@code direction.N} and no others, one
 * dimension, one length. N is the decoder block whose output is steered, from 1 on; files that begin at 0 are read
 * with a warning.
 */
final class Gguf {
  private static final int MAGIC = 'G' | 'G' << 8 | 'U' << 16 | 'F' << 24;
  private static final int MAX_TENSORS = 1 << 16;
  private static final int MAX_NAME = 64; // the format's own limit
  private static final int MAX_KEY = 1 << 16; // likewise
  private static final int MAX_RANK = 4;
  private static final int MAX_NESTING = 4;
  private static final long DEFAULT_ALIGNMENT = 32;
  private static final int UINT32 = 4;
  private static final int STRING = 8;
  private static final int ARRAY = 9;

  /** Bytes of a value by its type's number; 0 where the length is in the file. */
  private static final int[] VALUE_BYTES = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

  /** Names by number. Of those that are not read here only the names are of interest. */
  private static final String[] TYPES = {
    "F32", "F16", "Q4_0", "Q4_1", "type 4", "type 5", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
    "I64", "F64", "IQ1_M", "BF16"
  };

  private static final Pattern DIRECTION = Pattern.compile("direction\\.\\d{1,9}");

  private record Header(String name, long[] shape, String type, long offset) {}

  private final Path path;
  private final long fileSize;
  private final DataInputStream in;
  private long at;
  private long alignment = DEFAULT_ALIGNMENT;

  private Gguf(Path path, FileChannel file) throws IOException {
    this.path = path;
    this.fileSize = file.size();
    this.in = new DataInputStream(new BufferedInputStream(Channels.newInputStream(file), 1 << 16));
  }

  static Map<String, Tensor> read(Path path, FileChannel file) throws IOException {
    Gguf gguf = new Gguf(path, file);
    List<Header> headers = gguf.readHeaders();
    long dataStart = (gguf.at + gguf.alignment - 1) / gguf.alignment * gguf.alignment;
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    for (Header header : headers) {
      if (tensors.put(header.name, gguf.tensor(file, dataStart, header, headers.get(0))) != null) {
        throw gguf.error("there are two tensors %s".formatted(Failures.quote(header.name)));
      }
    }
    return tensors;
  }

  /** A file that begins at 0 may mean another layer than one that begins at 1. */
  static String warning(Path path, Collection<String> names) {
    return names.contains("direction.0")
        ? path + ": has direction.0, which llama.cpp refuses (it counts from 1): check which layer each is meant for"
        : null;
  }

  private List<Header> readHeaders() throws IOException {
    if (fileSize < 4 || readInt() != MAGIC) {
      throw error("not a GGUF file: it does not begin with \"GGUF\"");
    }
    int version = readInt();
    if (version == Integer.reverseBytes(2) || version == Integer.reverseBytes(3)) {
      throw error("is big-endian, expected little-endian");
    }
    if (version != 2 && version != 3) {
      throw error("GGUF version %s is not known, expected 2 or 3".formatted(Integer.toUnsignedString(version)));
    }
    long count = readCount("tensors", MAX_TENSORS);
    long pairs = readCount("metadata values", fileSize);
    for (long i = 0; i < pairs; i++) {
      readPair();
    }
    List<Header> headers = new ArrayList<>();
    for (long i = 0; i < count; i++) {
      headers.add(readHeader());
    }
    return headers;
  }

  private void readPair() throws IOException {
    String key = readText(MAX_KEY);
    int type = readInt();
    if (!key.equals("general.alignment")) {
      skipValue(type, 0);
      return;
    }
    alignment = type == UINT32 ? readInt() & 0xffffffffL : 0;
    if (alignment == 0 || Long.bitCount(alignment) != 1) {
      throw error("general.alignment is %d, type %d; expected a power of two as uint32".formatted(alignment, type));
    }
  }

  private void skipValue(int type, int depth) throws IOException {
    if (type < 0 || type >= VALUE_BYTES.length || depth > MAX_NESTING) {
      throw error("a metadata value has type %d, depth %d".formatted(type, depth));
    }
    if (type == STRING) {
      skip(readLong());
    } else if (type == ARRAY) {
      int elementType = readInt();
      long count = readCount("elements", fileSize);
      if (elementType == STRING || elementType == ARRAY) {
        for (long i = 0; i < count; i++) {
          skipValue(elementType, depth + 1);
        }
      } else if (elementType >= 0 && elementType < VALUE_BYTES.length) {
        skip(count * VALUE_BYTES[elementType]);
      } else {
        skipValue(elementType, depth + 1); // refuses it
      }
    } else {
      skip(VALUE_BYTES[type]);
    }
  }

  private Header readHeader() throws IOException {
    String name = readText(MAX_NAME);
    int rank = readInt();
    if (rank < 0 || rank > MAX_RANK) {
      throw error(
          "tensor %s has rank %s, expected at most %d"
              .formatted(Failures.quote(name), Integer.toUnsignedString(rank), MAX_RANK));
    }
    long[] shape = new long[rank];
    for (int i = rank - 1; i >= 0; i--) { // the fastest comes first
      shape[i] = readCount("values", Long.MAX_VALUE);
    }
    return new Header(name, shape, typeName(readInt()), readLong());
  }

  private static String typeName(int type) {
    return type >= 0 && type < TYPES.length ? TYPES[type] : "type " + Integer.toUnsignedString(type);
  }

  private Tensor tensor(FileChannel file, long dataStart, Header header, Header first) {
    String where = path + ": " + Failures.quote(header.name);
    if (!DIRECTION.matcher(header.name).matches()) {
      throw new SaeFormatException(where + ": not a control vector, whose tensors are direction.1, direction.2, ...");
    }
    if (header.shape.length != 1 || header.shape[0] != first.shape[0]) {
      throw new SaeFormatException(
          "%s: shape is %s, expected one dimension, and the length of %s, the first"
              .formatted(where, Arrays.toString(header.shape), Failures.quote(first.name)));
    }
    DType type = DType.ofSafetensors(header.type); // its names are GGUF's
    long left = Math.max(0, fileSize - dataStart);
    long bytes = type == null ? 0 : header.shape[0] > left ? Long.MAX_VALUE : header.shape[0] * type.bytes;
    if (header.offset < 0 || header.offset % alignment != 0 || header.offset > left || bytes > left - header.offset) {
      throw new SaeFormatException(
          "%s: %s of shape [%d] at byte %s of %d: outside of the data, or not aligned to %d"
              .formatted(where, header.type, header.shape[0], Long.toUnsignedString(header.offset), left, alignment));
    }
    ByteSource source = new ByteSource.Plain(file, dataStart + header.offset, bytes);
    return new Tensor(header.name, where, type, header.type, header.shape, source, 0);
  }

  // ---- numbers and text, never beyond the file's end

  private void need(long bytes) {
    if (bytes < 0 || bytes > fileSize - at) {
      throw error(
          "truncated or damaged: byte %d needs %s more, the file has %d"
              .formatted(at, Long.toUnsignedString(bytes), fileSize));
    }
    at += bytes;
  }

  private void skip(long bytes) throws IOException {
    need(bytes);
    in.skipNBytes(bytes);
  }

  private int readInt() throws IOException {
    need(Integer.BYTES);
    return Integer.reverseBytes(in.readInt());
  }

  private long readLong() throws IOException {
    need(Long.BYTES);
    return Long.reverseBytes(in.readLong());
  }

  private long readCount(String what, long max) throws IOException {
    long count = readLong();
    if (count < 0 || count > max) {
      throw error("has %s %s, expected at most %d".formatted(Long.toUnsignedString(count), what, max));
    }
    return count;
  }

  private String readText(int max) throws IOException {
    long length = readCount("characters in a name", max);
    need(length);
    return new String(in.readNBytes((int) length), StandardCharsets.UTF_8);
  }

  private SaeFormatException error(String message) {
    return new SaeFormatException(path + ": " + message);
  }
}

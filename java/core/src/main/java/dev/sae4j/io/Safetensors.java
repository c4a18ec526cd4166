package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The safetensors container: 8 bytes of header length, a JSON header, data. The header is parsed as it streams by, so its
 * size costs no memory; the data must be covered without gap or overlap, as the format demands.
 */
final class Safetensors {
  private static final long MAX_HEADER = 100_000_000; // the format's own limit
  private static final int MAX_TENSORS = 1 << 16;
  private static final int MAX_RANK = 8;

  private Safetensors() {}

  private record Header(String name, String dtype, long[] shape, long begin, long end) {}

  static Map<String, Tensor> read(Path path, FileChannel file) throws IOException {
    long length = headerLength(path, file);
    List<Header> headers = new ArrayList<>();
    InputStream text = new BufferedInputStream(new Bounded(Channels.newInputStream(file.position(8)), length));
    Json json = new Json(path + ": header", text);
    boolean[] hasMetadata = {false};
    json.readDocument(
        name -> {
          if (name.equals("__metadata__") && !hasMetadata[0]) {
            hasMetadata[0] = true;
            json.skip();
            return;
          }
          if (headers.size() == MAX_TENSORS) {
            throw json.error("more than " + MAX_TENSORS + " tensors");
          }
          headers.add(readTensor(json, name));
        });
    return tensors(path, file, 8 + length, headers);
  }

  private static long headerLength(Path path, FileChannel file) throws IOException {
    ByteBuffer bytes = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
    if (!TensorFile.readFully(file, 0, bytes)) {
      throw new SaeFormatException(
          "%s: not a safetensors file: it has %d bytes, expected at least 10".formatted(path, file.size()));
    }
    long length = bytes.getLong(0);
    if (length < 2 || length > MAX_HEADER) {
      throw new SaeFormatException(
          "%s: not a safetensors file: its header length is %s, expected 2 to %d"
              .formatted(path, Long.toUnsignedString(length), MAX_HEADER));
    }
    if (length > file.size() - 8) {
      throw new SaeFormatException(
          "%s: truncated: the header needs %d bytes, the file has %d after its length"
              .formatted(path, length, file.size() - 8));
    }
    return length;
  }

  private static Header readTensor(Json json, String name) throws IOException {
    String[] dtype = {null};
    long[][] lists = {null, null};
    json.readObject(
        key -> {
          switch (key) {
            case "dtype" -> dtype[0] = once(json, name, key, dtype[0], json.readString());
            case "shape" -> lists[0] = once(json, name, key, lists[0], json.readSizes(MAX_RANK));
            case "data_offsets" -> lists[1] = once(json, name, key, lists[1], json.readSizes(2));
            default -> throw json.error("tensor %s has an unknown key %s".formatted(Failures.quote(name), Failures.quote(key)));
          }
        });
    if (dtype[0] == null || lists[0] == null || lists[1] == null || lists[1].length != 2) {
      throw json.error("tensor %s needs dtype, shape and two data_offsets".formatted(Failures.quote(name)));
    }
    return new Header(name, dtype[0], lists[0], lists[1][0], lists[1][1]);
  }

  private static <T> T once(Json json, String name, String key, T before, T value) {
    if (before != null) {
      throw json.error("tensor %s has the key %s twice".formatted(Failures.quote(name), Failures.quote(key)));
    }
    return value;
  }

  private static Map<String, Tensor> tensors(Path path, FileChannel file, long dataStart, List<Header> headers)
      throws IOException {
    long dataSize = file.size() - dataStart;
    headers.sort(Comparator.comparingLong(Header::begin).thenComparingLong(Header::end));
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    long covered = 0;
    for (Header header : headers) {
      String where = path + ": " + Failures.quote(header.name);
      if (header.begin > header.end || header.end > dataSize) {
        throw new SaeFormatException(
            "%s: data_offsets [%d, %d] do not lie in the %d bytes of data that the file has"
                .formatted(where, header.begin, header.end, dataSize));
      }
      if (header.begin != covered) {
        throw new SaeFormatException(
            "%s: data begins at %d, expected %d (%s)"
                .formatted(where, header.begin, covered, header.begin < covered ? "overlap" : "gap"));
      }
      covered = header.end;
      ByteSource bytes = new ByteSource.Plain(file, dataStart + header.begin, header.end - header.begin);
      Tensor tensor =
          new Tensor(header.name, where, DType.ofSafetensors(header.dtype), header.dtype, header.shape, bytes, 0);
      if (tensors.put(header.name, tensor) != null) {
        throw new SaeFormatException(where + ": there are two tensors of this name");
      }
    }
    if (covered != dataSize) {
      throw new SaeFormatException("%s: has %d bytes of data, its tensors %d".formatted(path, dataSize, covered));
    }
    return tensors;
  }

  /** The first bytes of a stream. */
  private static final class Bounded extends InputStream {
    private final InputStream in;
    private long left;

    Bounded(InputStream in, long left) {
      this.in = in;
      this.left = left;
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public int read(byte[] into, int offset, int length) throws IOException {
      if (left == 0) {
        return -1;
      }
      int count = in.read(into, offset, (int) Math.min(length, left));
      left -= Math.max(count, 0);
      return count;
    }
  }
}

package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The arrays of an .npz file: a zip file, Zip64 or not, with stored or deflated entries. java.util.zip does not say where an
 * entry's data lies, and stored arrays are read in place.
 */
final class ZipDirectory {
  private static final int END = 0x06054b50;
  private static final int END64 = 0x06064b50;
  private static final int END64_LOCATOR = 0x07064b50;
  private static final int CENTRAL = 0x02014b50;
  private static final int LOCAL = 0x04034b50;
  private static final int END_BYTES = 22;
  private static final int END64_BYTES = 56;
  private static final int LOCATOR_BYTES = 20;
  private static final int CENTRAL_BYTES = 46;
  private static final int LOCAL_BYTES = 30;
  private static final int MAX_DIRECTORY = 1 << 24;
  private static final int MAX_ENTRIES = 1 << 16;
  private static final int STORED = 0;
  private static final int DEFLATED = 8;
  private static final long MAX_DEFLATE_RATIO = 1032; // what deflate can reach

  private final Path path;
  private final FileChannel file;
  private final long fileSize;

  private ZipDirectory(Path path, FileChannel file) throws IOException {
    this.path = path;
    this.file = file;
    this.fileSize = file.size();
  }

  private record Entry(String name, int flags, int method, long crc, long storedSize, long size, long offset) {}

  /** The arrays by their name without {@code .npy}; entries of other kinds are left out. */
  static Map<String, Tensor> readArrays(Path path, FileChannel file) throws IOException {
    ZipDirectory zip = new ZipDirectory(path, file);
    Map<String, Tensor> arrays = new LinkedHashMap<>();
    ByteBuffer directory = zip.readDirectory();
    while (directory.hasRemaining()) {
      Entry entry = zip.readEntry(directory);
      if (!entry.name.endsWith(".npy")) {
        continue;
      }
      String name = entry.name.substring(0, entry.name.length() - 4);
      ByteSource bytes = zip.data(entry);
      try {
        if (arrays.put(name, Npy.parse(name, zip.where(entry), bytes)) != null) {
          throw new SaeException(zip.where(entry) + ": there are two entries of this name");
        }
      } catch (IOException e) {
        throw Failures.of(zip.where(entry), e);
      } finally {
        bytes.release();
      }
      if (arrays.size() > MAX_ENTRIES) {
        throw zip.bad("more than " + MAX_ENTRIES + " arrays");
      }
    }
    return arrays;
  }

  private String where(Entry entry) {
    return path + ": " + Failures.quote(entry.name);
  }

  private SaeException bad(String message) {
    return new SaeException(path + ": not a readable .npz (zip) file: " + message);
  }

  private ByteBuffer read(long position, long length) throws IOException {
    if (position < 0 || length < 0 || position > fileSize - length) {
      throw bad("%d bytes at %d do not lie in the file of %d bytes".formatted(length, position, fileSize));
    }
    ByteBuffer bytes = ByteBuffer.allocate((int) length).order(ByteOrder.LITTLE_ENDIAN);
    if (!TensorFile.readFully(file, position, bytes)) {
      throw bad("it ends too early");
    }
    return bytes.flip();
  }

  private ByteBuffer readDirectory() throws IOException {
    int tailLength = (int) Math.min(fileSize, END_BYTES + 0xffff);
    ByteBuffer tail = read(fileSize - tailLength, tailLength);
    int end = tailLength - END_BYTES;
    while (end >= 0 && !(tail.getInt(end) == END && end + END_BYTES + u16(tail, end + 20) == tailLength)) {
      end--;
    }
    if (end < 0) {
      throw bad("no end of central directory (truncated?)");
    }
    long size = u32(tail, end + 12);
    long offset = u32(tail, end + 16);
    long endPosition = fileSize - tailLength + end;
    if (endPosition >= LOCATOR_BYTES) {
      ByteBuffer locator = read(endPosition - LOCATOR_BYTES, LOCATOR_BYTES);
      if (locator.getInt(0) == END64_LOCATOR) {
        ByteBuffer end64 = read(locator.getLong(8), END64_BYTES);
        if (end64.getInt(0) != END64) {
          throw bad("no Zip64 end of central directory where its locator points");
        }
        size = end64.getLong(40);
        offset = end64.getLong(48);
      }
    }
    if (size > MAX_DIRECTORY) {
      throw bad("its directory has %d bytes, expected at most %d".formatted(size, MAX_DIRECTORY));
    }
    return read(offset, size);
  }

  private Entry readEntry(ByteBuffer directory) {
    int at = directory.position();
    if (directory.remaining() < CENTRAL_BYTES || directory.getInt(at) != CENTRAL) {
      throw bad("damaged directory at byte " + at);
    }
    int nameLength = u16(directory, at + 28);
    int extraLength = u16(directory, at + 30);
    int next = at + CENTRAL_BYTES + nameLength + extraLength + u16(directory, at + 32);
    if (next > directory.limit()) {
      throw bad("damaged directory at byte " + at);
    }
    String name = StandardCharsets.UTF_8.decode(directory.slice(at + CENTRAL_BYTES, nameLength)).toString();
    long[] sizes = {u32(directory, at + 24), u32(directory, at + 20), u32(directory, at + 42)};
    int extra = at + CENTRAL_BYTES + nameLength;
    readZip64(directory.slice(extra, extraLength).order(ByteOrder.LITTLE_ENDIAN), sizes);
    directory.position(next);
    return new Entry(
        name, u16(directory, at + 8), u16(directory, at + 10), u32(directory, at + 16), sizes[1], sizes[0], sizes[2]);
  }

  /** Replaces those of size, stored size and offset that say "see the Zip64 field", in this order. */
  private static void readZip64(ByteBuffer extra, long[] sizes) {
    while (extra.remaining() >= 4) {
      int id = extra.getShort() & 0xffff;
      int length = Math.min(extra.getShort() & 0xffff, extra.remaining());
      int next = extra.position() + length;
      if (id == 1) {
        for (int i = 0; i < sizes.length; i++) {
          if (sizes[i] == 0xffffffffL && next - extra.position() >= 8) {
            sizes[i] = extra.getLong();
          }
        }
      }
      extra.position(next);
    }
  }

  private ByteSource data(Entry entry) throws IOException {
    if ((entry.flags & 1) != 0) {
      throw new SaeException(where(entry) + ": is encrypted");
    }
    if (entry.method != STORED && entry.method != DEFLATED) {
      throw new SaeException(
          "%s: compression method %d is not supported, expected stored or deflated".formatted(where(entry), entry.method));
    }
    ByteBuffer local = read(entry.offset, LOCAL_BYTES);
    if (local.getInt(0) != LOCAL || u16(local, 8) != entry.method) {
      throw bad("%s is not where the directory says".formatted(Failures.quote(entry.name)));
    }
    long start = entry.offset + LOCAL_BYTES + u16(local, 26) + u16(local, 28);
    if (entry.storedSize < 0 || entry.size < 0 || start > fileSize - entry.storedSize) {
      throw new SaeException(
          "%s: truncated: %d bytes from %d on do not lie in the file of %d bytes"
              .formatted(where(entry), entry.storedSize, start, fileSize));
    }
    if (entry.method == STORED && entry.size != entry.storedSize) {
      throw new SaeException(
          "%s: is stored in %d bytes, expected its size, %d".formatted(where(entry), entry.storedSize, entry.size));
    }
    if (entry.size / MAX_DEFLATE_RATIO > entry.storedSize) {
      throw new SaeException(
          "%s: claims %d bytes, more than its %d deflated bytes can hold".formatted(where(entry), entry.size, entry.storedSize));
    }
    return entry.method == STORED
        ? new ByteSource.Plain(file, start, entry.size)
        : new ByteSource.Inflated(file, start, entry.storedSize, entry.size, entry.crc);
  }

  private static int u16(ByteBuffer bytes, int at) {
    return bytes.getShort(at) & 0xffff;
  }

  private static long u32(ByteBuffer bytes, int at) {
    return bytes.getInt(at) & 0xffffffffL;
  }
}

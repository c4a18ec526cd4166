package dev.sae4j.io;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipFile;

/** The bytes of one array in a file. Read from any place, though {@link Zipped} is fast only from front to back. */
interface ByteSource {
  long size();

  /** Bytes it takes in the file. */
  long storedSize();

  /** Whether going back means starting again. */
  boolean isSequential();

  /** Fills the rest of the buffer with the bytes from a position on. */
  void read(long position, ByteBuffer into) throws IOException;

  /** Frees what reading holds; the next read starts again. */
  default void release() {}

  /** Bytes as they lie in the file. */
  record Plain(FileChannel file, long start, long size) implements ByteSource {
    @Override
    public long storedSize() {
      return size;
    }

    @Override
    public boolean isSequential() {
      return false;
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      if (position + into.remaining() > size) {
        throw new EOFException("ends at byte %d, expected %d".formatted(size, position + into.remaining()));
      }
      readFully(file, start + position, into);
    }
  }

  /** Numbers that a file has as text. */
  record Memory(byte[] bytes) implements ByteSource {
    @Override
    public long size() {
      return bytes.length;
    }

    @Override
    public long storedSize() {
      return bytes.length;
    }

    @Override
    public boolean isSequential() {
      return false;
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      if (position + into.remaining() > bytes.length) {
        throw new EOFException("ends at byte %d, expected %d".formatted(bytes.length, position + into.remaining()));
      }
      into.put(bytes, (int) position, into.remaining());
    }
  }

  /** What follows a place of other bytes. */
  record Rest(ByteSource bytes, long start) implements ByteSource {
    @Override
    public long size() {
      return bytes.size() - start;
    }

    @Override
    public long storedSize() {
      return bytes.storedSize();
    }

    @Override
    public boolean isSequential() {
      return bytes.isSequential();
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      bytes.read(start + position, into);
    }

    @Override
    public void release() {
      bytes.release();
    }
  }

  /** Big-endian elements as little-endian ones. Only whole elements are read. */
  record Swapped(ByteSource bytes, int width) implements ByteSource {
    @Override
    public long size() {
      return bytes.size();
    }

    @Override
    public long storedSize() {
      return bytes.storedSize();
    }

    @Override
    public boolean isSequential() {
      return bytes.isSequential();
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      int at = into.position();
      bytes.read(position, into);
      for (; at < into.position(); at += width) {
        swap(into, at, width);
      }
    }

    static void swap(ByteBuffer bytes, int at, int width) {
      switch (width) {
        case 2 -> bytes.putShort(at, Short.reverseBytes(bytes.getShort(at)));
        case 4 -> bytes.putInt(at, Integer.reverseBytes(bytes.getInt(at)));
        case 8 -> bytes.putLong(at, Long.reverseBytes(bytes.getLong(at)));
        default -> { } // a byte has no order
      }
    }

    @Override
    public void release() {
      bytes.release();
    }
  }

  /** An entry of a zip file, stored or deflated. Gives as many bytes as its directory says; checks their CRC if it read all. */
  final class Zipped implements ByteSource {
    private final ZipFile zip;
    private final ZipEntry entry;
    private final CRC32 crc = new CRC32();
    private byte[] chunk; // while a stream is open: a file may have thousands of entries
    private InputStream stream;
    private boolean skipped;
    private long at;

    Zipped(ZipFile zip, ZipEntry entry) {
      this.zip = zip;
      this.entry = entry;
    }

    @Override
    public long size() {
      return entry.getSize();
    }

    @Override
    public long storedSize() {
      return entry.getCompressedSize();
    }

    @Override
    public boolean isSequential() {
      return true;
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      if (position + into.remaining() > size()) {
        throw new EOFException("ends at byte %d, expected %d".formatted(size(), position + into.remaining()));
      }
      if (stream == null || position < at) {
        release();
        stream = zip.getInputStream(entry);
        chunk = new byte[1 << 16];
        crc.reset();
        skipped = false;
        at = 0;
      }
      if (position - at > chunk.length) {
        stream.skipNBytes(position - at);
        skipped = true;
        at = position;
      }
      while (at < position) { // no more than a header: read, so that the CRC can be checked
        next((int) (position - at));
      }
      while (into.hasRemaining()) {
        into.put(chunk, 0, next(Math.min(chunk.length, into.remaining())));
      }
      if (at == size()) {
        finish();
      }
    }

    private int next(int most) throws IOException {
      int count = stream.read(chunk, 0, most);
      if (count < 0) {
        throw new EOFException("data ends at byte %d, expected %d".formatted(at, size()));
      }
      crc.update(chunk, 0, count);
      at += count;
      return count;
    }

    private void finish() throws IOException {
      if (stream.read() >= 0) {
        throw new ZipException("data goes on after the " + size() + " bytes expected");
      }
      if (!skipped && crc.getValue() != entry.getCrc()) {
        throw new ZipException("damaged data: expected CRC %08x, got %08x".formatted(entry.getCrc(), crc.getValue()));
      }
      release();
    }

    @Override
    public void release() {
      if (stream != null) {
        try {
          stream.close();
        } catch (IOException e) {
          // it was only read from
        }
        stream = null;
        chunk = null;
      }
    }
  }

  private static void readFully(FileChannel file, long position, ByteBuffer into) throws IOException {
    if (!TensorFile.readFully(file, position, into)) {
      throw new EOFException("the file ends too early");
    }
  }
}

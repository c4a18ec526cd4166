package dev.sae4j.cli;

import java.io.IOException;
import java.io.InputStream;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;
import java.util.zip.ZipException;

/**
 * Gzip data unpacked, of however many members. Java's own GZIPInputStream takes a pause of a pipe between two members for
 * the end, and passes over what is no member after one: both lose data silently.
 */
final class Gunzip extends InputStream {
  private static final int HEADER_CRC = 2;
  private static final int EXTRA = 4;
  private static final int NAME = 8;
  private static final int COMMENT = 16;
  private static final int RESERVED = 0xe0;

  private final InputStream in;
  private final byte[] buffer = new byte[1 << 16];
  private int next;
  private int end;
  private final Inflater inflater = new Inflater(true);
  private final CRC32 crc = new CRC32();
  private boolean hasEnded;

  /** @throws ZipException if it does not begin with a member */
  Gunzip(InputStream in) throws IOException {
    this.in = in;
    beginMember(nextByte());
  }

  static boolean isMagic(int first, int second) {
    return first == 0x1f && second == 0x8b;
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
  }

  @Override
  public int read(byte[] into, int offset, int length) throws IOException {
    while (length > 0 && !hasEnded) {
      int n = inflate(into, offset, length);
      if (n > 0) {
        crc.update(into, offset, n);
        return n;
      }
      if (inflater.finished()) {
        endMember();
      } else if (inflater.needsInput()) {
        fill();
        inflater.setInput(buffer, 0, end);
      } else {
        throw new ZipException("it asks for a dictionary");
      }
    }
    return length == 0 ? 0 : -1;
  }

  private int inflate(byte[] into, int offset, int length) throws ZipException {
    try {
      return inflater.inflate(into, offset, length);
    } catch (DataFormatException e) {
      throw new ZipException(e.getMessage());
    }
  }

  private void beginMember(int first) throws IOException {
    if (!isMagic(first, nextByte()) || nextByte() != 8) {
      throw new ZipException("a member should begin where none does");
    }
    int flags = nextByte();
    if ((flags & RESERVED) != 0) {
      throw new ZipException("flags of an unknown meaning");
    }
    skip(6); // time, level, system
    if ((flags & EXTRA) != 0) {
      skip(nextByte() | nextByte() << 8);
    }
    for (int text = flags & (NAME | COMMENT); text != 0; text &= text - 1) {
      while (nextByte() != 0) {}
    }
    if ((flags & HEADER_CRC) != 0) {
      skip(2);
    }
    inflater.reset();
    inflater.setInput(buffer, next, end - next);
    crc.reset();
  }

  /** Checks what came out, and goes on to the next member or the end, before which zeros may stand. */
  private void endMember() throws IOException {
    next = end - inflater.getRemaining();
    if (nextInt() != (int) crc.getValue() || nextInt() != (int) inflater.getBytesWritten()) {
      throw new ZipException("its checksum does not fit");
    }
    int first = 0;
    while (first == 0 && !hasEnded) {
      hasEnded = next == end && !tryFill();
      first = hasEnded ? 0 : nextByte();
    }
    if (!hasEnded) {
      beginMember(first);
    }
  }

  private boolean tryFill() throws IOException {
    next = 0;
    end = Math.max(0, in.read(buffer));
    return end > 0;
  }

  private void fill() throws IOException {
    if (!tryFill()) {
      throw new ZipException("it ends too early");
    }
  }

  private int nextByte() throws IOException {
    if (next == end) {
      fill();
    }
    return buffer[next++] & 0xff;
  }

  private int nextInt() throws IOException {
    return nextByte() | nextByte() << 8 | nextByte() << 16 | nextByte() << 24;
  }

  private void skip(int bytes) throws IOException {
    for (int i = 0; i < bytes; i++) {
      nextByte();
    }
  }

  @Override
  public void close() throws IOException {
    inflater.end();
    in.close();
  }
}

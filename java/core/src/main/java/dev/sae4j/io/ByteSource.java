package dev.sae4j.io;

import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/** The bytes of one array in a file. Read from any place, though {@link Inflated} is fast only from front to back. */
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

  /** A deflated entry of a zip file. Never gives more bytes than its directory says, and checks their CRC at the end. */
  final class Inflated implements ByteSource {
    private static final int INPUT_BYTES = 1 << 16;

    private final FileChannel file;
    private final long start;
    private final long storedSize;
    private final long size;
    private final long expectedCrc;
    private final CRC32 crc = new CRC32();
    private ByteBuffer input;
    private Inflater inflater;
    private long taken;
    private long at;

    Inflated(FileChannel file, long start, long storedSize, long size, long expectedCrc) {
      this.file = file;
      this.start = start;
      this.storedSize = storedSize;
      this.size = size;
      this.expectedCrc = expectedCrc;
    }

    @Override
    public long size() {
      return size;
    }

    @Override
    public long storedSize() {
      return storedSize;
    }

    @Override
    public boolean isSequential() {
      return true;
    }

    @Override
    public void read(long position, ByteBuffer into) throws IOException {
      if (position + into.remaining() > size) {
        throw new EOFException("ends at byte %d, expected %d".formatted(size, position + into.remaining()));
      }
      if (inflater == null || position < at) {
        restart();
      }
      if (position > at) {
        ByteBuffer skipped = ByteBuffer.allocate((int) Math.min(INPUT_BYTES, position - at));
        while (at < position) {
          inflate(skipped.clear().limit((int) Math.min(skipped.capacity(), position - at)));
        }
      }
      inflate(into);
      if (at == size) {
        finish();
      }
    }

    private void restart() {
      release();
      inflater = new Inflater(true);
      input = ByteBuffer.allocateDirect(INPUT_BYTES);
      crc.reset();
      taken = 0;
      at = 0;
    }

    private void inflate(ByteBuffer into) throws IOException {
      while (into.hasRemaining()) {
        ByteBuffer written = into.duplicate();
        if (inflateSome(into) == 0 && (inflater.finished() || inflater.needsDictionary())) {
          throw new EOFException("deflated data ends at byte %d, expected %d".formatted(at, size));
        }
        crc.update(written.limit(into.position()));
      }
    }

    private int inflateSome(ByteBuffer into) throws IOException {
      if (inflater.needsInput() && !inflater.finished()) {
        feed();
      }
      try {
        int count = inflater.inflate(into);
        at += count;
        return count;
      } catch (DataFormatException e) {
        throw new IOException("damaged deflated data at byte " + at, e);
      }
    }

    private void feed() throws IOException {
      if (taken == storedSize) {
        throw new EOFException("deflated data ends at byte %d, expected %d".formatted(at, size));
      }
      input.clear().limit((int) Math.min(INPUT_BYTES, storedSize - taken));
      taken += input.limit();
      readFully(file, start + taken - input.limit(), input);
      inflater.setInput(input.flip());
    }

    private void finish() throws IOException {
      ByteBuffer beyond = ByteBuffer.allocate(1);
      while (beyond.hasRemaining() && !inflater.finished() && !(inflater.needsInput() && taken == storedSize)) {
        inflateSome(beyond);
      }
      if (beyond.position() > 0) {
        throw new IOException("deflated data goes on after the " + size + " bytes expected");
      }
      if (crc.getValue() != expectedCrc) {
        throw new IOException("damaged data: expected CRC %08x, got %08x".formatted(expectedCrc, crc.getValue()));
      }
      release();
    }

    @Override
    public void release() {
      if (inflater != null) {
        inflater.end();
        inflater = null;
        input = null;
      }
    }
  }

  private static void readFully(FileChannel file, long position, ByteBuffer into) throws IOException {
    if (!TensorFile.readFully(file, position, into)) {
      throw new EOFException("the file ends too early");
    }
  }
}

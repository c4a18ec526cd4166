package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;

/**
 * Writes float32 rows [n, d] to a .npy file, a chunk at a time. Nothing is seen under the file's name before {@link #commit};
 * a writer closed without it leaves no trace, and an old file whole. Belongs to one thread.
 */
public final class NpyWriter implements AutoCloseable {
  private static final int CHUNK_BYTES = 1 << 18;

  private final AtomicFile file;
  private final long columns;
  private final ByteBuffer chunk = ByteBuffer.allocateDirect(CHUNK_BYTES).order(ByteOrder.LITTLE_ENDIAN);
  private long rows;

  private NpyWriter(AtomicFile file, long columns) {
    this.file = file;
    this.columns = columns;
  }

  /**
   * Begins a file.
   *
   * @param columns d
   * @throws SaeException if the folder can't be written to
   */
  public static NpyWriter create(Path path, long columns) {
    if (columns < 1) {
      throw new IllegalArgumentException("columns must be at least 1, got " + columns);
    }
    AtomicFile file = new AtomicFile(path);
    try {
      NpyWriter writer = new NpyWriter(file, columns);
      file.write(ByteBuffer.wrap(writer.header()));
      return writer;
    } catch (RuntimeException | Error e) {
      file.close();
      throw e;
    }
  }

  private byte[] header() {
    return Npy.header("<f4", "(" + rows + ", " + columns + ")");
  }

  /**
   * Appends rows, from the buffer's position to its limit; leaves the position at the limit.
   *
   * @throws IllegalArgumentException if they are not whole rows of d values
   * @throws SaeException if the file can't be written, e.g. on a full disk
   */
  public void write(FloatBuffer values) {
    if (values.remaining() % columns != 0) {
      throw new IllegalArgumentException(
          "got %d values, expected a multiple of d = %d".formatted(values.remaining(), columns));
    }
    rows += values.remaining() / columns;
    while (values.hasRemaining()) {
      int count = Math.min(values.remaining(), CHUNK_BYTES / Float.BYTES);
      chunk.clear().asFloatBuffer().put(values.slice(values.position(), count));
      values.position(values.position() + count);
      file.write(chunk.limit(count * Float.BYTES));
    }
  }

  /**
   * Completes the file and puts it in its place.
   *
   * @throws SaeException if that fails
   */
  public void commit() {
    try {
      file.channel().position(0);
    } catch (IOException e) {
      throw file.failed(e);
    }
    file.write(ByteBuffer.wrap(header()));
    file.commit();
  }

  /** Discards what was not committed. Idempotent. */
  @Override
  public void close() {
    file.close();
  }
}

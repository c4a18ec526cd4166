package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.util.zip.Deflater;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Writes codes [n, d_sae] to an .npz file that {@code scipy.sparse.load_npz} opens (CSR: {@code format}, {@code shape} and
 * {@code indptr} int64, {@code indices} int32, {@code data} float32; and {@code scale} and {@code shift}, float32 [n], where the
 * SAE normalises, which scipy passes over), a chunk of rows at a time. The arrays are spooled to disk beside the target until their
 * sizes are known. Nothing is seen under the file's name before {@link #commit}; a
 * writer closed without it leaves no trace, and an old file whole. Belongs to one thread.
 */
public final class CodesWriter implements SparseAutoencoder.Sink, AutoCloseable {
  private static final int CHUNK = 1 << 16;
  /** Equal codes, equal files: of midnight, Java would add a time that depends on the zone. */
  private static final LocalDateTime NO_DATE = LocalDateTime.of(1980, 1, 1, 0, 0, 2);

  private final long dSae;
  private final AtomicFile file;
  private final FileChannel indptr;
  private final FileChannel indices;
  private final FileChannel data;
  private final FileChannel scale;
  private final FileChannel shift;
  private final ByteBuffer offsets = ByteBuffer.allocateDirect(CHUNK * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
  private long rows;
  private long nnz;
  private boolean normalized;

  private CodesWriter(long dSae, AtomicFile file, FileChannel[] spools) {
    this.dSae = dSae;
    this.file = file;
    indptr = spools[0];
    indices = spools[1];
    data = spools[2];
    scale = spools[3];
    shift = spools[4];
  }

  /**
   * Begins a file.
   *
   * @throws SaeException if the folder can't be written to
   */
  public static CodesWriter create(Path path, long dSae) {
    if (dSae < 1 || dSae > Integer.MAX_VALUE) {
      throw new IllegalArgumentException("d_sae must be 1 to %d, got %d".formatted(Integer.MAX_VALUE, dSae));
    }
    AtomicFile file = new AtomicFile(path);
    FileChannel[] spools = new FileChannel[5];
    try {
      for (int i = 0; i < spools.length; i++) {
        spools[i] = file.spool();
      }
      file.write(spools[0], ByteBuffer.allocate(Long.BYTES)); // indptr[0] = 0
      return new CodesWriter(dSae, file, spools);
    } catch (RuntimeException | Error e) {
      closeAll(file, spools);
      throw e;
    }
  }

  /** Rows written so far. */
  public long rows() {
    return rows;
  }

  /** Values written so far. */
  public long nnz() {
    return nnz;
  }

  /**
   * Appends the codes of the next rows.
   *
   * @throws IllegalArgumentException if they have another d_sae, or some rows have scale and shift and others not
   * @throws SaeException if the file can't be written, e.g. on a full disk
   */
  @Override
  public void accept(SparseCodes codes) {
    long count = codes.rows();
    if (count == 0) {
      return;
    }
    if (codes.dSae() != dSae) {
      throw new IllegalArgumentException("codes have d_sae %d, expected %d".formatted(codes.dSae(), dSae));
    }
    FloatPointer rowScale = codes.rowScale();
    if (rows > 0 && normalized != (rowScale != null)) {
      throw new IllegalArgumentException(
          normalized ? "codes have no scale and shift, those before have" : "codes have scale and shift, those before have none");
    }
    normalized = rowScale != null;
    FloatPointer rowShift = codes.rowShift();
    LongPointer rowOffsets = codes.rowOffsets();
    for (long row = 0; row < count; row += CHUNK) {
      int n = (int) Math.min(CHUNK, count - row);
      LongBuffer ends = rowOffsets.getPointer(LongPointer.class, row + 1).capacity(n).asBuffer();
      LongBuffer shifted = offsets.clear().asLongBuffer();
      for (int i = 0; i < n; i++) {
        shifted.put(i, nnz + ends.get(i));
      }
      file.write(indptr, offsets.limit(n * Long.BYTES));
      if (normalized) {
        write(scale, rowScale.getPointer(FloatPointer.class, row), n);
        write(shift, rowShift.getPointer(FloatPointer.class, row), n);
      }
    }
    long values = codes.nnz();
    IntPointer codesIndices = codes.indices();
    FloatPointer codesValues = codes.values();
    for (long at = 0; at < values; at += CHUNK) {
      long n = Math.min(CHUNK, values - at);
      write(indices, codesIndices.getPointer(IntPointer.class, at), n);
      write(data, codesValues.getPointer(FloatPointer.class, at), n);
    }
    rows += count;
    nnz += values;
    Reference.reachabilityFence(codes); // buffers don't keep them from being freed
  }

  private void write(FileChannel spool, Pointer from, long count) {
    file.write(spool, from.capacity(count).asByteBuffer());
  }

  /**
   * Assembles the file and puts it in its place.
   *
   * @throws SaeException if that fails
   */
  public void commit() {
    try (ZipOutputStream zip = new ZipOutputStream(stream())) { // Zip64 where sizes ask for it
      zip.setLevel(Deflater.NO_COMPRESSION);
      add(zip, "indices", "<i4", "(" + nnz + ",)", indices);
      add(zip, "indptr", "<i8", "(" + (rows + 1) + ",)", indptr);
      add(zip, "format", "|S3", "()", "csr".getBytes(StandardCharsets.US_ASCII));
      ByteBuffer shape = ByteBuffer.allocate(2 * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN).putLong(rows).putLong(dSae);
      add(zip, "shape", "<i8", "(2,)", shape.array());
      add(zip, "data", "<f4", "(" + nnz + ",)", data);
      if (normalized) {
        add(zip, "scale", "<f4", "(" + rows + ",)", scale);
        add(zip, "shift", "<f4", "(" + rows + ",)", shift);
      }
    } catch (IOException e) {
      throw file.failed(e);
    }
    file.commit();
  }

  /** Stays open when closed: the file is yet to be committed. */
  private OutputStream stream() {
    return new BufferedOutputStream(Channels.newOutputStream(file.channel()), CHUNK) {
      @Override
      public void close() throws IOException {
        flush();
      }
    };
  }

  private static void begin(ZipOutputStream zip, String name, String descr, String shape) throws IOException {
    ZipEntry entry = new ZipEntry(name + ".npy");
    entry.setTimeLocal(NO_DATE);
    zip.putNextEntry(entry);
    zip.write(Npy.header(descr, shape));
  }

  private static void add(ZipOutputStream zip, String name, String descr, String shape, byte[] content) throws IOException {
    begin(zip, name, descr, shape);
    zip.write(content);
    zip.closeEntry();
  }

  private static void add(ZipOutputStream zip, String name, String descr, String shape, FileChannel spool) throws IOException {
    begin(zip, name, descr, shape);
    WritableByteChannel out = Channels.newChannel(zip);
    long size = spool.size();
    for (long at = 0; at < size; ) {
      at += spool.transferTo(at, size - at, out);
    }
    zip.closeEntry();
    spool.close(); // its disk space is needed for what follows
  }

  /** Discards what was not committed. Idempotent. */
  @Override
  public void close() {
    closeAll(file, indptr, indices, data, scale, shift);
  }

  private static void closeAll(AtomicFile file, FileChannel... spools) {
    try (file) {
      for (FileChannel spool : spools) {
        if (spool != null) {
          spool.close();
        }
      }
    } catch (IOException e) {
      throw file.failed(e);
    }
  }
}

package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipFile;

/** The arrays of an .npz file: a zip file, Zip64 or not, with stored or deflated entries. */
final class Npz {
  private static final long MAX_DEFLATE_RATIO = 1032; // what deflate can reach

  private Npz() {}

  /** The caller closes the zip file, once the arrays have been read. */
  static ZipFile open(Path path) throws IOException {
    try {
      return new ZipFile(path.toFile());
    } catch (ZipException e) {
      String reason = Failures.oneLine(String.valueOf(e.getMessage()));
      throw new SaeFormatException(path + ": not a readable zip file: " + reason, e);
    }
  }

  /** The arrays by their name without {@code .npy}; entries of other kinds are left out. */
  static Map<String, Tensor> readArrays(Path path, ZipFile zip) throws IOException {
    long fileSize = Files.size(path);
    Map<String, Tensor> arrays = new LinkedHashMap<>();
    for (ZipEntry entry : Collections.list(zip.entries())) {
      if (!entry.getName().endsWith(".npy")) {
        continue;
      }
      String name = entry.getName().substring(0, entry.getName().length() - 4);
      String where = path + ": " + Failures.quote(entry.getName());
      if (arrays.put(name, readArray(zip, entry, fileSize, name, where)) != null) {
        throw new SaeFormatException(where + ": there are two entries of this name");
      }
    }
    return arrays;
  }

  private static Tensor readArray(ZipFile zip, ZipEntry entry, long fileSize, String name, String where) {
    ByteSource bytes = source(zip, entry, fileSize, where);
    try {
      return Npy.parse(name, where, bytes);
    } catch (IOException e) {
      throw Failures.of(where, e);
    } finally {
      bytes.release();
    }
  }

  /** An entry's bytes, once what the directory says of it can be true. */
  static ByteSource source(ZipFile zip, ZipEntry entry, long fileSize, String where) {
    long size = entry.getSize();
    long storedSize = entry.getCompressedSize();
    if (storedSize > fileSize) {
      throw new SaeFormatException("%s: truncated: needs %d bytes, the file has %d".formatted(where, storedSize, fileSize));
    }
    if (entry.getMethod() == ZipEntry.STORED && size != storedSize) {
      throw new SaeFormatException("%s: is stored in %d bytes, expected its size, %d".formatted(where, storedSize, size));
    }
    if (size < 0 || storedSize < 0 || size / MAX_DEFLATE_RATIO > storedSize) {
      throw new SaeFormatException(
          "%s: claims %d bytes, more than its %d deflated bytes can hold".formatted(where, size, storedSize));
    }
    return new ByteSource.Zipped(zip, entry);
  }
}

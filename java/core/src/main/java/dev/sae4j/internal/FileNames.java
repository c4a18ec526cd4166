package dev.sae4j.internal;

import dev.sae4j.SaeException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;

/** Paths from text. Not part of the API. */
public final class FileNames {
  private FileNames() {}

  /** @throws SaeException if it is no path, or one that has no bytes in this JVM's encoding of names, with the remedy */
  public static Path path(String name) {
    try {
      return Path.of(name);
    } catch (InvalidPathException e) {
      String encoding = System.getProperty("sun.jnu.encoding");
      boolean isBeyond = !"UTF-8".equalsIgnoreCase(encoding) && name.chars().anyMatch(c -> c > 0x7f);
      throw new SaeException(
          name + ": " + (isBeyond
              ? "this JVM encodes file names in " + encoding + " (sun.jnu.encoding), expected UTF-8: start it with LC_ALL=C.UTF-8"
              : "not a path: " + e.getReason()), e);
    }
  }
}

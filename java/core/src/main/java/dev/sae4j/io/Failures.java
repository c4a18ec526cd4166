package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.util.Collection;
import java.util.stream.Collectors;
import java.util.zip.ZipException;

/** The wording of failures: always one line, whatever a file holds. */
final class Failures {
  private static final String UNPRINTABLE = "[\\p{Cc}\\p{Cf}\\u2028\\u2029]";
  private static final int MAX_SHOWN = 80;
  private static final int MAX_LINE = 300;
  private static final int MAX_NAMES = 12;

  private Failures() {}

  /**
   * A file that ends too early and a zip's damage are faults of the file, all else is the disk's.
   *
   * @param what e.g. {@code "x.npy"}, or {@code "x.npz: array data"}
   */
  static SaeException of(Object what, IOException cause) {
    String message = what + ": " + reason(cause);
    return cause instanceof EOFException || cause instanceof ZipException
        ? new SaeFormatException(message, cause)
        : new SaeException(message, cause);
  }

  private static String reason(IOException e) {
    if (e instanceof NoSuchFileException) {
      return "no such file or folder";
    }
    if (e instanceof AccessDeniedException) {
      return "permission denied";
    }
    if (e instanceof FileAlreadyExistsException) {
      return "exists already";
    }
    if (e instanceof FileSystemException system && system.getReason() != null) {
      return oneLine(system.getReason());
    }
    if (e instanceof EOFException && e.getMessage() == null) {
      return "ends too early";
    }
    return e.getMessage() == null ? e.getClass().getSimpleName() : oneLine(e.getMessage());
  }

  /** The first line, cut to a readable length, without what could break a terminal: a parser may quote what it read. */
  static String oneLine(String text) {
    return cut(text.lines().findFirst().orElse("").replaceAll(UNPRINTABLE, "?"), MAX_LINE);
  }

  private static String cut(String text, int most) {
    return text.length() > most ? text.substring(0, most) + "..." : text;
  }

  /** A name out of a file, quoted, cut to a readable length. */
  static String quote(String name) {
    return '"' + cut(printable(name), MAX_SHOWN) + '"';
  }

  /** Without what could break a line, or a terminal. */
  static String printable(String text) {
    return text.replaceAll(UNPRINTABLE, "?");
  }

  /** Names for the user to pick from. */
  static String list(Collection<String> names) {
    if (names.isEmpty()) {
      return "none";
    }
    String shown = names.stream().limit(MAX_NAMES).map(Failures::quote).collect(Collectors.joining(", "));
    return names.size() > MAX_NAMES ? shown + " and " + (names.size() - MAX_NAMES) + " more" : shown;
  }
}

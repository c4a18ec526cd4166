package dev.sae4j.internal;

import java.util.regex.Pattern;

/** Calls of the engine on an input that goes by in chunks. Not part of the API. */
public final class Chunks {
  private static final Pattern ROW = Pattern.compile("\\brow (\\d{1,18})\\b");

  private Chunks() {}

  /**
   * Makes a call on the rows from one on. The engine counts rows from the call's first; what it refuses is reported by the row of
   * the whole input.
   *
   * @param input its name, for the message; null if it has none
   */
  public static void call(String input, long firstRow, Runnable operation) {
    try {
      operation.run();
    } catch (IllegalArgumentException e) {
      String message = ROW.matcher(String.valueOf(e.getMessage())).replaceAll(row -> "row " + (firstRow + Long.parseLong(row.group(1))));
      throw new IllegalArgumentException(input == null ? message : input + ": " + message, e);
    }
  }
}

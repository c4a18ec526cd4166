package dev.sae4j.cli;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.FilterWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.regex.Pattern;

/**
 * Where all text for stdout or stderr goes. Nothing in it can control a terminal, whatever file it comes from. The first failure is
 * kept, which a PrintWriter forgets.
 */
final class Output extends FilterWriter {
  /** The exit status of a tool that a pipe's end stops: 128 + SIGPIPE. */
  static final int BROKEN_PIPE = 141;

  /** Control characters, separators of lines and paragraphs, and what turns the direction of text. */
  private static final String UNSAFE = "\\p{Cc}\\u2028\\u2029\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069";
  private static final Pattern UNSAFE_IN_LINE = Pattern.compile("[" + UNSAFE + "]");
  private static final Pattern UNSAFE_IN_TEXT = Pattern.compile("[" + UNSAFE + "&&[^\\n\\t]]");

  private IOException failure;

  Output(Writer out) {
    super(out);
  }

  /** Labels are Unicode, whatever the locale. */
  static Output of(FileDescriptor stream) {
    return new Output(new OutputStreamWriter(new FileOutputStream(stream), StandardCharsets.UTF_8));
  }

  /** What came from a file or from the command line, on one line: \u001b and the like are seen, not obeyed. */
  static String line(Object text) {
    return escape(UNSAFE_IN_LINE, String.valueOf(text));
  }

  /** As JSON has it, so that a string in JSON stays what it is. */
  private static String escape(Pattern unsafe, String text) {
    return unsafe.matcher(text).replaceAll(found -> "\\\\u%04x".formatted((int) found.group().charAt(0)));
  }

  @Override
  public void write(int c) throws IOException {
    write(String.valueOf((char) c));
  }

  @Override
  public void write(char[] text, int from, int length) throws IOException {
    write(new String(text, from, length));
  }

  @Override
  public void write(String text, int from, int length) throws IOException {
    String safe = escape(UNSAFE_IN_TEXT, text.substring(from, from + length));
    attempt(() -> out.write(safe));
  }

  @Override
  public void flush() throws IOException {
    attempt(out::flush);
  }

  @FunctionalInterface
  private interface Attempt {
    void make() throws IOException;
  }

  private void attempt(Attempt attempt) throws IOException {
    if (failure != null) {
      throw failure;
    }
    try {
      attempt.make();
    } catch (IOException e) {
      failure = e;
      throw e;
    }
  }

  /** Why not all of it was written; null if it was. */
  String failure() {
    try {
      flush();
    } catch (IOException e) {
      // kept
    }
    return failure == null ? null : String.valueOf(failure.getMessage());
  }

  /** Whether who read it has had enough, as {@code head} has, which is no fault. */
  static boolean isBrokenPipe(String failure) {
    return failure.toLowerCase(Locale.ROOT).contains("broken pipe");
  }
}

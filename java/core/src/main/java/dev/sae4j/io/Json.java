package dev.sae4j.io;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.sae4j.SaeFormatException;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.FilterReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Strict JSON from files nobody vouches for: bounded names and strings, no duplicate keys, no text after the end. */
final class Json {
  private static final int MAX_TEXT = 1 << 16;
  private static final int MAX_DEPTH = 32;
  private static final List<byte[]> NON_FINITE =
      Stream.of("NaN", "Infinity", "-Infinity").map(text -> text.getBytes(StandardCharsets.US_ASCII)).toList();

  private final String where;
  private final Limited text;
  private final JsonReader reader;

  /** @param utf8 stays open: the caller closes it */
  Json(String where, InputStream utf8) {
    this.where = where;
    this.text = new Limited(new InputStreamReader(utf8, StandardCharsets.UTF_8.newDecoder()));
    this.reader = new JsonReader(text);
    reader.setStrictness(Strictness.STRICT);
    reader.setNestingLimit(MAX_DEPTH);
  }

  /** A number as written: a hostile one may fit no type. */
  record Literal(String text) {
    @Override
    public String toString() {
      return text;
    }
  }

  /**
   * The text with NaN, Infinity and -Infinity, which Python's json writes and no standard knows, as strings that {@link #readValue}
   * takes for literals.
   */
  static byte[] markNonFinite(byte[] utf8) {
    ByteArrayOutputStream marked = new ByteArrayOutputStream(utf8.length);
    boolean isText = false;
    for (int i = 0; i < utf8.length; i++) {
      byte[] literal = isText ? null : nonFinite(utf8, i);
      if (literal != null) {
        marked.writeBytes(("\"\\u0000" + new String(literal, StandardCharsets.US_ASCII) + "\"").getBytes(StandardCharsets.US_ASCII));
        i += literal.length - 1;
        continue;
      }
      isText ^= utf8[i] == '"';
      marked.write(utf8[i]);
      if (isText && utf8[i] == '\\' && i + 1 < utf8.length) {
        marked.write(utf8[++i]); // a quote, perhaps
      }
    }
    return marked.toByteArray();
  }

  private static byte[] nonFinite(byte[] utf8, int at) {
    for (byte[] literal : NON_FINITE) {
      if (at + literal.length <= utf8.length && Arrays.equals(utf8, at, at + literal.length, literal, 0, literal.length)) {
        return literal;
      }
    }
    return null;
  }

  /** Takes the next value. */
  @FunctionalInterface
  interface Member {
    void read(String name) throws IOException;
  }

  /** Reads one object that is the whole text. */
  void readDocument(Member member) throws IOException {
    try {
      readObject(member);
      reader.peek(); // strict: throws where text follows
    } catch (MalformedJsonException | EOFException | CharacterCodingException | IllegalStateException e) {
      String reason = Failures.oneLine(String.valueOf(e.getMessage()));
      reason = reason.replaceFirst("^Use JsonReader\\S+ to accept mal", "mal"); // advice for a programmer
      throw new SaeFormatException(where + ": not valid JSON: " + reason, e);
    }
  }

  /** Hands each member's name over; the handler must consume its value. */
  void readObject(Member member) throws IOException {
    expect(JsonToken.BEGIN_OBJECT, "an object");
    reader.beginObject();
    while (reader.hasNext()) {
      text.allow(MAX_TEXT);
      member.read(reader.nextName());
    }
    reader.endObject();
  }

  /** Passes over a value of any size. */
  void skip() throws IOException {
    text.allow(Long.MAX_VALUE);
    reader.skipValue();
  }

  String readString() throws IOException {
    expect(JsonToken.STRING, "a string");
    text.allow(MAX_TEXT);
    return reader.nextString();
  }

  /** A list of at most max whole numbers, none negative. */
  long[] readSizes(int max) throws IOException {
    expect(JsonToken.BEGIN_ARRAY, "a list of whole numbers");
    List<Long> sizes = new ArrayList<>();
    reader.beginArray();
    while (reader.hasNext()) {
      expect(JsonToken.NUMBER, "a whole number");
      text.allow(MAX_TEXT);
      if (sizes.size() == max) {
        throw error("expected at most %d numbers at %s".formatted(max, path()));
      }
      sizes.add(size(reader.nextString()));
    }
    reader.endArray();
    return sizes.stream().mapToLong(Long::longValue).toArray();
  }

  /** A list of at most max finite numbers. */
  double[] readNumbers(int max) throws IOException {
    expect(JsonToken.BEGIN_ARRAY, "a list of numbers");
    double[] numbers = new double[16];
    int count = 0;
    reader.beginArray();
    while (reader.hasNext()) {
      expect(JsonToken.NUMBER, "a number");
      text.allow(MAX_TEXT);
      if (count == max) {
        throw error("expected at most %d numbers at %s".formatted(max, path()));
      }
      if (count == numbers.length) {
        numbers = Arrays.copyOf(numbers, 2 * count);
      }
      numbers[count++] = reader.nextDouble();
    }
    reader.endArray();
    return Arrays.copyOf(numbers, count);
  }

  private long size(String literal) {
    if (!literal.matches("\\d{1,18}")) {
      throw error("expected a whole number from 0 at %s, got %s".formatted(path(), Failures.quote(literal)));
    }
    return Long.parseLong(literal);
  }

  /** A value as Map, List, String, Boolean, Literal or null. */
  Object readValue() throws IOException {
    text.allow(MAX_TEXT);
    switch (reader.peek()) {
      case BEGIN_OBJECT -> {
        return readMap();
      }
      case BEGIN_ARRAY -> {
        List<Object> list = new ArrayList<>();
        reader.beginArray();
        while (reader.hasNext()) {
          list.add(readValue());
        }
        reader.endArray();
        return list;
      }
      case STRING -> {
        String string = reader.nextString();
        return string.startsWith("\0") ? new Literal(string.substring(1)) : string; // markNonFinite
      }
      case NUMBER -> {
        return new Literal(reader.nextString());
      }
      case BOOLEAN -> {
        return reader.nextBoolean();
      }
      default -> {
        reader.nextNull();
        return null;
      }
    }
  }

  private Map<String, Object> readMap() throws IOException {
    Map<String, Object> map = new LinkedHashMap<>();
    readObject(name -> addTo(map, name));
    return map;
  }

  private void addTo(Map<String, Object> map, String name) throws IOException {
    if (map.containsKey(name)) {
      throw error("the key %s is there twice".formatted(Failures.quote(name)));
    }
    map.put(name, readValue());
  }

  /** The whole text as a map. */
  Map<String, Object> readDocument() throws IOException {
    Map<String, Object> map = new LinkedHashMap<>();
    readDocument(name -> addTo(map, name));
    return map;
  }

  private void expect(JsonToken token, String what) throws IOException {
    text.allow(MAX_TEXT);
    JsonToken got = reader.peek();
    if (got != token) {
      throw error("expected %s at %s, got %s".formatted(what, path(), got.name().toLowerCase().replace('_', ' ')));
    }
  }

  private String path() {
    return Failures.quote(reader.getPath());
  }

  SaeFormatException error(String message) {
    return new SaeFormatException(where + ": " + message);
  }

  /** Ends the reading of a name or string that would fill the heap. */
  private static final class Limited extends FilterReader {
    private long left;

    Limited(Reader in) {
      super(in);
    }

    /** @param chars the next token may have; what the parser has buffered comes on top */
    void allow(long chars) {
      left = chars;
    }

    @Override
    public int read(char[] into, int offset, int length) throws IOException {
      if (left <= 0) {
        throw new MalformedJsonException("a name or value of more than " + MAX_TEXT + " characters");
      }
      int count = super.read(into, offset, (int) Math.min(length, left));
      left -= Math.max(count, 0);
      return count;
    }
  }
}

package dev.sae4j.cli;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.sae4j.SaeException;
import java.io.ByteArrayInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.SequenceInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.zip.ZipException;

/**
 * Reads explanations out of one file: objects one after the other, as in JSON Lines, arrays of them, or objects around an
 * array {@code explanations}. Goes over the file once, in memory that does not depend on its length: a pipe serves.
 */
final class LabelReader implements AutoCloseable {
  /** Characters of a name or a text that is read; what is passed over may be of any length. */
  static final int MAX_TEXT = 1 << 20;
  /** Characters of a text that are kept: so labels take less than the weights do. */
  static final int MAX_KEPT = 1 << 12;

  private static final Set<String> FIELDS = Set.of("modelId", "layer", "index", "description", "createdAt");

  private final Path path;
  private final Lines lines;
  private final JsonReader json;
  private long line; // the explanation's first
  private long element; // its place in an array, from 1; 0 outside

  LabelReader(Path path) throws IOException {
    this.path = path;
    InputStream bytes = Files.newInputStream(path);
    try {
      lines = new Lines(new InputStreamReader(unpacked(bytes), StandardCharsets.UTF_8));
      json = new JsonReader(lines);
    } catch (IOException e) {
      bytes.close();
      throw failure(e);
    }
  }

  /** Gzip data is known by how it begins. Of a pipe's stream only read may be called: available would seek. */
  private static InputStream unpacked(InputStream bytes) throws IOException {
    byte[] start = new byte[2];
    int n = bytes.readNBytes(start, 0, 2);
    InputStream all = new SequenceInputStream(new ByteArrayInputStream(start, 0, n), bytes);
    return Gunzip.isMagic(start[0] & 0xff, start[1] & 0xff) ? new Gunzip(all) : all;
  }

  private SaeException failure(IOException e) {
    return new SaeException(path + ": " + (e instanceof ZipException ? "damaged gzip data: " : "") + e.getMessage(), e);
  }

  /** @throws SaeException if something can't be read, naming its place */
  void readInto(Labels labels) throws IOException {
    try {
      while (hasNext()) {
        json.setStrictness(Strictness.LEGACY_STRICT);
        if (json.peek() == JsonToken.BEGIN_ARRAY) {
          readArray(labels);
        } else {
          readObject(labels);
        }
        json.setStrictness(Strictness.LENIENT); // else a second value were an error
      }
    } catch (MalformedJsonException | EOFException | IllegalStateException e) {
      throw new SaeException(where() + ": expected one JSON object", e);
    } catch (IOException e) {
      throw failure(e);
    }
  }

  private boolean hasNext() throws IOException {
    try {
      return json.peek() != JsonToken.END_DOCUMENT;
    } catch (EOFException e) { // nothing, or white space
      return false;
    } finally {
      line = lines.number;
    }
  }

  private void readArray(Labels labels) throws IOException {
    json.beginArray();
    for (long i = 1; json.hasNext(); i++) {
      element = i;
      readObject(labels);
    }
    element = 0;
    json.endArray();
  }

  private void readObject(Labels labels) throws IOException {
    line = lines.number;
    json.beginObject();
    Map<String, String> fields = new HashMap<>();
    boolean isAroundArray = false;
    while (json.hasNext()) {
      String name = bounded(json::nextName);
      if (name.equals("explanations") && json.peek() == JsonToken.BEGIN_ARRAY) {
        readArray(labels);
        isAroundArray = true;
      } else if (FIELDS.contains(name)) {
        fields.put(name, text());
      } else {
        json.setStrictness(Strictness.LENIENT); // Python writes NaN, as a score that is missing
        json.skipValue();
        json.setStrictness(Strictness.LEGACY_STRICT);
      }
    }
    json.endObject();
    if (!isAroundArray) {
      labels.add(fields, where());
    }
  }

  private String where() {
    return path + ", line " + line + (element == 0 ? "" : ", explanation " + element);
  }

  /** A string or number as text, cut if it is very long; null for anything else. */
  private String text() throws IOException {
    JsonToken next = json.peek();
    if (next != JsonToken.STRING && next != JsonToken.NUMBER) {
      json.skipValue();
      return null;
    }
    String text = bounded(json::nextString);
    return text.length() > MAX_KEPT ? text.substring(0, MAX_KEPT) + "..." : text;
  }

  private interface Text {
    String next() throws IOException;
  }

  private String bounded(Text text) throws IOException {
    lines.left = MAX_TEXT;
    String read = text.next();
    lines.left = Long.MAX_VALUE;
    return read;
  }

  @Override
  public void close() throws IOException {
    json.close();
  }

  /** Hands out at most a line at a time, so that its number is that of what is being parsed. */
  private final class Lines extends Reader {
    private final Reader text;
    private final char[] buffer = new char[1 << 13];
    private int next;
    private int end;
    private boolean isLineRead;
    private long number = 1;
    private long left = Long.MAX_VALUE;

    private Lines(Reader text) {
      this.text = text;
    }

    @Override
    public int read(char[] into, int offset, int length) throws IOException {
      if (left <= 0) {
        throw new SaeException("%s: a text of more than %d characters, the most that is read".formatted(where(), MAX_TEXT));
      }
      if (next == end) {
        next = 0;
        end = Math.max(0, text.read(buffer, 0, buffer.length));
        if (end == 0) {
          return -1;
        }
      }
      if (isLineRead) {
        isLineRead = false;
        number++;
      }
      int n = 0;
      while (n < length && next < end && !isLineRead) {
        isLineRead = buffer[next] == '\n';
        into[offset + n++] = buffer[next++];
      }
      left -= n;
      return n;
    }

    @Override
    public void close() throws IOException {
      text.close();
    }
  }
}

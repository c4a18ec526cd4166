package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Members of a JSON object in an SAE's configuration, by their type; null for what is missing or null. */
record Config(Path path, String prefix, Map<String, Object> map) {
  private static final int MAX_BYTES = 1 << 20;
  private static final Pattern SIZE = Pattern.compile("([1-9]\\d{0,17})(?:\\.0{1,9})?");

  /** JSON, and NaN and Infinity in it, as Python writes them. */
  static Config read(Path path) {
    try (InputStream in = new ByteArrayInputStream(Json.markNonFinite(bytes(path)))) {
      return new Config(path, "", new Json(path.toString(), in).readDocument());
    } catch (IOException e) {
      throw Failures.of(path, e);
    }
  }

  /** YAML, as {@link Yaml} reads it. */
  static Config readYaml(Path path) {
    return new Config(path, "", Yaml.read(path.toString(), new String(bytes(path), StandardCharsets.UTF_8)));
  }

  private static byte[] bytes(Path path) {
    try (InputStream in = Files.newInputStream(path)) {
      byte[] bytes = in.readNBytes(MAX_BYTES + 1);
      if (bytes.length > MAX_BYTES) {
        throw new SaeFormatException("%s: is too large, expected at most %d bytes".formatted(path, MAX_BYTES));
      }
      return bytes;
    } catch (IOException e) {
      throw Failures.of(path, e);
    }
  }

  /** The first file there is of these names, as seen from the weights; null for none. */
  static Path beside(Path weights, List<String> names) {
    for (String name : names) {
      Path file = weights.resolveSibling(name).normalize();
      if (Files.isRegularFile(file)) {
        return file;
      }
    }
    return null;
  }

  SaeFormatException error(String message) {
    return new SaeFormatException(path + ": " + message);
  }

  SaeFormatException unsupported(String key, Object got, String expected) {
    return error(
        "%s is %s, which is not supported: expected %s".formatted(prefix + key, Failures.quote(String.valueOf(got)), expected));
  }

  private SaeFormatException wrongType(String key, String expected) {
    return error("%s must be %s, got %s".formatted(prefix + key, expected, Failures.quote(String.valueOf(map.get(key)))));
  }

  boolean has(String key) {
    return map.get(key) != null;
  }

  String text(String key) {
    Object value = map.get(key);
    if (value != null && !(value instanceof String)) {
      throw wrongType(key, "a string");
    }
    return (String) value;
  }

  /** The first text there is under one of these keys. */
  String text(String key, String... others) {
    String text = text(key);
    for (int i = 0; text == null && i < others.length; i++) {
      text = text(others[i]);
    }
    return text;
  }

  String text(String key, Set<String> known) {
    String text = text(key);
    if (text != null && !known.contains(text)) {
      throw unsupported(key, text, "one of " + String.join(", ", known.stream().sorted().toList()));
    }
    return text;
  }

  Boolean flag(String key) {
    Object value = map.get(key);
    if (value != null && !(value instanceof Boolean)) {
      throw wrongType(key, "true or false");
    }
    return (Boolean) value;
  }

  boolean isTrue(String key) {
    return Boolean.TRUE.equals(flag(key));
  }

  /** A whole number from 1, perhaps written as 8.0. */
  Long size(String key) {
    Object value = map.get(key);
    if (value == null) {
      return null;
    }
    Matcher matcher = SIZE.matcher(value instanceof Json.Literal literal ? literal.text() : "");
    if (!matcher.matches()) {
      throw wrongType(key, "a whole number from 1");
    }
    return Long.parseLong(matcher.group(1));
  }

  /** A finite number. */
  Double number(String key) {
    Object value = map.get(key);
    if (value == null) {
      return null;
    }
    Double number = value instanceof Json.Literal literal && literal.text().length() <= 64 ? parsed(literal.text()) : null;
    if (number == null || !Double.isFinite(number)) {
      throw wrongType(key, "a finite number");
    }
    return number;
  }

  private static Double parsed(String literal) {
    try {
      return Double.valueOf(literal);
    } catch (NumberFormatException e) {
      return null;
    }
  }

  /** An object; an empty one where there is none. */
  @SuppressWarnings("unchecked") // objects have string keys
  Config nested(String key) {
    Object value = map.get(key);
    if (value != null && !(value instanceof Map)) {
      throw wrongType(key, "an object");
    }
    return new Config(path, prefix + key + ".", value == null ? Map.of() : (Map<String, Object>) value);
  }

  boolean hasZero(String key) {
    return map.get(key) instanceof Json.Literal literal && literal.text().matches("0(\\.0{1,9})?");
  }

  /** Refuses a tensor whose length is not what the configuration says. */
  void requireLength(String key, Tensor vector) {
    Long size = size(key);
    if (size != null && vector != null && !vector.hasShape(size)) {
      throw error("%s is %d, but %s has shape %s".formatted(prefix + key, size, vector.name, vector.shapeText()));
    }
  }

  /** Refuses a matrix of which no length is what the configuration says. */
  void requireDimension(String key, Tensor matrix) {
    Long size = size(key);
    if (size != null && Arrays.stream(matrix.shape).noneMatch(length -> length == size)) {
      throw error("%s is %d, but %s has shape %s".formatted(prefix + key, size, matrix.name, matrix.shapeText()));
    }
  }
}

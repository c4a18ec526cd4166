package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Members of a JSON object in an SAE's configuration, by their type; null for what is missing or null. */
record Config(Path path, String prefix, Map<String, Object> map) {
  private static final long MAX_BYTES = 1L << 20;

  static Config read(Path path) {
    try (InputStream in = Files.newInputStream(path)) {
      long size = Files.size(path);
      if (size > MAX_BYTES) {
        throw new SaeFormatException("%s: has %d bytes, expected at most %d".formatted(path, size, MAX_BYTES));
      }
      return new Config(path, "", new Json(path.toString(), in).readDocument());
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

  /** A whole number from 1. */
  Long size(String key) {
    Object value = map.get(key);
    if (value == null) {
      return null;
    }
    if (!(value instanceof Json.Literal literal) || !literal.text().matches("[1-9]\\d{0,17}")) {
      throw wrongType(key, "a whole number from 1");
    }
    return Long.parseLong(literal.text());
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
    return map.get(key) instanceof Json.Literal literal && literal.text().equals("0");
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

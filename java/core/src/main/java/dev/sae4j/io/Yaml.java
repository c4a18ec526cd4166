package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * As much of YAML as configurations have: {@code key: value} lines. Values are those of {@link Json#readValue}; what
 * lies below a key is found as {@code key.name}, and so on, and a value in any other form is {@link #UNREAD}, so that
 * who needs it is told.
 */
final class Yaml {
  private static final Pattern ENTRY =
      Pattern.compile("(\"[^\"\\\\]*\"|'[^']*'|[\\w$./-][^:#]*?)\\s*:(?:\\s+(.*))?");
  private static final Pattern NUMBER =
      Pattern.compile("[-+]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:[eE][-+]?\\d+)?|(?i:[-+]?\\.inf|\\.nan)");
  private static final Pattern DASHES = Pattern.compile("(?:-\\s+)*");
  private static final Pattern QUOTED = Pattern.compile("\"([^\"\\\\]*)\"|'([^']*)'");

  static final Object UNREAD =
      new Object() {
        @Override
        public String toString() {
          return "a list, a block or another form of YAML that is not read";
        }
      };

  /** A key below the top. */
  private record Level(int indent, String key) {}

  private final Map<String, Object> map = new LinkedHashMap<>();
  private final Deque<Level> levels = new ArrayDeque<>();
  private String top;
  private boolean isText; // a block of it, below the key

  private Yaml() {}

  static Map<String, Object> read(String where, String text) {
    Yaml yaml = new Yaml();
    int number = 0;
    for (String line : text.lines().toList()) {
      number++;
      String entry = line.strip();
      boolean isBelow = line.matches("[ \\t].*|-(?: .*)?");
      if (entry.isEmpty() || entry.startsWith("#") || line.matches("(?:---|\\.\\.\\.)\\s*(?:#.*)?|%.*")) {
        continue;
      }
      if (isBelow ? yaml.top == null : !yaml.takesEntry(entry)) {
        throw new SaeFormatException(
            "%s: line %d: expected \"key: value\", got %s".formatted(where, number, Failures.quote(entry)));
      }
      if (isBelow && !yaml.isText) {
        Matcher dashes = DASHES.matcher(entry);
        int indent = line.indexOf(entry) + (dashes.lookingAt() ? dashes.end() : 0);
        yaml.takeBelow(indent, entry.substring(dashes.end()));
      }
    }
    return yaml.map;
  }

  /** False for what is none, and for a key that was there before. */
  private boolean takesEntry(String line) {
    Matcher entry = ENTRY.matcher(line);
    if (!entry.matches() || map.containsKey(key(entry))) {
      return false;
    }
    top = key(entry);
    levels.clear();
    isText = value(entry).matches("[|>][-+\\d]*");
    map.put(top, scalar(value(entry)));
    return true;
  }

  private void takeBelow(int indent, String line) {
    Matcher entry = ENTRY.matcher(line);
    String key = entry.matches() ? key(entry) : "";
    Object value = entry.matches() ? scalar(value(entry)) : UNREAD;
    while (!levels.isEmpty() && levels.getLast().indent >= indent) {
      levels.removeLast();
    }
    if (levels.isEmpty() && key.equals("value")) { // as wandb writes it, with a desc beside it
      map.put(top, value);
    } else if (!levels.isEmpty() || !key.equals("desc")) {
      map.put(top, UNREAD);
      levels.addLast(new Level(indent, key));
      String path = top + "." + levels.stream().map(Level::key).collect(Collectors.joining("."));
      map.put(path, map.containsKey(path) && !Objects.equals(value, map.get(path)) ? UNREAD : value);
    }
  }

  private static String key(Matcher entry) {
    return entry.group(1).replaceAll("^[\"']|[\"']$", "");
  }

  /** Without a comment. */
  private static String value(Matcher entry) {
    String value = entry.group(2) == null ? "" : entry.group(2);
    Matcher quoted = QUOTED.matcher(value);
    int comment = value.startsWith("#") ? 0 : value.indexOf(" #", quoted.lookingAt() ? quoted.end() : 0);
    return (comment < 0 ? value : value.substring(0, comment)).strip();
  }

  private static Object scalar(String value) {
    Matcher quoted = QUOTED.matcher(value);
    if (quoted.matches()) {
      return quoted.group(1) != null ? quoted.group(1) : quoted.group(2);
    }
    if (value.isEmpty() || value.matches("~|null|Null|NULL")) {
      return null;
    }
    if (value.matches("(?i)true|yes|on|false|no|off")) {
      return value.matches("(?i)true|yes|on");
    }
    if (NUMBER.matcher(value).matches()) {
      return new Json.Literal(value);
    }
    return value.matches("[\"'\\[{&*!|>@`%].*") ? UNREAD : value;
  }
}

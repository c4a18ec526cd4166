package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A SAELens cfg.json, version 6 or older, of an architecture that is read here. Whatever would change the equations is
 * refused by name, so that no SAE is ever loaded as another kind.
 *
 * @param dIn null where the file does not say
 * @param dSae null where the file does not say
 * @param appliesBDec whether b_dec is subtracted from the input
 */
record SaeLensConfig(
    Path path,
    String architecture,
    Long dIn,
    Long dSae,
    boolean appliesBDec,
    String modelName,
    String hookName,
    List<String> warnings) {
  private static final long MAX_BYTES = 1L << 20;

  static SaeLensConfig read(Path path) {
    try (InputStream in = Files.newInputStream(path)) {
      long size = Files.size(path);
      if (size > MAX_BYTES) {
        throw new SaeFormatException("%s: has %d bytes, expected at most %d".formatted(path, size, MAX_BYTES));
      }
      return of(new Keys(path, new Json(path.toString(), in).readDocument()));
    } catch (IOException e) {
      throw Failures.of(path, e);
    }
  }

  private static SaeLensConfig of(Keys keys) {
    Keys metadata = keys.nested("metadata");
    String architecture = keys.text("architecture");
    if (architecture == null) {
      architecture = "standard"; // before SAELens had others
    }
    if (!architecture.equals("standard") && !architecture.equals("jumprelu")) {
      throw keys.unsupported("architecture", architecture, "\"standard\" or \"jumprelu\"");
    }
    String hookName = firstNonNull(metadata.text("hook_name"), keys.text("hook_name"), keys.text("hook_point"));
    refuseOtherEquations(keys, hookName);
    List<String> warnings = new ArrayList<>();
    Boolean appliesBDec = keys.flag("apply_b_dec_to_input");
    if (appliesBDec == null) {
      warnings.add("cfg.json has no apply_b_dec_to_input: taken as true, as SAELens does");
    }
    return new SaeLensConfig(
        keys.path,
        architecture,
        keys.size("d_in"),
        keys.size("d_sae"),
        appliesBDec == null || appliesBDec,
        firstNonNull(metadata.text("model_name"), keys.text("model_name")),
        hookName,
        warnings);
  }

  private static void refuseOtherEquations(Keys keys, String hookName) {
    for (String key : List.of("activation_fn", "activation_fn_str")) {
      String activation = keys.text(key);
      if (activation != null && !activation.equals("relu")) {
        throw keys.unsupported(key, activation, "\"relu\"");
      }
    }
    for (String key : List.of("k", "d_out", "rescale_acts_by_decoder_norm", "is_transcoder")) {
      Object value = keys.map.get(key);
      boolean harmless = value == null || value.equals(false) || key.equals("d_out") && same(value, keys.map.get("d_in"));
      if (!harmless) {
        throw keys.unsupported(key, value, "a \"standard\" or \"jumprelu\" SAE without it");
      }
    }
    Object normalize = keys.map.get("normalize_activations");
    if (Boolean.TRUE.equals(normalize)) {
      normalize = "expected_average_only_in"; // what true meant before there were several
    }
    if (normalize != null && !normalize.equals(false) && !normalize.equals("none")) {
      throw keys.unsupported("normalize_activations", normalize, "\"none\"");
    }
    String reshape = keys.text("reshape_activations");
    if (reshape == null && hookName != null && hookName.contains("hook_z")) {
      reshape = "hook_z"; // implied by old configurations
    }
    if (reshape != null && !reshape.equals("none")) {
      throw keys.unsupported("reshape_activations", reshape, "\"none\"");
    }
  }

  private static boolean same(Object a, Object b) {
    return b != null && a.toString().equals(b.toString());
  }

  private static String firstNonNull(String... texts) {
    for (String text : texts) {
      if (text != null) {
        return text;
      }
    }
    return null;
  }

  /** Members of a JSON object by their type; null for what is missing or null. */
  private record Keys(Path path, Map<String, Object> map) {
    SaeException unsupported(String key, Object got, String expected) {
      return new SaeFormatException(
          "%s: %s is %s, which is not supported: expected %s".formatted(path, key, Failures.quote(got.toString()), expected));
    }

    private SaeException wrongType(String key, String expected) {
      return new SaeFormatException(
          "%s: %s must be %s, got %s".formatted(path, key, expected, Failures.quote(String.valueOf(map.get(key)))));
    }

    String text(String key) {
      Object value = map.get(key);
      if (value != null && !(value instanceof String)) {
        throw wrongType(key, "a string");
      }
      return (String) value;
    }

    Boolean flag(String key) {
      Object value = map.get(key);
      if (value != null && !(value instanceof Boolean)) {
        throw wrongType(key, "true or false");
      }
      return (Boolean) value;
    }

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

    @SuppressWarnings("unchecked") // objects have string keys
    Keys nested(String key) {
      Object value = map.get(key);
      if (value != null && !(value instanceof Map)) {
        throw wrongType(key, "an object");
      }
      return new Keys(path, value == null ? Map.of() : (Map<String, Object>) value);
    }
  }
}

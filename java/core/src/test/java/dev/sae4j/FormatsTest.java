package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.io.Generic;
import dev.sae4j.io.SaeReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The files of every family, read and run on every device, against what the family's own equations give in float64. */
class FormatsTest {
  private static final double TOLERANCE = 1e-5; // of values of about 1, from 5 to 9 products

  record Case(String name, JsonObject expected) {
    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Case> cases() throws Exception {
    List<Case> cases = new ArrayList<>();
    for (String file : List.of("expected_pt.json", "expected_st.json", "expected_generic.json")) {
      JsonObject expected = JsonParser.parseString(Files.readString(path(file))).getAsJsonObject();
      for (String name : expected.keySet()) {
        if (expected.get(name).isJsonObject()) { // the others are of single tensors
          cases.add(new Case(name, expected.getAsJsonObject(name)));
        }
      }
    }
    return cases.stream();
  }

  private static Path path(String name) throws Exception {
    return Path.of(FormatsTest.class.getResource("/io/saes/" + name).toURI());
  }

  private static SaeReader.Options options(JsonObject expected) {
    JsonObject options = expected.has("options") ? expected.getAsJsonObject("options") : new JsonObject();
    JsonElement format = options.get("format");
    JsonElement scale = expected.get("norm_scaling_factor");
    return new SaeReader.Options(
        format == null || format.isJsonNull() ? null : format.getAsString(),
        scale == null ? null : Double.valueOf(scale.getAsDouble()),
        options.has("k") ? options.get("k").getAsLong() : null,
        options.has("prefix") ? options.get("prefix").getAsLong() : null,
        options.has("map") ? generic(options) : null);
  }

  private static Generic generic(JsonObject options) {
    Map<String, String> tensors = new LinkedHashMap<>();
    options.getAsJsonObject("map").asMap().forEach((as, name) -> tensors.put(as, name.getAsString()));
    SaeWeights.Normalization normalization =
        options.has("layer_norm") ? SaeWeights.Normalization.LAYER : SaeWeights.Normalization.NONE;
    return new Generic(tensors, options.get("activation").getAsString(), options.has("subtract_b_dec"), normalization);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void encodesAndDecodesAsItsLibraryDoes(Case file) throws Exception {
    JsonObject expected = file.expected;
    float[] x = floats(expected.getAsJsonArray("x"));
    float[] codes = floats(expected.getAsJsonArray("codes"));
    float[] xHat = floats(expected.getAsJsonArray("x_hat"));
    try (SaeWeights weights = SaeReader.read(path(expected.get("path").getAsString()), options(expected))) {
      for (Device device : Devices.each()) {
        try (SparseAutoencoder sae = SparseAutoencoder.open(weights, device);
            SparseCodes encoded = sae.encode(x)) {
          assertClose(codes, dense(Csr.of(encoded), (int) sae.dSae()), device + ": codes");
          assertClose(xHat, sae.form().hasSkip() ? sae.decode(encoded, x) : sae.decode(encoded), device + ": x_hat");
        }
      }
    }
  }

  private static float[] floats(Iterable<JsonElement> rows) {
    List<Float> values = new ArrayList<>();
    rows.forEach(row -> row.getAsJsonArray().forEach(value -> values.add((float) value.getAsDouble())));
    float[] floats = new float[values.size()];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = values.get(i);
    }
    return floats;
  }

  private static float[] dense(Csr codes, int dSae) {
    float[] dense = new float[(codes.rowOffsets().length - 1) * dSae];
    for (int row = 0; row < codes.rowOffsets().length - 1; row++) {
      for (int i = (int) codes.rowOffsets()[row]; i < codes.rowOffsets()[row + 1]; i++) {
        dense[row * dSae + codes.indices()[i]] = codes.values()[i];
      }
    }
    return dense;
  }

  /** Zeros must be zeros: a feature that is active where it should not be is no rounding. */
  private static void assertClose(float[] expected, float[] got, String what) {
    assertEquals(expected.length, got.length, what);
    for (int i = 0; i < expected.length; i++) {
      double tolerance = expected[i] == 0 ? 0 : TOLERANCE * Math.max(1, Math.abs(expected[i]));
      assertEquals(expected[i], got[i], tolerance, what + " at " + i);
    }
  }
}

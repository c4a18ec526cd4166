package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floats;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Each family's files encode and decode as the family's own equations do, which make_saes_pt.py computed. */
class SaeFamiliesTest {
  private static final double U = 0x1p-24;
  private static final JsonObject EXPECTED = parse(Fixtures.path("saes/expected_pt.json"));

  @TempDir Path folder;

  private static JsonObject parse(Path path) {
    try {
      return JsonParser.parseString(Files.readString(path)).getAsJsonObject();
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  static Set<String> cases() {
    return EXPECTED.keySet();
  }

  private static Path path(JsonObject expected) {
    return Fixtures.path("saes/" + expected.get("path").getAsString());
  }

  private static SaeReader.Options options(JsonObject expected) {
    JsonObject options = expected.getAsJsonObject("options");
    return new SaeReader.Options(
        text(options.get("format")),
        null,
        options.has("k") ? options.get("k").getAsLong() : null,
        options.has("prefix") ? options.get("prefix").getAsLong() : null);
  }

  private static String text(JsonElement element) {
    return element == null || element.isJsonNull() ? null : element.getAsString();
  }

  private static double[] doubles(JsonElement array) {
    JsonArray values = array.getAsJsonArray();
    return values.asList().stream().mapToDouble(JsonElement::getAsDouble).toArray();
  }

  @ParameterizedTest
  @MethodSource("cases")
  void encodesAndDecodesAsItsLibraryDoes(String name) {
    JsonObject expected = EXPECTED.getAsJsonObject(name);
    try (SaeWeights weights = SaeReader.read(path(expected), options(expected))) {
      Reference reference = new Reference(weights);
      for (int row = 0; row < expected.getAsJsonArray("x").size(); row++) {
        double[] x = doubles(expected.getAsJsonArray("x").get(row));
        double[] codes = doubles(expected.getAsJsonArray("codes").get(row));
        reference.assertEncodes(x, codes, name + ", row " + row);
        reference.assertDecodes(x, codes, doubles(expected.getAsJsonArray("x_hat").get(row)), name + ", row " + row);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void saysWhatItIs(String name) {
    JsonObject expected = EXPECTED.getAsJsonObject(name);
    try (SaeWeights weights = SaeReader.read(path(expected), options(expected))) {
      SaeInfo info = weights.info();
      assertEquals(text(expected.get("format")), info.format());
      assertEquals(text(expected.get("architecture")), info.architecture());
      assertEquals(text(expected.get("dtype")), info.dtype());
      assertEquals(text(expected.get("model")), info.modelName());
      assertEquals(text(expected.get("hook")), info.hookName());
      assertEquals(expected.get("folded").getAsInt(), info.folded().size(), info.folded().toString());
      JsonArray warnings = expected.getAsJsonArray("warnings");
      assertEquals(warnings.size(), info.warnings().size(), info.warnings().toString());
      for (JsonElement warning : warnings) {
        assertTrue(info.warnings().stream().anyMatch(got -> got.contains(warning.getAsString())), info.warnings().toString());
      }
      if (expected.has("l0")) {
        assertEquals(expected.get("l0").getAsDouble(), info.publishedL0());
      }
      Selection selection = expected.has("selection") ? Selection.valueOf(text(expected.get("selection"))) : Selection.GATE;
      Normalization normalization =
          expected.has("normalization") ? Normalization.valueOf(text(expected.get("normalization"))) : Normalization.NONE;
      assertEquals(selection, weights.form().selection());
      assertEquals(expected.has("k") ? expected.get("k").getAsLong() : 0, weights.form().k());
      assertEquals(normalization, weights.form().normalization());
    }
  }

  /** What SaeWeights promises, in float64, from the folded arrays. */
  private static final class Reference {
    private final SaeWeights weights;
    private final int dIn;
    private final int dOut;
    private final int dSae;
    private final float[] wEnc;
    private final float[] wDec;
    private final float[] bDec;
    private final float[] threshold;
    private final float[] scale;
    private final float[] offset;

    Reference(SaeWeights weights) {
      this.weights = weights;
      dIn = (int) weights.dIn();
      dOut = (int) weights.dOut();
      dSae = (int) weights.dSae();
      wEnc = floats(weights.wEnc());
      wDec = floats(weights.wDec());
      bDec = floats(weights.bDec());
      threshold = floats(weights.threshold());
      scale = floats(weights.scale());
      offset = floats(weights.offset());
    }

    /** Mean and standard deviation, with which a row is normalised. */
    private double[] moments(double[] x) {
      if (weights.form().normalization() == Normalization.NONE) {
        return new double[] {0, 1};
      }
      double mean = Arrays.stream(x).average().orElseThrow();
      return new double[] {mean, Math.sqrt(Arrays.stream(x).map(v -> (v - mean) * (v - mean)).sum() / (x.length - 1))};
    }

    /** Scale and offset are rounded once, so each term is off by at most u; three times that is the bound. */
    void assertEncodes(double[] x, double[] codes, String where) {
      double[] moments = moments(x);
      double divisor = weights.form().normalization() == Normalization.NONE ? 1 : moments[1] + 1e-5;
      double[] values = new double[dSae];
      double[] bounds = new double[dSae];
      List<Integer> candidates = new ArrayList<>();
      for (int j = 0; j < dSae; j++) {
        double p = 0;
        double size = 0;
        for (int i = 0; i < dIn; i++) {
          double term = (x[i] - moments[0]) / divisor * wEnc[j * dIn + i];
          p += term;
          size += Math.abs(term);
        }
        values[j] = scale[j] * p + offset[j];
        bounds[j] = 3 * U * (scale[j] * size + Math.abs(offset[j]));
        if (p > threshold[j]) {
          candidates.add(j);
        }
      }
      List<Integer> active = select(candidates, values);
      for (int j = 0; j < dSae; j++) {
        assertEquals(codes[j] != 0, active.contains(j), where + ", feature " + j);
        assertEquals(codes[j], active.contains(j) ? values[j] : 0, bounds[j], where + ", feature " + j);
      }
    }

    private List<Integer> select(List<Integer> candidates, double[] values) {
      Selection selection = weights.form().selection();
      Stream<Integer> kept = candidates.stream();
      if (selection != Selection.GATE) {
        kept = kept.sorted(Comparator.comparingDouble(j -> -values[j])).limit(weights.form().k());
      }
      return kept.filter(j -> selection == Selection.TOP_SIGNED ? values[j] != 0 : values[j] > 0).toList();
    }

    void assertDecodes(double[] x, double[] codes, double[] xHat, String where) {
      double[] moments = moments(x);
      assertEquals(dOut, xHat.length, where);
      for (int i = 0; i < dOut; i++) {
        double sum = bDec[i];
        double size = Math.abs(sum);
        for (int j = 0; j < dSae; j++) {
          sum += codes[j] * wDec[j * dOut + i];
          size += Math.abs(codes[j] * wDec[j * dOut + i]);
        }
        assertEquals(xHat[i], sum * moments[1] + moments[0], 3 * U * size * moments[1], where + ", column " + i);
      }
    }
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.floats;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Form;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import dev.sae4j.SelfCheck;
import dev.sae4j.SparseCodes;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.TimeZone;
import java.util.TreeMap;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is written and read again is the same to the bit. */
class WritersTest {
  @TempDir Path folder;

  private final Random random = new Random(3);

  @ParameterizedTest
  @ValueSource(
      strings = {
        "jumprelu-f32", "jumprelu-bf16", "jumprelu-f16", "jumprelu-f64", "jumprelu-b-dec", "jumprelu-square", "turned",
        "old-standard", "gemma-deflated"
      })
  void saesOfFiles(String name) throws IOException {
    try (SaeWeights weights = SaeReader.read(Fixtures.path(name))) {
      assertRoundTrip(weights, weights.info().architecture());
    }
  }

  private void assertRoundTrip(SaeWeights weights, String architecture) throws IOException {
    Path to = folder.resolve("written");
    SaeWriter.write(weights, to);
    JsonObject config = JsonParser.parseString(Files.readString(to.resolve("cfg.json"))).getAsJsonObject();
    assertEquals(architecture, config.get("architecture").getAsString());
    try (SaeWeights again = SaeReader.read(to)) {
      assertEquals(weights.form(), again.form());
      assertEquals(weights.info().modelName(), again.info().modelName());
      assertEquals(weights.info().hookName(), again.info().hookName());
      assertEquals(SelfCheck.geometry(weights), again.info().warnings());
      assertSame(weights.wEnc(), again.wEnc());
      assertSame(weights.wDec(), again.wDec());
      assertSame(weights.bDec(), again.bDec());
      assertSame(weights.threshold(), again.threshold());
      assertSame(weights.scale(), again.scale());
      assertSame(weights.offset(), again.offset());
      if (weights.form().hasSkip()) {
        assertSame(weights.wSkip(), again.wSkip());
      }
    }
    try (var files = Files.list(to)) {
      assertEquals(2, files.count()); // no temporary one is left
    }
  }

  private static void assertSame(FloatPointer expected, FloatPointer got) {
    assertArrayEquals(Fixtures.bits(floats(expected)), Fixtures.bits(floats(got)));
  }

  /** Random weights of a form. */
  private SaeWeights weights(Form form, boolean thresholds, boolean scales, String architecture) {
    SaeInfo info = new SaeInfo("made up", architecture, "float32", "a-model", "a.hook", List.of("a \"fold\""), List.of());
    SaeWeights weights = SaeWeights.allocate(form, info);
    fill(weights.wEnc());
    fill(weights.wDec());
    fill(weights.bDec());
    fill(weights.offset());
    if (form.hasSkip()) {
      fill(weights.wSkip());
    }
    for (long j = 0; j < form.dSae(); j++) {
      float threshold = !thresholds || j % 7 == 1 ? Float.NEGATIVE_INFINITY : j % 7 == 2 ? Float.POSITIVE_INFINITY : gaussian();
      weights.threshold().put(j, threshold);
      weights.scale().put(j, scales ? (float) Math.exp(4 * random.nextGaussian()) : 1);
    }
    return weights;
  }

  private void fill(FloatPointer array) {
    for (long i = 0; i < array.capacity(); i++) {
      array.put(i, gaussian());
    }
  }

  private float gaussian() {
    return (float) random.nextGaussian();
  }

  @ParameterizedTest
  @CsvSource({
    "6, 6, 40, GATE, 0, NONE, false, false, false, standard",
    "6, 6, 40, GATE, 0, NONE, false, true, false, jumprelu",
    "6, 6, 40, GATE, 0, NONE, false, true, true, gated",
    "6, 6, 40, GATE, 0, NONE, false, false, true, gated", // a scaled ReLU
    "6, 6, 40, TOP, 5, NONE, false, false, false, topk",
    "6, 6, 40, TOP, 5, LAYER, false, false, false, topk",
    "6, 6, 40, GATE, 0, CONSTANT, false, true, false, jumprelu",
    "6, 4, 40, GATE, 0, NONE, false, false, false, transcoder",
    "6, 4, 40, GATE, 0, NONE, true, false, false, skip_transcoder",
    "6, 6, 40, GATE, 0, NONE, true, true, false, jumprelu_skip_transcoder",
    "6, 7, 40, GATE, 0, NONE, false, true, false, jumprelu_transcoder",
    "1, 1, 1, GATE, 0, NONE, false, true, false, jumprelu",
    "3, 3, 3, GATE, 0, NONE, false, true, false, jumprelu", // square
    "700, 700, 1600, GATE, 0, NONE, false, true, false, jumprelu", // pieces of W_enc
  })
  void saesOfEveryForm(
      long dIn, long dOut, long dSae, Selection selection, long k, Normalization normalization, boolean skips,
      boolean thresholds, boolean scales, String architecture)
      throws IOException {
    Form form = new Form(dIn, dOut, dSae, selection, k, normalization, skips);
    try (SaeWeights weights = weights(form, thresholds, scales, architecture)) {
      assertRoundTrip(weights, architecture);
    }
  }

  @Test
  void refusesWhatSaeLensHasNoArchitectureFor() {
    assertRefused(new Form(4, 4, 9, Selection.TOP_ABS, 2, Normalization.NONE, false), false, false, "negative values");
    assertRefused(new Form(4, 4, 9, Selection.TOP, 2, Normalization.NONE, false), true, false, "TopK with thresholds");
    assertRefused(new Form(4, 4, 9, Selection.TOP, 2, Normalization.NONE, false), false, true, "a scale for each feature");
    assertRefused(new Form(4, 5, 9, Selection.GATE, 0, Normalization.NONE, false), true, true, "a transcoder");
  }

  private void assertRefused(Form form, boolean thresholds, boolean scales, String fragment) {
    try (SaeWeights weights = weights(form, thresholds, scales, "x")) {
      String message = assertThrows(SaeException.class, () -> SaeWriter.write(weights, folder.resolve("none"))).getMessage();
      assertTrue(message.contains(fragment), message);
      assertTrue(Files.notExists(folder.resolve("none")));
    }
  }

  @Test
  void aFailedWriteLeavesTheOldFolderWhole() throws IOException {
    Path to = Files.createDirectory(folder.resolve("old"));
    Files.writeString(to.resolve("sae_weights.safetensors"), "old");
    Files.createDirectory(to.resolve("cfg.json")); // which can't be written over
    try (SaeWeights weights = weights(Form.of(2, 2, 3), false, false, "standard")) {
      assertThrows(SaeException.class, () -> SaeWriter.write(weights, to));
    }
    assertEquals("old", Files.readString(to.resolve("sae_weights.safetensors")));
    try (var files = Files.list(to)) {
      assertEquals(2, files.count());
    }
  }

  // ---- control vectors

  /** Java's formats write a number in the digits of the locale, which are others than 0 to 9 in some. */
  @Test
  void filesAreTheSameInEveryLocaleAndTimeZone() throws IOException {
    Locale usual = Locale.getDefault();
    TimeZone usualZone = TimeZone.getDefault();
    try (SaeWeights weights = weights(Form.of(3, 3, 5), true, false, "jumprelu")) {
      byte[] expected = written(weights, "usual");
      Locale.setDefault(Locale.forLanguageTag("ar-EG-u-nu-arab"));
      TimeZone.setDefault(TimeZone.getTimeZone("GMT+03:00"));
      assertArrayEquals(expected, written(weights, "arabic"));
    } finally {
      Locale.setDefault(usual);
      TimeZone.setDefault(usualZone);
    }
  }

  private byte[] written(SaeWeights weights, String name) throws IOException {
    Path to = folder.resolve(name);
    SaeWriter.write(weights, to);
    try (NpyWriter npy = NpyWriter.create(to.resolve("x.npy"), 2);
        CodesWriter codes = CodesWriter.create(to.resolve("codes.npz"), 5);
        SparseCodes one = SparseCodes.of(5, new long[] {0, 1}, new int[] {2}, new float[] {3}, new float[1], new float[1])) {
      npy.write(FloatBuffer.wrap(new float[2]));
      npy.commit();
      codes.accept(one);
      codes.commit();
    }
    ControlVectorWriter.write(to.resolve("v.gguf"), "llama", new TreeMap<>(Map.of(12, new float[] {1})));
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    for (String file : List.of("cfg.json", "sae_weights.safetensors", "x.npy", "codes.npz", "v.gguf")) {
      all.write(Files.readAllBytes(to.resolve(file)));
    }
    return all.toByteArray();
  }

  @Test
  void controlVectors() {
    TreeMap<Integer, float[]> layers = new TreeMap<>();
    for (int layer : new int[] {1, 7, 10, 31}) {
      layers.put(layer, new float[] {gaussian(), -0f, Float.MIN_VALUE, Float.MAX_VALUE, layer});
    }
    Path file = folder.resolve("v.gguf");
    ControlVectorWriter.write(file, "llama", layers);
    for (Map.Entry<Integer, float[]> layer : layers.entrySet()) {
      float[] again = ActivationReader.readVector(file + "#direction." + layer.getKey(), 5);
      assertArrayEquals(Fixtures.bits(layer.getValue()), Fixtures.bits(again));
    }
    try (ActivationReader rows = ActivationReader.open(file + "#direction.1", 5)) {
      assertEquals(null, rows.warning());
    }
  }

  @Test
  void refusesWhatLlamaCppWould() {
    Path file = folder.resolve("v.gguf");
    assertRefused(file, "needs a layer", Map.of());
    assertRefused(file, "from 1", Map.of(0, new float[2], 1, new float[2]));
    assertRefused(file, "one length", Map.of(1, new float[2], 2, new float[3]));
    assertRefused(file, "one length", Map.of(1, new float[0]));
    assertRefused(file, "NaN at 1 of layer 4", Map.of(4, new float[] {0, Float.NaN}));
    assertTrue(Files.notExists(file));
  }

  private static void assertRefused(Path file, String fragment, Map<Integer, float[]> layers) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> ControlVectorWriter.write(file, "llama", new TreeMap<>(layers)))
            .getMessage();
    assertTrue(message.contains(fragment), message);
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floats;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.zip.Deflater;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SaeReaderTest {
  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "jumprelu-f32", "jumprelu-bf16", "jumprelu-f16", "jumprelu-f64", "jumprelu-b-dec", "jumprelu-square", "turned",
        "old-standard", "gemma-stored", "gemma-deflated", "gemma-zip64"
      })
  void loadsWhatPythonComputed(String name) {
    JsonObject expected = Fixtures.expected(name);
    try (SaeWeights weights = SaeReader.read(Fixtures.path(name))) {
      assertEquals(expected.get("d_in").getAsLong(), weights.dIn());
      assertEquals(expected.get("d_in").getAsLong(), weights.dOut());
      assertEquals(expected.get("d_sae").getAsLong(), weights.dSae());
      assertBits(expected, "w_enc", floats(weights.wEnc()));
      assertBits(expected, "w_dec", floats(weights.wDec()));
      assertBits(expected, "b_dec", floats(weights.bDec()));
      assertBits(expected, "offset", floats(weights.offset()));
      assertBits(expected, "threshold", floats(weights.threshold()));
      for (float scale : floats(weights.scale())) {
        assertEquals(1, scale);
      }
      SaeInfo info = weights.info();
      assertEquals(name.startsWith("gemma") ? "gemma-scope" : "saelens", info.format());
      assertEquals(expected.get("architecture").getAsString(), info.architecture());
      assertEquals(expected.get("dtype").getAsString(), info.dtype());
      assertEquals(text(expected.get("model")), info.modelName());
      assertEquals(text(expected.get("hook")), info.hookName());
      assertEquals(expected.get("folded").getAsInt(), info.folded().size(), info.folded().toString());
    }
  }

  private static void assertBits(JsonObject expected, String key, float[] got) {
    assertArrayEquals(Fixtures.ints(expected.getAsJsonArray(key)), Fixtures.bits(got), key);
  }

  private static String text(JsonElement element) {
    return element.isJsonNull() ? null : element.getAsString();
  }

  @Test
  void saysWhatACarefulUserShouldLookAt() {
    assertEquals(2, warnings("turned").size()); // both matrices
    assertTrue(warnings("old-standard").get(0).contains("apply_b_dec_to_input"));
    assertTrue(warnings("jumprelu-bf16").get(0).contains("threshold is stored as bfloat16"));
    assertEquals(List.of(), warnings("jumprelu-b-dec"));
  }

  private static List<String> warnings(String name) {
    try (SaeWeights weights = SaeReader.read(Fixtures.path(name))) {
      return weights.info().warnings();
    }
  }

  @Test
  void takesTheFileForTheFolder() {
    SaeReader.read(Fixtures.path("jumprelu-f32/sae_weights.safetensors")).close();
    SaeReader.read(Fixtures.path("gemma-stored/params.npz"), new SaeReader.Options("gemma-scope")).close();
  }

  @Test
  void demoFilesOfBothFamiliesAreOneSae() {
    Path demo = Path.of(System.getProperty("sae4j.root", "."), "../shared/demo");
    assumeTrue(Files.isDirectory(demo), "no demo data beside the repository");
    try (SaeWeights saeLens = SaeReader.read(demo.resolve("minilm-l3-jumprelu-4096"));
        SaeWeights gemma = SaeReader.read(demo.resolve("gemma-scope-form/layer_3/width_4k/average_l0_30"))) {
      assertArrayEquals(floats(saeLens.wEnc()), floats(gemma.wEnc()));
      assertArrayEquals(floats(saeLens.wDec()), floats(gemma.wDec()));
      assertArrayEquals(floats(saeLens.threshold()), floats(gemma.threshold()));
      assertArrayEquals(floats(saeLens.offset()), floats(gemma.offset()));
    }
    try (SaeWeights topK = SaeReader.read(demo.resolve("minilm-l3-topk-2048"))) {
      assertEquals(new SaeWeights.Form(384, 384, 2048, SaeWeights.Selection.TOP, 32, SaeWeights.Normalization.NONE, false), topK.form());
    }
  }

  /** Wider than a tile: many tiles of a stored matrix, few rows at a time or pieces of one row of a deflated one. */
  @ParameterizedTest
  @CsvSource({"150, 9000, false", "60, 100000, true", "1, 4300000, true"})
  void turnsMatricesOfAnyWidth(int dIn, int dSae, boolean deflated) throws IOException {
    float[] wEnc = new float[dIn * dSae];
    for (int i = 0; i < wEnc.length; i++) {
      wEnc[i] = i; // exact below 2^24
    }
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    arrays.put("W_enc", array("(%d, %d)".formatted(dIn, dSae), wEnc));
    arrays.put("W_dec", array("(%d, %d)".formatted(dSae, dIn), wEnc));
    arrays.put("b_enc", array("(%d,)".formatted(dSae), new float[dSae]));
    arrays.put("b_dec", array("(%d,)".formatted(dIn), new float[dIn]));
    arrays.put("threshold", array("(%d,)".formatted(dSae), new float[dSae]));
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(deflated, Deflater.NO_COMPRESSION, arrays));
    try (SaeWeights weights = SaeReader.read(file)) {
      float[] turned = new float[wEnc.length];
      for (int i = 0; i < dIn; i++) {
        for (int j = 0; j < dSae; j++) {
          turned[j * dIn + i] = wEnc[i * dSae + j];
        }
      }
      assertArrayEquals(turned, floats(weights.wEnc()));
      assertArrayEquals(wEnc, floats(weights.wDec()));
    }
  }

  /** W_enc [2, 3] in Fortran order and big-endian, W_dec [3, 2] in Fortran order. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void readsFortranOrderAndBigEndian(boolean deflated) throws IOException {
    String header = "{'descr': '%s', 'fortran_order': True, 'shape': %s, }";
    byte[] big = ByteBuffer.allocate(24).putFloat(1).putFloat(4).putFloat(2).putFloat(5).putFloat(3).putFloat(6).array();
    Map<String, byte[]> arrays = arrays();
    arrays.put("W_enc", Fixtures.npy(header.formatted(">f4", "(2, 3)"), big));
    arrays.put("W_dec", Fixtures.npy(header.formatted("<f4", "(3, 2)"), Fixtures.floatBytes(1, 3, 5, 2, 4, 6)));
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(deflated, arrays));
    try (SaeWeights weights = SaeReader.read(file)) {
      assertArrayEquals(new float[] {1, 4, 2, 5, 3, 6}, floats(weights.wEnc()));
      assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, floats(weights.wDec()));
    }
    arrays.put("W_enc", Fixtures.npy("<i4", "(2, 3)", new byte[24]));
    Files.write(file, Fixtures.npz(deflated, arrays));
    refused(() -> SaeReader.read(file), "\"W_enc.npy\": dtype \"<i4\" is not supported");
  }

  // ---- refusals

  @Test
  void refusesWhereThereIsNoSae() throws IOException {
    failed(() -> SaeReader.read(folder), "no SAE found", "cfg.json", "params.npz");
    failed(() -> SaeReader.read(folder.resolve("missing")), "no such file or folder");
    failed(() -> SaeReader.read(folder, new SaeReader.Options("saelens")), "cfg.json", "no such file");
    Files.writeString(folder.resolve("cfg.json"), "{}");
    failed(() -> SaeReader.read(folder), "no SAE found", "cfg.json + sae_weights.safetensors");
    Files.write(folder.resolve("params.npz"), new byte[0]);
    Files.write(folder.resolve("sae_weights.safetensors"), new byte[0]);
    failed(() -> SaeReader.read(folder), "holds 2 SAEs");
    String message =
        assertThrows(IllegalArgumentException.class, () -> SaeReader.read(folder, new SaeReader.Options("pickle"))).getMessage();
    assertTrue(message.contains("pickle"), message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"architecture\": \"topk\"                             | has a \"threshold\" tensor, but cfg.json says architecture \"topk\"",
        "\"architecture\": \"matching_pursuit\"                 | architecture is \"matching_pursuit\"",
        "\"architecture\": \"temporal\"                         | temporal",
        "\"architecture\": \"gated\"                            | gated",
        "\"architecture\": \"transcoder\"                       | transcoder",
        "\"architecture\": 7                                    | must be a string",
        "\"normalize_activations\": \"constant_scalar_rescale\" | constant_scalar_rescale",
        "\"normalize_activations\": true                        | expected_average_only_in",
        "\"reshape_activations\": \"hook_q\"                    | hook_q",
        "\"activation_fn\": \"topk\"                            | activation_fn is \"topk\"",
        "\"activation_fn_str\": \"tanh-relu\"                   | tanh-relu",
        "\"architecture\": \"standard\", \"k\": 32              | k is \"32\"",
        "\"rescale_acts_by_decoder_norm\": true                 | rescale_acts_by_decoder_norm",
        "\"d_out\": 6                                           | d_out is \"6\"",
        "\"d_in\": 6                                            | d_in is 6, but b_dec has shape [5]",
        "\"d_sae\": 12                                          | d_sae is 12, but b_enc has shape [13]",
        "\"d_in\": 1e999999999                                  | d_in must be a whole number",
        "\"d_in\": \"5\"                                        | d_in must be a whole number",
        "\"d_in\": -5                                           | d_in must be a whole number",
        "\"apply_b_dec_to_input\": \"yes\"                      | apply_b_dec_to_input must be true or false",
        "\"architecture\": \"standard\"                         | has a \"threshold\" tensor",
        "\"metadata\": [1]                                      | metadata must be an object",
      })
  void refusesConfigurationsByName(String member, String message) throws IOException {
    JsonObject config =
        JsonParser.parseString(Files.readString(Fixtures.path("jumprelu-f32/cfg.json"))).getAsJsonObject();
    config.remove("metadata");
    JsonParser.parseString("{" + member.replace("1e999999999", "\"big\"") + "}").getAsJsonObject().asMap().forEach(config::add);
    Path sae = copy("jumprelu-f32");
    Files.writeString(sae.resolve("cfg.json"), config.toString().replace("\"big\"", "1e999999999"));
    refused(() -> SaeReader.read(sae), message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "''                             | not valid JSON",
        "[]                             | expected an object",
        "{\"a\": 1                      | not valid JSON",
        "{\"a\": 1, \"a\": 2}           | there twice",
        "{\"m\": {\"a\": 1, \"a\": 2}}  | there twice",
        "{\"a\": 1} {}                  | not valid JSON",
        "{'a': 1}                       | not valid JSON",
        "{\"a\": NaNa}                  | not valid JSON",
        "{\"architecture\": \"jumprelu\", \"d_in\": NaN} | d_in must be a whole number from 1, got \"NaN\"",
        "{\"architecture\": \"jumprelu\", \"d_sae\": -Infinity} | d_sae must be a whole number from 1, got \"-Infinity\"",
        "{\"model_name\": NaN}          | model_name must be a string, got \"NaN\"",
        "{\"architecture\": \"jump\\nrelu\"} | jump?relu",
      })
  void refusesBrokenJson(String text, String message) throws IOException {
    Path sae = copy("jumprelu-f32");
    Files.writeString(sae.resolve("cfg.json"), text);
    refused(() -> SaeReader.read(sae), "cfg.json", message);
  }

  /** As Python's json writes them, in fields of training. */
  @Test
  void passesOverWhatIsNotFiniteWhereItIsNotUsed() throws IOException {
    Path sae = copy("jumprelu-f32");
    String more = "{\"l0\": [NaN, -Infinity], \"lr\": Infinity, \"a\": \"\\\"NaN\\\\\", \"NaN\": NaN,";
    String config = more + Files.readString(sae.resolve("cfg.json")).substring(1);
    Files.writeString(sae.resolve("cfg.json"), config.replace("13", "13.0"));
    SaeReader.read(sae).close();
  }

  @Test
  void refusesHugeAndDeepJson() throws IOException {
    Path sae = copy("jumprelu-f32");
    Files.writeString(sae.resolve("cfg.json"), "{\"a\": " + "[".repeat(100_000));
    refused(() -> SaeReader.read(sae), "not valid JSON");
    Files.writeString(sae.resolve("cfg.json"), "{\"a\": \"" + "a".repeat(100_000) + "\"}");
    refused(() -> SaeReader.read(sae), "more than 65536 characters");
    Files.writeString(sae.resolve("cfg.json"), " ".repeat(2_000_000));
    refused(() -> SaeReader.read(sae), "expected at most");
    Files.write(sae.resolve("cfg.json"), new byte[] {'{', '"', (byte) 0xff, '"', ':', '1', '}'});
    refused(() -> SaeReader.read(sae), "not valid JSON");
  }

  private Path copy(String name) throws IOException {
    Path copy = Files.createDirectories(folder.resolve(name));
    for (String file : List.of("cfg.json", "sae_weights.safetensors")) {
      Files.write(copy.resolve(file), Files.readAllBytes(Fixtures.path(name + "/" + file)));
    }
    return copy;
  }

  // ---- tensors: a valid 2 x 3 SAE with one thing changed

  private static Map<String, byte[]> arrays() {
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    arrays.put("W_enc", array("(2, 3)", new float[6]));
    arrays.put("W_dec", array("(3, 2)", new float[6]));
    arrays.put("b_enc", array("(3,)", new float[3]));
    arrays.put("b_dec", array("(2,)", new float[2]));
    arrays.put("threshold", array("(3,)", new float[3]));
    return arrays;
  }

  private static byte[] array(String shape, float... values) {
    return Fixtures.npy("<f4", shape, Fixtures.floatBytes(values));
  }

  private String refusedWith(String name, byte[] array, String... fragments) throws IOException {
    Map<String, byte[]> arrays = arrays();
    if (array == null) {
      arrays.remove(name);
    } else {
      arrays.put(name, array);
    }
    String message = "";
    for (boolean deflated : new boolean[] {false, true}) {
      Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(deflated, arrays));
      message = refused(() -> SaeReader.read(file), fragments);
    }
    return message;
  }

  @Test
  void theBaseOfTheseTestsLoads() throws IOException {
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(false, arrays()));
    SaeReader.read(file).close();
  }

  @ParameterizedTest
  @ValueSource(strings = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"})
  void refusesMissingTensors(String name) throws IOException {
    refusedWith(name, null, "no tensor \"" + name + "\"");
  }

  @Test
  void refusesWrongTensors() throws IOException {
    refusedWith("W_enc", array("(3, 3)", new float[9]), "[3, 3]", "expected [2, 3]");
    refusedWith("W_dec", array("(6,)", new float[6]), "[6]", "expected [3, 2]");
    refusedWith("b_enc", array("(1, 3)", new float[3]), "[1, 3]", "one dimension");
    refusedWith("b_enc", array("(0,)"), "d_sae must be 1 to", "got 0");
    refusedWith("threshold", array("(2,)", new float[2]), "[2]", "expected [3]");
    refusedWith("b_dec", Fixtures.npy("<i8", "(2,)", Fixtures.longBytes(1, 2)), "dtype \"<i8\" is not supported");
    refusedWith("affine_skip_connection", array("(2, 2)", new float[4]), "affine_skip_connection");
    refusedWith("scaling_factor", array("(3,)", 1, 1, 2), "scaling_factor", "other than 1");
  }

  @Test
  void refusesWeightsThatAreNotFinite() throws IOException {
    float nan = Float.NaN;
    float infinity = Float.POSITIVE_INFINITY;
    refusedWith("W_enc", array("(2, 3)", 0, 0, 0, 0, 0, nan), "W_enc", "NaN at [1, 2]");
    refusedWith("W_dec", array("(3, 2)", 0, infinity, 0, 0, 0, 0), "W_dec", "Infinity at [0, 1]");
    refusedWith("b_dec", array("(2,)", 0, -infinity), "b_dec", "-Infinity at [1]");
    refusedWith("b_enc", array("(3,)", 0, nan, 0), "b_enc", "NaN at [1]");
    refusedWith("threshold", array("(3,)", 0, 0, nan), "threshold", "NaN at [2]");
    byte[] large = Fixtures.longBytes(Double.doubleToRawLongBits(1e39), 0);
    refusedWith("b_dec", Fixtures.npy("<f8", "(2,)", large), "1.0E39 at [0] is too large for float32");
  }

  @Test
  void thresholdsMayBeInfinite() throws IOException {
    Map<String, byte[]> arrays = arrays();
    arrays.put("threshold", array("(3,)", Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 1));
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(true, arrays));
    try (SaeWeights weights = SaeReader.read(file)) {
      assertArrayEquals(new float[] {Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 1}, floats(weights.threshold()));
    }
  }

  @Test
  void refusesAZipBomb() throws IOException {
    Map<String, byte[]> arrays = arrays();
    arrays.put("W_enc", array("(2, 4000000)", new float[8_000_000]));
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(true, arrays));
    assertTrue(Files.size(file) < 100_000);
    refused(() -> SaeReader.read(file), "W_enc");
    arrays.put("W_dec", array("(4000000, 2)", new float[8_000_000]));
    arrays.put("b_enc", array("(4000000,)", new float[4_000_000]));
    arrays.put("threshold", array("(4000000,)", new float[4_000_000]));
    Files.write(file, Fixtures.npz(true, arrays));
    refused(() -> SaeReader.read(file), "W_enc", "32000", "are not weights");
  }

  @Test
  void givesTheMemoryBackWhenReadingFails() throws IOException {
    List<String> leaks = new ArrayList<>();
    Handler handler =
        new Handler() {
          @Override
          public void publish(LogRecord record) {
            leaks.add(record.getMessage());
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        };
    Logger logger = Logger.getLogger("dev.sae4j"); // where an owner that was never closed is reported
    logger.addHandler(handler);
    try {
      float[] bias = new float[3];
      Arrays.fill(bias, Float.NaN);
      for (int i = 0; i < 5; i++) {
        refusedWith("b_enc", array("(3,)", bias), "b_enc");
        System.gc();
      }
      assertEquals(List.of(), leaks);
    } finally {
      logger.removeHandler(handler);
    }
  }
}

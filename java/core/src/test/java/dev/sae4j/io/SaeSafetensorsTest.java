package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floats;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
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
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * SAEs as make_saes_st.py wrote them, each as its family does: what they encode and decode is what Python computed by the family's own
 * equations. Computed here in double from the folded weights, whose rounding, of scale, offset and decoder, is all that may differ.
 */
class SaeSafetensorsTest {
  private static final double U = 0x1p-24;
  private static final JsonObject EXPECTED = expected();

  @TempDir Path folder;

  private static JsonObject expected() {
    try {
      return JsonParser.parseString(Files.readString(Fixtures.path("saes/expected_st.json"))).getAsJsonObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static Stream<String> cases() {
    return EXPECTED.keySet().stream().filter(name -> EXPECTED.get(name).isJsonObject());
  }

  private static SaeWeights read(String name) {
    return SaeReader.read(path(name));
  }

  private static Path path(String name) {
    return Fixtures.path("saes/" + EXPECTED.getAsJsonObject(name).get("path").getAsString());
  }

  @ParameterizedTest
  @MethodSource("cases")
  void encodesAndDecodesAsItsLibrary(String name) {
    try (SaeWeights weights = read(name)) {
      requireExpected(weights, EXPECTED.getAsJsonObject(name));
    }
  }

  private static void requireExpected(SaeWeights weights, JsonObject expected) {
    double[][] x = rows(expected, "x");
    double[][] codes = rows(expected, "codes");
    double[][] xHat = rows(expected, "x_hat");
    Reference reference = new Reference(weights);
    for (int i = 0; i < x.length; i++) {
      reference.run(x[i]);
      for (int j = 0; j < codes[i].length; j++) {
        assertEquals(codes[i][j] != 0, reference.codes[j] != 0, "row %d, feature %d".formatted(i, j));
        assertEquals(codes[i][j], reference.codes[j], 4 * U * reference.codeSizes[j], "row %d, feature %d".formatted(i, j));
      }
      for (int j = 0; j < xHat[i].length; j++) {
        assertEquals(xHat[i][j], reference.xHat[j], 8 * U * reference.sizes[j], "row %d, x_hat %d".formatted(i, j));
      }
    }
  }

  private static double[][] rows(JsonObject expected, String key) {
    return expected.getAsJsonArray(key).asList().stream()
        .map(row -> row.getAsJsonArray().asList().stream().mapToDouble(JsonElement::getAsDouble).toArray())
        .toArray(double[][]::new);
  }

  /** What {@link SaeWeights} says that its numbers mean. */
  private static final class Reference {
    final SaeWeights.Form form;
    final float[] wEnc;
    final float[] wDec;
    final float[] bDec;
    final float[] wSkip;
    final float[] threshold;
    final float[] scale;
    final float[] offset;
    final double[] codes;
    final double[] codeSizes;
    final double[] xHat;
    final double[] sizes;

    Reference(SaeWeights weights) {
      form = weights.form();
      wEnc = floats(weights.wEnc());
      wDec = floats(weights.wDec());
      bDec = floats(weights.bDec());
      wSkip = form.hasSkip() ? floats(weights.wSkip()) : null;
      threshold = floats(weights.threshold());
      scale = floats(weights.scale());
      offset = floats(weights.offset());
      codes = new double[(int) form.dSae()];
      codeSizes = new double[(int) form.dSae()];
      xHat = new double[(int) form.dOut()];
      sizes = new double[(int) form.dOut()];
    }

    void run(double[] x) {
      double mean = 0;
      double by = 1;
      double back = 1;
      if (form.normalization() == Normalization.LAYER) {
        mean = Arrays.stream(x).average().orElseThrow();
        double m = mean;
        back = Math.sqrt(Arrays.stream(x).map(v -> (v - m) * (v - m)).sum() / (x.length - 1));
        by = 1 / (back + 1e-5);
      } else if (form.normalization() == Normalization.CONSTANT) {
        by = Math.sqrt(x.length / Arrays.stream(x).map(v -> v * v).sum());
        back = 1 / by;
      }
      encode(x, mean, by);
      select();
      decode(x, mean, back);
    }

    private void encode(double[] x, double mean, double by) {
      for (int j = 0; j < codes.length; j++) {
        double p = 0;
        double size = 0;
        for (int i = 0; i < x.length; i++) {
          double term = (x[i] - mean) * by * wEnc[j * x.length + i];
          p += term;
          size += Math.abs(term);
        }
        double v = scale[j] * p + offset[j];
        boolean mayBeNegative = form.selection() == Selection.TOP_ABS || form.selection() == Selection.TOP_SIGNED;
        codes[j] = p > threshold[j] && (v > 0 || mayBeNegative) ? v : 0;
        codeSizes[j] = scale[j] * size + Math.abs(offset[j]);
      }
    }

    private void select() {
      if (form.selection() == Selection.GATE) {
        return;
      }
      boolean byMagnitude = form.selection() == Selection.TOP_ABS;
      double[] ranked = Arrays.stream(codes).map(v -> byMagnitude ? -Math.abs(v) : -v).sorted().toArray();
      for (int j = 0; j < codes.length; j++) {
        double key = byMagnitude ? Math.abs(codes[j]) : codes[j];
        codes[j] = key >= -ranked[(int) form.k() - 1] ? codes[j] : 0;
      }
    }

    private void decode(double[] x, double mean, double back) {
      int d = xHat.length;
      for (int i = 0; i < d; i++) {
        double sum = bDec[i];
        double size = Math.abs(sum);
        for (int j = 0; j < codes.length; j++) {
          sum += codes[j] * wDec[j * d + i];
          size += codes[j] == 0 ? 0 : codeSizes[j] * Math.abs(wDec[j * d + i]);
        }
        xHat[i] = sum * back + mean;
        sizes[i] = size * back + Math.abs(mean);
        for (int k = 0; wSkip != null && k < x.length; k++) {
          xHat[i] += x[k] * wSkip[i * x.length + k];
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void saysWhatItIs(String name) {
    JsonObject expected = EXPECTED.getAsJsonObject(name);
    try (SaeWeights weights = read(name)) {
      SaeInfo info = weights.info();
      assertEquals(text(expected, "format"), info.format());
      assertEquals(text(expected, "architecture"), info.architecture());
      assertEquals(text(expected, "dtype"), info.dtype());
      assertEquals(text(expected, "model"), info.modelName());
      assertEquals(text(expected, "hook"), info.hookName());
      assertTrue(Path.of(info.source()).startsWith(path(name)), info.source()); // files of one shape differ in it alone
      if (expected.has("l0")) {
        assertEquals(expected.get("l0").getAsDouble(), info.publishedL0(), 1e-6);
      } else {
        assertNull(info.publishedL0());
      }
      assertTrue(info.warnings().stream().noneMatch(warning -> warning.contains("turned")), info.warnings().toString());
    }
  }

  private static String text(JsonObject object, String key) {
    return object.get(key).isJsonNull() ? null : object.get(key).getAsString();
  }

  @ParameterizedTest
  @CsvSource({
    "saelens-standard, apply_b_dec_to_input",
    "saelens-jumprelu, threshold",
    "saelens-topk-rescaled, rescale_acts_by_decoder_norm",
    "saelens-gated, gated",
    "saelens-average, expected_average_only_in",
    "saelens-layer-norm, layer_norm",
    "saelens-constant-norm-rescale, constant_norm_rescale",
    "saelens-hook-z, hook_z",
    "saelens-old-finetuned, scaling_factor",
    "sparsify-topk, b_dec",
    "sparsify-signed, signed",
    "llama-scope-lxr, jump_relu_threshold",
    "llama-scope-lxr, dataset_average_activation_norm",
    "llama-scope-lxr, sparsity_include_decoder_norm",
    "llama-scope-subtracts, apply_decoder_bias_to_pre_encoder",
    "llamascopium-r1, log_jumprelu_threshold",
  })
  void namesWhatItFolded(String name, String key) {
    try (SaeWeights weights = read(name)) {
      assertTrue(weights.info().folded().stream().anyMatch(sentence -> sentence.contains(key)), weights.info().folded().toString());
    }
  }

  @ParameterizedTest
  @CsvSource({
    "saelens-topk, TOP, 4", "saelens-old-topk, TOP, 3", "saelens-batchtopk, GATE, 0", "sparsify-topk, TOP, 4", "sparsify-signed, TOP_ABS, 4",
    "sparsify-transcoder, TOP, 4", "llama-scope-lxr, GATE, 0", "llama-scope-topk, TOP, 4", "llamascopium-sae, TOP, 4", "mwhanna, GATE, 0",
    "mwhanna-jumprelu-skip, GATE, 0", "mwhanna-topk-skip, TOP_SIGNED, 4"
  })
  void selectsAsItsFamily(String name, Selection selection, long k) {
    try (SaeWeights weights = read(name)) {
      assertEquals(selection, weights.form().selection());
      assertEquals(k, weights.form().k());
    }
  }

  /** The cfg's dtype is bfloat16, but thresholds and biases keep what the file has. */
  @Test
  void thresholdsKeepTheirPrecision() {
    try (SaeWeights weights = read("saelens-jumprelu");
        TensorFile file = TensorFile.open(path("saelens-jumprelu").resolve("sae_weights.safetensors"))) {
      float[] stored = new float[13];
      file.require("threshold").read(0, stored, 0, 13);
      float[] threshold = floats(weights.threshold());
      float[] offset = floats(weights.offset());
      for (int j = 0; j < 13; j++) { // which is over 100 times finer than bfloat16
        assertEquals(stored[j], threshold[j] + offset[j], 4 * U * (Math.abs(threshold[j]) + Math.abs(offset[j])));
      }
      assertEquals(List.of(), weights.info().warnings());
      assertEquals(
          List.of("SAELens computes in bfloat16, the dtype in cfg.json, and sae4j in float32: features near their threshold may differ"),
          weights.info().notes());
    }
    try (SaeWeights weights = read("saelens-topk")) {
      assertEquals(List.of(), weights.info().notes());
    }
  }

  @Test
  void warnsWhereOnlyAPersonCanTell() {
    try (SaeWeights weights = read("gemma-scope-2-transcoder");
        SaeWeights plain = read("gemma-scope-2-sae")) {
      assertTrue(weights.info().warnings().get(0).contains("affine_skip_connection"));
      assertEquals(List.of(), plain.info().warnings());
    }
  }

  @Test
  void filesMayBeGivenForFolders() {
    for (String file :
        List.of(
            "saelens-sharded/model.safetensors.index.json", "sparsify-topk/layers.5.mlp/sae.safetensors",
            "llama-scope-lxr/checkpoints/final.safetensors", "llamascopium-r1/sae_weights.safetensors", "mwhanna/layer_0.safetensors",
            "gemma-scope-2-sae/layer_12_width_16k_l0_medium/params.safetensors", "saelens-model-file/model.safetensors")) {
      SaeReader.read(Fixtures.path("saes/" + file)).close();
    }
  }

  // ---- options

  @Test
  void theFactorOfTheInputMayBeGiven() throws IOException {
    Path copy = copy("saelens-average");
    Files.delete(copy.resolve("activation_scaler.json"));
    refused(() -> SaeReader.read(copy), "expected_average_only_in", "--norm-scaling-factor");
    try (SaeWeights weights = SaeReader.read(copy, new SaeReader.Options(null, 0.2138, null, null))) {
      requireExpected(weights, EXPECTED.getAsJsonObject("saelens-average"));
    }
    Files.writeString(copy.resolve("activation_scaler.json"), "{\"scaling_factor\": -1}");
    refused(() -> SaeReader.read(copy), "scaling_factor must be positive");
  }

  @Test
  void kMayBeGiven() throws IOException {
    Path copy = copy("sparsify-topk");
    edit(copy.resolve("cfg.json"), "k", "null");
    refused(() -> SaeReader.read(copy), "has no k", "--k");
    try (SaeWeights weights = SaeReader.read(copy, new SaeReader.Options(null, null, 4L, null))) {
      requireExpected(weights, EXPECTED.getAsJsonObject("sparsify-topk"));
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void optionsAreUsedOrRefusedByName(String name) {
    String format = EXPECTED.getAsJsonObject(name).get("format").getAsString();
    long own;
    try (SaeWeights weights = read(name)) {
      own = weights.form().k();
    }
    SaeReader.Options k = new SaeReader.Options(null, null, own + 1, null);
    String why = own == 0 ? "has no use for a k" : "k = " + own + " by its files";
    failed(() -> SaeReader.read(path(name), k), format, why, "(--k) is " + (own + 1));
    if (own != 0) {
      SaeReader.read(path(name), new SaeReader.Options(null, null, own, null)).close();
    }
    SaeReader.Options factor = new SaeReader.Options(null, 0.615, null, null);
    failed(
        () -> SaeReader.read(path(name), factor),
        format, name.contains("average") ? "by its files" : "does not scale", "(--norm-scaling-factor) is 0.615");
  }

  // ---- telling formats apart

  /** Two configurations beside one file: its tensors tell. */
  @Test
  void tensorsTellFormatsOfTheSameNamesApart() throws IOException {
    Path saeLens = copy("saelens-jumprelu");
    Files.copy(path("llamascopium-r1").resolve("config.json"), saeLens.resolve("config.json"));
    assertEquals("saelens", format(saeLens));
    Path scope = copy("llamascopium-r1");
    Files.copy(path("saelens-jumprelu").resolve("cfg.json"), scope.resolve("cfg.json"));
    assertEquals("llamascopium", format(scope));
    Path sparsify = copy("sparsify-topk");
    assertEquals("sparsify", format(sparsify.resolve("sae.safetensors")));
  }

  private static String format(Path path) {
    try (SaeWeights weights = SaeReader.read(path)) {
      return weights.info().format();
    }
  }

  @Test
  void refusesWhatMayBeTwoFormats() throws IOException {
    Path both = copy("mwhanna");
    Files.copy(path("saelens-standard").resolve("cfg.json"), both.resolve("cfg.json"));
    refused(() -> SaeReader.read(both.resolve("layer_0.safetensors")), "saelens, mwhanna", "--format");
    assertEquals(6, read(both, "mwhanna"));
    Path two = copy("saelens-standard");
    Files.copy(path("sparsify-topk").resolve("sae.safetensors"), two.resolve("sae.safetensors"));
    failed(() -> SaeReader.read(two), "holds 2 SAEs", "saelens", "sparsify", "--format");
  }

  private static long read(Path path, String format) {
    try (SaeWeights weights = SaeReader.read(path.resolve("layer_0.safetensors"), new SaeReader.Options(format))) {
      return weights.dIn();
    }
  }

  @Test
  void refusesAFolderOfSeveralLayers() throws IOException {
    Path layers = copy("mwhanna");
    Files.copy(layers.resolve("layer_0.safetensors"), layers.resolve("layer_1.safetensors"));
    failed(() -> SaeReader.read(layers), "holds 2 files for the format mwhanna; name one");
    failed(() -> SaeReader.read(layers, new SaeReader.Options("mwhanna")), "holds 2 files for the format mwhanna; name one");
    SaeReader.read(layers.resolve("layer_1.safetensors")).close();
  }

  @Test
  void refusesAFormatThatMissesAFile() throws IOException {
    Path scope = copyTree("llama-scope-lxr");
    Files.delete(scope.resolve("hyperparams.json"));
    failed(() -> SaeReader.read(scope), "hyperparams.json", "no such file", "llama-scope");
    Path sae = copy("saelens-standard");
    Files.delete(sae.resolve("cfg.json"));
    failed(() -> SaeReader.read(sae), "no SAE found", "cfg.json + sae_weights.safetensors (saelens)");
    failed(() -> SaeReader.read(sae, new SaeReader.Options("gemma-scope-2")), "config.json", "the format gemma-scope-2 needs it");
  }

  @Test
  void refusesKnownFilesThatAreNoSaeByName() throws IOException {
    Path clt = Files.createDirectories(folder.resolve("clt"));
    Files.writeString(clt.resolve("config.yaml"), "model_name: google/gemma-2-2b\n");
    Files.copy(path("mwhanna").resolve("layer_0.safetensors"), clt.resolve("W_enc_0.safetensors"));
    refused(() -> SaeReader.read(clt), "cross-layer transcoder");
    refused(() -> SaeReader.read(clt.resolve("W_enc_0.safetensors")), "cross-layer transcoder");
    Path temporal = Files.createDirectories(folder.resolve("temporal"));
    Files.writeString(temporal.resolve("conf.yaml"), "a: 1\n");
    Files.copy(path("mwhanna").resolve("layer_0.safetensors"), temporal.resolve("latest_ckpt.safetensors"));
    refused(() -> SaeReader.read(temporal), "temporal SAE");
    refused(() -> SaeReader.read(temporal.resolve("latest_ckpt.safetensors")), "temporal SAE");
  }

  // ---- square matrices

  @Test
  void squareMatricesNeedAFormatBeyondDoubt() throws IOException {
    Path sae = Files.createDirectories(folder.resolve("square"));
    Files.writeString(sae.resolve("config.yaml"), "model_name: a\n");
    Path file = Files.write(sae.resolve("layer_3.safetensors"), tensors("W_enc", 4, 4, "W_dec", 4, 4, "b_enc", 4, 0, "b_dec", 4, 0));
    refused(() -> SaeReader.read(file), "W_enc", "which way the matrix lies is unknown");
    SaeReader.read(file, new SaeReader.Options("mwhanna")).close();
  }

  /** F32 zeros by name and shape; a second length of 0 makes a vector. */
  private static byte[] tensors(Object... parts) {
    StringBuilder header = new StringBuilder("{");
    int at = 0;
    for (int i = 0; i < parts.length; i += 3) {
      int rows = (int) parts[i + 1];
      int columns = (int) parts[i + 2];
      int end = at + 4 * rows * Math.max(1, columns);
      header.append(i == 0 ? "" : ",");
      header.append(
          "\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}"
              .formatted(parts[i], columns == 0 ? "" + rows : rows + "," + columns, at, end));
      at = end;
    }
    return Fixtures.safetensors(header + "}", new byte[at]);
  }

  @Test
  void prefixesOfDdpAndCompileAreNoPartOfANameHereEither() throws IOException {
    Path sae = copy("saelens-standard");
    Object[] parts = {
      "_orig_mod.module.W_enc", 6, 13, "_orig_mod.module.W_dec", 13, 6, "_orig_mod.module.b_enc", 13, 0, "_orig_mod.module.b_dec", 6, 0
    };
    Files.write(sae.resolve("sae_weights.safetensors"), tensors(parts));
    SaeReader.read(sae).close();
    parts[0] = "_orig_mod.module.W"; // an error names what is there
    Files.write(sae.resolve("sae_weights.safetensors"), tensors(parts));
    refused(() -> SaeReader.read(sae), "\"W\"");
  }

  // ---- shards

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "../model-00001-of-00002.safetensors  | of the same folder",
        "/tmp/model-00001-of-00002.safetensors| of the same folder",
        "a\\\\b.safetensors                     | of the same folder",
        "model.bin                            | of the same folder",
        "model-00002-of-00002.safetensors     | does not hold what model.safetensors.index.json says; they differ in \"W_enc\"",
      })
  void refusesAnIndexThatLeadsAstray(String file, String message) throws IOException {
    Path sae = copy("saelens-sharded");
    Path index = sae.resolve("model.safetensors.index.json");
    String text = Files.readString(index);
    Files.writeString(index, text.replace("\"W_enc\": \"model-00001-of-00002.safetensors\"", "\"W_enc\": \"" + file + "\""));
    assertNotEquals(text, Files.readString(index));
    refused(() -> SaeReader.read(sae), message);
  }

  @Test
  void refusesMissingShards() throws IOException {
    Path sae = copy("saelens-sharded");
    Files.delete(sae.resolve("model-00002-of-00002.safetensors"));
    failed(() -> SaeReader.read(sae), "model-00002-of-00002.safetensors", "no such file");
    Files.writeString(sae.resolve("model.safetensors.index.json"), "{\"weight_map\": {}}");
    refused(() -> SaeReader.read(sae), "weight_map has 0 files");
    Files.writeString(sae.resolve("model.safetensors.index.json"), "{\"weight_map\": {\"a\": 1}}");
    refused(() -> SaeReader.read(sae), "of the same folder");
  }

  // ---- float8

  @ParameterizedTest
  @CsvSource({"e4m3, safetensors", "e5m2, safetensors", "e4m3, pt", "e5m2, pt"})
  void readsEveryFloat8(String name, String extension) {
    JsonArray expected = EXPECTED.getAsJsonArray("float8_" + name);
    try (TensorFile file = TensorFile.open(Fixtures.path("saes/float8_%s.%s".formatted(name, extension)))) {
      float[] values = new float[256];
      file.require("x").read(0, values, 0, 256);
      for (int bits : IntStream.range(0, 256).toArray()) {
        if (expected.get(bits).isJsonNull()) {
          assertTrue(Float.isNaN(values[bits]));
        } else {
          assertEquals(expected.get(bits).getAsInt(), Float.floatToRawIntBits(values[bits]), "byte " + bits);
        }
      }
    }
  }

  @Test
  void readsAViewOfFloat8InPyTorch() {
    try (TensorFile file = TensorFile.open(Fixtures.path("saes/float8_e4m3.pt"))) {
      float[] all = new float[256];
      float[] view = new float[32]; // columns 1 and 2 of 16 x 16
      file.require("x").read(0, all, 0, 256);
      file.require("view").read(0, view, 0, 32);
      for (int i = 0; i < 32; i++) {
        assertEquals(all[16 * (i % 16) + 1 + i / 16], view[i]);
      }
    }
  }

  @Test
  void refusesWhatIsNotFiniteInFloat8() throws IOException {
    Path sae = copy("saelens-float8");
    Path file = sae.resolve("sae_weights.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    String header = new String(bytes, 8, bytes[0] & 0xff | (bytes[1] & 0xff) << 8, StandardCharsets.UTF_8);
    long start = JsonParser.parseString(header).getAsJsonObject().getAsJsonObject("W_enc").getAsJsonArray("data_offsets").get(0).getAsLong();
    bytes[8 + header.length() + (int) start] = (byte) 0x7f;
    Files.write(file, bytes);
    refused(() -> SaeReader.read(sae), "W_enc", "NaN at [0, 0]");
  }

  // ---- refusals by name: a valid SAE with a member of its configuration changed

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "saelens-standard           | cfg.json | architecture | \"batchtopk\"    | architecture \"batchtopk\"; for inference SAELens saves",
        "saelens-standard           | cfg.json | architecture | \"matryoshka_batchtopk\" | no \"threshold\" tensor",
        "saelens-old-topk           | cfg.json | is_transcoder | true            | is_transcoder is \"true\"",
        "saelens-jumprelu           | cfg.json | is_transcoder | true            | is_transcoder is \"true\"",
        "saelens-jumprelu           | cfg.json | d_in         | 7                | d_in is 7",
        "saelens-topk               | cfg.json | k            | 14               | k must be 1 to 13, got 14",
        "saelens-topk               | cfg.json | k            | null             | there is no k",
        "saelens-topk               | cfg.json | architecture | \"standard\"     | k is \"4\"",
        "saelens-gated              | cfg.json | architecture | \"standard\"     | standard",
        "saelens-transcoder         | cfg.json | d_out        | 7                | d_out is 7, but b_dec has shape [8]",
        "saelens-transcoder         | cfg.json | d_in         | 7                | d_in is 7, but W_enc has shape [6, 13]",
        "saelens-transcoder         | cfg.json | architecture | \"standard\"     | d_in is 6, but b_dec has shape [8]",
        "saelens-transcoder         | cfg.json | architecture | \"skip_transcoder\" | no tensor \"W_skip\"",
        "saelens-transcoder         | cfg.json | normalize_activations | \"layer_norm\" | \"none\" with a transcoder",
        "saelens-skip-transcoder    | cfg.json | architecture | \"transcoder\"   | W_skip",
        "sparsify-topk              | cfg.json | activation   | \"groupmax\"     | activation is \"groupmax\"",
        "sparsify-topk              | cfg.json | k            | 13               | k must be 1 to 12, got 13",
        "sparsify-topk              | cfg.json | num_latents  | 13               | num_latents is 13, but encoder.bias has shape [12]",
        "sparsify-topk              | cfg.json | expansion_factor | 3            | d_in is 6 and expansion_factor 3, but encoder.bias has shape [12]",
        "sparsify-topk              | cfg.json | expansion_factor | 4000000000   | expansion_factor 4000000000",
        "sparsify-topk              | cfg.json | d_in         | 5                | d_in is 5, but b_dec has shape [6]",
        "sparsify-topk              | cfg.json | skip_connection | true          | no tensor \"W_skip\"",
        "sparsify-skip              | cfg.json | skip_connection | false         | has a \"W_skip\" tensor",
        "llama-scope-lxr            | hyperparams.json | use_glu_encoder | true  | use_glu_encoder",
        "llama-scope-lxr            | hyperparams.json | act_fn | \"batchtopk\"  | act_fn is \"batchtopk\"",
        "llama-scope-lxr            | hyperparams.json | norm_activation | \"token-wise\" | norm_activation is \"token-wise\"",
        "llama-scope-lxr            | hyperparams.json | jump_relu_threshold | null | jump_relu_threshold",
        "llama-scope-lxr            | hyperparams.json | dataset_average_activation_norm | {\"in\": 8.8} | dataset_average_activation_norm",
        "llama-scope-lxr            | hyperparams.json | dataset_average_activation_norm | {\"in\": 0, \"out\": 1} | must be positive",
        "llama-scope-lxr            | hyperparams.json | d_model | 7             | d_model is 7",
        "llama-scope-topk           | hyperparams.json | top_k | 13              | k must be 1 to 12, got 13",
        "llama-scope-ltc            | hyperparams.json | apply_decoder_bias_to_pre_encoder | true | apply_decoder_bias_to_pre_encoder",
        "llamascopium-r1            | config.json | sae_type  | \"crosscoder\"   | sae_type is \"crosscoder\"",
        "llamascopium-r1            | config.json | sae_type  | \"lorsa\"        | sae_type is \"lorsa\"",
        "llamascopium-r1            | config.json | act_fn    | \"relu\"         | log_jumprelu_threshold",
        "llamascopium-r1            | config.json | hook_point_in | \"blocks.3.hook_resid_post\" | dataset_average_activation_norm",
        "llamascopium-sae           | config.json | act_fn    | \"jumprelu\"     | neither a jump_relu_threshold nor a tensor",
        "gemma-scope-2-sae          | config.json | architecture | \"topk\"      | architecture is \"topk\"",
        "gemma-scope-2-sae          | config.json | type      | \"clt\"          | type is \"clt\"",
        "gemma-scope-2-sae          | config.json | width     | 14               | width is 14, but b_enc has shape [13]",
        "gemma-scope-2-sae          | config.json | affine_connection | true     | affine_connection is true",
        "gemma-scope-2-transcoder   | config.json | affine_connection | false    | affine_connection is false",
      })
  void refusesConfigurationsByName(String name, String file, String key, String value, String message) throws IOException {
    Path sae = copyTree(name);
    Path config;
    try (Stream<Path> files = Files.walk(sae)) {
      config = files.filter(path -> path.endsWith(file)).findFirst().orElseThrow();
    }
    edit(config, key, value);
    Path inner = EXPECTED.getAsJsonObject(name).get("path").getAsString().contains("/") ? config.getParent() : sae;
    refused(() -> SaeReader.read(inner), message);
  }

  private static void edit(Path config, String key, String value) throws IOException {
    JsonObject object = JsonParser.parseString(Files.readString(config)).getAsJsonObject();
    object.add(key, JsonParser.parseString(value));
    Files.writeString(config, object.toString());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "activation: relu                           | ",
        "activation: ReLU # of torch                | ",
        "activation: 'nn.ReLU()'                    | ",
        "activation:/  value: relu                  | ",
        "model_kind: cross_layer_transcoder         | model_kind is \"cross_layer_transcoder\"",
        "activation: topk                           | the activation is \"topk\", but there is no k: give it as the option k (--k)",
        "activation: topk/k: 0                      | k must be a whole number from 1",
        "activation: topk/k: 99                     | k must be 1 to 13, got 99",
        "activation: relu/k: 4                      | activation is \"relu\", which is not supported: expected \"topk\", as k is 4",
        "activation: gelu                           | activation is \"gelu\"",
        "activation: jumprelu                       | the activation is \"jumprelu\", but",
        "activation: [relu]                         | activation must be a string, got \"a list",
        "activation:/  kind: topk                   | activation must be a string, got \"a list",
        "activation:/- topk                         | activation must be a string, got \"a list",
        "activation: top/  k                        | activation must be a string, got \"a list",
        "act_fn: relu/activation: topk              | activation is \"topk\", which is not supported: expected \"relu\" again",
        "model:/  activation: topk                  | model.activation is \"topk\", and whether that is said of the SAE is unknown",
        "transcoders:/- layer: 0/  k: 5             | transcoders.k is \"5\", and whether that is said of the SAE is unknown",
        "config:/  scheduler:/    k: 3              | config.scheduler.k is \"3\", and whether that is said of the SAE is unknown",
        "config:/  value:/    k: 99                 | k must be 1 to 13, got 99",
        "config:/  lr: 1/  k: 99                    | k must be 1 to 13, got 99",
        "config:/- lr: 1/  k: 99                    | k must be 1 to 13, got 99",
        "config:/- desc: 1/  loss:/      k: 5/- k: 6 | config.loss.k is \"5\", and whether",
        "--- # of a run/my key: 3/activation: relu  | ",
        "k: 4/top_k: 5                              | top_k is \"5\", which is not supported: expected 4 again",
        "apply_b_dec_to_input: yes                  | b_dec is to be subtracted",
        "normalize_activations: layer_norm          | normalize_activations is \"layer_norm\"",
        "a: 1/a: 2                                  | line 2: expected \"key: value\", got \"a: 2\"",
        "nothing                                    | line 1: expected \"key: value\", got \"nothing\"",
        "- relu                                     | line 1: expected",
      })
  void readsTheConfigurationOfTranscodersOrRefusesIt(String lines, String message) throws IOException {
    Path sae = copy("mwhanna");
    Files.writeString(sae.resolve("config.yaml"), lines.replace('/', '\n') + "\n");
    if (message == null) {
      SaeReader.read(sae).close();
    } else {
      refused(() -> SaeReader.read(sae), message);
    }
  }

  @Test
  void transcodersOfTopKTakeTheirKFromOneOfBoth() throws IOException {
    Path sae = copy("mwhanna");
    Files.writeString(sae.resolve("config.yaml"), "activation: topk\n");
    try (SaeWeights weights = SaeReader.read(sae, new SaeReader.Options(null, null, 3L, null))) {
      assertEquals(3, weights.form().k());
    }
    Files.writeString(sae.resolve("config.yaml"), "activation: topk\nk: 4.0\n");
    failed(() -> SaeReader.read(sae, new SaeReader.Options(null, null, 3L, null)), "k = 4 by its files", "(--k) is 3");
  }

  @Test
  void refusesNegativeThresholdsOfTranscoders() throws IOException {
    Path sae = copy("mwhanna");
    Object[] parts = {"W_enc", 3, 2, "W_dec", 3, 2, "b_enc", 3, 0, "b_dec", 2, 0, "threshold", 3, 0};
    byte[] file = tensors(parts);
    Files.write(sae.resolve("layer_0.safetensors"), file);
    SaeReader.read(sae).close();
    file[file.length - 1] |= (byte) 0xbf; // the last float becomes negative
    Files.write(sae.resolve("layer_0.safetensors"), file);
    refused(() -> SaeReader.read(sae), "\"threshold\": is below 0 at [2]");
  }

  // ---- and of tensors

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "saelens-standard  | W_enc=13x7,W_dec=13x6,b_enc=13x0,b_dec=6x0                         | W_enc",
        "saelens-standard  | W_enc=6x13,W_dec=13x6,b_dec=6x0                                    | no tensor \"b_enc\"",
        "saelens-standard  | W_enc=6x13,W_dec=13x6,b_enc=13x0,b_dec=6x0,topk_threshold=1x0      | topk_threshold",
        "saelens-gated     | W_enc=6x14,W_dec=14x6,b_dec=6x0,b_gate=14x0,b_mag=13x0,r_mag=14x0  | b_mag",
        "saelens-gated     | W_enc=6x14,W_dec=14x6,b_enc=14x0,b_dec=6x0,b_gate=14x0,b_mag=14x0,r_mag=14x0 | b_enc",
        "saelens-skip-transcoder | W_enc=6x13,W_dec=13x8,b_enc=13x0,b_dec=8x0,W_skip=6x8        | W_skip",
        "sparsify-topk     | encoder.weight=12x6,W_dec=12x6,encoder.bias=12x0                   | no tensor \"b_dec\"",
        "sparsify-topk     | encoder.weight=12x6,W_dec=12x5,encoder.bias=12x0,b_dec=6x0         | W_dec",
        "sparsify-skip     | encoder.weight=12x6,W_dec=12x6,encoder.bias=12x0,b_dec=6x0,W_skip=6x5 | W_skip",
        "llama-scope-lxr   | encoder.weight=12x6,decoder.weight=6x11,encoder.bias=12x0,decoder.bias=6x0 | decoder.weight",
        "llama-scope-lxr   | encoder.weight=12x6,decoder.weight=6x12,encoder.bias=12x0,decoder.bias=6x0,encoder_glu.weight=12x6 | encoder_glu.weight",
        "llamascopium-r1   | encoder.weight=12x6,decoder.weight=6x12,encoder.bias=12x0,decoder.bias=6x0,dataset_average_activation_norm.blocks.15.hook_resid_post=2x0 | expected one number",
        "llamascopium-r1   | encoder.weight=12x6,decoder.weight=6x12,encoder.bias=12x0,decoder.bias=6x0,dataset_average_activation_norm.blocks.15.hook_resid_post=1x0 | must be positive",
        "gemma-scope-2-sae | w_enc=6x13,w_dec=13x6,b_enc=13x0,b_dec=6x0                         | no tensor \"threshold\"",
        "gemma-scope-2-transcoder | w_enc=6x13,w_dec=13x6,b_enc=13x0,b_dec=6x0,threshold=13x0,affine_skip_connection=6x7 | affine_skip_connection",
        "mwhanna           | W_enc=13x6,W_dec=13x6,b_enc=13x0,b_dec=6x0,W_skip=6x5              | W_skip",
        "mwhanna           | W_enc=13x6,W_dec=13x6,b_enc=13x0,b_dec=6x0,log_thresholds=13x0     | log_thresholds",
        "mwhanna           | W_enc=13x6,W_dec=13x6,b_enc=13x0,b_dec=6x0,threshold=13x0,activation_function.threshold=13x0 | \"threshold\"",
        "mwhanna           | W_enc_0=13x6,b_enc_0=13x0                                          | W_enc_0",
      })
  void refusesWrongTensors(String name, String list, String message) throws IOException {
    Path sae = copyTree(name);
    Path weights;
    try (Stream<Path> files = Files.walk(sae)) {
      weights = files.filter(path -> path.toString().endsWith(".safetensors") && !path.endsWith("sparsity.safetensors")).findFirst().orElseThrow();
    }
    Object[] parts = Arrays.stream(list.split(",")).flatMap(SaeSafetensorsTest::part).toArray();
    Files.write(weights, tensors(parts));
    refused(() -> SaeReader.read(weights), message);
  }

  private static Stream<Object> part(String text) {
    int equals = text.lastIndexOf('=');
    String[] shape = text.substring(equals + 1).split("x");
    return Stream.of(text.substring(0, equals), Integer.valueOf(shape[0]), Integer.valueOf(shape[1]));
  }

  /** Of no consequence for the SAE, so its faults are only named. */
  @Test
  void anIllFormedSparsityIsNotUsed() throws IOException {
    Path sae = copy("saelens-standard");
    for (byte[] file : List.of(tensors("sparsity", 12, 0), tensors("other", 13, 0), new byte[3])) {
      Files.write(sae.resolve("sparsity.safetensors"), file);
      try (SaeWeights weights = SaeReader.read(sae)) {
        assertNull(weights.info().publishedL0());
        assertTrue(weights.info().warnings().get(0).contains("sparsity.safetensors is not used"));
      }
    }
    float[] frequencies = new float[13];
    frequencies[4] = 0.5f;
    String header = "{\"sparsity\":{\"dtype\":\"F32\",\"shape\":[13],\"data_offsets\":[0,52]}}";
    Files.write(sae.resolve("sparsity.safetensors"), Fixtures.safetensors(header, Fixtures.floatBytes(frequencies)));
    try (SaeWeights weights = SaeReader.read(sae)) {
      assertNull(weights.info().publishedL0());
      assertTrue(weights.info().warnings().get(0).contains("0.5 at [4]"), weights.info().warnings().toString());
    }
  }

  /** The folder of a case's weights. */
  private Path copy(String name) throws IOException {
    Path copy = Files.createDirectories(folder.resolve(name));
    for (Path file : SaeReader.list(path(name), "*")) {
      Files.copy(file, copy.resolve(file.getFileName().toString()));
    }
    return copy;
  }

  /** All of a case. */
  private Path copyTree(String name) throws IOException {
    Path root = Fixtures.path("saes/" + name);
    try (Stream<Path> files = Files.walk(root)) {
      for (Path file : files.toList()) {
        Path to = folder.resolve(name).resolve(root.relativize(file).toString());
        if (Files.isDirectory(file)) {
          Files.createDirectories(to);
        } else {
          Files.copy(file, to);
        }
      }
    }
    return folder.resolve(name);
  }
}

package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floats;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
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
      throw new UncheckedIOException(e);
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

  // ---- traps: each of these fails if it is fallen into

  private static double[] firstCodes(String name) {
    return doubles(EXPECTED.getAsJsonObject(name).getAsJsonArray("codes").get(0));
  }

  private static SaeWeights read(String name) {
    JsonObject expected = EXPECTED.getAsJsonObject(name);
    return SaeReader.read(path(expected), options(expected));
  }

  @Test
  void batchTopKIsNotLoadedAsPlainReLU() {
    try (SaeWeights weights = read("dl-batchtopk")) {
      double[] x = doubles(EXPECTED.getAsJsonObject("dl-batchtopk").getAsJsonArray("x").get(0));
      Reference reference = new Reference(weights);
      long positive = Arrays.stream(reference.values(x)).filter(value -> value > 0).count();
      assertTrue(positive > Arrays.stream(firstCodes("dl-batchtopk")).filter(value -> value != 0).count(), "the threshold matters");
    }
  }

  @Test
  void thresholdsStayFloat32BesideBFloat16() {
    try (SaeWeights weights = read("dl-mixed")) {
      float[] threshold = floats(weights.threshold());
      float[] offset = floats(weights.offset());
      for (int j = 0; j < threshold.length; j++) {
        assertEquals(0.7001, threshold[j] + (double) offset[j], 2e-6); // bfloat16: 0.69921875
      }
    }
  }

  @Test
  void recordsTheFileAndItsL0() {
    try (SaeWeights weights = read("qwen")) {
      assertTrue(weights.info().source().endsWith("layer4.sae.pt"), weights.info().source());
      assertEquals(5, weights.info().publishedL0());
    }
  }

  @Test
  void squareMatricesNeedAFormatThatIsSure() throws IOException {
    refused(() -> SaeReader.read(Fixtures.path("saes/qwen-square/SAE-Res-Toy3-2B-Base-W1K-L0_5/layer4.sae.pt")), "d_sae is d = 8");
    Path alone = Files.copy(Fixtures.path("saes/dl-relu-square/ae.pt"), folder.resolve("ae.pt")); // its class is only guessed
    refused(() -> SaeReader.read(alone), "d_sae is d = 7", "name the format");
    SaeReader.read(alone, new SaeReader.Options("dictionary-learning")).close();
  }

  /** Folders further up may have any name. */
  @Test
  void theLastPartsOfAPathSayWhatAGemmaScopeFileIs() throws IOException {
    Path source = path(EXPECTED.getAsJsonObject("gemma-embedding"));
    Path sae = Files.createDirectories(folder.resolve("transcoders/embedding/gemma-scope-2b-pt-res/layer_3")).resolve("params.npz");
    try (SaeWeights weights = SaeReader.read(Files.copy(source, sae))) {
      assertEquals("jumprelu", weights.info().architecture());
      assertEquals(1, floats(weights.scale())[0]);
    }
  }

  @Test
  void theFolderOrTheFile() {
    String qwen = "qwen/SAE-Res-Toy3-2B-Base-W1K-L0_5";
    for (String name : List.of("dl-relu/ae.pt", "openai-topk", "goodfire", "deepseek-r1", "hook-z", qwen)) {
      SaeReader.read(Fixtures.path("saes/" + name)).close();
    }
  }

  // ---- what is asked for, and which file is meant

  @Test
  void takesKFromTheOptionsBeforeTheFolder() {
    JsonObject qwen = EXPECTED.getAsJsonObject("qwen");
    try (SaeWeights weights = SaeReader.read(path(qwen), new SaeReader.Options(null, null, 2L, null))) {
      assertEquals(2, weights.form().k());
      assertTrue(weights.info().warnings().contains("the folder's name says L0 5, and the option k (--k) 2: this is taken"));
    }
    refused(() -> SaeReader.read(Fixtures.path("saes/qwen-k")), "gives k", "--k");
    refused(() -> SaeReader.read(path(qwen), new SaeReader.Options(null, null, 13L, null)), "k must be 1 to 12, got 13");
  }

  @Test
  void namesTheCandidatesOfAFileThatMayBeSeveral() throws IOException {
    Path alone = Files.copy(hookZ(), folder.resolve("sae.pt"));
    refused(() -> SaeReader.read(alone), "\"W_enc\" [8, 20]", "--format qwen-scope --k K: the k largest of W_enc x + b_enc, negative ones too, b_dec not subtracted; ");
    SaeReader.read(alone, new SaeReader.Options("hook-z")).close();
    refused(() -> SaeReader.read(alone, new SaeReader.Options("qwen-scope")), "--k");
    Files.writeString(folder.resolve("sae_cfg.json"), "{\"act_size\": 8, \"dict_size\": 19}");
    refused(() -> SaeReader.read(alone), "dict_size is 19, but b_enc has shape [20]");
    Files.writeString(folder.resolve("sae_cfg.json"), "{\"act_size\": 8}");
    SaeReader.read(folder).close();
    Files.copy(Fixtures.path("saes/openai-relu/4.pt"), folder.resolve("other.pt"));
    failed(() -> SaeReader.read(folder), "holds 2 SAEs", "other.pt", "sae.pt");
    failed(() -> SaeReader.read(folder, new SaeReader.Options("openai")), "holds 2 files");
  }

  @Test
  void refusesAKThatHasNoUseOrIsNotTheFiles() {
    SaeReader.Options k = new SaeReader.Options(null, null, 3L, null);
    for (String name : List.of("dl-relu", "dl-gated", "dl-batchtopk", "dl-jumprelu", "openai-relu", "goodfire", "deepseek-r1", "hook-z", "gemma-transcoder")) {
      failed(() -> SaeReader.read(path(EXPECTED.getAsJsonObject(name)), k), "has no use for a k", "(--k) is 3");
    }
    for (String name : List.of("dl-topk", "dl-topk-old", "openai-topk")) {
      failed(() -> SaeReader.read(path(EXPECTED.getAsJsonObject(name)), k), "by its files", "(--k) is 3");
    }
  }

  /** Names that any encoder and decoder may have, and the formats that read such a file. */
  static Map<String, Map<String, Object>> untold() {
    Map<String, Map<String, Object>> files = new LinkedHashMap<>();
    files.put("linear", linear());
    files.put("biased", with(linear(), "decoder.bias", new Floats(0, 2)));
    files.put("b_dec", with(with(linear(), "decoder.bias", null), "b_dec", new Floats(1, 2)));
    files.put("bias", with(with(linear(), "decoder.bias", null), "bias", new Floats(1, 2)));
    files.put("plain", with(with(with(matryoshka(), "group_sizes", null), "k", null), "threshold", null));
    files.put("jumprelu", with(with(with(matryoshka(), "group_sizes", null), "k", null), "threshold", new Floats(1, 3)));
    files.put("openai", with(with(openAi(), "activation", null), "activation_state_dict", null));
    Map<String, Object> goodfire = new LinkedHashMap<>();
    linear().forEach((name, value) -> goodfire.put(name.replace(".", "_linear."), value));
    files.put("goodfire", goodfire);
    files.put("nested", Map.of("state_dict", linear(), "step", 5L, "optimizer_state_dict", Map.of("state", Map.of("0", new Floats(1, 3)))));
    return files;
  }

  private static Map<String, Object> with(Map<String, Object> values, String name, Object value) {
    values.put(name, value);
    values.values().removeIf(v -> v == null);
    return values;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "linear   | --format dictionary-learning or --format deepseek-r1: ReLU(W_enc x + b_enc), b_dec not subtracted",
        "biased   | ; --format state-dict --k K: the k largest of ReLU(W_enc x + b_enc), b_dec not subtracted",
        "b_dec    | --format dictionary-learning --k K: the k largest of ReLU(W_enc (x - b_dec) + b_enc)",
        "bias     | --format dictionary-learning: ReLU(W_enc (x - b_dec) + b_enc)",
        "plain    | ; --format hook-z: ReLU(W_enc (x - b_dec) + b_enc)",
        "jumprelu | --format dictionary-learning: JumpReLU(W_enc x + b_enc), b_dec not subtracted",
        "openai   | --format openai: ReLU(W_enc (x - b_dec) + b_enc)",
        "goodfire | --format goodfire: ReLU(W_enc x + b_enc), b_dec not subtracted",
        "nested   | \"state_dict.encoder.weight\" [3, 2], \"state_dict.decoder.weight\" [2, 3]",
      })
  void whatOnlyCommonNamesTellIsRefusedWithTheFormatsThatReadIt(String name, String fragment) throws IOException {
    Path file = Torch.write(folder.resolve("sae.pt"), untold().get(name));
    String message = refused(() -> SaeReader.read(folder), fragment, "what it computes is not told by tensors of such names");
    Matcher formats = Pattern.compile("--format (\\S+?)( --k K)?(?=:| or )").matcher(message);
    int count = 0;
    for (; formats.find(); count++) {
      SaeReader.read(file, new SaeReader.Options(formats.group(1), null, formats.group(2) == null ? null : 1L, null)).close();
    }
    assertTrue(count > 0, message);
    Torch.write(folder.resolve("trainer_state.pt"), Map.of("optimizer", Map.of("exp_avg", new Floats(1, 3))));
    refused(() -> SaeReader.read(folder), fragment);
    Files.copy(Fixtures.path("saes/openai-relu/4.pt"), folder.resolve("4.pt"));
    failed(() -> SaeReader.read(folder), "holds 2 ");
  }

  /** What a file says of itself is used, or is what the format that was named says too. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "deepseek-r1 | top_k       | 2         | its own configuration says k = 2, but the format deepseek-r1 reads it as ReLU(W_enc x + b_enc), b_dec not",
        "deepseek-r1 | activation  | topk      | its own configuration says the activation topk, but",
        "deepseek-r1 | activation  | jumprelu  | its own configuration says the activation jumprelu, but",
        "deepseek-r1 | subtract_b_dec | true   | its own configuration says that b_dec is subtracted from the input, but",
        "deepseek-r1 | normalize_activations | layer_norm | config.normalize_activations is \"layer_norm\"",
        "deepseek-r1 | lr          | 2         | ",
        "            | top_k       | 2         | \"state_dict.decoder.bias\": is not 0, and whether it is subtracted from the input",
        "            | activation  | relu      | is not 0, and whether it is subtracted",
        "            | top_k       | -1        | config.top_k must be a whole number from 1, got \"-1\"",
        "            | activation  | gelu      | config.activation is \"gelu\", which is not supported",
        "            | activation  | jumprelu  | the activation is jumprelu, but there is no tensor \"threshold\"",
        "            | lr          | 2         | what it computes is not told",
      })
  void aConfigurationInTheFileCounts(String format, String key, String value, String message) throws IOException {
    Object member = value.matches("-?\\d") ? (Object) Long.valueOf(value) : value.equals("true") ? true : value;
    Path file = Torch.write(folder.resolve("x.pt"), Map.of("state_dict", linear(), "config", Map.of(key, member)));
    if (message == null) {
      SaeReader.read(file, new SaeReader.Options(format)).close();
    } else {
      refused(() -> SaeReader.read(file, new SaeReader.Options(format)), message);
    }
  }

  /** OpenAI's state dict has the activation in it, so a wrapper is around that too. */
  @Test
  void whatASaeSaysOfItselfIsReadBelowWrappersToo() throws IOException {
    Map<String, Object> prefixed = new LinkedHashMap<>();
    openAi().forEach((name, value) -> prefixed.put("module." + name, value));
    for (Map<String, ?> values :
        List.of(Map.of("model", openAi(), "step", 5L), prefixed, Map.of("checkpoint", Map.of("state_dict", prefixed)))) {
      try (SaeWeights weights = SaeReader.read(Torch.write(folder.resolve("x.pt"), values))) {
        assertEquals("openai", weights.info().format());
        assertEquals(2, weights.form().k());
        assertEquals(Normalization.LAYER, weights.form().normalization());
      }
    }
    Path file = Torch.write(folder.resolve("x.pt"), Map.of("model", openAi(), "activation", "ReLU"));
    refused(() -> SaeReader.read(file), "whether that is said of the SAE is unknown");
    Torch.write(file, List.of(openAi()));
    failed(() -> SaeReader.read(file), "no SAE found", "--map 'W_enc=[0].encoder.weight.T'");
  }

  @Test
  void aStateDictOfJumpReluMustHaveNoNegativeThreshold() throws IOException {
    Map<String, Object> values = with(linear(), "decoder.bias", new Floats(0, 2));
    values.put("threshold", new Floats(0.5, 3));
    Path file = Torch.write(folder.resolve("x.pt"), Map.of("model", values, "activation", "jumprelu"));
    SaeReader.read(file).close();
    values.put("threshold", new Floats(-0.5, 3));
    Torch.write(file, Map.of("model", values, "activation", "jumprelu"));
    refused(() -> SaeReader.read(file), "\"model.threshold\": is below 0 at [0]");
  }

  @Test
  void aConfigurationElsewhereOrOfTwoMindsIsRefused() throws IOException {
    Path file = Torch.write(folder.resolve("x.pt"), Map.of("state_dict", linear(), "lm", Map.of("k", 2L)));
    refused(() -> SaeReader.read(file), "lm.k is \"2\", and whether that is said of the SAE is unknown", "--format generic");
    Torch.write(file, Map.of("state_dict", linear(), "k", 2L, "config", Map.of("top_k", 3L)));
    refused(() -> SaeReader.read(file), "again");
  }

  /** A tensor beside a wrapped state dict may be part of the equations. */
  @Test
  void noTensorIsPassedOverButAnOptimizers() throws IOException {
    Path file = Torch.write(folder.resolve("x.pt"), Map.of("model", linear(), "gain", new Floats(2, 3), "k", 2L));
    failed(() -> SaeReader.read(file), "no SAE found");
    refused(() -> SaeReader.read(file, new SaeReader.Options("deepseek-r1")), "does not know: \"gain\"");
  }

  private static Path hookZ() throws IOException {
    try (Stream<Path> files = Files.list(Fixtures.path("saes/hook-z"))) {
      return files.filter(file -> file.toString().endsWith(".pt")).findFirst().orElseThrow();
    }
  }

  @Test
  void passesOverTheStateOfATraining() throws IOException {
    for (String name : List.of("ae.pt", "config.json")) {
      Files.copy(Fixtures.path("saes/dl-relu/" + name), folder.resolve(name));
    }
    Torch.write(folder.resolve("trainer_state.pt"), Map.of("step", 5L, "optimizer", Map.of("exp_avg", new Floats(1, 3))));
    SaeReader.read(folder).close();
    Files.write(folder.resolve("ae.pt"), new byte[100]);
    Files.delete(folder.resolve("trainer_state.pt"));
    refused(() -> SaeReader.read(folder), "ae.pt"); // not that there was nothing
  }

  @Test
  void passesOverFilesThatAreNoSae() throws IOException {
    Files.copy(Fixtures.path("saes/openai-relu/4.pt"), folder.resolve("4.pt"));
    Files.copy(Fixtures.path("vectors/command.pt"), folder.resolve("command.pt"));
    Files.copy(Fixtures.path("vectors/f32.pt"), folder.resolve("vector.pt"));
    Files.writeString(folder.resolve("config.json"), "not JSON");
    SaeReader.read(folder).close();
    failed(() -> SaeReader.read(folder.resolve("vector.pt")), "no SAE found", "(openai)");
    refused(() -> SaeReader.read(folder.resolve("command.pt")), "refuses");
  }

  // ---- hostile files: a valid one with one thing changed

  /** A tensor of zeros but for its first value. */
  private record Floats(double first, int... shape) {}

  /** A tensor of int64. */
  private record Longs(long... values) {}

  private static Map<String, Object> linear() {
    Map<String, Object> values = new LinkedHashMap<>();
    values.put("encoder.weight", new Floats(1, 3, 2));
    values.put("encoder.bias", new Floats(1, 3));
    values.put("decoder.weight", new Floats(1, 2, 3));
    values.put("decoder.bias", new Floats(1, 2));
    return values;
  }

  private static Map<String, Object> openAi() {
    Map<String, Object> values = new LinkedHashMap<>();
    values.put("pre_bias", new Floats(1, 2));
    values.put("latent_bias", new Floats(1, 3));
    values.put("encoder.weight", new Floats(1, 3, 2));
    values.put("decoder.weight", new Floats(1, 2, 3));
    values.put("activation", "TopK");
    values.put("activation_state_dict", Map.of("k", 2L, "postact_fn", "ReLU"));
    return values;
  }

  private static Map<String, Object> matryoshka() {
    Map<String, Object> values = new LinkedHashMap<>();
    values.put("W_enc", new Floats(1, 2, 3));
    values.put("W_dec", new Floats(1, 3, 2));
    values.put("b_enc", new Floats(1, 3));
    values.put("b_dec", new Floats(1, 2));
    values.put("threshold", new Floats(1));
    values.put("k", new Longs(2));
    values.put("group_sizes", new Longs(1, 2));
    return values;
  }

  private void refusedWith(String format, Map<String, Object> values, String name, Object value, String... fragments)
      throws IOException {
    values.put(name, value);
    values.values().removeIf(v -> v == null);
    Path file = Torch.write(folder.resolve("x.pt"), values);
    refused(() -> SaeReader.read(file, new SaeReader.Options(format)), fragments);
  }

  @Test
  void theBasesOfTheseTestsLoad() throws IOException {
    for (Map<String, Object> values : List.of(openAi(), matryoshka())) {
      SaeReader.read(Torch.write(folder.resolve("x.pt"), values)).close();
    }
    SaeReader.read(Torch.write(folder.resolve("x.pt"), linear()), new SaeReader.Options("deepseek-r1")).close();
  }

  @Test
  void refusesMissingAndUnknownTensors() throws IOException {
    for (String name : linear().keySet()) {
      refusedWith("deepseek-r1", linear(), name, null, "no tensor \"" + name + "\"");
      refusedWith("goodfire", linear(), name, null, "tensors that architecture \"standard\" does not know");
    }
    for (String name : List.of("pre_bias", "latent_bias", "encoder.weight", "decoder.weight")) {
      refusedWith("openai", openAi(), name, null, "no tensor \"" + name + "\"");
    }
    for (String name : List.of("W_enc", "threshold", "group_sizes")) {
      refusedWith("dictionary-learning", matryoshka(), name, null, "dict_class"); // no longer known by its tensors
    }
    refusedWith("openai", openAi(), "decoder.linear.weight", new Floats(1, 3, 2), "decoder.linear.weight");
    refusedWith("qwen-scope", matryoshka(), "x", null, "does not know", "threshold");
  }

  @Test
  void refusesWrongShapesAndValues() throws IOException {
    refusedWith("deepseek-r1", linear(), "encoder.weight", new Floats(1, 3, 4), "[3, 4]");
    refusedWith("deepseek-r1", linear(), "decoder.weight", new Floats(1, 6), "[6]");
    refusedWith("deepseek-r1", linear(), "encoder.bias", new Floats(1, 1, 3), "one dimension");
    refusedWith("deepseek-r1", linear(), "encoder.bias", new Longs(1, 2, 3), "int64");
    refusedWith("deepseek-r1", linear(), "encoder.weight", new Floats(Double.NaN, 3, 2), "NaN at [0, 0]");
    refusedWith("deepseek-r1", linear(), "decoder.bias", new Floats(Double.POSITIVE_INFINITY, 2), "Infinity at [0]");
    refusedWith("dictionary-learning", matryoshka(), "threshold", new Floats(Double.NaN), "NaN");
    refusedWith("dictionary-learning", matryoshka(), "threshold", new Floats(1, 3), "a single number");
    refusedWith("dictionary-learning", matryoshka(), "threshold", new Longs(1), "int64");
  }

  @Test
  void refusesGroupsThatAreNotTheFeatures() throws IOException {
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Longs(1, 1), "have 2 features, expected 3");
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Longs(1, 3), "a group of 3 after 1");
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Longs(3, 0), "a group of 0");
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Longs(Long.MAX_VALUE, Long.MAX_VALUE, 5), "a group of");
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Longs(1, 1, 1, 1), "at most d_sae groups");
    refusedWith("dictionary-learning", matryoshka(), "group_sizes", new Floats(3, 1), "expected int32 or int64");
  }

  @Test
  void refusesActivationsByName() throws IOException {
    refusedWith("openai", openAi(), "activation", "Sigmoid", "activation is \"Sigmoid\"");
    refusedWith("openai", openAi(), "activation", 3L, "activation is 3,");
    refusedWith("openai", openAi(), "activation", Map.of("a", 1L), "activation is a dict");
    refusedWith("openai", openAi(), "activation_state_dict", null, "activation_state_dict.k is None");
    refusedWith("openai", openAi(), "activation_state_dict", Map.of("k", "2", "postact_fn", "ReLU"), "k is \"2\"");
    refusedWith("openai", openAi(), "activation_state_dict", Map.of("k", 2L, "postact_fn", "Tanh"), "postact_fn is \"Tanh\"");
    refusedWith("openai", openAi(), "activation_state_dict", Map.of("k", 4L, "postact_fn", "ReLU"), "k must be 1 to 3, got 4");
    refusedWith("openai", openAi(), "activation_state_dict", Map.of("k", -1L, "postact_fn", "ReLU"), "k must be a whole number from 1, got \"-1\"");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"dict_class\": \"CrossCoder\"                        | trainer.dict_class is \"CrossCoder\", which is not supported",
        "\"dict_class\": \"IdentityDict\"                      | BatchTopKSAE",
        "\"dict_class\": \"GatedAutoEncoder\"                  | architecture \"gated\" does not know",
        "\"dict_class\": 1                                     | must be a string",
        "\"k\": 5                                              | trainer.k is 5, but the tensor k is 4",
        "\"dict_class\": null                                  | may be AutoEncoderTopK or BatchTopKSAE",
        "\"activation_dim\": 6                                 | trainer.activation_dim is 6, but b_dec has shape [7]",
        "\"dict_size\": 12                                     | trainer.dict_size is 12, but encoder.bias has shape [13]",
      })
  void refusesConfigurationsOfDictionaryLearning(String member, String message) throws IOException {
    JsonObject config = parse(Fixtures.path("saes/dl-topk/config.json"));
    JsonParser.parseString("{" + member + "}").getAsJsonObject().asMap().forEach(config.getAsJsonObject("trainer")::add);
    Files.copy(Fixtures.path("saes/dl-topk/ae.pt"), folder.resolve("ae.pt"));
    Files.writeString(folder.resolve("config.json"), new Gson().newBuilder().serializeNulls().create().toJson(config));
    refused(() -> SaeReader.read(folder), message);
  }

  @Test
  void kMustBeSomewhereAndNotAboveTheFeatures() throws IOException {
    Path ae = Files.copy(Fixtures.path("saes/dl-topk-old/ae.pt"), folder.resolve("ae.pt"));
    Files.writeString(folder.resolve("config.json"), "{\"trainer\": {\"dict_class\": \"AutoEncoderTopK\"}}");
    refused(() -> SaeReader.read(ae), "there is no k", "--k");
    SaeReader.read(ae, new SaeReader.Options(null, null, 3L, null)).close();
    refused(() -> SaeReader.read(ae, new SaeReader.Options(null, null, 14L, null)), "k must be 1 to 13, got 14");
  }

  @Test
  void refusesGemmaNamesThatDifferInCaseOnly() throws IOException {
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    for (String name : List.of("W_enc", "w_enc")) {
      arrays.put(name, Fixtures.npy("<f4", "(1, 1)", Fixtures.floatBytes(1)));
    }
    Path file = Files.write(folder.resolve("params.npz"), Fixtures.npz(false, arrays));
    refused(() -> SaeReader.read(file), "two tensors of this name");
  }

  /** Writes what torch.save would. */
  private static final class Torch {
    private final ByteArrayOutputStream pickle = new ByteArrayOutputStream();
    private final Map<String, byte[]> entries = new LinkedHashMap<>();

    static Path write(Path path, Object values) throws IOException {
      Torch torch = new Torch();
      torch.pickle.writeBytes(new byte[] {(byte) 0x80, 2});
      torch.value(values);
      torch.pickle.write('.');
      torch.entries.put("x/data.pkl", torch.pickle.toByteArray());
      try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(path))) {
        for (Map.Entry<String, byte[]> entry : torch.entries.entrySet()) {
          zip.putNextEntry(new ZipEntry(entry.getKey()));
          zip.write(entry.getValue());
        }
      }
      return path;
    }

    private void value(Object value) {
      if (value instanceof Map<?, ?> map) {
        ascii("}(");
        map.forEach((key, member) -> {
          value(key);
          value(member);
        });
        ascii("u");
      } else if (value instanceof List<?> list) {
        ascii("](");
        list.forEach(this::value);
        ascii("e");
      } else if (value instanceof String text) {
        ascii("X");
        int32(text.length());
        ascii(text);
      } else if (value instanceof Boolean flag) {
        pickle.write(flag ? 0x88 : 0x89);
      } else if (value instanceof Long number) {
        ascii("J");
        int32(number.intValue());
      } else if (value instanceof Longs longs) {
        tensor("LongStorage", Fixtures.longBytes(longs.values), longs.values.length, longs.values.length);
      } else if (value instanceof Floats floats) {
        float[] numbers = new float[Arrays.stream(floats.shape).reduce(1, (a, b) -> a * b)];
        numbers[0] = (float) floats.first;
        tensor("FloatStorage", Fixtures.floatBytes(numbers), numbers.length, floats.shape);
      }
    }

    private void tensor(String storage, byte[] data, int count, int... shape) {
      String key = String.valueOf(entries.size());
      entries.put("x/data/" + key, data);
      ascii("ctorch._utils\n_rebuild_tensor_v2\n((");
      value("storage");
      ascii("ctorch\n" + storage + "\n");
      value(key);
      value("cpu");
      value((long) count);
      ascii("tQ");
      value(0L);
      tuple(shape);
      int[] strides = new int[shape.length];
      for (int i = shape.length - 1, stride = 1; i >= 0; stride *= shape[i--]) {
        strides[i] = stride;
      }
      tuple(strides);
      ascii("tR");
    }

    private void tuple(int... values) {
      ascii("(");
      for (int value : values) {
        value((long) value);
      }
      ascii("t");
    }

    private void ascii(String text) {
      pickle.writeBytes(text.getBytes(StandardCharsets.US_ASCII));
    }

    private void int32(int value) {
      pickle.writeBytes(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(value).array());
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

    /** a p + c of all features, whether active or not. */
    double[] values(double[] x) {
      double[] values = new double[dSae];
      for (int j = 0; j < dSae; j++) {
        for (int i = 0; i < dIn; i++) {
          values[j] += scale[j] * x[i] * wEnc[j * dIn + i];
        }
        values[j] += offset[j];
      }
      return values;
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

package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.Device;
import dev.sae4j.Projection;
import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.internal.Sums;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.SaeReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The demo's SAE against figures that NumPy made of it in float64 (oracle_bf16.json). */
class OracleTest {
  private static final double TOLERANCE = 2e-5;

  @TempDir private Path folder;

  private static JsonObject oracle;
  private static Path demo;
  private static SaeWeights weights;
  private static SparseAutoencoder sae;

  @BeforeAll
  static void open() throws IOException {
    try (InputStreamReader json =
        new InputStreamReader(OracleTest.class.getResourceAsStream("oracle_bf16.json"), StandardCharsets.UTF_8)) {
      oracle = JsonParser.parseReader(json).getAsJsonObject();
    }
    demo = Demo.unpack();
    weights = SaeReader.read(demo);
    sae = SparseAutoencoder.open(weights, Device.cpu());
  }

  @AfterAll
  static void close() {
    sae.close();
    weights.close();
  }

  private static float[] vector(String name) {
    return ActivationReader.readVector(demo.resolve("steering_vectors.safetensors") + "#" + name, 384);
  }

  private static JsonObject steering(String name) {
    return oracle.getAsJsonObject("steering").getAsJsonObject(name);
  }

  /** Feature to value of one row, the 20 strongest. */
  private static Map<Integer, Double> strongest(SparseCodes codes) {
    Map<Integer, Double> all = new TreeMap<>();
    for (long i = 0; i < codes.nnz(); i++) {
      all.put(codes.indices().get(i), (double) codes.values().get(i));
    }
    List<Double> sizes = all.values().stream().map(Math::abs).sorted().toList();
    double least = sizes.isEmpty() ? 0 : sizes.get(Math.max(0, sizes.size() - 20));
    all.values().removeIf(value -> Math.abs(value) < least);
    return all;
  }

  private static void assertPairs(JsonArray expected, Map<Integer, Double> got) {
    assertEquals(expected.size(), got.size());
    for (JsonElement pair : expected) {
      int feature = pair.getAsJsonArray().get(0).getAsInt();
      assertTrue(got.containsKey(feature), "feature " + feature);
      assertEquals(pair.getAsJsonArray().get(1).getAsDouble(), got.get(feature), TOLERANCE);
    }
  }

  @Test
  void zeroVector() {
    JsonObject zero = oracle.getAsJsonObject("sae").getAsJsonObject("jumprelu_bf16").getAsJsonObject("f(0)");
    try (SparseCodes codes = sae.encode(new float[384])) {
      assertEquals(zero.get("L0").getAsLong(), codes.nnz());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"sentiment", "formality", "question", "past_future", "science_sport"})
  void plainEncodeOfSteeringVectors(String name) {
    float[] v = vector(name);
    JsonObject expected = steering(name);
    assertEquals(expected.get("norm").getAsDouble(), Sums.norm(v), TOLERANCE);
    JsonObject plain = expected.getAsJsonObject("encode");
    try (SparseCodes codes = sae.encode(v)) {
      assertEquals(plain.get("L0").getAsLong(), codes.nnz());
      assertPairs(plain.getAsJsonArray("top20"), strongest(codes));
      double cosine = Sums.cosine(v, sae.decodeDirection(codes));
      assertEquals(plain.get("cos_v_decode_without_b_dec").getAsDouble(), codes.nnz() == 0 ? 0 : cosine, TOLERANCE);
      assertEquals(plain.get("cos_v_decode_with_b_dec").getAsDouble(), Sums.cosine(v, sae.decode(codes)), TOLERANCE);
    }
    try (SparseCodes codes = sae.encode(Sums.scaled(v, -1))) {
      assertPairs(plain.getAsJsonArray("encode(-v)_top20"), strongest(codes));
    }
    JsonObject scaled = expected.getAsJsonObject("encode_scaled_to_mean_norm");
    float[] toMean = Sums.scaled(v, scaled.get("factor").getAsDouble());
    try (SparseCodes codes = sae.encode(toMean)) {
      assertEquals(scaled.get("L0").getAsLong(), codes.nnz());
      assertPairs(scaled.getAsJsonArray("top20"), strongest(codes));
      assertEquals(
          scaled.get("cos_v_decode_without_b_dec").getAsDouble(), Sums.cosine(v, sae.decodeDirection(codes)), TOLERANCE);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"sentiment", "formality", "question", "past_future", "science_sport"})
  void signedProjectionOfSteeringVectors(String name) {
    float[] v = vector(name);
    JsonObject expected = steering(name).getAsJsonObject("signed_projection");
    try (SparseCodes codes = sae.project(v, Projection.top(20))) {
      Map<Integer, Double> top = strongest(codes);
      assertPairs(expected.getAsJsonArray("top20"), top);
      double all = top.values().stream().mapToDouble(c -> c * c).sum();
      double negative = top.values().stream().filter(c -> c < 0).mapToDouble(c -> c * c).sum();
      assertEquals(expected.get("negative_energy_share_top20").getAsDouble(), negative / all, TOLERANCE);
      long negatives = top.values().stream().filter(c -> c < 0).count();
      assertEquals(expected.get("top20_negative").getAsLong(), negatives);
      assertEquals(expected.get("negative_share_top20").getAsDouble(), negatives / 20.0, 1e-12);
    }
    double all = 0;
    double negative = 0;
    for (float coefficient : sae.projectDense(v, Projection.Readout.DECODER, false)) {
      all += (double) coefficient * coefficient;
      negative += coefficient < 0 ? (double) coefficient * coefficient : 0;
    }
    assertEquals(expected.get("negative_energy_share_all").getAsDouble(), negative / all, TOLERANCE);
  }

  @Test
  void firstTokens() {
    Path sample = Path.of(System.getProperty("sae4j.root")).resolve("../shared/demo/activations_sample.npy");
    assumeTrue(Files.exists(sample), "the float32 sample is not here; the bundled one is rounded to float16");
    JsonArray tokens = oracle.getAsJsonObject("sae").getAsJsonObject("jumprelu_bf16").getAsJsonArray("first_8_tokens");
    assertFalse(tokens.isEmpty());
    for (int row = 0; row < tokens.size(); row++) {
      JsonObject token = tokens.get(row).getAsJsonObject();
      float[] x = ActivationReader.readVector(sample + "#[" + row + "]", 384);
      try (SparseCodes codes = sae.encode(x)) {
        JsonArray indices = token.getAsJsonArray("indices");
        assertEquals(indices.size(), codes.nnz());
        for (int i = 0; i < indices.size(); i++) {
          assertEquals(indices.get(i).getAsInt(), codes.indices().get(i));
          assertEquals(token.getAsJsonArray("values").get(i).getAsDouble(), codes.values().get(i), TOLERANCE);
        }
        float[] xHat = sae.decode(codes);
        double error = 0;
        for (int i = 0; i < x.length; i++) {
          error += ((double) x[i] - xHat[i]) * ((double) x[i] - xHat[i]);
        }
        assertEquals(token.get("squared_error").getAsDouble(), error, 20 * TOLERANCE);
        for (int i = 0; i < 4; i++) {
          assertEquals(token.getAsJsonArray("x_hat_first4").get(i).getAsDouble(), xHat[i], TOLERANCE);
        }
      }
    }
  }

  @Test
  void wholeSample() throws IOException {
    Path sample = Path.of(System.getProperty("sae4j.root")).resolve("../shared/demo/activations_sample.npy");
    assumeTrue(Files.exists(sample), "the float32 sample is not here");
    JsonObject expected = oracle.getAsJsonObject("sae").getAsJsonObject("jumprelu_bf16");
    Encode.Result encoded = Encode.run(sae, sample.toString(), demo.resolve("sample.npz"), true);
    double atTheEdge = expected.get("entries_with_margin_below_1e-5").getAsDouble();
    assertEquals(expected.get("L0_mean").getAsDouble(), encoded.meanL0(), atTheEdge / encoded.n());
    assertEquals(1 - expected.get("FVU").getAsDouble(), encoded.explainedVariance(), TOLERANCE);
  }

  @Test
  void demo() {
    JsonObject demo = Run.json("demo", "--report", folder.resolve("r.html"));
    for (String field : List.of("encode", "decode", "project", "diagnose", "vectors")) {
      assertTrue(demo.has(field), field);
    }
    assertEquals(512, demo.getAsJsonObject("encode").get("n").getAsInt());
    assertEquals(512, demo.getAsJsonObject("decode").get("n").getAsInt());
    assertTrue(demo.getAsJsonObject("encode").get("explained_variance").getAsDouble() > 0.8);
    String shown = demo.get("vector").getAsString();
    Map<Integer, Double> features = new TreeMap<>();
    for (JsonElement feature : demo.getAsJsonObject("project").getAsJsonArray("features")) {
      JsonObject f = feature.getAsJsonObject();
      features.put(f.get("index").getAsInt(), f.get("coefficient").getAsDouble());
    }
    assertPairs(steering(shown).getAsJsonObject("signed_projection").getAsJsonArray("top20"), features);
    assertEquals(5, demo.getAsJsonArray("vectors").size());
    for (JsonElement vector : demo.getAsJsonArray("vectors")) {
      JsonObject v = vector.getAsJsonObject();
      JsonObject expected = steering(v.get("name").getAsString());
      JsonObject projection = expected.getAsJsonObject("signed_projection");
      assertEquals(expected.getAsJsonObject("encode").get("L0").getAsInt(), v.get("l0").getAsInt());
      assertEquals(projection.get("top20_negative").getAsInt(), v.get("negatives").getAsInt());
      assertEquals(projection.get("top20_negative_with_encode_zero").getAsInt(), v.get("lost_negatives").getAsInt());
      assertEquals(projection.get("top20_positive_with_encode_zero").getAsInt(), v.get("lost_positives").getAsInt());
    }
  }

  @Test
  void demoForPeople() {
    Run run = Run.of("demo", "--device", "cpu", "--report", folder.resolve("r.html"));
    assertEquals("", run.err());
    assertEquals(0, run.exitCode());
    assertTrue(run.out().contains("16 of 20"), run.out());
    assertTrue(run.out().contains("science_sport"), run.out());
    assertTrue(run.out().contains("Signs matter"), run.out());
    assertTrue(Files.exists(folder.resolve("r.html")));
  }

  /** Every figure of a diagnosis that the oracle has under the same definition. */
  @Test
  void diagnosis() {
    for (String name : oracle.getAsJsonObject("steering").keySet()) {
      JsonObject expected = steering(name);
      JsonObject d =
          Run.json(
              "diagnose", "--sae", demo, "--vector", demo.resolve("steering_vectors.safetensors") + "#" + name, "--atoms", 16);
      assertEquals(expected.get("norm").getAsDouble(), d.get("vector_norm").getAsDouble(), TOLERANCE);
      JsonObject plain = expected.getAsJsonObject("encode");
      assertEquals(plain.get("L0").getAsInt(), d.getAsJsonArray("plain_encode").size());
      JsonElement jaccard = plain.get("jaccard_top20_with_zero_vector");
      assertEquals(jaccard.isJsonNull(), d.get("bias_jaccard").isJsonNull());
      if (!d.get("reconstruction_cosine").isJsonNull()) {
        assertClose(plain, "cos_v_decode_without_b_dec", d, "reconstruction_cosine");
      }
      assertClose(plain, "cos_v_decode_with_b_dec", d, "reconstruction_cosine_with_b_dec");
      assertClose(expected.getAsJsonObject("signed_projection"), "negative_energy_share_all", d, "lost_negative_energy");
      assertDecomposition(expected.getAsJsonObject("omp16_signed"), d.getAsJsonObject("decomposition"));
      assertDecomposition(expected.getAsJsonObject("omp16_nonnegative_nnls"), d.getAsJsonObject("decomposition_non_negative"));
      assertEquals(0, d.getAsJsonArray("spurious_antipodal").size(), "no decoder pair of these codes is that antipodal");
    }
  }

  /** The oracle's means weigh each sentence alike, those of a diagnosis each row. */
  @ParameterizedTest
  @ValueSource(strings = {"sentiment", "formality", "question", "past_future", "science_sport"})
  void differenceOfEncodings(String name) {
    Path pairs = Path.of(System.getProperty("sae4j.root")).resolve("../shared/demo/pairs_" + name + ".safetensors");
    assumeTrue(Files.exists(pairs), "the pairs' activations are not here");
    double[] perRow = new double[4096];
    double[] perSentence = new double[4096];
    for (String side : List.of("positive", "negative")) {
      int[] sentences = offsets(pairs, side);
      int rows = sentences[sentences.length - 1];
      int sign = side.equals("positive") ? 1 : -1;
      for (int s = 0; s + 1 < sentences.length; s++) {
        for (int row = sentences[s]; row < sentences[s + 1]; row++) {
          String x = pairs + "#" + side + "_token_activations[" + row + "]";
          try (SparseCodes codes = sae.encode(ActivationReader.readVector(x, 384))) {
            for (long i = 0; i < codes.nnz(); i++) {
              int j = codes.indices().get(i);
              perRow[j] += sign * (double) codes.values().get(i) / rows;
              perSentence[j] +=
                  sign * (double) codes.values().get(i) / (sentences[s + 1] - sentences[s]) / (sentences.length - 1);
            }
          }
        }
      }
    }
    JsonArray top = steering(name).getAsJsonObject("difference_of_encodings").getAsJsonArray("top20_by_abs");
    for (JsonElement pair : top) {
      int feature = pair.getAsJsonArray().get(0).getAsInt();
      assertEquals(pair.getAsJsonArray().get(1).getAsDouble(), perSentence[feature], TOLERANCE);
    }
    JsonArray difference =
        Run.json(
                "diagnose", "--sae", demo, "--vector", demo.resolve("steering_vectors.safetensors") + "#" + name,
                "--positive", pairs + "#positive_token_activations", "--negative", pairs + "#negative_token_activations")
            .getAsJsonArray("difference_of_encodings");
    assertEquals(20, difference.size());
    for (JsonElement element : difference) {
      JsonObject feature = element.getAsJsonObject();
      assertEquals(perRow[feature.get("index").getAsInt()], feature.get("difference").getAsDouble(), TOLERANCE);
    }
  }

  /** Rows at which sentences begin, and the end; int32, which is no activation. */
  private static int[] offsets(Path pairs, String side) {
    try {
      ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(pairs)).order(ByteOrder.LITTLE_ENDIAN);
      int header = Math.toIntExact(file.getLong());
      JsonObject tensors = JsonParser.parseString(new String(file.array(), 8, header, StandardCharsets.UTF_8)).getAsJsonObject();
      JsonArray span = tensors.getAsJsonObject(side + "_token_offsets").getAsJsonArray("data_offsets");
      int begin = span.get(0).getAsInt();
      int[] offsets = new int[(span.get(1).getAsInt() - begin) / Integer.BYTES];
      file.position(8 + header + begin).slice().order(ByteOrder.LITTLE_ENDIAN).asIntBuffer().get(offsets);
      return offsets;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static void assertDecomposition(JsonObject expected, JsonObject got) {
    assertEquals(expected.get("n").getAsInt(), got.get("atoms").getAsInt());
    assertClose(expected, "cos", got, "cosine");
    assertClose(expected, "explained_variance", got, "explained_variance");
    // The oracle leaves out the rows' norms, which bfloat16 keeps near 1 but not at 1.
    double all = 0;
    double negative = 0;
    for (JsonElement feature : got.getAsJsonArray("features")) {
      double coefficient = feature.getAsJsonObject().get("coefficient").getAsDouble();
      all += coefficient * coefficient;
      negative += coefficient < 0 ? coefficient * coefficient : 0;
    }
    assertEquals(expected.get("negative_energy_share").getAsDouble(), negative / all, TOLERANCE);
    assertEquals(negative / all, got.get("negative_energy").getAsDouble(), 1e-3);
    // The oracle takes products for cosines; bfloat16 rows are not quite of unit length.
    assertEquals(
        expected.get("max_abs_coherence_in_support").getAsDouble(), got.get("worst_coherence").getAsDouble(), 1e-3);
    double share = expected.get("negative_coefficients").getAsDouble() / expected.get("n").getAsDouble();
    assertEquals(share, got.get("negative_share").getAsDouble(), 1e-12);
    for (int k = 0; k < expected.get("n").getAsInt(); k++) {
      JsonObject feature = got.getAsJsonArray("features").get(k).getAsJsonObject();
      assertEquals(expected.getAsJsonArray("support").get(k).getAsInt(), feature.get("index").getAsInt());
    }
  }

  private static void assertClose(JsonObject expected, String expectedField, JsonObject got, String field) {
    assertEquals(expected.get(expectedField).getAsDouble(), got.get(field).getAsDouble(), TOLERANCE, field);
  }
}

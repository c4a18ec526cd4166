package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sae4j.io.ActivationReader;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Trained SAEs on real activations against figures that an independent program computed in float64. */
class OracleTest {
  private static final Path DATA = Path.of(System.getProperty("sae4j.root", ".."), "..", "shared", "demo");
  private static final int D = 384;
  private static final double TOLERANCE = 1e-5;

  @BeforeEach
  void needsTheData() {
    Assumptions.assumeTrue(Files.exists(DATA.resolve("oracle.json")), "the oracle's data is not here");
  }

  private static JsonObject oracle(String file) throws IOException {
    return JsonParser.parseString(Files.readString(DATA.resolve(file))).getAsJsonObject();
  }

  private static float[] sample() {
    try (ActivationReader reader = ActivationReader.open(DATA.resolve("activations_sample.npy").toString(), D)) {
      float[] x = new float[(int) reader.rows() * D];
      reader.read(FloatBuffer.wrap(x));
      return x;
    }
  }

  @ParameterizedTest
  @CsvSource({
    "minilm-l3-jumprelu-4096, jumprelu_f32",
    "gemma-scope-form/layer_3/width_4k/average_l0_30, jumprelu_f32",
    "minilm-l3-jumprelu-4096-bf16, jumprelu_bf16",
    "minilm-l3-relu-2048, relu_f32",
    "minilm-l3-topk-2048, topk_f16"
  })
  void activationsOfTheSample(String folder, String name) throws IOException {
    JsonObject expected = oracle("oracle.json").getAsJsonObject("sae").getAsJsonObject(name);
    float[] x = sample();
    int n = x.length / D;
    if (Devices.isEmulated()) { // has no time for all
      float[] first = Arrays.copyOf(x, 8 * D);
      try (SparseAutoencoder sae = SparseAutoencoder.open(DATA.resolve(folder), Device.cuda(0));
          SparseCodes codes = sae.encode(first)) {
        assertTokens(expected, Csr.of(codes), first, sae.decode(codes));
      }
    }
    for (Device device : devices()) {
      try (SparseAutoencoder sae = SparseAutoencoder.open(DATA.resolve(folder), device);
          SparseCodes codes = sae.encode(x);
          SparseCodes zero = sae.encode(new float[D])) {
        Csr csr = Csr.of(codes);
        int[] l0 = IntStream.range(0, n).map(row -> (int) (csr.rowOffsets()[row + 1] - csr.rowOffsets()[row])).toArray();
        assertEquals(expected.get("L0_mean").getAsDouble(), codes.nnz() / (double) n, 1e-12);
        assertEquals(expected.get("L0_min").getAsInt(), Arrays.stream(l0).min().orElseThrow());
        assertEquals(expected.get("L0_max").getAsInt(), Arrays.stream(l0).max().orElseThrow());
        assertEquals(expected.get("features_active_on_sample").getAsLong(), Arrays.stream(csr.indices()).distinct().count());
        double sum = 0;
        for (float value : csr.values()) {
          sum += value;
        }
        assertRelative(expected.get("sum_of_activations").getAsDouble(), sum);
        float[] xHat = sae.decode(codes);
        assertRelative(expected.get("FVU").getAsDouble(), fvu(x, xHat));
        assertTokens(expected, csr, x, xHat);
        assertTop(expected.getAsJsonObject("f(0)").getAsJsonArray("top10"), Csr.of(zero));
        assertEquals(expected.getAsJsonObject("f(0)").get("L0").getAsLong(), zero.nnz());
      }
    }
  }

  /** Those that take no minutes over thousands of rows. */
  private static List<Device> devices() {
    return Devices.all().stream().filter(d -> d.kernel() == null && (d.isCpu() || !Devices.isEmulated())).toList();
  }

  private static void assertTokens(JsonObject expected, Csr csr, float[] x, float[] xHat) {
    JsonArray first = expected.getAsJsonArray("first_8_tokens");
    for (int row = 0; row < first.size(); row++) {
      assertToken(first.get(row).getAsJsonObject(), row, csr, x, xHat);
    }
  }

  private static void assertToken(JsonObject expected, int row, Csr csr, float[] x, float[] xHat) {
    int begin = (int) csr.rowOffsets()[row];
    int end = (int) csr.rowOffsets()[row + 1];
    int[] indices = expected.getAsJsonArray("indices").asList().stream().mapToInt(JsonElement::getAsInt).toArray();
    assertArrayEquals(indices, Arrays.copyOfRange(csr.indices(), begin, end));
    for (int k = begin; k < end; k++) {
      assertEquals(expected.getAsJsonArray("values").get(k - begin).getAsDouble(), csr.values()[k], TOLERANCE);
    }
    for (int i = 0; i < 4; i++) {
      assertEquals(expected.getAsJsonArray("x_hat_first4").get(i).getAsDouble(), xHat[row * D + i], TOLERANCE);
    }
    double squaredError = 0;
    for (int i = row * D; i < (row + 1) * D; i++) {
      squaredError += Math.pow((double) x[i] - xHat[i], 2);
    }
    assertRelative(expected.get("squared_error").getAsDouble(), squaredError);
  }

  @ParameterizedTest
  @CsvSource({"minilm-l3-jumprelu-4096, oracle.json", "minilm-l3-jumprelu-4096-bf16, oracle_bf16.json"})
  void steeringVectors(String folder, String oracleFile) throws IOException {
    JsonObject steering = oracle(oracleFile).getAsJsonObject("steering");
    assertEquals(5, steering.size());
    for (Device device : Devices.fast()) {
      try (SparseAutoencoder sae = SparseAutoencoder.open(DATA.resolve(folder), device)) {
        for (String name : steering.keySet()) {
          assertVector(sae, name, steering.getAsJsonObject(name));
        }
      }
    }
  }

  private static void assertVector(SparseAutoencoder sae, String name, JsonObject expected) {
    float[] v = ActivationReader.readVector(DATA.resolve("steering_vectors.safetensors") + "#" + name, D);
    assertRelative(expected.get("norm").getAsDouble(), Math.sqrt(ReferenceSae.dot(v, 0, v, 0, D)));

    JsonObject plain = expected.getAsJsonObject("encode");
    float[] vHat;
    Csr encoded;
    try (SparseCodes codes = sae.encode(v);
        SparseCodes ofNegative = sae.encode(scaled(v, -1))) {
      encoded = Csr.of(codes);
      vHat = sae.decodeDirection(codes);
      assertEquals(plain.get("L0").getAsLong(), codes.nnz(), name);
      assertTop(plain.getAsJsonArray("top20"), encoded);
      assertTop(plain.getAsJsonArray("encode(-v)_top20"), Csr.of(ofNegative));
      assertEquals(plain.get("cos_v_decode_without_b_dec").getAsDouble(), cosine(v, vHat), TOLERANCE);
      assertEquals(plain.get("cos_v_decode_with_b_dec").getAsDouble(), cosine(v, sae.decode(codes)), TOLERANCE);
    }
    JsonObject scaled = expected.getAsJsonObject("encode_scaled_to_mean_norm");
    try (SparseCodes codes = sae.encode(scaled(v, scaled.get("factor").getAsDouble()))) {
      assertEquals(scaled.get("L0").getAsLong(), codes.nnz(), name);
      assertTop(scaled.getAsJsonArray("top20"), Csr.of(codes));
      assertEquals(scaled.get("cos_v_decode_without_b_dec").getAsDouble(), cosine(v, sae.decodeDirection(codes)), TOLERANCE);
    }

    JsonObject projection = expected.getAsJsonObject("signed_projection");
    try (SparseCodes codes = sae.project(v, Projection.top(20))) {
      Csr top = Csr.of(codes);
      assertEquals(20, codes.nnz());
      assertTop(projection.getAsJsonArray("top20"), top);
      long negative = IntStream.range(0, 20).filter(k -> top.values()[k] < 0).count();
      assertEquals(projection.get("top20_negative").getAsLong(), negative);
      long lost =
          IntStream.range(0, 20)
              .filter(k -> top.values()[k] < 0 && Arrays.binarySearch(encoded.indices(), top.indices()[k]) < 0)
              .count();
      assertEquals(projection.get("top20_negative_with_encode_zero").getAsLong(), lost);
    }
    float[] dense = sae.projectDense(v, Projection.Readout.DECODER, false);
    double all = 0;
    double negative = 0;
    for (float c : dense) {
      all += (double) c * c;
      negative += c < 0 ? (double) c * c : 0;
    }
    assertEquals(projection.get("negative_energy_share_all").getAsDouble(), negative / all, TOLERANCE);
  }

  /** [[feature, value], ...] by descending |value|, as many as the oracle lists. */
  private static void assertTop(JsonArray expected, Csr row) {
    Integer[] order = IntStream.range(0, row.values().length).boxed().toArray(Integer[]::new);
    Arrays.sort(order, (a, b) -> Float.compare(Math.abs(row.values()[b]), Math.abs(row.values()[a])));
    assertTrue(order.length >= expected.size());
    for (int k = 0; k < expected.size(); k++) {
      JsonArray entry = expected.get(k).getAsJsonArray();
      assertEquals(entry.get(0).getAsInt(), row.indices()[order[k]]);
      assertEquals(entry.get(1).getAsDouble(), row.values()[order[k]], TOLERANCE);
    }
  }

  private static void assertRelative(double expected, double got) {
    assertEquals(expected, got, TOLERANCE * Math.abs(expected));
  }

  private static float[] scaled(float[] v, double factor) {
    float[] scaled = new float[v.length];
    for (int i = 0; i < v.length; i++) {
      scaled[i] = (float) (factor * v[i]);
    }
    return scaled;
  }

  private static double cosine(float[] a, float[] b) {
    double norms = Math.sqrt(ReferenceSae.dot(a, 0, a, 0, D) * ReferenceSae.dot(b, 0, b, 0, D));
    return norms == 0 ? 0 : ReferenceSae.dot(a, 0, b, 0, D) / norms;
  }

  private static double fvu(float[] x, float[] xHat) {
    int n = x.length / D;
    double error = 0;
    double variance = 0;
    for (int i = 0; i < D; i++) {
      double mean = 0;
      for (int row = 0; row < n; row++) {
        mean += x[row * D + i] / (double) n;
      }
      for (int row = 0; row < n; row++) {
        error += Math.pow((double) x[row * D + i] - xHat[row * D + i], 2);
        variance += Math.pow(x[row * D + i] - mean, 2);
      }
    }
    return error / variance;
  }

  @ParameterizedTest
  @CsvSource({"minilm-l3-jumprelu-4096, oracle.json", "minilm-l3-jumprelu-4096-bf16, oracle_bf16.json"})
  void decompositions(String folder, String oracleFile) throws IOException {
    JsonObject steering = oracle(oracleFile).getAsJsonObject("steering");
    for (Device device : Devices.fast()) {
      try (SparseAutoencoder sae = SparseAutoencoder.open(DATA.resolve(folder), device)) {
        int vectors = Devices.rows(device, 5, 4096 * D * 2);
        for (String name : steering.keySet().stream().limit(vectors).toList()) {
          JsonObject expected = steering.getAsJsonObject(name);
          float[] v = ActivationReader.readVector(DATA.resolve("steering_vectors.safetensors") + "#" + name, D);
          Pursuit omp = Pursuit.omp(16);
          Pursuit gradient = Pursuit.of(Pursuit.Method.GRADIENT, 16);
          assertDecomposed(sae, v, omp, expected.getAsJsonObject("omp16_signed"));
          assertDecomposed(sae, v, omp.withNonNegative(true), expected.getAsJsonObject("omp16_nonnegative_nnls"));
          assertDecomposed(sae, v, gradient, expected.getAsJsonObject("gradient_pursuit16_signed"));
          assertDecomposed(sae, v, gradient.withNonNegative(true), expected.getAsJsonObject("gradient_pursuit16_clipped"));
        }
      }
    }
  }

  private static void assertDecomposed(SparseAutoencoder sae, float[] v, Pursuit how, JsonObject expected) {
    Map<Integer, Double> coefficients = new TreeMap<>();
    for (int k = 0; k < expected.get("n").getAsInt(); k++) {
      coefficients.put(
          expected.getAsJsonArray("support").get(k).getAsInt(), expected.getAsJsonArray("coefs").get(k).getAsDouble());
    }
    try (SparseCodes codes = sae.pursue(v, how)) {
      Csr csr = Csr.of(codes);
      assertArrayEquals(coefficients.keySet().stream().mapToInt(j -> j).toArray(), csr.indices(), how.toString());
      for (int k = 0; k < csr.indices().length; k++) {
        assertEquals(coefficients.get(csr.indices()[k]), csr.values()[k], 1e-4, how.toString());
      }
    }
  }
}

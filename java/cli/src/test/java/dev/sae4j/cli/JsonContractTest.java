package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.sae4j.SparseCodes;
import dev.sae4j.io.CodesReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What scripts rely on: the fields of each command, exactly, and what they hold. */
class JsonContractTest {
  private static Path demo;
  @TempDir private Path folder;

  @BeforeAll
  static void unpack() throws IOException {
    demo = Demo.unpack();
  }

  private static void assertFields(JsonElement object, String fields) {
    assertEquals(Set.of(fields.split(" ")), object.getAsJsonObject().keySet());
  }

  private static List<Double> numbers(JsonObject object, String... fields) {
    return Arrays.stream(fields).map(field -> object.get(field).getAsDouble()).toList();
  }

  @Test
  void devices() {
    JsonObject devices = Run.json("devices");
    assertFields(devices, "devices version");
    JsonObject cpu = null;
    JsonObject cuda = null;
    for (JsonElement device : devices.getAsJsonArray("devices")) {
      assertFields(device, "name kind available reason detail screens");
      JsonObject entry = device.getAsJsonObject();
      assertEquals(entry.get("available").getAsBoolean(), entry.get("reason").isJsonNull());
      cpu = entry.get("kind").getAsString().equals("cpu") ? entry : cpu;
      cuda = entry.get("name").getAsString().equals("cuda:0") ? entry : cuda;
      entry.getAsJsonArray("screens").forEach(screen -> assertFields(screen, "name default reason"));
    }
    assertTrue(cpu.get("available").getAsBoolean());
    assertEquals("cpu", cpu.get("name").getAsString());
    assertFalse(cpu.getAsJsonArray("screens").isEmpty());
    assertEquals("cuda", cuda.get("kind").getAsString());
    if (Run.HAS_CUDA) {
      assertTrue(cuda.get("available").getAsBoolean(), cuda.toString());
      assertFalse(cuda.get("detail").getAsString().isEmpty());
      assertEquals("canonical", cuda.getAsJsonArray("screens").get(0).getAsJsonObject().get("name").getAsString());
    } else {
      assertTrue(cuda.getAsJsonArray("screens").isEmpty());
    }
  }

  @Test
  void info() {
    JsonObject info = Run.json("info", "--sae", demo);
    assertFields(
        info,
        "format architecture d_in d_out d_sae dtype k model_name hook_name folded decoder_norm far_from_unit_rows "
            + "near_zero_rows enc_dec_cosine dead threshold bytes screen_bytes source published_l0 check notes warnings");
    assertTrue(info.get("check").isJsonNull());
    JsonObject check = Run.json("info", "--sae", demo, "--activations", demo.resolve("activations.npy")).getAsJsonObject("check");
    assertFields(check, "n l0 explained_variance norm_ratio outlier_rows typical");
    assertFields(check.get("typical"), "l0 explained_variance norm_ratio");
    assertEquals(512, check.get("n").getAsInt());
    assertEquals(0, check.get("outlier_rows").getAsInt());
    assertEquals(check.get("explained_variance"), check.getAsJsonObject("typical").get("explained_variance"));
    assertEquals(0.866, check.get("explained_variance").getAsDouble(), 0.01);
    for (String spread : List.of("decoder_norm", "enc_dec_cosine", "threshold")) {
      assertFields(info.get(spread), "min median max");
    }
    assertEquals("saelens", info.get("format").getAsString());
    assertEquals("jumprelu", info.get("architecture").getAsString());
    assertEquals(384, info.get("d_in").getAsInt());
    assertEquals(384, info.get("d_out").getAsInt());
    assertEquals(4096, info.get("d_sae").getAsInt());
    assertEquals("bfloat16", info.get("dtype").getAsString());
    assertTrue(info.getAsJsonArray("notes").get(0).getAsString().startsWith("SAELens computes in bfloat16"));
    assertEquals(0, info.get("far_from_unit_rows").getAsInt());
    assertEquals(0, info.get("near_zero_rows").getAsInt());
    assertTrue(info.get("k").isJsonNull());
    assertEquals("sentence-transformers/all-MiniLM-L6-v2", info.get("model_name").getAsString());
    // norm_min_max of the oracle's decoder_geometry
    assertEquals(0.999351618, info.getAsJsonObject("decoder_norm").get("min").getAsDouble(), 1e-7);
    assertEquals(1.001086041, info.getAsJsonObject("decoder_norm").get("max").getAsDouble(), 1e-7);
    assertTrue(info.getAsJsonObject("threshold").get("min").getAsDouble() > 0);
  }

  /** What was converted is the same SAE: its codes are the same file. */
  @Test
  void convert() throws IOException {
    Path sae = folder.resolve("converted");
    JsonObject result = Run.json("convert", "--sae", demo, "--out", sae);
    assertFields(result, "format architecture d_in d_out d_sae out");
    Path x = demo.resolve("activations.npy");
    Run.json("encode", "--sae", demo, "--in", x, "--out", folder.resolve("a.npz"));
    Run.json("encode", "--sae", sae, "--in", x, "--out", folder.resolve("b.npz"));
    assertEquals(-1, Files.mismatch(folder.resolve("a.npz"), folder.resolve("b.npz")));
  }

  @Test
  void controlVector() {
    Path vectors = demo.resolve("steering_vectors.safetensors");
    Path file = folder.resolve("v.gguf");
    JsonObject result =
        Run.json("control-vector", "--layer", "12=" + vectors + "#sentiment", "--layer", "3=" + vectors + "#question", "--out", file);
    assertFields(result, "layers d out");
    assertEquals("[3,12]", result.get("layers").toString());
    JsonObject of = Run.json("project", "--sae", demo, "--vector", file + "#direction.12", "--device", "cpu");
    JsonObject original = Run.json("project", "--sae", demo, "--vector", vectors + "#sentiment", "--device", "cpu");
    assertEquals(original.get("features"), of.get("features"));
  }

  @Test
  void infoOfRelu() throws IOException {
    JsonObject info = Run.json("info", "--sae", TestFiles.reluSae(folder.resolve("relu")));
    assertTrue(info.get("threshold").isJsonNull());
    assertTrue(info.get("model_name").isJsonNull());
    assertEquals("a.hook", info.get("hook_name").getAsString());
    assertEquals(2, info.get("dead").getAsInt());
    JsonObject norm = info.getAsJsonObject("decoder_norm");
    assertEquals(List.of(0.0, 1.0, 2.0), numbers(norm, "min", "median", "max"));
    assertEquals(1, info.getAsJsonObject("enc_dec_cosine").get("min").getAsDouble()); // undefined for the other two
  }

  @Test
  void encodeAndDecode() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path x = TestFiles.npy(folder.resolve("x.npy"), "(2, 2)", 3, 0, 0, 2);
    Path codes = folder.resolve("codes.npz");
    JsonObject encoded = Run.json("encode", "--sae", sae, "--in", x, "--out", codes, "--check");
    assertFields(encoded, "n d_in d_sae nnz mean_l0 explained_variance device screen seconds out");
    assertEquals(2, encoded.get("n").getAsInt());
    assertEquals(2, encoded.get("d_in").getAsInt());
    assertEquals(3, encoded.get("d_sae").getAsInt());
    assertEquals(2, encoded.get("nnz").getAsInt());
    assertEquals(1, encoded.get("mean_l0").getAsDouble());
    assertEquals(1 - 4 / 6.5, encoded.get("explained_variance").getAsDouble(), 1e-12);
    assertEquals("cpu", encoded.get("device").getAsString());
    assertEquals(codes.toString(), encoded.get("out").getAsString());

    JsonObject decoded = Run.json("decode", "--sae", sae, "--in", codes, "--out", folder.resolve("y.npy"), "--direction");
    assertFields(decoded, "n d_out direction device seconds out");
    assertEquals(2, decoded.get("n").getAsInt());
    assertTrue(decoded.get("direction").getAsBoolean());
    JsonObject again = Run.json("encode", "--sae", sae, "--in", folder.resolve("y.npy"), "--out", codes);
    assertEquals(1, again.get("nnz").getAsInt()); // (3, 0) came back, (0, 2) did not: its feature has no decoder row
    assertTrue(again.get("explained_variance").isJsonNull());
  }

  @Test
  void whatIsUndefinedIsNull() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path none = TestFiles.npy(folder.resolve("none.npy"), "(0, 2)");
    Path codes = folder.resolve("codes.npz");
    JsonObject encoded = Run.json("encode", "--sae", sae, "--in", none, "--out", codes, "--check");
    assertEquals(0, encoded.get("n").getAsInt());
    assertTrue(encoded.get("mean_l0").isJsonNull());
    assertTrue(encoded.get("explained_variance").isJsonNull());
    JsonObject decoded = Run.json("decode", "--sae", sae, "--in", codes, "--out", folder.resolve("y.npy"));
    assertEquals(0, decoded.get("n").getAsInt());
    Path zero = TestFiles.npy(folder.resolve("zero.npy"), "(2,)", 0, 0);
    assertEquals(0, Run.json("project", "--sae", sae, "--vector", zero).getAsJsonArray("features").size());
  }

  @Test
  void project() {
    String vector = demo.resolve("steering_vectors.safetensors") + "#science_sport";
    Path labels = demo.resolve("labels.jsonl.gz");
    JsonObject projected = Run.json("project", "--sae", demo, "--vector", vector, "--labels", labels);
    assertFields(projected, "n readout normalize vector_norm features");
    assertEquals(1, projected.get("n").getAsInt());
    assertEquals("decoder", projected.get("readout").getAsString());
    assertEquals("none", projected.get("normalize").getAsString());
    JsonArray features = projected.getAsJsonArray("features");
    assertEquals(20, features.size());
    double before = Double.POSITIVE_INFINITY;
    for (JsonElement feature : features) {
      assertFields(feature, "index coefficient cosine label");
      double size = Math.abs(feature.getAsJsonObject().get("coefficient").getAsDouble());
      assertTrue(size <= before);
      before = size;
    }
    assertEquals("mixed words, e.g. \"play\"", features.get(1).getAsJsonObject().get("label").getAsString());
  }

  @Test
  void projectPerSignUnitAndEncoder() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path v = TestFiles.npy(folder.resolve("v.npy"), "(1, 2)", -3, 4);
    JsonObject perSign =
        Run.json("project", "--sae", sae, "--vector", v, "--per-sign", "--top", 1, "--normalize", "unit");
    assertFields(perSign, "n readout normalize vector_norm positive negative");
    assertEquals(5, perSign.get("vector_norm").getAsDouble());
    JsonObject positive = perSign.getAsJsonArray("positive").get(0).getAsJsonObject();
    JsonObject negative = perSign.getAsJsonArray("negative").get(0).getAsJsonObject();
    assertEquals(List.of(1.0, 4.0, 0.8), numbers(positive, "index", "coefficient", "cosine"));
    assertEquals(List.of(0.0, -3.0, -0.6), numbers(negative, "index", "coefficient", "cosine"));
    assertTrue(positive.get("label").isJsonNull());

    JsonObject raw = Run.json("project", "--sae", sae, "--vector", v).getAsJsonArray("features").get(0).getAsJsonObject();
    assertEquals(List.of(8.0, 0.8), numbers(raw, "coefficient", "cosine"));
    JsonObject encoder = Run.json("project", "--sae", sae, "--vector", v, "--readout", "encoder");
    assertEquals(2, encoder.getAsJsonArray("features").get(0).getAsJsonObject().get("index").getAsInt());
  }

  @Test
  void projectManyAgreesWithOneByOne() {
    Path file = folder.resolve("p.npz");
    Path x = demo.resolve("activations.npy");
    JsonObject many = Run.json("project", "--sae", demo, "--in", x, "--out", file, "--top", 3);
    assertFields(many, "n readout normalize vector_norm features");
    assertEquals(512, many.get("n").getAsInt());
    assertTrue(many.get("vector_norm").isJsonNull());
    assertTrue(many.get("features").isJsonNull());
    JsonArray one = Run.json("project", "--sae", demo, "--vector", x + "#[7]", "--top", 3).getAsJsonArray("features");
    try (CodesReader reader = CodesReader.open(file);
        SparseCodes codes = new SparseCodes()) {
      assertEquals(512, reader.read(codes, 512));
      for (long i = codes.rowOffsets().get(7); i < codes.rowOffsets().get(8); i++) {
        int index = codes.indices().get(i);
        JsonObject feature = null;
        for (JsonElement candidate : one) {
          feature = candidate.getAsJsonObject().get("index").getAsInt() == index ? candidate.getAsJsonObject() : feature;
        }
        assertEquals(codes.values().get(i), feature.get("coefficient").getAsFloat());
      }
      assertEquals(3, codes.rowOffsets().get(8) - codes.rowOffsets().get(7));
    }
  }

  @Test
  void anyThreadsAndScreenGiveTheSameFile() throws IOException {
    Path x = demo.resolve("activations.npy");
    Path one = folder.resolve("one.npz");
    Path other = folder.resolve("other.npz");
    Run.json("encode", "--sae", demo, "--in", x, "--out", one, "--threads", 1, "--screen", "sgemm", "--device", "cpu");
    JsonObject canonical =
        Run.json("encode", "--sae", demo, "--in", x, "--out", other, "--threads", 3, "--screen", "canonical");
    assertEquals("canonical", canonical.get("screen").getAsString());
    assertEquals(-1, Files.mismatch(one, other));
  }

  @Test
  void cudaGivesTheSameFile() throws IOException {
    Assumptions.assumeTrue(Run.HAS_CUDA, "sae4j.device is cpu");
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path x = TestFiles.npy(folder.resolve("x.npy"), "(2, 2)", 3, 0, 0, 2);
    Path one = folder.resolve("one.npz");
    Path other = folder.resolve("other.npz");
    JsonObject cpu = Run.json("encode", "--sae", sae, "--in", x, "--out", one, "--device", "cpu");
    JsonObject cuda = Run.json("encode", "--sae", sae, "--in", x, "--out", other, "--device", "cuda", "--threads", 1);
    assertEquals("cuda:0", cuda.get("device").getAsString());
    assertTrue(cuda.get("nnz").getAsLong() > 0);
    assertEquals(cpu.get("nnz"), cuda.get("nnz"));
    assertEquals(-1, Files.mismatch(one, other));
    String table = Run.of("devices").out();
    assertTrue(table.contains("cuda:0") && table.contains("yes, by default"), table);
  }

  private static final String DECOMPOSITION =
      "method atoms non_negative stop vector_norm cosine explained_variance residual_norm negative_share negative_energy"
          + " worst_coherence features warnings";

  @Test
  void decompose() {
    String vector = demo.resolve("steering_vectors.safetensors") + "#formality";
    JsonObject signed =
        Run.json("decompose", "--sae", demo, "--vector", vector, "--atoms", 8, "--labels", demo.resolve("labels.jsonl.gz"));
    assertFields(signed, DECOMPOSITION);
    assertEquals("omp", signed.get("method").getAsString());
    assertEquals("atoms", signed.get("stop").getAsString());
    assertEquals(8, signed.getAsJsonArray("features").size());
    double before = Double.POSITIVE_INFINITY;
    for (JsonElement feature : signed.getAsJsonArray("features")) {
      assertFields(feature, "index coefficient cosine label");
      double size = Math.abs(feature.getAsJsonObject().get("coefficient").getAsDouble());
      assertTrue(size <= before);
      before = size;
    }
    for (String method : List.of("omp", "gradient", "matching", "l1")) {
      JsonObject positive =
          Run.json("decompose", "--sae", demo, "--vector", vector, "--atoms", 8, "--method", method, "--non-negative");
      assertEquals(method, positive.get("method").getAsString());
      assertTrue(positive.get("non_negative").getAsBoolean());
      assertEquals(0, positive.get("negative_share").getAsDouble());
    }
  }

  @Test
  void decomposeManyAgreesWithOneByOne() {
    Path file = folder.resolve("d.npz");
    Path x = demo.resolve("activations.npy");
    JsonObject many = Run.json("decompose", "--sae", demo, "--in", x, "--out", file, "--atoms", 3);
    assertEquals(512, many.get("n").getAsInt());
    JsonArray one = Run.json("decompose", "--sae", demo, "--vector", x + "#[7]", "--atoms", 3).getAsJsonArray("features");
    try (CodesReader reader = CodesReader.open(file);
        SparseCodes codes = new SparseCodes()) {
      assertEquals(512, reader.read(codes, 512));
      assertEquals(3, codes.rowOffsets().get(8) - codes.rowOffsets().get(7));
      for (JsonElement element : one) {
        JsonObject feature = element.getAsJsonObject();
        boolean isFound = false;
        for (long i = codes.rowOffsets().get(7); i < codes.rowOffsets().get(8); i++) {
          isFound |=
              codes.indices().get(i) == feature.get("index").getAsInt()
                  && codes.values().get(i) == feature.get("coefficient").getAsFloat();
        }
        assertTrue(isFound, feature.toString());
      }
    }
  }

  @Test
  void diagnose() {
    Path x = demo.resolve("activations.npy");
    JsonObject d =
        Run.json(
            "diagnose", "--sae", demo, "--vector", demo.resolve("steering_vectors.safetensors") + "#question",
            "--activations", x, "--positive", x, "--negative", x, "--labels", demo.resolve("labels.jsonl.gz"));
    assertFields(
        d,
        "vector_norm activation_norm norm_ratio median_norm_ratio zero_vector plain_encode bias_jaccard"
            + " reconstruction_cosine reconstruction_cosine_with_b_dec scale_sweep negative_projections lost_negative_energy spurious_antipodal"
            + " decomposition decomposition_non_negative difference_of_encodings stability findings");
    assertFields(d.get("activation_norm"), "mean median p01 p99");
    assertFields(d.getAsJsonArray("plain_encode").get(0), "index value bias_share label");
    assertFields(d.getAsJsonArray("scale_sweep").get(0), "scale l0 bias_jaccard cosine");
    assertFields(d.getAsJsonArray("negative_projections").get(0), "index coefficient cosine label");
    assertFields(d.get("decomposition"), DECOMPOSITION);
    assertFields(d.get("decomposition_non_negative"), DECOMPOSITION);
    assertFields(d.get("stability"), "k_minus k_plus perturbed");
    assertEquals(32, d.getAsJsonObject("decomposition").get("atoms").getAsInt());
    assertEquals(0, d.getAsJsonArray("difference_of_encodings").size(), "a difference with itself");
    assertTrue(d.getAsJsonArray("findings").size() <= 8);
    assertEquals(
        d.get("norm_ratio").getAsDouble(),
        d.get("vector_norm").getAsDouble() / d.getAsJsonObject("activation_norm").get("mean").getAsDouble(),
        1e-12);
    JsonObject alone = Run.json("diagnose", "--sae", demo, "--vector", x + "#[3]");
    assertTrue(alone.get("activation_norm").isJsonNull());
    assertTrue(alone.get("norm_ratio").isJsonNull());
    assertTrue(alone.get("difference_of_encodings").isJsonNull());
  }

  @Test
  void aZeroVectorHasAClearAnswer() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path zero = TestFiles.npy(folder.resolve("zero.npy"), "(2,)", 0, 0);
    Path report = folder.resolve("zero.html");
    JsonObject d = Run.json("diagnose", "--sae", sae, "--vector", zero, "--atoms", 2, "--report", report);
    assertEquals("The vector is zero: it has no direction, and there is nothing to decompose.", d.getAsJsonArray("findings").get(0).getAsString());
    assertEquals(1, d.getAsJsonArray("findings").size());
    assertTrue(d.getAsJsonObject("decomposition").get("cosine").isJsonNull());
    assertTrue(Files.size(report) > 100_000);
    assertFalse(Files.readString(report).contains("\"null,"), "a model without a name");
    Path v = TestFiles.npy(folder.resolve("v.npy"), "(2,)", 3, 4);
    assertEquals(2, Run.json("decompose", "--sae", sae, "--vector", v).get("atoms").getAsInt(), "as many as d_in by default");
    JsonObject nothing = Run.json("decompose", "--sae", sae, "--vector", zero, "--atoms", 2);
    assertEquals(0, nothing.get("atoms").getAsInt());
    assertEquals("residual", nothing.get("stop").getAsString());
  }
}

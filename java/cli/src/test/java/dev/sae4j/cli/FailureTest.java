package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Mistakes end with 1 and one line that says what is wrong, wrong usage with 2; stdout stays empty. */
class FailureTest {
  @TempDir private Path folder;
  private Path sae;
  private Path x;
  private Path out;

  @BeforeEach
  void files() throws IOException {
    sae = TestFiles.reluSae(folder.resolve("relu"));
    x = TestFiles.npy(folder.resolve("x.npy"), "(2, 2)", 3, 0, 0, 2);
    out = folder.resolve("out.npz");
  }

  private static void assertFails(String expected, Object... args) {
    Run run = Run.of(args);
    assertEquals(1, run.exitCode(), run.err());
    assertEquals("", run.out());
    assertEquals(1, run.err().lines().count(), run.err());
    assertTrue(run.err().startsWith("sae4j: "), run.err());
    assertTrue(run.err().contains(expected), run.err());
  }

  private static void assertMisused(String expected, Object... args) {
    Run run = Run.of(args);
    assertEquals(2, run.exitCode(), run.err());
    assertEquals("", run.out());
    assertTrue(run.err().lines().findFirst().orElse("").contains(expected), run.err());
    assertFalse(run.err().contains("\tat "), run.err());
  }

  @Test
  void missingFiles() {
    assertFails("nowhere", "info", "--sae", folder.resolve("nowhere"));
    assertFails("nowhere.npy", "encode", "--sae", sae, "--in", folder.resolve("nowhere.npy"), "--out", out);
    Path labels = folder.resolve("nowhere.jsonl");
    assertFails("nowhere.jsonl", "project", "--sae", sae, "--vector", x + "#[0]", "--labels", labels);
  }

  @Test
  void namesThatAreNoPaths() {
    assertMisused("'--sae': a\\u0000b: not a path: Nul character", "info", "--sae", "a\0b");
    assertFails("a\\u0000b: not a path: Nul character", "project", "--sae", sae, "--vector", "a\0b");
  }

  @Test
  void vectorOfAnotherLength() throws IOException {
    Path five = TestFiles.npy(folder.resolve("five.npy"), "(5,)", 1, 2, 3, 4, 5);
    Run run = Run.of("project", "--sae", sae, "--vector", five);
    assertEquals(1, run.exitCode());
    assertTrue(run.err().contains("5") && run.err().contains("2"), run.err());
    assertFails("[row]", "project", "--sae", sae, "--vector", x);
    assertFails("5", "encode", "--sae", sae, "--in", five, "--out", out);
    assertFalse(Files.exists(out));
  }

  @Test
  void activationsThatAreNotFinite() throws IOException {
    Path nan = TestFiles.npy(folder.resolve("nan.npy"), "(2, 2)", 1, 2, 3, Float.NaN);
    Files.writeString(out, "old");
    assertFails("row 1", "encode", "--sae", sae, "--in", nan, "--out", out);
    assertEquals("old", Files.readString(out));
  }

  @Test
  void rowsAreThoseOfTheFile() throws IOException {
    float[] rows = new float[2 * 26_000];
    rows[2 * 25_000 + 1] = Float.NaN;
    Path nan = TestFiles.npy(folder.resolve("nan.npy"), "(26000, 2)", rows);
    rows[2 * 25_000 + 1] = Float.MAX_VALUE;
    Path large = TestFiles.npy(folder.resolve("large.npy"), "(13000, 2, 2)", rows);
    Object[][] commands = {
      {"encode", "--in"}, {"encode", "--check", "--in"}, {"project", "--in"}, {"decompose", "--atoms", 2, "--in"},
    };
    for (Object[] command : commands) {
      Object[] args = Stream.concat(Stream.of(command), Stream.of(nan, "--sae", sae, "--out", out)).toArray();
      assertFails(nan + ": values must be finite, got NaN at row 25000, column 1", args);
    }
    assertFails(large + ": the product of row 25000 ", "project", "--sae", sae, "--in", large, "--out", out);
    String expected = nan + ": values must be finite, got NaN at row 25000, column 1";
    assertFails(expected, "project", "--sae", sae, "--vector", nan + "#[25000]");
    Object[] diagnose = {"diagnose", "--sae", sae, "--vector", x + "#[0]", "--atoms", 2};
    assertFails(expected, Stream.concat(Stream.of(diagnose), Stream.of("--activations", nan)).toArray());
    for (Path[] pair : new Path[][] {{nan, x}, {x, nan}}) {
      Object[] pairs = {"--positive", pair[0], "--negative", pair[1]};
      assertFails(expected, Stream.concat(Stream.of(diagnose), Stream.of(pairs)).toArray());
    }
    assertFails(nan + ": values must be finite, got NaN at row 25000", "info", "--sae", sae, "--activations", nan + "#[25000]");
  }

  @Test
  void codesThatBreakTheRules() throws IOException {
    Path y = folder.resolve("y.npy");
    Path unsorted = TestFiles.codes(folder.resolve("u.npz"), 3, new long[] {0, 2}, new int[] {2, 0}, new float[] {1, 1});
    assertFails("ascending", "decode", "--sae", sae, "--in", unsorted, "--out", y);
    Path wide = TestFiles.codes(folder.resolve("w.npz"), 7, new long[] {0, 1}, new int[] {6}, new float[] {1});
    assertFails("7 features, expected d_sae = 3", "decode", "--sae", sae, "--in", wide, "--out", y);
    assertFalse(Files.exists(y));
  }

  @Test
  void targetsThatCannotBeWritten() throws IOException {
    assertFails("gone", "encode", "--sae", sae, "--in", x, "--out", folder.resolve("gone/out.npz"));
    assertFails("folder", "encode", "--sae", sae, "--in", x, "--out", Files.createDirectory(folder.resolve("taken")));
    assertFails("out.npz", "encode", "--sae", sae, "--in", x, "--out", x.resolve("out.npz"));
    Path codes = TestFiles.codes(folder.resolve("c.npz"), 3, new long[] {0, 1}, new int[] {0}, new float[] {1});
    assertFails("gone", "decode", "--sae", sae, "--in", codes, "--out", folder.resolve("gone/y.npy"));
    Path readOnly = Path.of("/proc");
    if (Files.exists(readOnly.resolve("version"))) {
      assertFails("/proc/version", "encode", "--sae", sae, "--in", x, "--out", readOnly.resolve("version"));
    }
  }

  @Test
  void cudaIsNeverReplacedSilently() {
    String device = "cuda:9999";
    assertFails(
        "device cuda:9999 is not available: ", "encode", "--sae", sae, "--in", x, "--out", out, "--device", device);
    assertFalse(Files.exists(out));
  }

  @Test
  void skipInputWithoutASkip() throws IOException {
    Path codes = TestFiles.codes(folder.resolve("c.npz"), 3, new long[] {0, 1}, new int[] {0}, new float[] {1});
    assertFails("skip", "decode", "--sae", sae, "--in", codes, "--out", folder.resolve("y.npy"), "--input", x);
  }

  @Test
  void badOptions() {
    assertMisused("command is missing");
    assertMisused("encod", "encod");
    assertMisused("--sae", "info");
    assertMisused("--nope", "info", "--sae", sae, "--nope");
    assertMisused("device must be auto, cpu, cuda or cuda:i", "info", "--sae", sae, "--device", "gpu");
    for (String threads : List.of("0", "-1", "x", "1025")) {
      assertMisused("1 to 1024", "info", "--sae", sae, "--threads", threads);
    }
    if (Run.HAS_CUDA) {
      assertMisused("cuda:0 has no screen \"sgemm\"; it has canonical", "info", "--sae", sae, "--device", "cuda", "--screen", "sgemm");
    }
    assertMisused("no screen \"int7\"", "encode", "--sae", sae, "--in", x, "--out", out, "--screen", "int7");
    assertMisused("format must be saelens, gemma-scope", "info", "--sae", sae, "--format", "onnx");
    assertMisused("--map needs --format generic", "info", "--sae", sae, "--map", "W_enc=a");
    assertMisused("--activation needs --format generic", "info", "--sae", sae, "--activation", "relu", "--format", "saelens");
    assertMisused("--subtract-b-dec needs --format generic", "info", "--sae", sae, "--subtract-b-dec");
    assertMisused("--normalize-activations needs --format generic", "info", "--sae", sae, "--normalize-activations", "none");
    assertMisused("none, layer_norm, constant_norm_rescale", "info", "--sae", sae, "--format", "generic", "--normalize-activations", "batch");
    assertMisused("W_enc and W_dec must be mapped", "info", "--sae", sae, "--format", "generic", "--activation", "relu");
    assertMisused("--map must be", "info", "--sae", sae, "--format", "generic", "--map", "W_enc");
    assertMisused("--map says twice what W_enc is", "info", "--sae", sae, "--format", "generic", "--map", "W_enc=a", "--map", "W_enc=b");
    assertMisused("--top", "project", "--sae", sae, "--vector", x, "--top", 0);
    assertMisused("--top", "project", "--sae", sae, "--vector", x, "--top", "many");
    assertMisused("decoder", "project", "--sae", sae, "--vector", x, "--readout", "both");
    assertMisused("none", "project", "--sae", sae, "--vector", x, "--normalize", "l1");
    assertMisused(
        "--normalize unit", "project", "--sae", sae, "--vector", x, "--normalize", "unit", "--readout", "encoder");
    Path gguf = folder.resolve("v.gguf");
    assertMisused("two directions", "control-vector", "--layer", "1=" + x, "--layer", "1=" + sae, "--out", gguf);
    assertMisused("--vector", "project", "--sae", sae);
    assertMisused("--out", "project", "--sae", sae, "--in", x);
    assertMisused("--vector", "project", "--sae", sae, "--vector", x, "--in", x, "--out", out);
  }

  @Test
  void helpVersionAndCompletion() {
    for (String command : List.of("demo", "devices", "info", "encode", "decode", "project", "decompose", "diagnose")) {
      Run help = Run.of(command, "--help");
      assertEquals(0, help.exitCode());
      assertTrue(help.out().contains("--json"), help.out());
    }
    assertTrue(Run.of("--version").out().startsWith("sae4j "));
    assertTrue(Run.of("generate-completion").out().contains("complete -F _complete_sae4j"));
  }

  @Test
  void labelsThatSeemToBeOfAnotherSaeAreUsedWithAWarning() throws IOException {
    Path labels = folder.resolve("labels.jsonl");
    Files.writeString(labels, "{\"modelId\": \"m\", \"layer\": \"2-res\", \"index\": 0, \"description\": \"kept\"}");
    Path v = TestFiles.npy(folder.resolve("v.npy"), "(2,)", 1, 2);
    Path layer3 = TestFiles.reluSae(folder.resolve("layer3"));
    Path cfg = layer3.resolve("cfg.json");
    Files.writeString(cfg, Files.readString(cfg).replace("a.hook", "blocks.3.hook"));
    for (String command : List.of("project", "decompose", "diagnose")) {
      assertEquals("", Run.of(command, "--sae", sae, "--vector", v, "--labels", labels).err());
      Run run = Run.of(command, "--sae", layer3, "--vector", v, "--labels", labels);
      assertEquals(0, run.exitCode());
      assertEquals(
          "sae4j: warning: " + labels + ": labels of m/2-res, but this SAE is of blocks.3.hook\n", run.err());
      assertTrue(run.out().contains("kept"), run.out());
    }
  }

  @Test
  void directionsThatCannotBeDecomposed() throws IOException {
    Path v = TestFiles.npy(folder.resolve("v.npy"), "(2,)", 1, 2);
    Path nan = TestFiles.npy(folder.resolve("nan.npy"), "(2,)", 1, Float.NaN);
    Path five = TestFiles.npy(folder.resolve("five.npy"), "(5,)", 1, 2, 3, 4, 5);
    for (String command : List.of("decompose", "diagnose")) {
      assertMisused("--atoms must be 1 to d_out = 2, got 3", command, "--sae", sae, "--vector", v, "--atoms", 3);
      assertMisused("--atoms must be 1 to d_out = 2, got 0", command, "--sae", sae, "--vector", v, "--atoms", 0);
      assertMisused("--method", command, "--sae", sae, "--vector", v, "--method", "magic");
      assertFails("must be finite", command, "--sae", sae, "--vector", nan, "--atoms", 2);
      assertFails("5", command, "--sae", sae, "--vector", five, "--atoms", 2);
    }
    Path rows = TestFiles.npy(folder.resolve("rows.npy"), "(2, 2)", 1, 2, 3, Float.NaN);
    assertFails("got NaN at row 1, column 1", "diagnose", "--sae", sae, "--vector", v, "--activations", rows);
    Path gone = folder.resolve("gone/report.html");
    assertFails(gone + ": cannot be written: no such file or folder", "diagnose", "--sae", sae, "--vector", v, "--report", gone);
    assertFails("is a folder", "diagnose", "--sae", sae, "--vector", v, "--atoms", 2, "--report", folder);
    assertMisused("--negative", "diagnose", "--sae", sae, "--vector", v, "--atoms", 2, "--positive", x);
  }
}

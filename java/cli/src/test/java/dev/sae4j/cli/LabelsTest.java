package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LabelsTest {
  private static final String LINES =
      """
      {"index": "0", "description": " later ", "embedding": [0.5, {"a": null}], "createdAt": "2025-02-01T00:00:00Z"}
      {"index": 0, "description": "first", "createdAt": "2024-02-01T00:00:00Z"}

      {"index": "1", "description": "in the file's order"}
      {"index": "1", "description": "second"}
      {"index": "2", "description": null}
      {"index": "3"}
      {"index": "4", "description": "\u00abnai\u0308ve\u00bb"}
      """;

  @TempDir private Path folder;

  private Labels read(String lines) throws IOException {
    return Labels.read(Files.writeString(folder.resolve("labels.jsonl"), lines), 5);
  }

  private static void assertLabels(Labels labels) {
    assertEquals("first", labels.of(0));
    assertEquals("in the file's order", labels.of(1));
    assertNull(labels.of(2));
    assertNull(labels.of(3));
    assertEquals("\u00abnai\u0308ve\u00bb", labels.of(4));
  }

  @Test
  void plainAndGzipWhateverTheName() throws IOException {
    assertLabels(read(LINES));
    Path zipped = folder.resolve("labels.txt");
    assertLabels(Labels.read(Files.write(zipped, gzip(LINES)), 5));
  }

  @Test
  void emptyIsFine() throws IOException {
    assertNull(read("").of(0));
  }

  @Test
  void whatIsPassedOverNeedNotBeFinite() throws IOException {
    String scores = "\"score\": NaN, \"scores\": [-Infinity, {\"a\": Infinity}]";
    assertEquals("a", read("{%s, \"index\": 0, \"description\": \"a\"}\n".formatted(scores)).of(0));
    assertRefused("line 1", "{\"index\": 0, \"description\": NaN}");
  }

  @Test
  void linesThatAreWrong() {
    assertRefused("line 2", "{\"index\": 0}\n[1]\n");
    assertRefused("line 1", "{\"index\": 0");
    assertRefused("line 1", "index 0\n");
    assertRefused("index is null", "{\"description\": \"a\"}");
    assertRefused("index is 5, expected 0 to d_sae - 1 = 4", "{\"index\": \"5\", \"description\": \"another SAE's\"}");
  }

  private void assertRefused(String expected, String lines) {
    SaeException e = assertThrows(SaeException.class, () -> read(lines));
    assertTrue(e.getMessage().contains(expected), e.getMessage());
  }

  @Test
  void labelsOfSeveralSaes() throws IOException {
    String ofOne = "{\"modelId\": \"gemma-2-2b\", \"layer\": \"20-res-16k\", \"index\": 0, \"description\": \"a\"}\n";
    assertEquals("a", read(ofOne + "{\"index\": 1}\n" + ofOne).of(0));
    assertRefused("line 3: is of gemma-2-2b/12-res-16k, expected labels of one SAE, gemma-2-2b/20-res-16k",
        ofOne + "{\"index\": 1}\n" + ofOne.replace("20-", "12-"));
  }

  @Test
  void labelsThatSeemToBeOfAnotherSae() throws IOException {
    Labels labels = read("{\"modelId\": \"gemma-2-2b\", \"layer\": \"20-res-16k\", \"index\": 0}");
    for (String model : Arrays.asList("gemma-2-2b", "google/Gemma-2-2B", "google/gemma-2-2b-it", null)) {
      assertNull(labels.doubt(sae(model, "blocks.20.hook_resid_post")), model);
      assertNull(labels.doubt(sae(model, null)), model);
      assertNull(labels.doubt(sae(model, "embeddings")), model);
      assertEquals(
          "labels of gemma-2-2b/20-res-16k, but this SAE is of blocks.2.hook", labels.doubt(sae(model, "blocks.2.hook")), model);
    }
    assertEquals("labels of gemma-2-2b/20-res-16k, but this SAE is of gpt2", labels.doubt(sae("gpt2", "blocks.20.hook")));
    assertNull(read(LINES).doubt(sae("gpt2", "blocks.20.hook")), "labels that name no model");
  }

  private static SaeInfo sae(String model, String hook) {
    return new SaeInfo("saelens", "jumprelu", "float32", model, hook, List.of(), List.of());
  }

  @Test
  void damagedGzip() throws IOException {
    byte[] whole = gzip(LINES);
    for (int length = 2; length < whole.length; length++) {
      assertDamaged("damaged gzip data: it ends too early", Arrays.copyOf(whole, length));
    }
    byte[] wrong = whole.clone();
    wrong[whole.length - 6] ^= 1;
    assertDamaged("damaged gzip data: its checksum does not fit", wrong);
    assertDamaged("damaged gzip data: a member should begin", join(whole, LINES.getBytes(StandardCharsets.UTF_8)));
    assertDamaged("damaged gzip data: it ends too early", join(whole, Arrays.copyOf(whole, 5)));
  }

  private void assertDamaged(String expected, byte[] bytes) throws IOException {
    Path path = Files.write(folder.resolve("damaged"), bytes);
    SaeException e = assertThrows(SaeException.class, () -> Labels.read(path, 5));
    assertTrue(e.getMessage().startsWith(path + ": " + expected), e.getMessage());
  }

  @Test
  void gzipOfSeveralMembers() throws IOException {
    byte[] named = gzip(line(1));
    named[3] = 2 + 4 + 8 + 16; // CRC, extra field, name, comment
    named = join(join(Arrays.copyOf(named, 10), new byte[] {3, 0, 1, 2, 3, 'n', 0, 'c', 0, 9, 9}),
        Arrays.copyOfRange(named, 10, named.length));
    byte[] members = join(join(gzip(line(0)), join(gzip(""), named)), join(gzip(line(2)), new byte[1000])); // and padding
    Labels labels = Labels.read(Files.write(folder.resolve("members"), members), 5);
    assertEquals(List.of("of 0", "of 1", "of 2"), List.of(labels.of(0), labels.of(1), labels.of(2)));
  }

  @Test
  void pipesThatPause() throws Exception {
    assertPiped(gzip(line(0)), gzip(line(1)), gzip(line(2)));
    String text = line(0) + "\n" + line(1) + "\n" + line(2);
    assertPiped(text.substring(0, 1).getBytes(StandardCharsets.UTF_8), text.substring(1, 30).getBytes(StandardCharsets.UTF_8),
        text.substring(30).getBytes(StandardCharsets.UTF_8));
  }

  @Test
  void arraysAndWhatIsAroundThem() throws IOException {
    for (String space : List.of("", " ", "\n", "\r\n\r\n ")) {
      String array = String.join(space, "", "[", line(0), ",", line(1).replace(",", "," + space), "]", "");
      String around =
          String.join(space, "{", "\"explanationsCount\":", "2,", "\"index\":7,", "\"explanations\":" + array, ",\"x\":[{}]}");
      for (String text : List.of(array, around, array + array, line(0) + space + around, "\ufeff" + array)) {
        Labels labels = read(text);
        assertEquals(List.of("of 0", "of 1"), List.of(labels.of(0), labels.of(1)), text);
      }
    }
    assertNull(read("[]").of(0));
    assertNull(read("{\"explanations\": []}").of(0));
  }

  @Test
  void arraysThatAreWrong() {
    assertRefused("line 2, explanation 2: index is null", "[" + line(0) + ",\n{}]");
    assertRefused("line 2, explanation 2: expected", "[" + line(0) + ",\n0]");
    assertRefused("line 1, explanation 1: expected", "[[" + line(0) + "]]");
    assertRefused("line 1, explanation 1: expected", "[" + line(0));
    assertRefused("line 3", "\n[" + line(0) + "]\n, " + line(1));
    assertRefused("line 1: index is null", "{\"explanations\": null}");
    assertRefused("line 1: expected", "\"explanations\"");
  }

  @Test
  void foldersOfBatches() throws IOException {
    SaeException e = assertThrows(SaeException.class, () -> Labels.read(folder, 5));
    assertEquals(folder + ": holds no .jsonl, .jsonl.gz, .json or .json.gz file", e.getMessage());
    Files.write(folder.resolve("batch-0.jsonl.gz"), gzip(line(0) + "\n" + line(1)));
    Files.writeString(folder.resolve("batch-1.jsonl"), line(1).replace("of 1", "later"));
    Files.writeString(folder.resolve("batch-2.json"), "[" + line(2) + "]");
    Files.writeString(folder.resolve(".batch-3.json"), "hidden");
    Files.writeString(folder.resolve("README.md"), "# Batches");
    Labels labels = Labels.read(folder, 5);
    assertEquals(List.of("of 0", "of 1", "of 2"), List.of(labels.of(0), labels.of(1), labels.of(2)));
    Files.writeString(folder.resolve("batch-3.jsonl"), line(4) + "\n" + line(5));
    e = assertThrows(SaeException.class, () -> Labels.read(folder, 5));
    assertTrue(e.getMessage().startsWith(folder.resolve("batch-3.jsonl") + ", line 2: index is 5"), e.getMessage());
    Files.delete(folder.resolve("batch-3.jsonl"));
    Files.createDirectory(folder.resolve("batch-3.jsonl"));
    e = assertThrows(SaeException.class, () -> Labels.read(folder, 5));
    assertTrue(e.getMessage().startsWith(folder.resolve("batch-3.jsonl") + ": "), e.getMessage());
  }

  /** In 24 MiB, which a line, a text or the sum of the labels would fill. */
  @Test
  void smallFilesOfMuchText() throws Exception {
    String many = "x".repeat(1 << 20);
    assertEquals("null", inSmallHeap(64, "[{\"index\": 0, \"passed over\": \"", many, "\"}]"));
    assertEquals("null", inSmallHeap(16, "[", "{\"index\": 0, \"embedding\": [0.25, 0.5]},".repeat(1 << 14), "{\"index\": 1}]"));
    assertEquals("x".repeat(LabelReader.MAX_KEPT) + "...",
        inSmallHeap(1, "", IntStream.range(0, 100).mapToObj(i -> label(i, many.substring(1))).collect(Collectors.joining()), ""));
    String tooLong = ", line 2: a text of more than 1048576 characters, the most that is read";
    assertTrue(inSmallHeap(64, "\n{\"index\": 0, \"description\": \"", many, "\"}").endsWith(tooLong));
    assertTrue(inSmallHeap(64, "\n{\"index\": 0, \"", many, "\": 0}").endsWith(tooLong));
    assertTrue(inSmallHeap(64, "", many, "").endsWith(", line 1: expected one JSON object"));
    assertTrue(inSmallHeap(64, "{\"a\": ", "[".repeat(1 << 20), "").endsWith(", line 1: expected one JSON object"));
  }

  /** The label of feature 0, or the error. */
  private String inSmallHeap(int times, String start, String repeated, String end) throws Exception {
    Path path = folder.resolve("much.gz");
    try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(path), 1 << 16)) {
      out.write(start.getBytes(StandardCharsets.UTF_8));
      for (int i = 0; i < times; i++) {
        out.write(repeated.getBytes(StandardCharsets.UTF_8));
      }
      out.write(end.getBytes(StandardCharsets.UTF_8));
    }
    Path said = folder.resolve("said");
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    new ProcessBuilder(
            java, "-Xmx24m", "-cp", System.getProperty("java.class.path"), InSmallHeap.class.getName(), path.toString())
        .redirectErrorStream(true)
        .redirectOutput(said.toFile())
        .start()
        .waitFor();
    return Files.readString(said);
  }

  /** A JVM of its own. */
  public static final class InSmallHeap {
    public static void main(String[] args) throws IOException {
      try {
        System.out.print(Labels.read(Path.of(args[0]), 1 << 20).of(0));
      } catch (SaeException e) {
        System.out.print(e.getMessage());
      }
    }
  }

  private static String line(int index) {
    return label(index, "of " + index);
  }

  private static String label(int index, String description) {
    return "{\"index\":%d,\"description\":\"%s\"}".formatted(index, description);
  }

  private static byte[] gzip(String text) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (OutputStream out = new GZIPOutputStream(bytes)) {
      out.write(text.getBytes(StandardCharsets.UTF_8));
    }
    return bytes.toByteArray();
  }

  private static byte[] join(byte[] a, byte[] b) {
    byte[] both = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  /** Through a named pipe, with a pause after each part. */
  private void assertPiped(byte[]... parts) throws Exception {
    Path pipe = folder.resolve("pipe" + parts[0].length);
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    CompletableFuture<Void> writer =
        CompletableFuture.runAsync(
            () -> {
              try (OutputStream out = Files.newOutputStream(pipe, StandardOpenOption.WRITE)) {
                for (byte[] part : parts) {
                  out.write(part);
                  out.flush();
                  Thread.sleep(100);
                }
              } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
              }
            });
    Labels labels = Labels.read(pipe, 5);
    writer.get();
    assertEquals(List.of("of 0", "of 1", "of 2"), List.of(labels.of(0), labels.of(1), labels.of(2)));
  }
}

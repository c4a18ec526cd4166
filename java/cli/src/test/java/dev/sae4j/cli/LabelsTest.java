package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
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
    try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(zipped))) {
      out.write(LINES.getBytes(StandardCharsets.UTF_8));
    }
    assertLabels(Labels.read(zipped, 5));
  }

  @Test
  void emptyIsFine() throws IOException {
    assertNull(read("").of(0));
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
    Path path = Files.write(folder.resolve("cut.gz"), new byte[] {0x1f, (byte) 0x8b, 8, 0, 0});
    SaeException e = assertThrows(SaeException.class, () -> Labels.read(path, 5));
    assertTrue(e.getMessage().contains("gzip"), e.getMessage());
  }
}

package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Directions from the files people keep them in; make_vectors.py wrote them. */
class VectorFormatsTest {
  private static final Path VECTORS =
      Path.of(System.getProperty("sae4j.root"), "java/core/src/test/resources/io/vectors");

  @TempDir private Path folder;
  private Path sae;

  @BeforeEach
  void files() throws IOException {
    sae = TestFiles.reluSae(folder.resolve("relu")); // d_0 = (1, 0), d_1 = (0, 2), d_2 = (0, 0)
    Files.writeString(folder.resolve("pair.svec"), "{\"directions\": {\"7\": [3, 4], \"8\": [0, -5]}}");
  }

  private static double coefficient(JsonObject result, int place) {
    return result.getAsJsonArray("features").get(place).getAsJsonObject().get("coefficient").getAsDouble();
  }

  @ParameterizedTest
  @ValueSource(strings = {"pair.pt#layers[0]", "pair.svec#7"})
  void projectsADirection(String name) {
    String vector = (name.startsWith("pair.pt") ? VECTORS : folder).resolve(name).toString();
    JsonObject result = Run.json("project", "--sae", sae, "--vector", vector, "--top", 2);
    assertEquals(5, result.get("vector_norm").getAsDouble());
    assertEquals(8, coefficient(result, 0));
    assertEquals(3, coefficient(result, 1));
  }

  @Test
  void projectsARowAndAllRows() {
    String layer = VECTORS.resolve("pair.pt") + "#layers[1]";
    assertEquals(-10, coefficient(Run.json("project", "--sae", sae, "--vector", layer + "[1]", "--top", 1), 0));
    Path out = folder.resolve("top.npz");
    JsonObject many = Run.json("project", "--sae", sae, "--in", layer, "--out", out, "--top", 1);
    assertEquals(2, many.get("n").getAsInt());
    assertTrue(Files.exists(out));
  }

  @ParameterizedTest
  @ValueSource(strings = {"project", "decompose", "diagnose"})
  void warnsOnceOfLayersFromZero(String command) {
    String vector = VECTORS.resolve("pair.gguf") + "#direction.1";
    String count = command.equals("project") ? "--top" : "--atoms";
    Run run = Run.of(command, "--sae", sae, "--vector", vector, count, 1, "--json");
    assertEquals(0, run.exitCode(), run.err());
    assertEquals(1, run.err().lines().count(), run.err());
    assertTrue(run.err().startsWith("sae4j: warning: ") && run.err().contains("direction.0"), run.err());
    assertTrue(run.out().startsWith("{"), run.out());
  }

  @Test
  void refusesInOneLineAndRunsNothing() {
    Run several = Run.of("project", "--sae", sae, "--vector", folder.resolve("pair.svec"));
    assertEquals(1, several.exitCode());
    assertTrue(several.err().contains("2 tensors") && several.err().contains("\"7\", \"8\""), several.err());
    Run command = Run.of("project", "--sae", sae, "--vector", VECTORS.resolve("command.pt"));
    assertEquals(1, command.exitCode());
    assertEquals(1, command.err().lines().count(), command.err());
    assertTrue(command.err().contains("refuses \"posix.system\""), command.err());
    assertFalse(Files.exists(Path.of("executed"))); // what it asks for
  }
}

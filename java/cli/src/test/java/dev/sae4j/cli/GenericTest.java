package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A file read by what the user says of it is the same SAE to every command as the folder that says it itself. */
class GenericTest {
  private static final String[] SAID =
      "--format generic --map W_enc=W_enc --map W_dec=W_dec --map b_enc=b_enc --map b_dec=b_dec --activation relu".split(" ");

  @TempDir private Path folder;

  private static Object[] with(Object[] args, Object... more) {
    return Stream.concat(Arrays.stream(args), Arrays.stream(more)).toArray();
  }

  @Test
  void everyCommandTakesIt() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path lone = Files.copy(sae.resolve("sae_weights.safetensors"), folder.resolve("lone.safetensors"));
    Path x = TestFiles.npy(folder.resolve("x.npy"), "(2, 2)", 3, 0, 0, 2);
    Path v = TestFiles.npy(folder.resolve("v.npy"), "(2,)", 1, 2);
    Path codes = TestFiles.codes(folder.resolve("c.npz"), 3, new long[] {0, 1}, new int[] {0}, new float[] {2});
    Path out = folder.resolve("out.npz");
    Path y = folder.resolve("y.npy");
    for (Object[] command :
        List.of(
            new Object[] {"encode", "--in", x, "--out", out, "--check"},
            new Object[] {"decode", "--in", codes, "--out", y},
            new Object[] {"project", "--vector", v},
            new Object[] {"decompose", "--vector", v, "--atoms", 2},
            new Object[] {"diagnose", "--vector", v, "--atoms", 2, "--activations", x})) {
      JsonObject expected = Run.json(with(command, "--sae", sae));
      byte[] written = Files.exists(out) ? Files.readAllBytes(out) : null;
      JsonObject got = Run.json(with(command, with(SAID, "--sae", lone)));
      expected.remove("seconds");
      got.remove("seconds");
      assertEquals(expected, got);
      assertArrayEquals(written, Files.exists(out) ? Files.readAllBytes(out) : null);
    }
    assertEquals("generic", Run.json(with(new Object[] {"info"}, with(SAID, "--sae", lone))).get("format").getAsString());
    Run.json("convert", "--sae", sae, "--out", folder.resolve("expected"));
    Run.json(with(new Object[] {"convert", "--out", folder.resolve("got")}, with(SAID, "--sae", lone)));
    assertArrayEquals(
        Files.readAllBytes(folder.resolve("expected/sae_weights.safetensors")),
        Files.readAllBytes(folder.resolve("got/sae_weights.safetensors")));
  }

  @Test
  void whatAnUnknownFileSuggestsServes() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path lone = Files.move(sae.resolve("sae_weights.safetensors"), folder.resolve("lone.safetensors"));
    Run unknown = Run.of("info", "--sae", lone);
    assertEquals(1, unknown.exitCode());
    String suggested = unknown.err().strip().substring(unknown.err().indexOf("--format generic"));
    assertEquals(String.join(" ", SAID), suggested);
    assertEquals("generic", Run.json(with(new Object[] {"info"}, with(suggested.split(" "), "--sae", lone))).get("format").getAsString());
    Run help = Run.of("encode", "--help");
    assertTrue(help.out().contains("topk-signed"), help.out());
  }
}

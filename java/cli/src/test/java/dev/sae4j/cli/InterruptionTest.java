package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sae4j.io.NpyWriter;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A long encode in a JVM of its own, asked to stop. */
class InterruptionTest {
  private static final int ROWS = 1 << 18; // seconds of work

  @TempDir private Path folder;

  @Test
  void leavesSoonAndWithoutATrace() throws Exception {
    Path x = folder.resolve("x.npy");
    try (NpyWriter writer = NpyWriter.create(x, 384)) {
      for (int row = 0; row < ROWS; row += 1024) {
        writer.write(FloatBuffer.allocate(1024 * 384));
      }
      writer.commit();
    }
    Path work = Files.createDirectory(folder.resolve("work"));
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    Process process =
        new ProcessBuilder(
                java, "-cp", System.getProperty("java.class.path"), "dev.sae4j.cli.Main", "encode",
                "--sae", Demo.unpack().toString(), "--in", x.toString(), "--out", work.resolve("codes.npz").toString())
            .redirectErrorStream(true)
            .redirectOutput(folder.resolve("out").toFile())
            .start();
    try {
      long start = System.nanoTime();
      while (files(work).isEmpty() && process.isAlive() && System.nanoTime() - start < 30e9) {
        Thread.sleep(20);
      }
      process.destroy();
      assertTrue(process.waitFor(30, TimeUnit.SECONDS), "it hangs");
      assumeTrue(process.exitValue() != 0, "it was done before it could be stopped");
      assertEquals(143, process.exitValue());
      assertEquals(List.of(), files(work));
    } finally {
      process.destroyForcibly();
    }
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.toList();
    }
  }
}

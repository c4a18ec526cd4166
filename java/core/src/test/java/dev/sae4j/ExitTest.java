package dev.sae4j;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** A JVM that is told to end in the middle of a call ends: OpenBLAS joins its threads at exit, and must find them idle. */
class ExitTest {
  /** Encodes until it is killed, in calls longer than the 300 ms for which an ending JVM waits for native code. */
  static final class Encoding {
    public static void main(String[] args) {
      TestSae sae = new TestSae(256, 256, 4096).withAll(false);
      try (SparseAutoencoder engine = sae.open(Device.cpu().withScreen("sgemm"));
          SparseCodes codes = new SparseCodes()) {
        float[] x = new float[60_000 * 256];
        System.out.println("encoding");
        while (true) {
          engine.encode(x, codes);
        }
      }
    }
  }

  @Test
  void terminationInTheMiddleOfACallDoesNotHang() throws Exception {
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    for (int trial = 0; trial < 4; trial++) {
      Process process =
          new ProcessBuilder(java, "-cp", classPath, Encoding.class.getName())
              .redirectError(ProcessBuilder.Redirect.DISCARD)
              .start();
      process.getInputStream().read();
      Thread.sleep(100 + 13L * trial);
      process.destroy();
      boolean ended = process.waitFor(15, TimeUnit.SECONDS);
      process.destroyForcibly();
      assertTrue(ended, "trial " + trial + ": still there 15 s after SIGTERM");
    }
  }
}

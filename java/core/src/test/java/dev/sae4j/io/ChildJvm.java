package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Runs a main class of the tests in a JVM of its own, under limits. */
final class ChildJvm {
  private ChildJvm() {}

  /** @return what it printed, which must end well */
  static String run(String setUp, String options, Class<?> main, String argument) throws IOException, InterruptedException {
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    String command = setUp + " && exec \"$0\" --enable-native-access=ALL-UNNAMED " + options + " -cp \"$1\" '" + main.getName() + "' \"$2\"";
    Process process =
        new ProcessBuilder("sh", "-c", command, java, classPath, argument).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
    assertEquals(0, process.waitFor(), output);
    return output;
  }
}

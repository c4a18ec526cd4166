package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Runs a main class of the tests in a JVM of its own, under limits. */
public final class ChildJvm {
  private ChildJvm() {}

  /** The class path of this JVM's tests. */
  public static String classPath() {
    return System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
  }

  /** @return what it printed, which must end well */
  static String run(String setUp, String options, Class<?> main, String argument) throws IOException, InterruptedException {
    return run(setUp, options, classPath(), main, argument);
  }

  /** As {@link #run(String, String, Class, String)}, on another class path. */
  public static String run(String setUp, String options, String classPath, Class<?> main, String argument)
      throws IOException, InterruptedException {
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    String command = setUp + " && exec \"$0\" --enable-native-access=ALL-UNNAMED " + options + " -cp \"$1\" '" + main.getName() + "' \"$2\"";
    Process process =
        new ProcessBuilder("sh", "-c", command, java, classPath, argument).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
    assertEquals(0, process.waitFor(), output);
    return output;
  }
}

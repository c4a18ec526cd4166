package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is printed arrives, or the run fails; and it can't control a terminal. */
class OutputTest {
  private static final String EVIL = "a\u001b[31m\u009b\u202e\u2066\u2028\rb\nc";
  private static final String SHOWN = "a\\u001b[31m\\u009b\\u202e\\u2066\\u2028\\u000db\\u000ac";

  @TempDir private Path folder;

  /** A run in a JVM of its own, by a shell that says where stdout goes. */
  private Run shell(String command) throws IOException, InterruptedException {
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    String main = "\"$0\" -Xshare:auto --enable-native-access=ALL-UNNAMED -cp \"$1\" dev.sae4j.cli.Main";
    Path out = folder.resolve("out.txt");
    Path err = folder.resolve("err.txt");
    Process process =
        new ProcessBuilder("bash", "-c", command.replace("SAE4J", main), java, System.getProperty("java.class.path"))
            .redirectOutput(out.toFile())
            .redirectError(err.toFile())
            .start();
    return new Run(process.waitFor(), Files.readString(out), Files.readString(err));
  }

  @Test
  void lostOutputFails() throws Exception {
    assumeTrue(Files.exists(Path.of("/dev/full")));
    for (String arguments : List.of("--help", "--version", "generate-completion", "devices", "devices --json")) {
      Run run = shell("SAE4J " + arguments + " >/dev/full");
      assertEquals(new Run(1, "", "sae4j: stdout cannot be written: No space left on device\n"), run, arguments);
    }
    assertEquals(new Run(1, "", "sae4j: stdout cannot be written: Bad file descriptor\n"), shell("SAE4J devices >&-"));
  }

  @Test
  void aReaderThatHasHadEnoughIsNoFault() throws Exception {
    Run run = shell("SAE4J devices --json | head -c 1; echo ${PIPESTATUS[0]}");
    assertEquals("", run.err());
    assertTrue(List.of("{0\n", "{141\n").contains(run.out()), run.out()); // 0: it was written before head left
    // The reader is gone before the first byte.
    Run late = shell("exec 3>&1; { sleep 0.5; SAE4J devices; echo $? >&3; } | true");
    assertEquals(new Run(0, "141\n", ""), late);
  }

  @Test
  void nothingFromAFileControlsTheTerminal() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    Path cfg = sae.resolve("cfg.json");
    String escaped = EVIL.replace("\u001b", "\\u001b").replace("\r", "\\r").replace("\n", "\\n");
    Files.writeString(cfg, Files.readString(cfg).replace("a.hook", escaped));
    Run info = Run.of("info", "--sae", sae);
    assertEquals(0, info.exitCode(), info.err());
    assertTrue(info.out().contains("hook") && info.out().contains(SHOWN), info.out());
    assertSafe(info.out());
    Run json = Run.of("info", "--sae", sae, "--json");
    assertSafe(json.out());
    assertEquals(EVIL, JsonParser.parseString(json.out()).getAsJsonObject().get("hook_name").getAsString());
  }

  @Test
  void nothingThatWasTypedControlsTheTerminal() throws IOException {
    Path sae = TestFiles.reluSae(folder.resolve("relu"));
    for (List<Object> arguments :
        List.<List<Object>>of(
            List.of("info", "--sae", folder.resolve(EVIL)),
            List.of("info", "--sae", sae, "--" + EVIL),
            List.of("info", "--sae", sae, "--format", EVIL),
            List.of("info", "--sae", sae, "--device", EVIL),
            List.of("project", "--sae", sae, "--vector", EVIL),
            List.of(EVIL))) {
      Run run = Run.of(arguments.toArray());
      assertFalse(run.exitCode() == 0);
      assertTrue(run.err().startsWith("sae4j: ") && run.err().contains("[31m"), run.err());
      assertSafe(run.err());
    }
  }

  private static void assertSafe(String text) {
    String unsafe = "\u2028\u202e\u2066";
    assertTrue(text.chars().noneMatch(c -> c != '\n' && Character.isISOControl(c) || unsafe.indexOf(c) >= 0), text);
  }
}

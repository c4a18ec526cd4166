package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The report as a reader sees it: opened in headless Chromium, its text read, and pictures taken into target/. */
class ReportTest {
  private static final Path PICTURES = Path.of("target", "report-pictures");

  @TempDir private Path folder;
  private Path report;

  @BeforeEach
  void write() throws IOException {
    Path demo = Demo.unpack();
    report = folder.resolve("report.html");
    Path x = demo.resolve("activations.npy");
    Path labels = folder.resolve("labels.jsonl");
    // What a label must not be able to do.
    Files.writeString(
        labels,
        """
        {"index": 2835, "description": "</script><script>document.title='broken'</script>"}
        {"index": 3293, "description": "/*CHARTS*/ & <b>bold</b> \\u2028 'quoted'"}
        """);
    Run run =
        Run.of(
            "diagnose", "--sae", demo, "--vector", demo.resolve("steering_vectors.safetensors") + "#formality", "--activations",
            x, "--positive", x, "--negative", x + "#[0]", "--labels", labels, "--report", report);
    assertEquals("", run.err());
    assertEquals(0, run.exitCode());
  }

  @Test
  void needsNothingElse() throws IOException {
    String html = Files.readString(report);
    assertFalse(html.matches("(?s).*<(link|img|iframe)\\b.*"), "something would be loaded");
    assertFalse(html.matches("(?s).*(src|href)\\s*=\\s*[\"'].*"), "something would be loaded");
    assertTrue(html.contains("Released under the MIT License"), "the chart library's notice");
    assertFalse(html.contains("</script><script>document"), "a label ended the script");
    try (Stream<Path> files = Files.list(folder)) {
      assertEquals(2, files.count(), "a temporary file stayed");
    }
  }

  @Test
  void followsNoLinkThatWasPlanted() throws IOException {
    Path victim = Files.writeString(folder.resolve("victim"), "whole");
    Path planted = folder.resolve(".report.html." + ProcessHandle.current().pid() + ".tmp");
    Files.createSymbolicLink(planted, victim);
    Report.write(report, new JsonObject(), new JsonObject());
    assertEquals("whole", Files.readString(victim));
    assertTrue(Files.isSymbolicLink(planted));
  }

  @Test
  void opensInABrowser() throws Exception {
    String chromium = chromium();
    String page = run(chromium, "--dump-dom", "--virtual-time-budget=5000", report.toUri().toString());
    assertTrue(page.contains("outside the SAE's input distribution"), "a finding is missing");
    assertTrue(page.contains("<td>&lt;/script&gt;&lt;script&gt;document.title='broken'&lt;/script&gt;</td>"), "a label is missing");
    assertTrue(page.contains("/*CHARTS*/ &amp; &lt;b&gt;bold&lt;/b&gt;"), "a label is missing");
    assertTrue(page.contains("<h1 id=\"title\">formality</h1>"), "the title is missing");
    assertFalse(page.contains("<title>broken"), "a label was run");
    assertTrue(page.contains("data-drawn=\"8\""), "charts are missing");
    assertEquals("", refusals(), "the policy is in the way of the page");
    Files.createDirectories(PICTURES);
    for (String size : List.of("1280,900", "390,844")) {
      Path picture = PICTURES.resolve("report-" + size.replace(',', 'x') + ".png").toAbsolutePath();
      Files.deleteIfExists(picture);
      run(chromium, "--hide-scrollbars", "--window-size=" + size, "--screenshot=" + picture, report.toUri().toString());
      assertTrue(Files.size(picture) > 10_000, "an empty picture: " + picture);
    }
  }

  /** Were a label to get out of its place after all. */
  @Test
  void runsNoOtherScript() throws Exception {
    String chromium = chromium();
    String more = "<script>document.title = 'broken'</script><p id=\"more\">more</p><style>p { display: none }</style></body>";
    Files.writeString(report, Files.readString(report).replace("</body>", more));
    String page = run(chromium, "--dump-dom", "--virtual-time-budget=5000", report.toUri().toString());
    assertTrue(page.contains("id=\"more\""), "what was added is missing");
    assertFalse(page.contains("<title>broken"), "a script was run that is not the page's");
    assertTrue(refusals().contains("script") && refusals().contains("style"), refusals());
  }

  /** What the browser says that the policy forbids. */
  private String refusals() throws IOException {
    return Files.readString(folder.resolve("err.txt"))
        .lines()
        .filter(line -> line.contains("Content Security Policy"))
        .collect(Collectors.joining("\n"));
  }

  private static String chromium() {
    String found =
        Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
            .flatMap(folder -> Stream.of("chromium", "chromium-browser", "google-chrome").map(name -> folder + "/" + name))
            .filter(file -> Files.isExecutable(Path.of(file)))
            .findFirst()
            .orElse(null);
    if (Boolean.getBoolean("sae4j.chromium.required")) {
      assertTrue(found != null, "Chromium is required, and none is on the PATH");
    }
    Assumptions.assumeTrue(found != null, "no Chromium on the PATH");
    return found;
  }

  private String run(String chromium, String... arguments) throws IOException, InterruptedException {
    List<String> command =
        new ArrayList<>(
            List.of(
                chromium, "--headless=new", "--enable-logging=stderr", "--no-sandbox", "--disable-gpu",
                "--user-data-dir=" + folder.resolve("profile")));
    command.addAll(List.of(arguments));
    Path out = folder.resolve("out.txt");
    Process process =
        new ProcessBuilder(command).redirectOutput(out.toFile()).redirectError(folder.resolve("err.txt").toFile()).start();
    assertTrue(process.waitFor(60, TimeUnit.SECONDS), "the browser did not end");
    assertEquals(0, process.exitValue());
    return Files.readString(out);
  }
}

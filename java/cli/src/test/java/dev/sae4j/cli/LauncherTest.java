package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.jar.Attributes;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import java.util.zip.ZipEntry;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The launcher, in a folder of its own with a jar that answers its arguments, and tools that only pretend. */
class LauncherTest {
  private static final Path LAUNCHER = Path.of(System.getProperty("sae4j.root"), "sae4j");

  /** What the jar runs. */
  public static final class Echo {
    public static void main(String[] args) {
      System.out.println(
          args[0].equals("open") ? Files.exists(Path.of(args[1]))
          : args[0].equals("columns") ? System.getenv("COLUMNS")
          : "ran " + String.join(" ", args));
    }
  }

  @TempDir private Path folder;
  private Path tools;
  private Path root;
  private Path jar;

  @BeforeEach
  void prepare() throws IOException {
    tools = Files.createDirectory(folder.resolve("tools"));
    for (String tool : "bash env readlink dirname find sed touch mv mkdir tail cut stty cp locale".split(" ")) {
      Path inBin = Path.of("/bin", tool);
      Files.createSymbolicLink(tools.resolve(tool), Files.exists(inBin) ? inBin : Path.of("/usr/bin", tool));
    }
    root = Files.createDirectory(folder.resolve("ro ot"));
    Files.copy(LAUNCHER, root.resolve("sae4j"), StandardCopyOption.COPY_ATTRIBUTES);
    Files.writeString(root.resolve("pom.xml"), "a source");
    jar = root.resolve("java/cli/target/sae4j-cli.jar");
    Files.createDirectories(jar.getParent());
  }

  private void writeJar(Path path) throws IOException {
    Manifest manifest = new Manifest();
    manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
    manifest.getMainAttributes().put(Attributes.Name.MAIN_CLASS, Echo.class.getName());
    try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(path), manifest)) {
      String name = Echo.class.getName().replace('.', '/') + ".class";
      out.putNextEntry(new ZipEntry(name));
      out.write(Echo.class.getClassLoader().getResourceAsStream(name).readAllBytes());
    }
  }

  private void tool(String name, String script) throws IOException {
    Path path = Files.writeString(tools.resolve(name), "#!/bin/bash\n" + script + "\n");
    assertTrue(path.toFile().setExecutable(true));
  }

  private Run launch(String javaHome, Path command, String... args) throws IOException, InterruptedException {
    List<String> line = new ArrayList<>(List.of(command.toString()));
    line.addAll(List.of(args));
    Path out = folder.resolve("out");
    Path err = folder.resolve("err");
    ProcessBuilder process =
        new ProcessBuilder(line).directory(folder.toFile()).redirectOutput(out.toFile()).redirectError(err.toFile());
    Map<String, String> environment = process.environment();
    environment.clear();
    environment.put("PATH", tools.toString());
    if (javaHome != null) {
      environment.put("JAVA_HOME", javaHome);
    }
    int exitCode = process.start().waitFor();
    return new Run(exitCode, Files.readString(out), Files.readString(err));
  }

  private Path jdk(String name, String version) throws IOException {
    Path home = Files.createDirectories(folder.resolve(name));
    Files.createDirectory(home.resolve("bin"));
    Files.createSymbolicLink(home.resolve("bin/java"), Path.of(System.getProperty("java.home"), "bin/java"));
    Files.writeString(home.resolve("release"), "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"%s\"\n".formatted(version));
    return home;
  }

  @Test
  void runsThroughASymlinkFromAnywhere() throws Exception {
    writeJar(jar);
    Path link = Files.createSymbolicLink(folder.resolve("link"), root.resolve("sae4j"));
    Run run = launch(System.getProperty("java.home"), link, "encode", "a b", "--json");
    assertEquals(new Run(0, "ran encode a b --json\n", ""), run);
  }

  @Test
  void tellsTheWidthOfTheTerminal() throws Exception {
    Path script = Path.of("/usr/bin/script"); // gives a command a terminal
    assumeTrue(Files.exists(script));
    writeJar(jar);
    String command = "stty cols 70; '%s' columns".formatted(root.resolve("sae4j"));
    assertEquals("70", launch(System.getProperty("java.home"), script, "-qc", command, "/dev/null").out().strip());
  }

  @Test
  void opensWhatIsNamedBeyondAsciiInAnyLocale() throws Exception {
    writeJar(jar);
    Path opens = folder.resolve("opens"); // bash writes the name's bytes, whatever this JVM's locale
    String letters = "$'\\303\\251 \\351\\240\\201'";
    Files.writeString(
        opens, "#!/bin/bash\nmkdir -p %1$s; : >%1$s/x; export $1; exec 'ro ot/sae4j' open %1$s/x\n".formatted(letters));
    assertTrue(opens.toFile().setExecutable(true));
    String home = System.getProperty("java.home");
    List<String> locales = List.of("LC_ALL=C", "LC_ALL=POSIX", "LC_CTYPE=C", "LANG=xx_XX.UTF-8", "LC_ALL=C.UTF-8", "NONE=");
    for (String locale : locales) {
      assertEquals("true\n", launch(home, opens, locale).out(), locale);
    }
    Files.delete(tools.resolve("locale"));
    for (String locale : List.of("LC_ALL=C", "LC_ALL=POSIX", "LC_ALL=C.UTF-8", "NONE=")) {
      assertEquals(new Run(0, "true\n", ""), launch(home, opens, locale), locale);
    }
  }

  @Test
  void saysWhichJavaIsMissing() throws Exception {
    writeJar(jar);
    Run none = launch(null, root.resolve("sae4j"));
    assertEquals(1, none.exitCode());
    assertTrue(none.err().contains("Java 17 or newer is needed, found none"), none.err());
    Run old = launch(jdk("old", "11.0.2").toString(), root.resolve("sae4j"));
    assertEquals(1, old.exitCode());
    assertTrue(old.err().contains("found Java 11 in "), old.err());
    Run older = launch(jdk("older", "1.8.0_402").toString(), root.resolve("sae4j"));
    assertTrue(older.err().contains("found Java 8 in "), older.err());
    assertEquals(1, older.err().lines().count());
  }

  @Test
  void saysWhichToolIsMissing() throws Exception {
    String home = System.getProperty("java.home");
    Run run = launch(home, root.resolve("sae4j"));
    assertEquals(new Run(1, "", "sae4j: building needs mvn, which is not on the PATH\n"), run);
    tool("mvn", "exit 1");
    assertTrue(launch(home, root.resolve("sae4j")).err().contains("building needs g++"));
    tool("g++", "exit 1");
    assertTrue(launch(home, root.resolve("sae4j")).err().contains("building needs cmake"));
  }

  @Test
  void buildsWhatIsMissingOrOlderThanItsSources() throws Exception {
    Path built = folder.resolve("built.jar");
    writeJar(built);
    tool("g++", "exit 1");
    tool("cmake", "exit 1");
    tool("mvn", "echo noise; cp '%s' '%s'".formatted(built, jar));
    Path jdk = jdk("jdk", "17.0.1");
    Files.createFile(jdk.resolve("bin/javac"));
    assertTrue(jdk.resolve("bin/javac").toFile().setExecutable(true));
    Path launcher = root.resolve("sae4j");
    Run first = launch(jdk.toString(), launcher, "x");
    assertEquals(new Run(0, "ran x\n", "sae4j: building, this takes a minute ...\n"), first);
    assertEquals("", launch(jdk.toString(), launcher, "x").err());
    Files.setLastModifiedTime(root.resolve("pom.xml"), FileTime.from(Instant.now().plusSeconds(2)));
    assertTrue(launch(jdk.toString(), launcher, "x").err().contains("building"));
    tool("mvn", "echo it broke; exit 1");
    Run broken = launch(jdk.toString(), launcher, "x");
    assertEquals(1, broken.exitCode());
    assertTrue(broken.err().contains("it broke") && broken.err().contains("the build failed"), broken.err());
    assertEquals("", broken.out());
  }
}

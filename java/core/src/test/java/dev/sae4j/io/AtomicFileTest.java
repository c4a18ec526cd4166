package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What a file is written over, and what a killed process leaves. */
@Timeout(60)
class AtomicFileTest {
  @TempDir private Path folder;

  private static void write(Path target, String text) {
    try (AtomicFile file = new AtomicFile(target)) {
      file.write(StandardCharsets.UTF_8.encode(text));
      file.commit();
    }
  }

  private List<Path> temporaries() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.filter(file -> file.toString().endsWith(".tmp")).toList();
    }
  }

  /** Runs a tool in the folder; whether it could do what it was asked. */
  private boolean run(String... command) throws IOException, InterruptedException {
    return new ProcessBuilder(command).directory(folder.toFile()).start().waitFor() == 0;
  }

  private static String mode(Path file) throws IOException {
    return PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
  }

  @Test
  void keepsTheModeOfWhatItReplaces() throws IOException {
    Path file = Files.writeString(folder.resolve("x"), "old");
    for (String mode : List.of("rw-------", "rw-rw-rw-", "rw-r-----", "rwxr-x---")) {
      Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(mode));
      try (AtomicFile atomic = new AtomicFile(file)) {
        assertEquals("rw-------", mode(temporaries().get(0)), "others could read what is yet unfinished");
        atomic.write(ByteBuffer.wrap(new byte[] {'n', 'e', 'w'}));
        atomic.commit();
      }
      assertEquals(mode, mode(file));
      assertEquals("new", Files.readString(file));
    }
    Path byUmask = Files.createFile(folder.resolve("usual"));
    write(folder.resolve("fresh"), "new");
    assertEquals(mode(byUmask), mode(folder.resolve("fresh")));
  }

  @Test
  void keepsOwnerAndGroupWhereThatIsPermitted() throws Exception {
    Path file = Files.writeString(folder.resolve("x"), "old");
    assumeTrue(run("chown", "12:34", "x"), "only root may");
    write(file, "new");
    assertEquals(12, Files.getAttribute(file, "unix:uid"));
    assertEquals(34, Files.getAttribute(file, "unix:gid"));
  }

  @Test
  void writesWhereALinkPoints() throws IOException {
    Path elsewhere = Files.createDirectory(folder.resolve("elsewhere"));
    Path file = Files.writeString(elsewhere.resolve("x"), "old");
    Path link = Files.createSymbolicLink(folder.resolve("link"), Path.of("elsewhere/x"));
    Path twice = Files.createSymbolicLink(folder.resolve("twice"), Path.of("link"));
    Path dangling = Files.createSymbolicLink(folder.resolve("dangling"), Path.of("elsewhere/made"));
    write(twice, "new");
    write(dangling, "made");
    assertTrue(Files.isSymbolicLink(twice) && Files.isSymbolicLink(link) && Files.isSymbolicLink(dangling));
    assertEquals("new", Files.readString(file));
    assertEquals("made", Files.readString(elsewhere.resolve("made")));
    Path loop = Files.createSymbolicLink(folder.resolve("loop"), Path.of("loop"));
    failed(() -> write(loop, "x"), "loop: cannot be written: ");
    assertTrue(Files.isSymbolicLink(loop));
  }

  /** Writes {@code sub/x} and {@code sub/x.npz} by a process of its own; what it complained of. */
  private String writtenBy(String... prefix) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>(List.of(prefix));
    command.addAll(
        List.of(Path.of(System.getProperty("java.home"), "bin/java").toString(), "--enable-native-access=ALL-UNNAMED"));
    command.addAll(List.of("-cp", ChildJvm.classPath(), Writer.class.getName(), folder.resolve("sub/x").toString()));
    Path errors = Files.createTempFile(folder, "errors", "");
    new ProcessBuilder(command)
        .redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()))
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .redirectError(errors.toFile())
        .start()
        .waitFor();
    return Files.readString(errors);
  }

  /** By a user who is not root, in a folder and over files of these modes. */
  private String writtenByNobody(String modeOfFolder, String modeOfFiles) throws Exception {
    Path sub = Files.createDirectories(folder.resolve("sub"));
    for (String name : List.of("x", "x.npz")) {
      Files.writeString(sub.resolve(name), "old, and longer");
      run("chmod", modeOfFiles, "sub/" + name);
    }
    run("chmod", "755", ".");
    run("chmod", modeOfFolder, "sub");
    String[] nobody = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    String classes = ChildJvm.classPath().split(":")[0];
    assumeTrue(run(nobody[0], nobody[1], nobody[2], nobody[3], "test", "-r", classes + "/dev"), "only root may");
    return writtenBy(nobody);
  }

  @Test
  void whatIsProtectedStays() throws Exception {
    String error = writtenByNobody("777", "444");
    assertTrue(error.contains("sub/x: cannot be written: permission denied"), error);
    assertEquals("old, and longer", Files.readString(folder.resolve("sub/x")));
  }

  @Test
  void whatMayBeWrittenIsWhateverTheFolderPermits() throws Exception {
    for (String folderMode : List.of("777", "755", "1777")) { // the last: no user renames over another's file
      assertEquals("", writtenByNobody(folderMode, "666"), folderMode);
      assertEquals("new", Files.readString(folder.resolve("sub/x")), folderMode);
    }
  }

  @Test
  void aMountedFileIsWrittenTo() throws Exception {
    Files.createDirectory(folder.resolve("sub"));
    Path mounted = Files.writeString(folder.resolve("mounted"), "old, and longer");
    Files.createFile(folder.resolve("sub/x"));
    assumeTrue(run("unshare", "-m", "mount", "--bind", "mounted", "sub/x"), "only root may");
    String mount = "mount --bind '%s' '%s' && \"$0\" \"$@\"".formatted(mounted, folder.resolve("sub/x"));
    assertEquals("", writtenBy("unshare", "-m", "sh", "-c", mount));
    assertEquals("new", Files.readString(mounted));
    assertEquals(0, Files.size(folder.resolve("sub/x")));
  }

  /** Both writers patch or assemble at the end, which a FIFO can't do. */
  @Test
  void writesIntoAFifo() throws Exception {
    assumeTrue(run("mkfifo", "fifo"), "no mkfifo");
    Path fifo = folder.resolve("fifo");
    CompletableFuture<byte[]> npy = reading(fifo);
    try (NpyWriter writer = NpyWriter.create(fifo, 2)) {
      writer.write(FloatBuffer.wrap(new float[] {1, 2, 3, 4}));
      writer.commit();
    }
    Path plain = folder.resolve("plain.npy");
    try (NpyWriter writer = NpyWriter.create(plain, 2)) {
      writer.write(FloatBuffer.wrap(new float[] {1, 2, 3, 4}));
      writer.commit();
    }
    assertArrayEquals(Files.readAllBytes(plain), npy.get(30, TimeUnit.SECONDS));

    CompletableFuture<byte[]> npz = reading(fifo);
    try (CodesWriter writer = CodesWriter.create(fifo, 7)) {
      writer.commit();
    }
    try (CodesWriter writer = CodesWriter.create(plain, 7)) {
      writer.commit();
    }
    assertArrayEquals(Files.readAllBytes(plain), npz.get(30, TimeUnit.SECONDS));

    CompletableFuture<byte[]> nothing = reading(fifo);
    new AtomicFile(fifo).close();
    assertEquals(0, nothing.get(30, TimeUnit.SECONDS).length, "what was not committed was written");
    assertFalse(Files.isRegularFile(fifo));
    assertEquals(List.of(), temporaries());
  }

  @Test
  void aFullDiskThatOnlyWhatWaitsLiesOnIsNamed() throws Exception {
    assumeTrue(run("mkfifo", "fifo"), "no mkfifo");
    CompletableFuture<byte[]> nothing = reading(folder.resolve("fifo"));
    String usual = System.setProperty("java.io.tmpdir", folder.resolve("gone").toString());
    try {
      failed(
          () -> write(folder.resolve("fifo"), "x"),
          "fifo: cannot be written, by way of " + folder.resolve("gone") + ": no such file or folder");
    } finally {
      System.setProperty("java.io.tmpdir", usual);
    }
    assertEquals(0, nothing.get(30, TimeUnit.SECONDS).length);
  }

  private static CompletableFuture<byte[]> reading(Path fifo) {
    return CompletableFuture.supplyAsync(
        () -> {
          try {
            return Files.readAllBytes(fifo);
          } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
          }
        });
  }

  /** Nodes of our own, with the numbers of /dev/null and /dev/full. */
  @Test
  void writesToADeviceAndNeverReplacesIt() throws Exception {
    assumeTrue(run("mknod", "null", "c", "1", "3") && run("mknod", "full", "c", "1", "7"), "only root may");
    Path device = folder.resolve("null");
    write(device, "gone");
    write(Files.createSymbolicLink(folder.resolve("link"), device), "gone");
    failed(() -> write(folder.resolve("full"), "lost"), "full: cannot be written: No space left on device");
    for (String name : List.of("null", "full")) {
      assertFalse(Files.isRegularFile(folder.resolve(name), LinkOption.NOFOLLOW_LINKS));
    }
    assertEquals(List.of(), temporaries());
  }

  @Test
  void aLongNameFits() throws IOException {
    for (int length : new int[] {249, 255}) {
      Path file = folder.resolve("x".repeat(length));
      write(file, "new");
      assertEquals("new", Files.readString(file));
    }
  }

  /** Opens a file, says so, and waits to be killed, or to be told to go on. */
  static final class Writer {
    private Writer() {}

    public static void main(String[] arguments) throws IOException {
      try (AtomicFile file = new AtomicFile(Path.of(arguments[0]));
          CodesWriter codes = CodesWriter.create(Path.of(arguments[0] + ".npz"), 7)) {
        file.write(ByteBuffer.wrap(new byte[] {'n', 'e', 'w'}));
        System.out.println("open");
        System.in.read();
        file.commit();
        codes.commit();
      }
    }
  }

  private Process writer(Path target) throws IOException {
    String java = Path.of(System.getProperty("java.home"), "bin/java").toString();
    Process process =
        new ProcessBuilder(
                java, "--enable-native-access=ALL-UNNAMED", "-Xmx64m", "-cp", ChildJvm.classPath(), Writer.class.getName(),
                target.toString())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    assertEquals('o', process.getInputStream().read());
    return process;
  }

  @Test
  void whatAKilledProcessLeftIsRemovedAndWhatALiveOneWritesIsNot() throws Exception {
    Process killed = writer(folder.resolve("killed"));
    killed.destroyForcibly().waitFor();
    List<Path> left = temporaries();
    assertEquals(2, left.size());
    Path notOurs = Files.createFile(folder.resolve(".sae4j-x.tmp"));
    String name = left.get(0).getFileName().toString();
    Path ofAnotherMachine = Files.createFile(folder.resolve(name.substring(0, 7) + "01234567" + name.substring(15)));
    Path live = folder.resolve("live");
    Process running = writer(live);
    try {
      assertTrue(left.stream().noneMatch(Files::exists), "the next process left them");
      assertEquals(4, temporaries().size(), "those of the live one, what only looks like one, another machine's");
      write(folder.resolve("x"), "ours");
      assertEquals(4, temporaries().size());
      running.getOutputStream().write('\n');
      running.getOutputStream().flush();
      assertEquals(0, running.waitFor());
    } finally {
      running.destroyForcibly();
    }
    assertEquals("new", Files.readString(live));
    assertTrue(Files.exists(folder.resolve("live.npz")));
    assertEquals(Set.of(notOurs, ofAnotherMachine), Set.copyOf(temporaries()));
  }
}

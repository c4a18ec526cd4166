package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NpyWriterTest {
  @TempDir Path folder;

  private long files() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.count();
    }
  }

  @Test
  void writesInChunksWhatIsReadBack() throws IOException {
    Path path = Files.writeString(folder.resolve("x.npy"), "old");
    float[] values = new float[3 * 50_000];
    for (int i = 0; i < values.length; i++) {
      values[i] = i * 0.1f;
    }
    try (NpyWriter writer = NpyWriter.create(path, 3)) {
      writer.write(FloatBuffer.wrap(values, 0, 6));
      writer.write(FloatBuffer.allocate(0));
      FloatBuffer direct = ByteBuffer.allocateDirect(4 * values.length).asFloatBuffer(); // big-endian, too
      direct.put(values).position(6);
      writer.write(direct);
      assertEquals(0, direct.remaining());
      assertEquals("old", Files.readString(path));
      writer.commit();
    }
    assertEquals(1, files());
    try (ActivationReader reader = ActivationReader.open(path.toString(), 3)) {
      FloatBuffer all = FloatBuffer.allocate(values.length);
      assertEquals(50_000, reader.read(all));
      assertArrayEquals(values, all.array());
    }
    byte[] start = new byte[128];
    ByteBuffer.wrap(Files.readAllBytes(path)).get(start);
    String header = new String(start, StandardCharsets.ISO_8859_1);
    assertEquals("{'descr': '<f4', 'fortran_order': False, 'shape': (50000, 3), }", header.substring(10).strip());
  }

  @Test
  void whatIsNotCommittedLeavesNoTrace() throws IOException {
    Path path = Files.writeString(folder.resolve("x.npy"), "old");
    NpyWriter writer = NpyWriter.create(path, 3);
    writer.write(FloatBuffer.allocate(3));
    assertThrows(IllegalArgumentException.class, () -> writer.write(FloatBuffer.allocate(4)));
    writer.close();
    writer.close();
    assertEquals("old", Files.readString(path));
    assertEquals(1, files());
  }

  @Test
  void refusesFoldersThatCannotBeWrittenTo() {
    failed(() -> NpyWriter.create(folder.resolve("missing/x.npy"), 3), "x.npy: cannot be written: no such");
    failed(() -> NpyWriter.create(folder, 3), "is a folder");
  }

  /** A disk that is full, told by a limit on the size of files: no writer may leave a part, or harm what was there. */
  @Test
  void aFullDiskLeavesTheOldFileWhole() throws Exception {
    Path path = Files.writeString(folder.resolve("x.npy"), "old");
    String message = ChildJvm.run("ulimit -f 64", "-Xmx64m -XX:-UsePerfData", FullDisk.class, path.toString());
    assertEquals(path + ": cannot be written: File too large", message);
    assertEquals("old", Files.readString(path));
    assertEquals(1, files());
  }

  static final class FullDisk {
    private FullDisk() {}

    public static void main(String[] arguments) {
      try (NpyWriter writer = NpyWriter.create(Path.of(arguments[0]), 1024)) {
        for (int i = 0; i < 1000; i++) {
          writer.write(FloatBuffer.allocate(1024));
        }
        writer.commit();
      } catch (RuntimeException e) {
        System.out.println(e.getMessage());
      }
    }
  }
}

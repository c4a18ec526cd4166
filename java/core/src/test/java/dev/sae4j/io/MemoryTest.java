package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sae4j.SaeException;
import dev.sae4j.SaeWeights;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Weights never pass through the heap as a whole: 200 MB of them are read under one of 48 MiB. */
class MemoryTest {
  private static final long D_IN = 512;
  private static final long D_SAE = 49_152;

  @TempDir Path folder;

  @Test
  void readsAnSaeThatIsLargerThanTheHeap() throws Exception {
    writeZeros(folder);
    assertEquals("512 49152", ChildJvm.run(":", "-Xmx48m", Reader.class, folder.toString()));
  }

  /** The most that a program of a few MiB can make, before it is refused. */
  @Test
  void hostilePicklesTakeLittle() throws Exception {
    String text = "58 04 00 00 00 61 62 63 64 94";
    for (String program : List.of("85", "7d", "5d 94", "7d 4b 01 4e 73", "28", text)) {
      assertEquals("524288 steps", ChildJvm.run(":", "-Xmx96m", Unpickler.class, program));
    }
  }

  static final class Unpickler {
    private Unpickler() {}

    public static void main(String[] arguments) {
      byte[] piece = HexFormat.ofDelimiter(" ").parseHex(arguments[0]);
      byte[] bytes = new byte[1 << 23];
      for (int i = 1; i < bytes.length; i++) {
        bytes[i] = piece[(i - 1) % piece.length];
      }
      bytes[0] = 'N';
      try {
        Pickle.read("x.pt", bytes);
      } catch (SaeException e) {
        System.out.println(e.getMessage().replaceFirst(".*more than ", ""));
      }
    }
  }

  /** A hole, so that it costs neither time nor disk. */
  private static void writeZeros(Path folder) throws IOException {
    long matrix = 4 * D_IN * D_SAE;
    long[] ends = {matrix, 2 * matrix, 2 * matrix + 4 * D_SAE, 2 * matrix + 4 * (D_SAE + D_IN)};
    String header =
        ("{'W_enc':{'dtype':'F32','shape':[%d,%d],'data_offsets':[0,%d]},"
                + "'W_dec':{'dtype':'F32','shape':[%d,%d],'data_offsets':[%d,%d]},"
                + "'b_enc':{'dtype':'F32','shape':[%d],'data_offsets':[%d,%d]},"
                + "'b_dec':{'dtype':'F32','shape':[%d],'data_offsets':[%d,%d]}}")
            .formatted(
                D_IN, D_SAE, ends[0], D_SAE, D_IN, ends[0], ends[1], D_SAE, ends[1], ends[2], D_IN, ends[2], ends[3])
            .replace('\'', '"');
    Files.writeString(folder.resolve("cfg.json"), "{\"architecture\": \"standard\", \"apply_b_dec_to_input\": true}");
    try (RandomAccessFile file = new RandomAccessFile(folder.resolve("sae_weights.safetensors").toFile(), "rw")) {
      file.write(Fixtures.safetensors(header, new byte[0]));
      file.setLength(8 + header.getBytes(StandardCharsets.UTF_8).length + ends[3]);
    }
  }

  static final class Reader {
    private Reader() {}

    public static void main(String[] arguments) {
      try (SaeWeights weights = SaeReader.read(Path.of(arguments[0]))) {
        System.out.println(weights.dIn() + " " + weights.dSae());
      }
    }
  }
}

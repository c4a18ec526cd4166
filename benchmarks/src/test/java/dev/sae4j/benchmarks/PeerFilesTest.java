package dev.sae4j.benchmarks;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sae4j.SparseAutoencoder;
import dev.sae4j.SparseCodes;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.CodesReader;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PeerFilesTest {
  private static final int D = 64;

  /** What the peers are checked against must come from the very files that they get. */
  @Test
  void theSaeOfTheFilesGivesTheirCodesAndVectors(@TempDir Path folder) throws IOException {
    PeerFiles.main(new String[] {"64x512", "1,32", folder.toString()});
    try (SparseAutoencoder sae = SparseAutoencoder.open(folder.resolve("sae"));
        CodesReader reader = CodesReader.open(folder.resolve("codes.npz"));
        SparseCodes expected = new SparseCodes()) {
      int rows = (int) reader.read(expected, Integer.MAX_VALUE);
      try (SparseCodes codes = sae.encode(rows(folder.resolve("x.npy"), rows))) {
        assertEquals(expected.indices().asBuffer(), codes.indices().asBuffer());
        assertEquals(expected.values().asBuffer(), codes.values().asBuffer());
        assertArrayEquals(rows(folder.resolve("x_hat.npy"), rows), sae.decode(codes));
      }
    }
  }

  private static float[] rows(Path file, int count) {
    FloatBuffer rows = FloatBuffer.allocate(count * D);
    try (ActivationReader reader = ActivationReader.open(file.toString())) {
      assertEquals(count, reader.read(rows));
    }
    return rows.array();
  }
}

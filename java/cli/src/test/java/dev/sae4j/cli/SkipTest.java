package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.Device;
import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** An SAE of which the skip connection alone is right: it copies x, whatever the features do, and these decode to nothing. */
class SkipTest {
  @TempDir Path folder;
  private Path x;
  private Path codes;
  private Path out;

  @BeforeEach
  void write() throws IOException {
    x = TestFiles.npy(folder.resolve("x.npy"), "(3, 2)", 1, -2, 3, 4, -5, 6);
    codes = folder.resolve("codes.npz");
    out = folder.resolve("out.npy");
  }

  private static SparseAutoencoder open(boolean hasSkip) {
    SaeInfo info = new SaeInfo("test", "transcoder", "float32", null, null, List.of(), List.of());
    SaeWeights.Form form = new SaeWeights.Form(2, 2, 3, Selection.TOP_SIGNED, 2, Normalization.NONE, hasSkip);
    try (SaeWeights weights = SaeWeights.allocate(form, info)) {
      weights.wEnc().put(1, 0, 0, 1, 1, 1);
      weights.scale().put(1, 1, 1);
      weights.threshold().put(new float[] {-1e9f, -1e9f, -1e9f});
      if (hasSkip) {
        weights.wSkip().put(1, 0, 0, 1);
      }
      return SparseAutoencoder.open(weights, Device.cpu());
    }
  }

  @Test
  void checkAndDecodeTakeTheActivations() throws IOException {
    try (SparseAutoencoder sae = open(true);
        ActivationReader activations = ActivationReader.open(x.toString(), 2)) {
      assertEquals(1.0, Encode.run(sae, x.toString(), codes, true).explainedVariance());
      assertEquals(3, Decode.run(sae, codes, activations, out, false).n());
    }
    try (ActivationReader decoded = ActivationReader.open(out.toString(), 2)) {
      FloatBuffer rows = FloatBuffer.allocate(6);
      decoded.read(rows);
      assertArrayEquals(new float[] {1, -2, 3, 4, -5, 6}, rows.array(), 0);
    }
  }

  @Test
  void activationsThatAreMissingNeedlessOrOthersAreNamed() throws IOException {
    Path fewer = TestFiles.npy(folder.resolve("fewer.npy"), "(2, 2)", 1, 2, 3, 4);
    try (SparseAutoencoder sae = open(true);
        SparseAutoencoder plain = open(false);
        ActivationReader all = ActivationReader.open(x.toString(), 2);
        ActivationReader two = ActivationReader.open(fewer.toString(), 2)) {
      Encode.run(sae, x.toString(), codes, false);
      refused("decode needs --input X", sae, null);
      refused("--input has 2 rows, expected those of " + codes + ": 3", sae, two);
      refused("this one (transcoder) has none", plain, all);
    }
    Path nan = TestFiles.npy(folder.resolve("nan.npy"), "(3, 2)", 1, 2, 3, 4, 5, Float.NaN);
    try (SparseAutoencoder sae = open(true);
        ActivationReader broken = ActivationReader.open(nan.toString(), 2)) {
      refused(nan + ": values must be finite, got NaN at row 2, column 1", sae, broken);
    }
  }

  private void refused(String message, SparseAutoencoder sae, ActivationReader activations) {
    SaeException e = assertThrows(SaeException.class, () -> Decode.run(sae, codes, activations, out, false));
    assertTrue(e.getMessage().contains(message), "expected \"" + message + "\", got \"" + e.getMessage() + "\"");
  }
}

package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeWeights;
import java.nio.file.Path;

/** Reads SAE checkpoints. */
public final class SaeReader {
  private SaeReader() {}

  /**
   * Reads an SAE into native memory, folded into the one form of {@link SaeWeights}.
   *
   * @param path a folder or a file
   * @param format {@code "saelens"} or {@code "gemma-scope"} to force a reader, null to detect
   * @throws SaeException if it can't be read, naming file, expected and got
   */
  public static SaeWeights read(Path path, String format) {
    throw new SaeException(path + ": no reader yet");
  }
}

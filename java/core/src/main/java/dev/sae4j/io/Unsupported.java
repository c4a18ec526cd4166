package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Known files that hold no SAE of one layer, told by their names: better named than taken for something else. */
final class Unsupported {
  private Unsupported() {}

  static void refuse(Path path) {
    if (holds(path, "latest_ckpt.safetensors") && Files.exists(folder(path).resolve("conf.yaml"))) {
      throw new SaeFormatException(
          path + ": is a temporal SAE (latest_ckpt.safetensors, conf.yaml), whose features need earlier tokens: not supported");
    }
    if (holds(path, "W_{enc,dec}_[0-9]*.safetensors")) {
      throw new SaeFormatException(
          path + ": is a cross-layer transcoder (CLT, W_enc_N.safetensors), whose features write to many layers: not supported");
    }
  }

  private static Path folder(Path path) {
    return Files.isDirectory(path) ? path : path.toAbsolutePath().getParent();
  }

  /** Whether it is, or is a folder with, a file of that name. */
  private static boolean holds(Path path, String glob) {
    return Files.isDirectory(path)
        ? !SaeReader.list(path, glob).isEmpty()
        : path.getFileSystem().getPathMatcher("glob:" + glob).matches(path.getFileName());
  }
}

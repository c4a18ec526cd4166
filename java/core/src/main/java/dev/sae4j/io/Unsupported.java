package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Known files that hold no SAE of one layer, told by their names: better named than taken for something else. */
final class Unsupported {
  private Unsupported() {}

  static void refuse(Path path) {
    boolean isFolder = Files.isDirectory(path);
    Path folder = isFolder ? path : path.toAbsolutePath().getParent();
    String file = isFolder ? "*" : path.getFileName().toString();
    if (Files.exists(folder.resolve("conf.yaml")) && (isFolder ? has(path, "latest_ckpt.safetensors") : file.equals("latest_ckpt.safetensors"))) {
      throw new SaeFormatException(
          path + ": is a temporal SAE (conf.yaml, latest_ckpt.safetensors), whose features depend on earlier tokens: not supported");
    }
    if (isFolder ? has(path, "W_{enc,dec}_*.safetensors") : file.matches("W_(enc|dec)_\\d+\\.safetensors")) {
      throw new SaeFormatException(
          path + ": is a cross-layer transcoder (CLT: W_enc_N.safetensors, W_dec_N.safetensors), whose features write to many layers: not supported");
    }
  }

  private static boolean has(Path folder, String glob) {
    return !Config.list(folder, glob).isEmpty();
  }
}

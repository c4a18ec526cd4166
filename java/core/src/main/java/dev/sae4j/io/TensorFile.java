package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * An open file of tensors, its header read and checked. A tensor that stands alone, as in an .npy file, is named "".
 *
 * @param path as the user gave it, for messages
 */
record TensorFile(Path path, Closeable file, Map<String, Tensor> tensors) implements AutoCloseable {
  private static final String EXPECTED = "expected a .npy, .npz, .safetensors, .pt, .pth, .gguf or .svec file";

  /** Reads the names, dtypes and shapes, by the file's extension. */
  static TensorFile open(Path path) {
    if (Files.isDirectory(path)) {
      throw new SaeException(path + ": is a folder, " + EXPECTED);
    }
    if (!Files.exists(path)) {
      throw new SaeException(path + ": no such file");
    }
    if (path.toString().endsWith(Shards.INDEX)) {
      return Shards.open(path);
    }
    return switch (extension(path)) {
      case "safetensors" -> open(path, TensorFile::channel, Safetensors::read);
      case "npz" -> open(path, Npz::open, Npz::readArrays);
      case "npy" -> open(path, TensorFile::channel, Npy::readFile);
      case "pt", "pth" -> open(path, PyTorch::open, PyTorch::read);
      case "gguf" -> open(path, TensorFile::channel, Gguf::read);
      case "svec" -> open(path, TensorFile::channel, Svec::read);
      default -> throw new SaeException(path + ": unknown format, " + EXPECTED);
    };
  }

  private static String extension(Path path) {
    String name = String.valueOf(path.getFileName()).toLowerCase(Locale.ROOT);
    return name.substring(name.lastIndexOf('.') + 1);
  }

  @FunctionalInterface
  private interface Opener<F> {
    F open(Path path) throws IOException;
  }

  @FunctionalInterface
  private interface Parser<F> {
    Map<String, Tensor> read(Path path, F file) throws IOException;
  }

  private static FileChannel channel(Path path) throws IOException {
    return FileChannel.open(path, StandardOpenOption.READ);
  }

  private static <F extends Closeable> TensorFile open(Path path, Opener<F> opener, Parser<F> parser) {
    F file = null;
    try {
      file = opener.open(path);
      return new TensorFile(path, file, parser.read(path, file));
    } catch (IOException e) {
      closeQuietly(file);
      throw Failures.of(path, e);
    } catch (RuntimeException | Error e) {
      closeQuietly(file);
      throw e;
    }
  }

  static void closeQuietly(Closeable file) {
    try {
      if (file != null) {
        file.close();
      }
    } catch (IOException e) {
      // it was only read from, and what made us close it is being thrown
    }
  }

  /** What a careful user should look at, in a sentence; null if there is nothing. */
  String warning() {
    return extension(path).equals("gguf") ? Gguf.warning(path, tensors.keySet()) : null;
  }

  Tensor require(String name) {
    Tensor tensor = tensors.get(name);
    if (tensor == null && tensors.containsKey("")) {
      throw new SaeFormatException("%s: holds one array, without a name; got %s".formatted(path, Failures.quote(name)));
    }
    if (tensor == null) {
      throw new SaeFormatException(
          "%s: no tensor %s; it has %s".formatted(path, Failures.quote(name), Failures.list(tensors.keySet())));
    }
    return tensor;
  }

  /** The floating tensor of rank 1 and more, if there is only one; where there is none, likewise that of integers. */
  Tensor requireOnly() {
    List<Tensor> candidates = tensors.values().stream().filter(tensor -> tensor.isFloating() && tensor.shape.length > 0).toList();
    if (candidates.isEmpty()) {
      candidates = tensors.values().stream().filter(tensor -> tensor.type != null && tensor.shape.length > 0).toList();
    }
    if (candidates.size() == 1) {
      return candidates.get(0);
    }
    if (tensors.containsKey("")) { // say what is wrong with its one array
      Tensor array = tensors.get("");
      array.requireNumbers();
      throw array.error("shape [] is a single number, expected [n, d] or [d]");
    }
    if (candidates.isEmpty()) {
      throw new SaeFormatException("%s: no tensor of numbers; it has %s".formatted(path, Failures.list(tensors.keySet())));
    }
    throw new SaeFormatException(
        "%s: has %d tensors of numbers, pick one with FILE#NAME: %s"
            .formatted(path, candidates.size(), Failures.list(candidates.stream().map(tensor -> tensor.name).toList())));
  }

  @Override
  public void close() {
    tensors.values().forEach(Tensor::release);
    closeQuietly(file);
  }

  /** Fills the buffer from a position on; false if the file ends first. */
  static boolean readFully(FileChannel file, long position, ByteBuffer into) throws IOException {
    for (long at = position; into.hasRemaining(); ) {
      int count = file.read(into, at);
      if (count < 0) {
        return false;
      }
      at += count;
    }
    return true;
  }
}

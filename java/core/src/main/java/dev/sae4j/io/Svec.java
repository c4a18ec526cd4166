package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The .svec files of IBM's activation-steering: JSON, with "directions" by layer. A tensor is named by its layer, as
 * the file has it, and is float64, as text is.
 */
final class Svec {
  private static final int MAX_VALUES = 1 << 23; // 64 MiB: a hundred layers of 65536

  private Svec() {}

  static Map<String, Tensor> read(Path path, FileChannel file) throws IOException {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    Json json = new Json(path.toString(), new BufferedInputStream(Channels.newInputStream(file)));
    boolean[] hasDirections = {false};
    json.readDocument(
        name -> {
          if (!name.equals("directions")) {
            json.skip();
            return;
          }
          if (hasDirections[0]) {
            throw json.error("the key \"directions\" is there twice");
          }
          hasDirections[0] = true;
          readDirections(path, json, tensors);
        });
    if (!hasDirections[0]) {
      throw json.error("has no \"directions\", expected a list of numbers for each layer");
    }
    return tensors;
  }

  private static void readDirections(Path path, Json json, Map<String, Tensor> tensors) throws IOException {
    int[] left = {MAX_VALUES};
    json.readObject(
        layer -> {
          double[] values = json.readNumbers(left[0]);
          left[0] -= values.length;
          String where = path + ": " + Failures.quote(layer);
          if (tensors.put(layer, tensor(layer, where, values)) != null) {
            throw new SaeFormatException(where + ": there are two directions for this layer");
          }
        });
  }

  private static Tensor tensor(String layer, String where, double[] values) {
    ByteBuffer bytes = ByteBuffer.allocate(Double.BYTES * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asDoubleBuffer().put(values);
    ByteSource source = new ByteSource.Memory(bytes.array());
    return new Tensor(layer, where, DType.F64, "float64", new long[] {values.length}, source, 0);
  }
}

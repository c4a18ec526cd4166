package dev.sae4j.cli;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/** Small files, written byte by byte, so that no writer of ours vouches for a reader of ours. */
final class TestFiles {
  private TestFiles() {}

  static Path npy(Path path, String shape, float... values) throws IOException {
    Files.write(path, npy("<f4", shape, floats(values)));
    return path;
  }

  /** Codes as scipy saves them. */
  static Path codes(Path path, int dSae, long[] indptr, int[] indices, float[] values) throws IOException {
    Map<String, byte[]> arrays = new LinkedHashMap<>();
    arrays.put("indices", npy("<i4", "(%d,)".formatted(indices.length), ints(indices)));
    arrays.put("indptr", npy("<i8", "(%d,)".formatted(indptr.length), longs(indptr)));
    arrays.put("format", npy("|S3", "()", "csr".getBytes(StandardCharsets.US_ASCII)));
    arrays.put("shape", npy("<i8", "(2,)", longs(indptr.length - 1, dSae)));
    arrays.put("data", npy("<f4", "(%d,)".formatted(values.length), floats(values)));
    try (OutputStream file = Files.newOutputStream(path);
        ZipOutputStream zip = new ZipOutputStream(file)) {
      for (Map.Entry<String, byte[]> array : arrays.entrySet()) {
        zip.putNextEntry(new ZipEntry(array.getKey() + ".npy"));
        zip.write(array.getValue());
      }
    }
    return path;
  }

  /**
   * A ReLU SAE of 3 features on 2 dimensions: the first is ordinary, the second can't fire, the third has no decoder row.
   *
   * <p>f = relu(x0), relu(-1), relu(x1); x_hat = (f0, 2 f1).
   */
  static Path reluSae(Path folder) throws IOException {
    Files.createDirectories(folder);
    Files.writeString(
        folder.resolve("cfg.json"),
        """
        {"architecture": "standard", "d_in": 2, "d_sae": 3, "dtype": "float32", "apply_b_dec_to_input": false,
         "normalize_activations": "none", "metadata": {"sae_lens_version": "6.0.0", "hook_name": "a.hook"}}
        """);
    String header =
        """
        {"W_enc": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, \
        "W_dec": {"dtype": "F32", "shape": [3, 2], "data_offsets": [24, 48]}, \
        "b_enc": {"dtype": "F32", "shape": [3], "data_offsets": [48, 60]}, \
        "b_dec": {"dtype": "F32", "shape": [2], "data_offsets": [60, 68]}}""";
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    file.write(longs(header.length()));
    file.write(header.getBytes(StandardCharsets.US_ASCII));
    file.write(floats(1, 0, 0, 0, 0, 1));
    file.write(floats(1, 0, 0, 2, 0, 0));
    file.write(floats(0, -1, 0));
    file.write(floats(0, 0));
    Files.write(folder.resolve("sae_weights.safetensors"), file.toByteArray());
    return folder;
  }

  private static byte[] npy(String descr, String shape, byte[] content) {
    String header = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }".formatted(descr, shape);
    header += " ".repeat(63 - (10 + header.length()) % 64) + "\n";
    return ByteBuffer.allocate(10 + header.length() + content.length)
        .order(ByteOrder.LITTLE_ENDIAN)
        .put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0})
        .putShort((short) header.length())
        .put(header.getBytes(StandardCharsets.US_ASCII))
        .put(content)
        .array();
  }

  private static byte[] floats(float... values) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    return bytes.array();
  }

  private static byte[] ints(int... values) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asIntBuffer().put(values);
    return bytes.array();
  }

  private static byte[] longs(long... values) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asLongBuffer().put(values);
    return bytes.array();
  }
}

package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Map;
import java.util.SortedMap;

/**
 * Writes a control vector that llama.cpp loads (GGUF version 3, tensors {@code direction.N} in float32). N counts decoder blocks
 * from 1: what it names is added to the output of block N in Hugging Face's numbering, hidden_states[N + 1], so that block 0 can't be
 * steered. Reading the file gives the same floats.
 */
public final class ControlVectorWriter {
  private static final int VERSION = 3;
  private static final int ALIGNMENT = 32;
  private static final int INT32 = 5;
  private static final int STRING = 8;
  private static final int F32 = 0;

  private ControlVectorWriter() {}

  /**
   * @param modelHint the model's architecture as llama.cpp names it, e.g. {@code "llama"}; it is shown, not checked
   * @param layers block (from 1) to direction, all of one length, finite
   * @throws IllegalArgumentException if there is none, a block is below 1, lengths differ or a value is not finite
   * @throws SaeException if the file can't be written
   */
  public static void write(Path path, String modelHint, SortedMap<Integer, float[]> layers) {
    requireValid(layers);
    try (AtomicFile file = new AtomicFile(path)) {
      ByteBuffer header = header(modelHint, layers);
      file.write(header);
      for (float[] direction : layers.values()) {
        ByteBuffer data = buffer(aligned(direction.length * Float.BYTES));
        data.asFloatBuffer().put(direction);
        file.write(data);
      }
      file.commit();
    }
  }

  private static void requireValid(SortedMap<Integer, float[]> layers) {
    if (layers.isEmpty()) {
      throw new IllegalArgumentException("a control vector needs a layer, got none");
    }
    if (layers.firstKey() < 1) {
      throw new IllegalArgumentException("layers must be from 1, as llama.cpp counts, got " + layers.firstKey());
    }
    int length = layers.get(layers.firstKey()).length;
    layers.forEach(
        (layer, direction) -> {
          if (direction.length != length || length == 0) {
            throw new IllegalArgumentException(
                "directions must have one length, got %d and, in layer %d, %d".formatted(length, layer, direction.length));
          }
          for (int i = 0; i < length; i++) {
            if (!Float.isFinite(direction[i])) {
              throw new IllegalArgumentException("directions must be finite, got %s at %d of layer %d".formatted(direction[i], i, layer));
            }
          }
        });
  }

  private static ByteBuffer header(String modelHint, SortedMap<Integer, float[]> layers) {
    int length = layers.get(layers.firstKey()).length;
    ByteBuffer out = buffer((1 << 10) + utf8(modelHint).length + 64 * layers.size());
    out.put(utf8("GGUF")).putInt(VERSION).putLong(layers.size()).putLong(3);
    text(text(out, "general.architecture").putInt(STRING), "controlvector");
    text(text(out, "controlvector.model_hint").putInt(STRING), modelHint);
    text(out, "controlvector.layer_count").putInt(INT32).putInt(layers.size());
    long offset = 0;
    for (Map.Entry<Integer, float[]> layer : layers.entrySet()) {
      text(out, "direction." + layer.getKey()).putInt(1).putLong(length).putInt(F32).putLong(offset);
      offset += aligned(length * Float.BYTES);
    }
    out.position(aligned(out.position()));
    return out.flip();
  }

  private static ByteBuffer text(ByteBuffer out, String value) {
    byte[] bytes = utf8(value);
    return out.putLong(bytes.length).put(bytes);
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static int aligned(int bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  private static ByteBuffer buffer(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }
}

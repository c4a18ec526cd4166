package dev.sae4j.io;

import com.google.gson.stream.JsonWriter;
import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.bytedeco.javacpp.FloatPointer;

/**
 * Writes an SAE as a SAELens version 6 folder, {@code cfg.json} and {@code sae_weights.safetensors}, from what it was folded into.
 * Reading the folder gives the same weights to the bit. An SAE is written as the simplest architecture that holds it: {@code standard}
 * (ReLU), {@code jumprelu}, {@code topk}, {@code gated} where features have scales, or a transcoder's form of these.
 *
 * <p>The matrices are float32. A threshold is too where that gives the folded one back exactly, else all thresholds are float64, which
 * SAELens rounds when it loads them; likewise r_mag, the logarithm of the scale. Nothing is seen under the files' names before both are
 * whole.
 */
public final class SaeWriter {
  private static final int BUFFER = 1 << 22; // bytes
  private static final int CHUNK = 1 << 15;

  private final SaeWeights weights;
  private final SaeWeights.Form form;
  private final boolean isTranscoder;
  private final boolean hasThresholds;
  private final boolean isGated;
  private final Map<String, Column> tensors = new LinkedHashMap<>();

  /** A tensor to write: its shape, and its bytes on demand. */
  private record Column(String dtype, long[] shape, Content content) {
    long bytes() {
      long size = dtype.equals("F64") ? 8 : 4;
      for (long length : shape) {
        size *= length;
      }
      return size;
    }
  }

  @FunctionalInterface
  private interface Content {
    void write(AtomicFile to);
  }

  @FunctionalInterface
  private interface Values {
    double at(long index);
  }

  private SaeWriter(SaeWeights weights) {
    this.weights = weights;
    form = weights.form();
    isTranscoder = form.hasSkip() || form.dIn() != form.dOut() || weights.info().architecture().contains("transcoder");
    boolean thresholds = false;
    boolean scales = false;
    for (long j = 0; j < form.dSae(); j++) {
      thresholds |= weights.threshold().get(j) != Float.NEGATIVE_INFINITY;
      scales |= weights.scale().get(j) != 1;
    }
    hasThresholds = thresholds;
    isGated = scales;
    requireWritable();
  }

  /**
   * @param folder is made if it is not there; of its files only the two are replaced
   * @throws SaeException if SAELens has no architecture for this SAE, saying what is in the way, or the files can't be written
   */
  public static void write(SaeWeights weights, Path folder) {
    new SaeWriter(weights).write(folder);
  }

  private void requireWritable() {
    String obstacle = null;
    if (form.selection() != Selection.GATE && form.selection() != Selection.TOP) {
      obstacle = "a TopK that keeps negative values";
    } else if (form.selection() == Selection.TOP && (hasThresholds || isGated)) {
      obstacle = hasThresholds ? "a TopK with thresholds (a prefix, or dead features)" : "a TopK with a scale for each feature";
    } else if (isGated && isTranscoder || form.selection() == Selection.TOP && isTranscoder) {
      obstacle = "a transcoder that is not ReLU or JumpReLU";
    }
    if (obstacle != null) {
      throw new SaeException("SAELens has no architecture for %s; this SAE (%s) is one".formatted(obstacle, weights.info().architecture()));
    }
  }

  private String architecture() {
    if (isTranscoder) {
      return (hasThresholds ? "jumprelu_" : "") + (form.hasSkip() ? "skip_" : "") + "transcoder";
    }
    return isGated ? "gated" : form.selection() == Selection.TOP ? "topk" : hasThresholds ? "jumprelu" : "standard";
  }

  private void write(Path folder) {
    try {
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw Failures.of(folder, e);
    }
    collect();
    try (AtomicFile safetensors = new AtomicFile(folder.resolve(SaeLens.WEIGHTS.get(0)));
        AtomicFile config = new AtomicFile(folder.resolve(SaeLens.CONFIGS.get(0)))) {
      writeSafetensors(safetensors);
      config.write(StandardCharsets.UTF_8.encode(config()));
      safetensors.commit();
      config.commit();
    }
  }

  // ---- tensors

  private void collect() {
    long dSae = form.dSae();
    tensors.put("W_enc", new Column("F32", new long[] {form.dIn(), dSae}, this::writeTurnedEncoder));
    tensors.put("W_dec", f32(new long[] {dSae, form.dOut()}, weights.wDec()));
    tensors.put("b_dec", f32(new long[] {form.dOut()}, weights.bDec()));
    if (isGated) {
      tensors.put("b_gate", f32(new long[] {dSae}, j -> -weights.threshold().get(j)));
      tensors.put("b_mag", f32(new long[] {dSae}, weights.offset()));
      tensors.put("r_mag", vector(j -> Math.log(weights.scale().get(j)), (stored, j) -> (float) Math.exp(stored) == weights.scale().get(j)));
    } else {
      tensors.put("b_enc", f32(new long[] {dSae}, weights.offset()));
      if (hasThresholds) {
        tensors.put(
            "threshold",
            vector(this::unfoldedThreshold, (stored, j) -> (float) (stored - weights.offset().get(j)) == weights.threshold().get(j)));
      }
    }
    if (form.hasSkip()) {
      tensors.put("W_skip", f32(new long[] {form.dOut(), form.dIn()}, weights.wSkip()));
    }
  }

  @FunctionalInterface
  private interface Exact {
    boolean test(double stored, long feature);
  }

  /** [d_sae], in float32 if that is exact for every feature, else in float64. */
  private Column vector(Values values, Exact isExact) {
    boolean fits = true;
    for (long j = 0; j < form.dSae(); j++) {
      double value = values.at(j);
      if (!isExact.test(value, j)) {
        throw new SaeException("feature %d: no float64 gives its folded value back".formatted(j));
      }
      fits &= isExact.test((float) value, j);
    }
    return fits ? f32(new long[] {form.dSae()}, values) : f64(values);
  }

  /** theta of the pre-activation, of which the folded threshold is theta - b_enc; a float32 if one serves. */
  private double unfoldedThreshold(long j) {
    double t = weights.threshold().get(j);
    double c = weights.offset().get(j);
    float near = (float) (t + c);
    for (float theta : new float[] {near, Math.nextUp(near), Math.nextDown(near)}) {
      if ((float) (theta - c) == t) {
        return theta;
      }
    }
    return t + c;
  }

  private Column f32(long[] shape, Values values) {
    return new Column("F32", shape, file -> write(file, shape, 4, (buffer, index) -> buffer.putFloat((float) values.at(index))));
  }

  /** As it lies in memory. */
  private static Column f32(long[] shape, FloatPointer values) {
    return new Column("F32", shape, file -> write(file, new NativeFloats(values), Arrays.stream(shape).reduce(1, (a, b) -> a * b)));
  }

  private static void write(AtomicFile file, NativeFloats values, long size) {
    float[] piece = new float[CHUNK];
    ByteBuffer buffer = buffer(CHUNK * Float.BYTES);
    for (long at = 0; at < size; at += CHUNK) {
      int count = (int) Math.min(CHUNK, size - at);
      values.get(at, piece, count);
      buffer.clear().asFloatBuffer().put(piece, 0, count);
      file.write(buffer.limit(count * Float.BYTES));
    }
  }

  private Column f64(Values values) {
    long[] shape = {form.dSae()};
    return new Column("F64", shape, file -> write(file, shape, 8, (buffer, index) -> buffer.putDouble(values.at(index))));
  }

  @FunctionalInterface
  private interface Put {
    void put(ByteBuffer buffer, long index);
  }

  private static void write(AtomicFile file, long[] shape, int width, Put put) {
    long size = 1;
    for (long length : shape) {
      size *= length;
    }
    ByteBuffer buffer = buffer(CHUNK * width);
    for (long at = 0; at < size; ) {
      buffer.clear();
      for (; at < size && buffer.hasRemaining(); at++) {
        put.put(buffer, at);
      }
      file.write(buffer.flip());
    }
  }

  private static ByteBuffer buffer(int bytes) {
    return ByteBuffer.allocateDirect(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** [d_in, d_sae] from [d_sae, d_in]: some columns of every feature at a time. */
  private void writeTurnedEncoder(AtomicFile file) {
    NativeFloats wEnc = new NativeFloats(weights.wEnc());
    int rows = (int) Math.max(1, Math.min(form.dIn(), BUFFER / Float.BYTES / form.dSae()));
    float[] piece = new float[rows];
    float[] turned = new float[Math.toIntExact(rows * form.dSae())];
    ByteBuffer buffer = buffer(CHUNK * Float.BYTES);
    for (long first = 0; first < form.dIn(); first += rows) {
      int count = (int) Math.min(rows, form.dIn() - first);
      for (int j = 0; j < form.dSae(); j++) {
        wEnc.get(j * form.dIn() + first, piece, count);
        for (int i = 0; i < count; i++) {
          turned[(int) (i * form.dSae()) + j] = piece[i];
        }
      }
      int values = Math.toIntExact(count * form.dSae());
      for (int at = 0; at < values; at += CHUNK) {
        int n = Math.min(CHUNK, values - at);
        buffer.clear().asFloatBuffer().put(turned, at, n);
        file.write(buffer.limit(n * Float.BYTES));
      }
    }
  }

  private void writeSafetensors(AtomicFile file) {
    StringBuilder header = new StringBuilder("{");
    long at = 0;
    for (Map.Entry<String, Column> entry : tensors.entrySet()) {
      Column column = entry.getValue();
      long end = at + column.bytes();
      String shape = Arrays.toString(column.shape).replace(" ", "");
      header // no format: its digits are the locale's
          .append(at == 0 ? "\"" : ",\"").append(entry.getKey())
          .append("\":{\"dtype\":\"").append(column.dtype)
          .append("\",\"shape\":").append(shape)
          .append(",\"data_offsets\":[").append(at).append(',').append(end).append("]}");
      at = end;
    }
    header.append("}");
    while (header.length() % 8 != 0) {
      header.append(' '); // the data begin aligned
    }
    byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
    file.write(buffer(8 + text.length).putLong(text.length).put(text).flip());
    tensors.values().forEach(column -> column.content.write(file));
  }

  // ---- cfg.json

  private String config() {
    SaeInfo info = weights.info();
    StringWriter text = new StringWriter();
    try (JsonWriter json = new JsonWriter(text)) {
      json.setIndent("  ");
      json.beginObject();
      json.name("architecture").value(architecture());
      json.name("d_in").value(form.dIn());
      json.name("d_sae").value(form.dSae());
      if (isTranscoder) {
        json.name("d_out").value(form.dOut());
      }
      if (form.selection() == Selection.TOP) {
        json.name("k").value(form.k());
        json.name("rescale_acts_by_decoder_norm").value(false);
      }
      json.name("dtype").value("float32");
      json.name("device").value("cpu");
      json.name("apply_b_dec_to_input").value(false);
      json.name("normalize_activations").value(normalization());
      json.name("reshape_activations").value(info.hookName() != null && info.hookName().contains("hook_z") ? "hook_z" : "none");
      json.name("metadata").beginObject();
      json.name("sae_lens_version").value("6.0.0");
      json.name("model_name").value(info.modelName());
      json.name("hook_name").value(info.hookName());
      json.name("converted_from").value(info.format());
      json.name("folded").beginArray();
      for (String sentence : info.folded()) {
        json.value(sentence);
      }
      json.endArray();
      json.endObject();
      json.endObject();
    } catch (IOException e) {
      throw new IllegalStateException(e); // a StringWriter has none
    }
    return text + "\n";
  }

  private String normalization() {
    return form.normalization() == Normalization.LAYER ? "layer_norm"
        : form.normalization() == Normalization.CONSTANT ? "constant_norm_rescale"
        : "none";
  }
}

package dev.sae4j.cli;

import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;

/**
 * What features are said to stand for: JSON Lines as Neuronpedia exports explanations, plain or gzip. Of several labels of
 * one feature the first by createdAt counts; those without createdAt are taken in the file's order.
 */
final class Labels {
  private static final int GZIP_MAGIC = 0x1f8b;

  private record Label(String description, String createdAt) {
    boolean isBefore(Label other) {
      return createdAt != null && other.createdAt != null && createdAt.compareTo(other.createdAt) < 0;
    }
  }

  /** The model, and the SAE at a layer of it, that lines name; a line that leaves one out is taken to be of the same. */
  private record Source(String modelId, String layer) {
    @Override
    public String toString() {
      return modelId + "/" + layer;
    }
  }

  private static final Pattern NUMBER = Pattern.compile("\\d+");

  private final Map<Integer, Label> labels = new HashMap<>();
  private Source source;

  private Labels() {}

  static Labels none() {
    return new Labels();
  }

  /**
   * @param dSae indices must lie below it
   * @throws SaeException if a line can't be read, naming it
   */
  static Labels read(Path path, long dSae) throws IOException {
    Labels labels = new Labels();
    try (BufferedReader lines = open(path)) {
      int number = 1;
      for (String line = lines.readLine(); line != null; line = lines.readLine(), number++) {
        if (!line.isBlank()) {
          labels.add(line, dSae, path + ", line " + number);
        }
      }
    } catch (ZipException | EOFException e) {
      throw new SaeException(path + ": damaged gzip data", e);
    }
    return labels;
  }

  private static BufferedReader open(Path path) throws IOException {
    if (Files.isDirectory(path)) {
      throw new SaeException(path + ": is a folder, expected a .jsonl or .jsonl.gz file");
    }
    InputStream bytes = new BufferedInputStream(Files.newInputStream(path), 1 << 16);
    try {
      bytes.mark(2);
      int magic = bytes.read() << 8 | bytes.read();
      bytes.reset();
      InputStream text = magic == GZIP_MAGIC ? new GZIPInputStream(bytes, 1 << 16) : bytes;
      return new BufferedReader(new InputStreamReader(text, StandardCharsets.UTF_8));
    } catch (IOException e) {
      bytes.close();
      throw e;
    }
  }

  private void add(String line, long dSae, String where) throws IOException {
    String modelId = null;
    String layer = null;
    String index = null;
    String description = null;
    String createdAt = null;
    try (JsonReader json = new JsonReader(new StringReader(line))) {
      json.beginObject();
      while (json.hasNext()) {
        switch (json.nextName()) {
          case "modelId" -> modelId = text(json);
          case "layer" -> layer = text(json);
          case "index" -> index = text(json);
          case "description" -> description = text(json);
          case "createdAt" -> createdAt = text(json);
          default -> json.skipValue();
        }
      }
      json.endObject();
    } catch (MalformedJsonException | EOFException | IllegalStateException e) {
      throw new SaeException(where + ": expected one JSON object", e);
    }
    if (index == null || !index.matches("\\d{1,9}") || Integer.parseInt(index) >= dSae) {
      throw new SaeException("%s: index is %s, expected 0 to d_sae - 1 = %d".formatted(where, index, dSae - 1));
    }
    Source named = modelId == null || layer == null ? source : new Source(modelId, layer);
    source = source == null ? named : source;
    if (!Objects.equals(named, source)) {
      throw new SaeException("%s: is of %s, expected labels of one SAE, %s as above".formatted(where, named, source));
    }
    if (description != null && !description.isBlank()) {
      Label label = new Label(description.strip(), createdAt);
      labels.merge(Integer.valueOf(index), label, (known, added) -> added.isBefore(known) ? added : known);
    }
  }

  /** A string or number as text; null for anything else. */
  private static String text(JsonReader json) throws IOException {
    JsonToken next = json.peek();
    if (next == JsonToken.STRING || next == JsonToken.NUMBER) {
      return json.nextString();
    }
    json.skipValue();
    return null;
  }

  /**
   * Why the labels seem to be of another SAE, by the model and the layer number that both name; null if nothing says so. Names
   * are compared loosely, since every site spells them in its own way.
   */
  String doubt(SaeInfo sae) {
    if (source == null) {
      return null;
    }
    String labelled = letters(source.modelId());
    String model = sae.modelName() == null ? labelled : letters(sae.modelName());
    if (!model.contains(labelled) && !labelled.contains(model)) {
      return "labels of %s, but this SAE is of %s".formatted(source, sae.modelName());
    }
    String layer = number(source.layer());
    String hook = number(sae.hookName());
    return layer == null || hook == null || layer.equals(hook)
        ? null
        : "labels of %s, but this SAE is of %s".formatted(source, sae.hookName());
  }

  /** Without the organisation, the signs and the case. */
  private static String letters(String model) {
    return model.substring(model.lastIndexOf('/') + 1).replaceAll("[^\\p{Alnum}]", "").toLowerCase(Locale.ROOT);
  }

  /** The first number in it: of the layer. */
  private static String number(String name) {
    Matcher number = NUMBER.matcher(name == null ? "" : name);
    return number.find() ? number.group() : null;
  }

  /** Null where there is none. */
  String of(int feature) {
    Label label = labels.get(feature);
    return label == null ? null : label.description();
  }
}

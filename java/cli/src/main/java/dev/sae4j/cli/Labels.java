package dev.sae4j.cli;

import dev.sae4j.SaeException;
import dev.sae4j.SaeInfo;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * What features are said to stand for: explanations as Neuronpedia gives them ({@link LabelReader}). Of several labels of one
 * feature the first by createdAt counts; those without createdAt are taken in the order of files and lines.
 */
final class Labels {
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

  private static final Pattern BATCH = Pattern.compile("[^.].*\\.jsonl?(\\.gz)?");
  private static final Pattern INDEX = Pattern.compile("\\d{1,9}");
  private static final Pattern NUMBER = Pattern.compile("\\d+");

  private final Map<Integer, Label> labels = new HashMap<>();
  private final long dSae;
  private Source source;

  private Labels(long dSae) {
    this.dSae = dSae;
  }

  static Labels none() {
    return new Labels(0);
  }

  /**
   * @param path a file, a pipe, or a folder of files (batches), of which those that end in .jsonl or .json, or that and .gz,
   *     are read in the order of their names
   * @param dSae indices must lie below it
   * @throws SaeException if something can't be read, naming the file and the line
   */
  static Labels read(Path path, long dSae) throws IOException {
    Labels labels = new Labels(dSae);
    for (Path file : Files.isDirectory(path) ? batches(path) : List.of(path)) {
      try (LabelReader reader = new LabelReader(file)) {
        reader.readInto(labels);
      }
    }
    return labels;
  }

  private static List<Path> batches(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      List<Path> batches = files.filter(file -> BATCH.matcher(file.getFileName().toString()).matches()).sorted().toList();
      if (batches.isEmpty()) {
        throw new SaeException(folder + ": holds no .jsonl, .jsonl.gz, .json or .json.gz file");
      }
      return batches;
    }
  }

  /**
   * @param fields texts and numbers of one explanation, by name
   * @param where its place, for an error
   */
  void add(Map<String, String> fields, String where) {
    String index = fields.get("index");
    if (index == null || !INDEX.matcher(index).matches() || Integer.parseInt(index) >= dSae) {
      throw new SaeException("%s: index is %s, expected 0 to d_sae - 1 = %d".formatted(where, index, dSae - 1));
    }
    String modelId = fields.get("modelId");
    String layer = fields.get("layer");
    Source named = modelId == null || layer == null ? source : new Source(modelId, layer);
    source = source == null ? named : source;
    if (!Objects.equals(named, source)) {
      throw new SaeException("%s: is of %s, expected labels of one SAE, %s as above".formatted(where, named, source));
    }
    String description = fields.get("description");
    if (description != null && !description.isBlank()) {
      Label label = new Label(description.strip(), fields.get("createdAt"));
      labels.merge(Integer.valueOf(index), label, (known, added) -> added.isBefore(known) ? added : known);
    }
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

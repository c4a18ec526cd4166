package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * Reads SAE checkpoints, with weights in float32, float16, bfloat16 or float64, each tensor by its own dtype:
 *
 * <ul>
 *   <li>{@code "saelens"}: a folder with {@code cfg.json} (version 6 or older) and {@code sae_weights.safetensors}, or the
 *       path of that file in it;
 *   <li>{@code "gemma-scope"}: a {@code params.npz}, or a folder with one; stored or deflated.
 * </ul>
 *
 * <p>What is none of these is refused by name: no SAE is loaded as another architecture than its own. Weights stream from the
 * file into native memory; the Java heap never holds an array.
 */
public final class SaeReader {
  /**
   * What a file may lack, or leave open.
   *
   * @param format the name of a format, to force its reader; null to detect
   * @param normScalingFactor sqrt(d_in) / mean norm of the training activations, for an SAE that scales its input by it
   *     ({@code expected_average_only_in}) and has it in no file; else null
   * @param k of a TopK whose files do not say; else null
   * @param prefix use the first so many features only (Matryoshka); null for all
   */
  public record Options(String format, Double normScalingFactor, Long k, Long prefix) {
    public static final Options NONE = new Options(null, null, null, null);

    /**
     * @throws IllegalArgumentException if a value is out of its range, or there is no format of that name
     */
    public Options {
      if (format != null && !formats().contains(format)) {
        throw new IllegalArgumentException(
            "format must be %s, got %s".formatted(String.join(", ", formats()), Failures.quote(format)));
      }
      if (normScalingFactor != null && !(normScalingFactor > 0 && normScalingFactor < Double.POSITIVE_INFINITY)) {
        throw new IllegalArgumentException("the norm scaling factor must be positive and finite, got " + normScalingFactor);
      }
      if (k != null && k < 1 || prefix != null && prefix < 1) {
        throw new IllegalArgumentException("k and prefix must be at least 1, got %s and %s".formatted(k, prefix));
      }
    }

    public Options(String format) {
      this(format, null, null, null);
    }

    /** For a reader whose file has no k. */
    long requireK(String why) {
      if (k == null) {
        throw new SaeFormatException(why + ": give it as the option k (--k)");
      }
      return k;
    }
  }

  /** Fills in a checkpoint from its open weights and what lies beside them. */
  @FunctionalInterface
  interface Reader {
    Checkpoint read(TensorFile file, Options options);
  }

  /**
   * A format: where its files lie, and who reads them.
   *
   * @param weights the name of the weights in a folder, a pattern of a glob
   * @param config the name of the file beside them, null for none; the weights' folder may hold it, or the one above
   */
  private record Format(String name, String weights, String config, Reader reader) {
    /** Where a path's weights would be. */
    Path weights(Path path) {
      return Files.isDirectory(path) ? path.resolve(weights) : path;
    }

    /** The weights that a path means by this format; null if there are none. */
    Path find(Path path) {
      Path file = weights(path);
      boolean isNamed = Files.exists(file) && extension(file).equals(extension(Path.of(weights)));
      return isNamed && (config == null || Files.exists(file.resolveSibling(config))) ? file : null;
    }
  }

  private static final List<Format> FORMATS =
      List.of(
          new Format(
              SaeLens.FORMAT,
              SaeLens.WEIGHTS,
              SaeLens.CONFIG,
              (file, options) -> SaeLens.read(Config.read(file.path().resolveSibling(SaeLens.CONFIG)), file, options)),
          new Format(GemmaScope.FORMAT, GemmaScope.WEIGHTS, null, (file, options) -> GemmaScope.read(file)));

  private SaeReader() {}

  /** The names of the formats. */
  public static List<String> formats() {
    return FORMATS.stream().map(Format::name).toList();
  }

  /** As {@link #read(Path, Options)}, with all left to detection. */
  public static SaeWeights read(Path path) {
    return read(path, Options.NONE);
  }

  /**
   * Reads an SAE into native memory, folded into the one form of {@link SaeWeights}. What was folded is in
   * {@link SaeInfo#folded}, a sentence each.
   *
   * @param path a folder or a file
   * @return the weights, which the caller closes
   * @throws SaeException if it can't be read, naming file, expected and got
   */
  public static SaeWeights read(Path path, Options options) {
    if (!Files.exists(path)) {
      throw new SaeException(path + ": no such file or folder");
    }
    Format format = options.format == null ? detect(path) : forced(options.format);
    Path weights = format.find(path);
    if (weights == null) {
      weights = requireParts(format, path);
    }
    try (TensorFile file = TensorFile.open(weights)) {
      Checkpoint checkpoint = format.reader.read(file, options);
      checkpoint.prefix = options.prefix == null ? 0 : options.prefix;
      return checkpoint.load();
    }
  }

  private static Format forced(String name) {
    return FORMATS.stream().filter(format -> format.name.equals(name)).findFirst().orElseThrow();
  }

  private static Format detect(Path path) {
    List<Format> found = FORMATS.stream().filter(format -> format.find(path) != null).toList();
    List<Format> partly = FORMATS.stream().filter(format -> Files.exists(format.weights(path))).toList();
    if (found.isEmpty() && partly.size() == 1) {
      return partly.get(0); // which will name what is missing
    }
    if (found.isEmpty()) {
      throw new SaeException(
          "%s: no SAE found; looked for %s"
              .formatted(
                  path,
                  String.join(
                      ", ",
                      FORMATS.stream()
                          .map(f -> (f.config == null ? "" : f.config + " + ") + f.weights + " (" + f.name + ")")
                          .toList())));
    }
    if (found.size() > 1) {
      throw new SaeException(
          "%s: holds %d SAEs, %s; name the file, or the format"
              .formatted(path, found.size(), String.join(" and ", found.stream().map(Format::weights).toList())));
    }
    return found.get(0);
  }

  /** The weights, if all that the format needs is there. */
  private static Path requireParts(Format format, Path path) {
    Path weights = format.weights(path);
    List<Path> parts = new ArrayList<>();
    if (format.config != null) {
      parts.add(weights.resolveSibling(format.config));
    }
    parts.add(weights);
    for (Path part : parts) {
      if (!Files.isRegularFile(part)) {
        throw new SaeException("%s: no such file; the format %s needs it".formatted(part, format.name));
      }
    }
    return weights;
  }

  private static String extension(Path path) {
    String name = path.getFileName().toString();
    return name.substring(name.lastIndexOf('.') + 1);
  }

  static void refuseUnknown(TensorFile file, Set<String> known, String architecture) {
    Set<String> unknown = new LinkedHashSet<>(file.tensors().keySet());
    unknown.removeAll(known);
    if (!unknown.isEmpty()) {
      throw new SaeFormatException(
          "%s: has tensors that architecture \"%s\" does not know: %s"
              .formatted(file.path(), architecture, Failures.list(unknown)));
    }
  }
}

package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;

/**
 * Reads SAE checkpoints, with weights in float32, float16, bfloat16, float64 or float8, each tensor by its own dtype:
 *
 * <ul>
 *   <li>{@code "saelens"}: a folder with {@code cfg.json} (version 6 or older) and {@code sae_weights.safetensors} or {@code
 *       model.safetensors}, or the path of that file in it;
 *   <li>{@code "gemma-scope"}: a {@code params.npz}, or a folder with one; stored or deflated;
 *   <li>{@code "sparsify"} (EleutherAI): {@code cfg.json} and {@code sae.safetensors};
 *   <li>{@code "llama-scope"}: {@code hyperparams.json} and {@code checkpoints/final.safetensors};
 *   <li>{@code "llamascopium"}, Llama Scope R1 too: {@code config.json} and {@code sae_weights.safetensors};
 *   <li>{@code "gemma-scope-2"}: {@code config.json} and {@code params.safetensors};
 *   <li>{@code "mwhanna"}: a transcoder's {@code layer_N.safetensors} with a {@code config.yaml} beside it.
 * </ul>
 *
 * <p>In place of a safetensors file there may be its shards, with {@code <name>.safetensors.index.json}.
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
   * A format: where its files lie, what tells it from others of these names, and who reads it.
   *
   * @param weights names that the weights may have in a folder; one with a {@code *} means the only such file
   * @param configs names that the file beside the weights may have, as seen from them; empty where there need be none
   * @param fits whether the tensors' names are of this format, where the files' names are of several
   */
  private record Format(
      String name, List<String> weights, List<String> configs, Predicate<Set<String>> fits, Reader reader) {
    /** The weights that a path means by this format, whatever lies beside them; null if there are none. */
    Path weights(Path path) {
      if (!Files.isDirectory(path)) {
        return extension(path).equals(extension(Path.of(weights.get(0)))) ? path : null;
      }
      for (String weight : weights) {
        for (String file : List.of(weight, weight + Shards.INDEX)) {
          Path found = only(path, file);
          if (found != null) {
            return found;
          }
        }
      }
      return null;
    }

    /** The weights that a path means by this format, if all is there that it needs; else null. */
    Path find(Path path) {
      Path file = weights(path);
      return file != null && (configs.isEmpty() || Config.beside(file, configs) != null) ? file : null;
    }

    /** Refuses a folder of several layers, of which none is meant. */
    void requireOne(Path folder) {
      if (!weights.get(0).contains("*") || !Files.isDirectory(folder)) {
        return;
      }
      int count = list(folder, weights.get(0)).size();
      if (count > 1 && Config.beside(folder.resolve("any"), configs) != null) {
        throw new SaeException("%s: holds %d files for the format %s; name one".formatted(folder, count, name));
      }
    }

    @Override
    public String toString() {
      return "%s%s (%s)".formatted(configs.isEmpty() ? "" : configs.get(0).replace("../", "") + " + ", weights.get(0), name);
    }
  }

  private static final List<Format> FORMATS =
      List.of(
          new Format(
              SaeLens.FORMAT,
              SaeLens.WEIGHTS,
              SaeLens.CONFIGS,
              names -> names.contains("W_dec") && !names.contains("encoder.weight"),
              SaeLens::read),
          new Format(
              GemmaScope.FORMAT, List.of(GemmaScope.WEIGHTS), List.of(), names -> true, (file, options) -> GemmaScope.read(file)),
          new Format(
              Sparsify.FORMAT,
              Sparsify.WEIGHTS,
              Sparsify.CONFIGS,
              names -> names.contains("W_dec") && names.contains("encoder.weight"),
              Sparsify::read),
          new Format(
              LlamaScope.FORMAT,
              LlamaScope.WEIGHTS,
              LlamaScope.CONFIGS,
              names -> names.contains("decoder.weight"),
              (file, options) -> LlamaScope.read(LlamaScope.FORMAT, LlamaScope.CONFIGS, file, options)),
          new Format(
              LlamaScope.NEW_FORMAT,
              LlamaScope.NEW_WEIGHTS,
              LlamaScope.NEW_CONFIGS,
              names -> names.contains("decoder.weight") || names.contains("W_E"),
              (file, options) -> LlamaScope.read(LlamaScope.NEW_FORMAT, LlamaScope.NEW_CONFIGS, file, options)),
          new Format(
              GemmaScope2.FORMAT,
              GemmaScope2.WEIGHTS,
              GemmaScope2.CONFIGS,
              names -> names.contains("w_enc"),
              (file, options) -> GemmaScope2.read(file)),
          new Format(
              Mwhanna.FORMAT, Mwhanna.WEIGHTS, Mwhanna.CONFIGS, names -> names.contains("W_enc"), Mwhanna::read));

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
    Unsupported.refuse(path);
    List<Format> found = FORMATS.stream().filter(format -> format.find(path) != null).toList();
    List<Format> partly = FORMATS.stream().filter(format -> format.weights(path) != null).toList();
    if (found.isEmpty() && partly.size() == 1) {
      return partly.get(0); // which will name what is missing
    }
    if (found.isEmpty()) {
      FORMATS.forEach(format -> format.requireOne(path));
      throw new SaeException(
          "%s: no SAE found; looked for %s"
              .formatted(path, String.join(", ", FORMATS.stream().map(Format::toString).toList())));
    }
    Set<Path> weights = new LinkedHashSet<>(found.stream().map(format -> format.find(path)).toList());
    if (weights.size() > 1) {
      throw new SaeException(
          "%s: holds %d SAEs, %s; name the file, or the format (--format)"
              .formatted(path, weights.size(), String.join(" and ", found.stream().map(Format::toString).toList())));
    }
    return found.size() == 1 ? found.get(0) : byTensors(found, weights.iterator().next());
  }

  /** The one of these formats that the tensors of the file are of. */
  private static Format byTensors(List<Format> candidates, Path weights) {
    Set<String> names;
    try (TensorFile file = TensorFile.open(weights)) {
      names = file.tensors().keySet();
    }
    List<Format> fitting = candidates.stream().filter(format -> format.fits.test(names)).toList();
    if (fitting.size() != 1) {
      List<String> named = (fitting.isEmpty() ? candidates : fitting).stream().map(Format::name).toList();
      throw new SaeFormatException(
          "%s: may be of the formats %s, and its tensors don't tell: %s; name the format (--format)"
              .formatted(weights, String.join(", ", named), Failures.list(names)));
    }
    return fitting.get(0);
  }

  /** The weights, if all that the format needs is there. */
  private static Path requireParts(Format format, Path path) {
    Path weights = format.weights(path);
    Path expected = weights == null && Files.isDirectory(path) ? path.resolve(format.weights.get(0)) : path;
    Path anchor = weights == null ? expected : weights;
    if (!format.configs.isEmpty() && Config.beside(anchor, format.configs) == null) {
      throw new SaeException(
          "%s: no such file; the format %s needs it"
              .formatted(anchor.resolveSibling(format.configs.get(0)).normalize(), format.name));
    }
    if (weights == null) {
      format.requireOne(path);
      throw new SaeException("%s: no such file; the format %s needs it".formatted(expected, format.name));
    }
    return weights;
  }

  /** The file of a name, or, if it has a {@code *}, the only one; null if there is none. */
  private static Path only(Path folder, String name) {
    if (!name.contains("*")) {
      Path file = folder.resolve(name);
      return Files.isRegularFile(file) ? file : null;
    }
    List<Path> files = list(folder, name);
    return files.size() == 1 ? files.get(0) : null;
  }

  /** The files in a folder whose names match a glob, in order. */
  static List<Path> list(Path folder, String glob) {
    List<Path> files = new ArrayList<>();
    try (DirectoryStream<Path> stream = Files.newDirectoryStream(folder, glob)) {
      stream.forEach(files::add);
    } catch (IOException e) {
      throw Failures.of(folder, e);
    }
    Collections.sort(files);
    return files;
  }

  private static String extension(Path path) {
    String name = String.valueOf(path.getFileName());
    name = name.endsWith(Shards.INDEX) ? name.substring(0, name.length() - Shards.INDEX.length()) : name;
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

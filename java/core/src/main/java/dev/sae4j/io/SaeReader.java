package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.Stream;

/**
 * Reads SAE checkpoints, with weights in float32, float16, bfloat16 or float64, each tensor by its own dtype:
 *
 * <ul>
 *   <li>{@code "saelens"}: a folder with {@code cfg.json} (version 6 or older) and {@code sae_weights.safetensors}, or the
 *       path of that file in it;
 *   <li>{@code "gemma-scope"}: a {@code params.npz}, or a folder with one; stored or deflated. Transcoders and embedding SAEs are
 *       known by their path;
 *   <li>{@code "dictionary-learning"}: {@code ae.pt} with {@code config.json}, in its folder or the one above;
 *   <li>{@code "openai"}, {@code "goodfire"}, {@code "deepseek-r1"}: a {@code .pt} or {@code .pth} file, by its tensors' names;
 *   <li>{@code "qwen-scope"}: {@code layerN.sae.pt}, with k from the folder's name ({@code L0_k});
 *   <li>{@code "hook-z"}: {@code NAME.pt} with {@code NAME_cfg.json}.
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
   * @param config the name of the file beside them, null for none
   * @param claims whether weights of this name are of the format, where the name does not say; else null
   */
  private record Format(String name, String weights, String config, Predicate<TensorFile> claims, Reader reader) {
    Format(String name, String weights, String config, Reader reader) {
      this(name, weights, config, null, reader);
    }

    /** Where a path's weights are, by their names; a file needs no more than the extension. */
    List<Path> weights(Path path) {
      if (!Files.isDirectory(path)) {
        return isNamed("*." + extension(weights), path) ? List.of(path) : List.of();
      }
      try (Stream<Path> files = Files.list(path)) {
        return files.filter(file -> isNamed(weights, file)).sorted().toList();
      } catch (IOException e) {
        throw Failures.of(path, e);
      }
    }

    boolean hasConfig(Path weights) {
      return config == null || Files.exists(weights.resolveSibling(config));
    }

    private static boolean isNamed(String glob, Path file) {
      return file.getFileSystem().getPathMatcher("glob:" + glob).matches(file.getFileName());
    }

    /** The weights that a path means by this format. */
    List<Found> find(Path path) {
      List<Path> files = weights(path);
      return files.stream()
          .filter(file -> hasConfig(file) && claims(file, files.size() > 1))
          .map(file -> new Found(this, file))
          .toList();
    }

    private boolean claims(Path file, boolean isOneOfMany) {
      if (claims == null) {
        return true;
      }
      try (TensorFile tensors = TensorFile.open(file)) {
        return claims.test(tensors);
      } catch (SaeFormatException e) {
        if (isOneOfMany) {
          return false; // an optimizer's state, say
        }
        throw e;
      }
    }
  }

  private record Found(Format format, Path weights) {}

  private static final String TORCH = "*.{pt,pth}";

  private static final List<Format> FORMATS =
      List.of(
          new Format(
              SaeLens.FORMAT,
              SaeLens.WEIGHTS,
              SaeLens.CONFIG,
              (file, options) -> SaeLens.read(Config.read(file.path().resolveSibling(SaeLens.CONFIG)), file, options)),
          new Format(GemmaScope.FORMAT, GemmaScope.WEIGHTS, null, (file, options) -> GemmaScope.read(file)),
          new Format(DictionaryLearning.FORMAT, TORCH, null, DictionaryLearning::claims, DictionaryLearning::read),
          new Format(OpenAi.FORMAT, TORCH, null, OpenAi::claims, (file, options) -> OpenAi.read(file)),
          new Format(TorchSaes.GOODFIRE, TORCH, null, TorchSaes::isGoodfire, (file, options) -> TorchSaes.goodfire(file)),
          new Format(TorchSaes.DEEPSEEK, TORCH, null, TorchSaes::isDeepSeek, (file, options) -> TorchSaes.deepSeek(file)),
          new Format(TorchSaes.QWEN, TORCH, null, TorchSaes::isQwen, TorchSaes::qwen),
          new Format(TorchSaes.HOOK_Z, TORCH, null, TorchSaes::isHookZ, (file, options) -> TorchSaes.hookZ(file)));

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
    Found found = options.format == null ? detect(path) : forced(options.format, path);
    try (TensorFile file = TensorFile.open(found.weights)) {
      Checkpoint checkpoint = found.format.reader.read(file, options);
      checkpoint.prefix = options.prefix == null ? 0 : options.prefix;
      return checkpoint.load();
    }
  }

  private static Found forced(String name, Path path) {
    Format format = FORMATS.stream().filter(f -> f.name.equals(name)).findFirst().orElseThrow();
    List<Path> weights = format.weights(path);
    if (weights.size() > 1) {
      throw new SaeException("%s: holds %d files for the format %s; name one".formatted(path, weights.size(), name));
    }
    Path expected = Files.isDirectory(path) ? path.resolve(format.weights) : path; // what to say is missing
    return requireParts(format, weights.isEmpty() ? expected : weights.get(0));
  }

  /** By the files' names; where no name says it, by the names of the tensors. */
  private static Found detect(Path path) {
    List<Found> found = FORMATS.stream().filter(f -> f.claims == null).flatMap(f -> f.find(path).stream()).toList();
    if (found.isEmpty()) {
      List<Format> partly = FORMATS.stream().filter(f -> f.claims == null && !f.weights(path).isEmpty()).toList();
      if (partly.size() == 1) {
        return requireParts(partly.get(0), partly.get(0).weights(path).get(0)); // which names what is missing
      }
      found = FORMATS.stream().filter(f -> f.claims != null).flatMap(f -> f.find(path).stream()).toList();
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
    List<Path> files = found.stream().map(Found::weights).distinct().toList();
    if (files.size() > 1) {
      throw new SaeException(
          "%s: holds %d SAEs, %s; name the file, or the format"
              .formatted(path, files.size(), Failures.list(files.stream().map(file -> file.getFileName().toString()).toList())));
    }
    if (found.size() > 1) {
      throw new SaeException(
          "%s: may be of the format %s by its tensors; name the format (--format)"
              .formatted(files.get(0), String.join(" or ", found.stream().map(f -> f.format.name).toList())));
    }
    return found.get(0);
  }

  /** The weights, if all that the format needs is there. */
  private static Found requireParts(Format format, Path weights) {
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
    return new Found(format, weights);
  }

  /** A file in the folder of another, or in the folder above that; null if there is none. */
  static Path besideOrAbove(Path file, String name) {
    Path folder = file.toAbsolutePath().getParent();
    for (int i = 0; i < 2 && folder != null; i++, folder = folder.getParent()) {
      if (Files.isRegularFile(folder.resolve(name))) {
        return folder.resolve(name);
      }
    }
    return null;
  }

  private static String extension(String name) {
    return name.substring(name.lastIndexOf('.') + 1);
  }

  static void refuseUnknown(TensorFile file, Set<String> known, String architecture) {
    Set<String> unknown = new LinkedHashSet<>(file.tensors().keySet());
    unknown.removeIf(known::contains); // a set that may ignore case
    if (!unknown.isEmpty()) {
      throw new SaeFormatException(
          "%s: has tensors that architecture \"%s\" does not know: %s"
              .formatted(file.path(), architecture, Failures.list(unknown)));
    }
  }
}

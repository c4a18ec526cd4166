package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Selection;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Reads SAE checkpoints, with weights in float32, float16, bfloat16, float64 or float8, each tensor by its own dtype:
 *
 * <ul>
 *   <li>{@code "saelens"}: a folder with {@code cfg.json} (version 6 or older) and {@code sae_weights.safetensors} or {@code
 *       model.safetensors}, or the path of that file in it;
 *   <li>{@code "gemma-scope"}: a {@code params.npz}, or a folder with one; stored or deflated. Transcoders and embedding SAEs are known by
 *       their path;
 *   <li>{@code "sparsify"} (EleutherAI): {@code cfg.json} and {@code sae.safetensors};
 *   <li>{@code "llama-scope"}: {@code hyperparams.json} and {@code checkpoints/final.safetensors};
 *   <li>{@code "llamascopium"}, Llama Scope R1 too: {@code config.json} and {@code sae_weights.safetensors};
 *   <li>{@code "gemma-scope-2"}: {@code config.json} and {@code params.safetensors};
 *   <li>{@code "mwhanna"}: a transcoder's {@code layer_N.safetensors} with a {@code config.yaml} beside it;
 *   <li>{@code "dictionary-learning"}: {@code ae.pt} with {@code config.json}, in its folder or the one above;
 *   <li>{@code "openai"}, {@code "goodfire"}, {@code "deepseek-r1"}: a {@code .pt} or {@code .pth} file, by its tensors' names;
 *   <li>{@code "qwen-scope"}: {@code layerN.sae.pt}, with k from the folder's name ({@code L0_k});
 *   <li>{@code "hook-z"}: {@code NAME.pt} with {@code NAME_cfg.json};
 *   <li>{@code "state-dict"}: a {@code .pt} or {@code .pth} file of an encoder and a decoder, with a configuration in it that says what
 *       they compute;
 *   <li>{@code "generic"}: any file of tensors, once {@link Generic} says what they are; never detected.
 * </ul>
 *
 * <p>Tensors may lie below one key ({@code state_dict}, {@code model}) and under prefixes ({@code module.}, {@code _orig_mod.}). What a
 * torch file says of itself beside them must agree with how it is read. A file of which only common names would tell the format is
 * refused, with the formats that read it.
 *
 * <p>In place of a safetensors file there may be its shards, with {@code <name>.safetensors.index.json}.
 *
 * <p>What is none of these is refused by name: no SAE is loaded as another architecture than its own. Weights stream from the
 * file into native memory; the Java heap never holds an array.
 */
public final class SaeReader {
  /**
   * What a file may lack, or leave open. What an SAE has no use for is refused when it is read.
   *
   * @param format the name of a format, to force its reader; null to detect
   * @param normScalingFactor sqrt(d_in) / mean norm of the training activations, for an SAE that scales its input by it
   *     ({@code expected_average_only_in}) and has it in no file; else null
   * @param k of a TopK whose files do not say; else null
   * @param prefix use the first so many features only (Matryoshka); null for all
   * @param generic what the tensors are, for the format generic; else null
   */
  public record Options(String format, Double normScalingFactor, Long k, Long prefix, Generic generic) {
    public static final Options NONE = new Options(null, null, null, null);

    /**
     * @throws IllegalArgumentException if a value is out of its range, there is no format of that name, or options don't go together
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
      if (generic != null && !Generic.FORMAT.equals(format)) {
        throw new IllegalArgumentException(
            "what the tensors are is told to the format generic alone, got " + (format == null ? "no format" : format));
      }
      if (generic != null) {
        generic.requireFitting(k, normScalingFactor);
      }
    }

    public Options(String format, Double normScalingFactor, Long k, Long prefix) {
      this(format, normScalingFactor, k, prefix, null);
    }

    /** Any file, by what the user says of it; k for a TopK, else null. */
    public Options(Generic generic, Long k) {
      this(Generic.FORMAT, null, k, null, generic);
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
   * @param weights names that the weights may have in a folder, globs; the first that is there counts
   * @param configs names that the file beside the weights may have, as seen from them; empty where there need be none
   * @param claims whether the tensors are of this format: asked where files' names do not tell
   */
  private record Format(
      String name, List<String> weights, List<String> configs, Predicate<TensorFile> claims, Reader reader) {
    /** Whether any file of an extension may be of the format, whatever lies beside it. */
    boolean isToldByTensors() {
      return configs.isEmpty() && weights.get(0).startsWith("*");
    }

    /** The weights that a path may mean by this format, whatever lies beside them. */
    List<Path> weights(Path path) {
      if (!Files.isDirectory(path)) {
        return matches("*." + extension(weights.get(0)), path) ? List.of(path) : List.of();
      }
      for (String pattern : weights) {
        for (String name : List.of(pattern, pattern + Shards.INDEX)) {
          List<Path> files = list(path, name);
          if (!files.isEmpty()) {
            return files;
          }
        }
      }
      return List.of();
    }

    /** The weights that a path means by this format, with all beside them that it needs. */
    List<Found> find(Path path) {
      return weights(path).stream().filter(this::hasConfig).map(file -> new Found(this, file)).toList();
    }

    /** Whether what lies beside the weights, or their name, tells that they are of the format. */
    boolean isTold(Path file) {
      return !configs.isEmpty() || matches(weights.get(0), file);
    }

    /** Whether its weights are there by their own name, without what it needs beside them. */
    boolean isPartly(Path path) {
      return !configs.isEmpty() && !weights.get(0).startsWith("*") && !weights(path).isEmpty();
    }

    boolean hasConfig(Path weights) {
      return configs.isEmpty() || Config.beside(weights, configs) != null;
    }

    /** @param isOneOfMany one that can't be read is not of the format: an optimizer's state, say */
    boolean claims(Path weights, boolean isOneOfMany) {
      try (TensorFile file = TensorFile.open(weights)) {
        return claims.test(StateDict.unwrapped(file));
      } catch (SaeFormatException e) {
        if (isOneOfMany) {
          return false;
        }
        throw e;
      }
    }

    Checkpoint read(TensorFile file, Options options) {
      if (name.equals(Generic.FORMAT)) { // its user names the tensors as they are in the file, and says what they compute
        return reader.read(file, options);
      }
      TensorFile unwrapped = StateDict.unwrapped(file);
      Checkpoint sae = reader.read(unwrapped, options);
      StateDict.requireAgreement(unwrapped, sae);
      return sae;
    }

    /** What a file would be by this format, where its user names it; null where it can't be read as that, whatever k is. */
    Checkpoint trial(TensorFile file) {
      for (Long k : Arrays.asList(null, 1L)) {
        try {
          Checkpoint sae = read(file, new Options(name, null, k, null));
          sae.requireShapes();
          return sae;
        } catch (SaeException e) {
          // not this, then
        }
      }
      return null;
    }

    @Override
    public String toString() {
      return "%s%s (%s)".formatted(configs.isEmpty() ? "" : configs.get(0).replace("../", "") + " + ", weights.get(0), name);
    }
  }

  private record Found(Format format, Path weights) {
    @Override
    public String toString() {
      return "%s (%s)".formatted(weights.getFileName(), format.name);
    }
  }

  private static Predicate<TensorFile> names(Predicate<Set<String>> names) {
    return file -> names.test(file.tensors().keySet());
  }

  private static final List<String> TORCH = List.of("*.{pt,pth}");

  private static final List<Format> FORMATS =
      List.of(
          new Format(
              SaeLens.FORMAT,
              SaeLens.WEIGHTS,
              SaeLens.CONFIGS,
              names(names -> names.contains("W_dec") && !names.contains("encoder.weight")),
              SaeLens::read),
          new Format(
              GemmaScope.FORMAT,
              List.of(GemmaScope.WEIGHTS),
              List.of(),
              names(names -> names.stream().anyMatch("W_enc"::equalsIgnoreCase)),
              (file, options) -> GemmaScope.read(file)),
          new Format(
              Sparsify.FORMAT,
              Sparsify.WEIGHTS,
              Sparsify.CONFIGS,
              names(names -> names.contains("W_dec") && names.contains("encoder.weight")),
              Sparsify::read),
          new Format(
              LlamaScope.FORMAT,
              LlamaScope.WEIGHTS,
              LlamaScope.CONFIGS,
              names(names -> names.contains("decoder.weight")),
              (file, options) -> LlamaScope.read(LlamaScope.FORMAT, LlamaScope.CONFIGS, file, options)),
          new Format(
              LlamaScope.NEW_FORMAT,
              LlamaScope.NEW_WEIGHTS,
              LlamaScope.NEW_CONFIGS,
              names(names -> names.contains("decoder.weight") || names.contains("W_E")),
              (file, options) -> LlamaScope.read(LlamaScope.NEW_FORMAT, LlamaScope.NEW_CONFIGS, file, options)),
          new Format(
              GemmaScope2.FORMAT,
              GemmaScope2.WEIGHTS,
              GemmaScope2.CONFIGS,
              names(names -> names.contains("w_enc")),
              (file, options) -> GemmaScope2.read(file)),
          new Format(
              Mwhanna.FORMAT, Mwhanna.WEIGHTS, Mwhanna.CONFIGS, names(names -> names.contains("W_enc")), Mwhanna::read),
          new Format(DictionaryLearning.FORMAT, TORCH, List.of(), DictionaryLearning::claims, DictionaryLearning::read),
          new Format(OpenAi.FORMAT, TORCH, List.of(), OpenAi::claims, (file, options) -> OpenAi.read(file)),
          new Format(TorchSaes.GOODFIRE, TORCH, List.of(), TorchSaes::isGoodfire, (file, options) -> TorchSaes.goodfire(file)),
          new Format(TorchSaes.DEEPSEEK, TORCH, List.of(), TorchSaes::isDeepSeek, (file, options) -> TorchSaes.deepSeek(file)),
          new Format(TorchSaes.QWEN, TORCH, List.of(), TorchSaes::isQwen, TorchSaes::qwen),
          new Format(TorchSaes.HOOK_Z, TORCH, List.of(), TorchSaes::isHookZ, (file, options) -> TorchSaes.hookZ(file)),
          new Format(StateDict.FORMAT, TORCH, List.of(), StateDict::claims, StateDict::read));

  /** What is read by what the user says, and is never detected. */
  private static final Format GENERIC =
      new Format(Generic.FORMAT, List.of("*.{safetensors,npz,pt,pth}"), List.of(), file -> true, Generic::read);

  private SaeReader() {}

  /** The names of the formats. */
  public static List<String> formats() {
    return Stream.concat(FORMATS.stream(), Stream.of(GENERIC)).map(Format::name).toList();
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
   * @throws SaeException if it can't be read, naming file, expected and got; or if an option has no use, or contradicts the files
   */
  public static SaeWeights read(Path path, Options options) {
    if (!Files.exists(path)) {
      throw new SaeException(path + ": no such file or folder");
    }
    Found found = options.format == null ? detect(path) : forced(options.format, path);
    try (TensorFile file = TensorFile.open(found.weights)) {
      Checkpoint checkpoint = found.format.read(file, options);
      requireUsed(options, checkpoint);
      checkpoint.prefix = options.prefix == null ? 0 : options.prefix;
      return checkpoint.load();
    }
  }

  /** What was given and has no use is a misunderstanding, and so is a k that is not the file's. */
  private static void requireUsed(Options options, Checkpoint sae) {
    String read = "%s: read as %s, architecture \"%s\"".formatted(sae.path, sae.format, sae.architecture);
    if (options.k != null && sae.selection == Selection.GATE) {
      throw new SaeException("%s, which has no use for a k: the option k (--k) is %d".formatted(read, options.k));
    }
    if (options.k != null && options.k != sae.k) {
      throw new SaeException("%s, with k = %d by its files, but the option k (--k) is %d".formatted(read, sae.k, options.k));
    }
    if (options.normScalingFactor != null && !options.normScalingFactor.equals(sae.normScalingFactor)) {
      throw new SaeException(
          "%s, %s, but the norm scaling factor (--norm-scaling-factor) is %s"
              .formatted(
                  read,
                  sae.normScalingFactor == null
                      ? "which does not scale its input by one"
                      : "with " + sae.normScalingFactor + " by its files",
                  options.normScalingFactor));
    }
  }

  private static Found forced(String name, Path path) {
    Format format = FORMATS.stream().filter(f -> f.name.equals(name)).findFirst().orElse(GENERIC);
    List<Path> weights = format.weights(path);
    if (weights.size() > 1) {
      throw severalFiles(path, weights.size(), format);
    }
    return requireParts(format, path, weights);
  }

  private static SaeException severalFiles(Path path, int count, Format format) {
    return new SaeException("%s: holds %d files for the format %s; name one".formatted(path, count, format.name));
  }

  /** By the files' names; where no name tells, by the names of the tensors. */
  private static Found detect(Path path) {
    Unsupported.refuse(path);
    List<Format> named = FORMATS.stream().filter(format -> !format.isToldByTensors()).toList();
    List<Found> found =
        named.stream()
            .flatMap(format -> format.find(path).stream())
            .filter(f -> f.format.isTold(f.weights) || f.format.claims(f.weights, false))
            .toList();
    if (found.isEmpty()) {
      List<Format> partly = named.stream().filter(format -> format.isPartly(path)).toList();
      if (partly.size() == 1) {
        return requireParts(partly.get(0), path, partly.get(0).weights(path)); // which will name what is missing
      }
      found = claimed(path);
      found.addAll(unclaimed(path, found));
    }
    if (found.isEmpty()) {
      throw new SaeException("%s: no SAE found; looked for %s%s".formatted(path, lookedFor(path), suggestion(path)));
    }
    List<Path> files = found.stream().map(Found::weights).distinct().toList();
    if (files.size() > 1 && found.stream().map(Found::format).distinct().count() == 1) {
      throw severalFiles(path, files.size(), found.get(0).format);
    }
    if (files.size() > 1) {
      throw new SaeException(
          "%s: holds %d SAEs, %s; name the file, or the format (--format)"
              .formatted(path, files.size(), String.join(" and ", found.stream().map(Found::toString).toList())));
    }
    return found.size() == 1 ? found.get(0) : byTensors(found);
  }

  /** The formats; of a file, those that have files of its kind. */
  private static String lookedFor(Path path) {
    List<Format> fitting =
        FORMATS.stream().filter(format -> !Files.isDirectory(path) && !format.weights(path).isEmpty()).toList();
    return (fitting.isEmpty() ? FORMATS : fitting).stream().map(Format::toString).collect(Collectors.joining(", "));
  }

  /** What the one file of tensors holds, and how to read it all the same; nothing where there are none, or several. */
  private static String suggestion(Path path) {
    List<Path> files = GENERIC.weights(path);
    if (files.size() != 1) {
      return "";
    }
    try (TensorFile file = TensorFile.open(files.get(0))) {
      return "; " + Generic.suggest(file);
    }
  }

  /** Files of which only the tensors tell what they are. */
  private static List<Found> claimed(Path path) {
    List<Found> found = new ArrayList<>();
    for (Format format : FORMATS.stream().filter(Format::isToldByTensors).toList()) {
      List<Found> candidates = format.find(path);
      candidates.stream().filter(c -> format.claims(c.weights, candidates.size() > 1)).forEach(found::add);
    }
    return found;
  }

  /** Files that formats read, but that nothing tells to be of one. The only SAE is refused so, with the formats that it may be of. */
  private static List<Found> unclaimed(Path path, List<Found> claimed) {
    List<Format> formats = FORMATS.stream().filter(Format::isToldByTensors).toList();
    Set<Path> files = new LinkedHashSet<>(formats.stream().flatMap(format -> format.weights(path).stream()).toList());
    claimed.forEach(found -> files.remove(found.weights));
    List<Found> unclaimed = new ArrayList<>();
    SaeFormatException refusal = null;
    for (Path weights : files) {
      try (TensorFile file = TensorFile.open(weights)) {
        Map<Format, Checkpoint> trials = new LinkedHashMap<>();
        formats.forEach(format -> trials.computeIfAbsent(format, f -> f.trial(file)));
        if (!trials.isEmpty()) {
          refusal = notTold(file, trials);
          unclaimed.add(new Found(trials.keySet().iterator().next(), weights));
        }
      } catch (SaeFormatException e) {
        continue; // no SAE: a lone file was opened before
      }
    }
    if (claimed.isEmpty() && unclaimed.size() == 1) {
      throw refusal;
    }
    return unclaimed;
  }

  private static SaeFormatException notTold(TensorFile file, Map<Format, Checkpoint> trials) {
    Map<String, String> formats = new LinkedHashMap<>(); // by what they compute
    trials.forEach(
        (format, sae) -> {
          String option = "--format " + format.name + (sae.selection == Selection.GATE ? "" : " --k K");
          formats.merge(sae.equation(), option, (a, b) -> a + " or " + b);
        });
    return new SaeFormatException(
        "%s: what it computes is not told by tensors of such names, %s; name it: %s; or say what they are: --format generic %s"
            .formatted(
                file.path(),
                Guess.shapes(file),
                formats.entrySet().stream().map(e -> e.getValue() + ": " + e.getKey()).collect(Collectors.joining("; ")),
                Guess.options(file)));
  }

  /** The one of these formats that the tensors of their file are of. */
  private static Found byTensors(List<Found> candidates) {
    Path weights = candidates.get(0).weights;
    List<Found> fitting = candidates.stream().filter(found -> found.format.claims(weights, false)).toList();
    if (fitting.size() != 1) {
      List<String> named = (fitting.isEmpty() ? candidates : fitting).stream().map(found -> found.format.name).toList();
      throw new SaeFormatException(
          "%s: may be of the formats %s, and its tensors don't tell; name the format (--format)"
              .formatted(weights, String.join(", ", named)));
    }
    return fitting.get(0);
  }

  /** The weights, if all that the format needs is there. */
  private static Found requireParts(Format format, Path path, List<Path> weights) {
    Path file = !weights.isEmpty() ? weights.get(0) : Files.isDirectory(path) ? path.resolve(format.weights.get(0)) : path;
    if (!format.hasConfig(file)) {
      throw new SaeException(
          "%s: no such file; the format %s needs it".formatted(file.resolveSibling(format.configs.get(0)).normalize(), format.name));
    }
    if (!Files.isRegularFile(file)) {
      throw new SaeException("%s: no such file; the format %s needs it".formatted(file, format.name));
    }
    return new Found(format, file);
  }

  /** The files in a folder whose names match a glob, in order. */
  static List<Path> list(Path folder, String glob) {
    if (!glob.contains("*")) { // it may name one in a folder below
      Path file = folder.resolve(glob);
      return Files.isRegularFile(file) ? List.of(file) : List.of();
    }
    try (Stream<Path> files = Files.list(folder)) {
      return files.filter(file -> matches(glob, file)).sorted().toList();
    } catch (IOException e) {
      throw Failures.of(folder, e);
    }
  }

  private static boolean matches(String glob, Path file) {
    boolean isIndex = file.toString().endsWith(Shards.INDEX) && !glob.endsWith(Shards.INDEX);
    String whole = "glob:" + (isIndex ? glob + Shards.INDEX : glob);
    return file.getFileSystem().getPathMatcher(whole).matches(file.getFileName());
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

package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeInfo;
import dev.sae4j.SaeWeights;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * Reads SAE checkpoints of two families, ReLU ({@code "standard"}) and JumpReLU, with weights in float32, float16, bfloat16 or
 * float64, each tensor by its own dtype:
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
  private static final String SAELENS = "saelens";
  private static final String GEMMA_SCOPE = "gemma-scope";
  private static final String CONFIG = "cfg.json";
  private static final String SAFETENSORS = "sae_weights.safetensors";
  private static final String PARAMS = "params.npz";

  private SaeReader() {}

  /**
   * Reads an SAE into native memory, folded into the one form of {@link SaeWeights}. What was folded is in
   * {@link SaeInfo#folded}, a sentence each.
   *
   * @param path a folder or a file
   * @param format {@code "saelens"} or {@code "gemma-scope"} to force a reader, null to detect
   * @return the weights, which the caller closes
   * @throws IllegalArgumentException if there is no format of that name
   * @throws SaeException if it can't be read, naming file, expected and got
   */
  public static SaeWeights read(Path path, String format) {
    if (format != null && !format.equals(SAELENS) && !format.equals(GEMMA_SCOPE)) {
      throw new IllegalArgumentException(
          "format must be \"%s\" or \"%s\", got %s".formatted(SAELENS, GEMMA_SCOPE, Failures.quote(format)));
    }
    if (!Files.exists(path)) {
      throw new SaeException(path + ": no such file or folder");
    }
    return (format == null ? detect(path) : format).equals(SAELENS) ? readSaeLens(path) : readGemmaScope(path);
  }

  private static String detect(Path path) {
    boolean saeLens = Files.isDirectory(path) ? has(path, CONFIG) || has(path, SAFETENSORS) : endsWith(path, ".safetensors");
    boolean gemmaScope = Files.isDirectory(path) ? has(path, PARAMS) : endsWith(path, ".npz");
    if (saeLens && gemmaScope) {
      throw new SaeException(
          "%s: holds two SAEs, %s and %s; name the file, or the format".formatted(path, SAFETENSORS, PARAMS));
    }
    if (!saeLens && !gemmaScope) {
      throw new SaeException(
          "%s: no SAE found; looked for %s + %s (%s) and %s (%s)"
              .formatted(path, CONFIG, SAFETENSORS, SAELENS, PARAMS, GEMMA_SCOPE));
    }
    return saeLens ? SAELENS : GEMMA_SCOPE;
  }

  private static boolean has(Path folder, String name) {
    return Files.exists(folder.resolve(name));
  }

  private static boolean endsWith(Path path, String extension) {
    return path.getFileName().toString().endsWith(extension);
  }

  private static Path require(Path file, String format) {
    if (!Files.isRegularFile(file)) {
      throw new SaeException("%s: no such file; the format %s needs it".formatted(file, format));
    }
    return file;
  }

  private static SaeWeights readSaeLens(Path path) {
    boolean isFolder = Files.isDirectory(path);
    Path configPath = require(isFolder ? path.resolve(CONFIG) : path.resolveSibling(CONFIG), SAELENS);
    Path weightsPath = require(isFolder ? path.resolve(SAFETENSORS) : path, SAELENS);
    SaeLensConfig config = SaeLensConfig.read(configPath);
    boolean isJumpRelu = config.architecture().equals("jumprelu");
    try (TensorFile file = TensorFile.open(weightsPath)) {
      if (isJumpRelu != file.tensors().containsKey("threshold")) {
        throw new SaeFormatException(
            "%s: %s \"threshold\" tensor, but cfg.json says architecture \"%s\""
                .formatted(weightsPath, isJumpRelu ? "no" : "has a", config.architecture()));
      }
      refuseUnknown(file, Set.of("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "scaling_factor"), config.architecture());
      Checkpoint checkpoint =
          new Checkpoint(
              weightsPath,
              SAELENS,
              file.require("W_enc"),
              file.require("W_dec"),
              file.require("b_enc"),
              file.require("b_dec"),
              isJumpRelu ? file.require("threshold") : null,
              file.tensors().get("scaling_factor"),
              config.appliesBDec(),
              config.modelName(),
              config.hookName(),
              config.warnings());
      requireSize(config, "d_in", config.dIn(), checkpoint.bDec());
      requireSize(config, "d_sae", config.dSae(), checkpoint.bEnc());
      return checkpoint.load();
    }
  }

  private static void requireSize(SaeLensConfig config, String key, Long size, Tensor vector) {
    if (size != null && !vector.hasShape(size)) {
      throw new SaeFormatException(
          "%s: %s is %d, but %s has shape %s".formatted(config.path(), key, size, vector.name, vector.shapeText()));
    }
  }

  private static void refuseUnknown(TensorFile file, Set<String> known, String architecture) {
    List<String> unknown = new ArrayList<>(file.tensors().keySet());
    unknown.removeAll(known);
    if (!unknown.isEmpty()) {
      throw new SaeFormatException(
          "%s: has tensors that architecture \"%s\" does not know: %s"
              .formatted(file.path(), architecture, Failures.list(unknown)));
    }
  }

  private static SaeWeights readGemmaScope(Path path) {
    Path params = require(Files.isDirectory(path) ? path.resolve(PARAMS) : path, GEMMA_SCOPE);
    try (TensorFile file = TensorFile.open(params)) {
      refuseUnknown(
          file, Set.of("W_enc", "w_enc", "W_dec", "w_dec", "b_enc", "b_dec", "threshold", "scaling_factor"), "jumprelu");
      return new Checkpoint(
              params,
              GEMMA_SCOPE,
              file.require(file.tensors().containsKey("w_enc") ? "w_enc" : "W_enc"),
              file.require(file.tensors().containsKey("w_dec") ? "w_dec" : "W_dec"),
              file.require("b_enc"),
              file.require("b_dec"),
              file.require("threshold"),
              file.tensors().get("scaling_factor"),
              false,
              null,
              null,
              List.of())
          .load();
    }
  }
}

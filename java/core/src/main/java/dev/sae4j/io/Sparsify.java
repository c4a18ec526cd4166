package dev.sae4j.io;

import dev.sae4j.SaeWeights.Selection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;

/**
 * EleutherAI's sparsify (formerly sae): a folder named after its hookpoint with {@code cfg.json} and {@code sae.safetensors}, of
 * encoder.weight and W_dec, both [d_sae, d_in]. TopK; b_dec is always subtracted from the input, but for a transcoder.
 */
final class Sparsify {
  static final String FORMAT = "sparsify";
  static final List<String> WEIGHTS = List.of("sae.safetensors");
  static final List<String> CONFIGS = List.of("cfg.json");
  private static final String HOOKPOINT = "layers?[._]\\d+.*|embed_tokens|.*\\.\\d+(\\..*)?";

  private final Config config;
  private final TensorFile file;
  private final Checkpoint sae;

  private Sparsify(TensorFile file) {
    this.config = Config.read(Config.beside(file.path(), CONFIGS));
    this.file = file;
    this.sae = new Checkpoint(file.path(), FORMAT);
  }

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    return new Sparsify(file).read(options);
  }

  private Checkpoint read(SaeReader.Options options) {
    config.text("activation", Set.of("topk"));
    sae.isTranscoder = config.isTrue("transcode");
    readTensors();
    sae.architecture = !sae.isTranscoder ? "topk" : sae.wSkip == null ? "transcoder" : "skip_transcoder";
    requireSize();
    Long k = config.size("k");
    sae.k = k != null ? k : options.requireK(config.path() + ": has no k");
    sae.selection = config.isTrue("signed") ? Selection.TOP_ABS : Selection.TOP;
    if (sae.selection == Selection.TOP_ABS) {
      sae.folded.add("the k features of largest magnitude are active, negative ones too (signed)");
    }
    sae.subtractsBDec = !sae.isTranscoder;
    if (sae.subtractsBDec) {
      sae.folded.add("b_dec is subtracted from the input, as sparsify always does: encoder.bias becomes itself - <b_dec, w_j>");
    }
    name();
    return sae;
  }

  private void readTensors() {
    SaeReader.refuseUnknown(
        file, Set.of("encoder.weight", "encoder.bias", "W_dec", "b_dec", "W_skip"), sae.isTranscoder ? "transcoder" : "topk");
    sae.wEnc = new Checkpoint.Matrix(file.require("encoder.weight"), true);
    sae.wDec = new Checkpoint.Matrix(file.require("W_dec"), true);
    sae.bEnc = file.require("encoder.bias");
    sae.bDec = file.require("b_dec");
    sae.wSkip = config.isTrue("skip_connection") ? file.require("W_skip") : null;
    if (sae.wSkip == null && file.tensors().containsKey("W_skip")) {
      throw config.error("skip_connection is not true, but %s has a \"W_skip\" tensor".formatted(file.path()));
    }
  }

  /** num_latents, where 0 or nothing means d_in times expansion_factor. */
  private void requireSize() {
    config.requireLength("d_in", sae.bDec);
    config.requireDimension("d_in", sae.wEnc.tensor());
    if (config.has("num_latents") && !config.hasZero("num_latents")) {
      config.requireLength("num_latents", sae.bEnc);
    } else if (config.has("d_in") && config.has("expansion_factor")) {
      long d = config.size("d_in");
      long factor = config.size("expansion_factor");
      if (factor > Integer.MAX_VALUE / d || !sae.bEnc.hasShape(d * factor)) {
        throw config.error(
            "d_in is %d and expansion_factor %d, but encoder.bias has shape %s".formatted(d, factor, sae.bEnc.shapeText()));
      }
    }
  }

  /** The folder is named after the hookpoint; the repository's configuration, above it, names the model. */
  private void name() {
    Path folder = file.path().toAbsolutePath().normalize().getParent();
    String name = String.valueOf(folder.getFileName());
    sae.hookName = name.matches(HOOKPOINT) ? name : null;
    Path repository = folder.resolveSibling("config.json");
    if (Files.isRegularFile(repository)) {
      sae.modelName = Config.read(repository).text("model");
    }
  }
}

package dev.sae4j.io;

import java.util.List;
import java.util.Set;

/**
 * Gemma Scope 2: {@code config.json} and {@code params.safetensors} of JumpReLU weights in lower case, w_enc [d_in, d_sae], w_dec
 * [d_sae, d_out]. SAEs and transcoders; these may have an affine_skip_connection.
 */
final class GemmaScope2 {
  static final String FORMAT = "gemma-scope-2";
  static final List<String> WEIGHTS = List.of("params.safetensors");
  static final List<String> CONFIGS = List.of("config.json");
  private static final String SKIP = "affine_skip_connection";

  private GemmaScope2() {}

  static Checkpoint read(TensorFile file) {
    Config config = Config.read(Config.beside(file.path(), CONFIGS));
    config.text("architecture", Set.of("jump_relu"));
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    String in = config.text("hf_hook_point_in");
    String out = config.text("hf_hook_point_out");
    String type = config.text("type", Set.of("sae", "transcoder"));
    sae.isTranscoder = type != null ? type.equals("transcoder") : out != null && !out.equals(in);
    sae.hookName = in;
    sae.modelName = config.text("model_name");
    sae.publishedL0 = config.number("l0");
    readTensors(config, file, sae);
    sae.architecture = !sae.isTranscoder ? "jumprelu" : sae.wSkip == null ? "jumprelu_transcoder" : "jumprelu_skip_transcoder";
    config.requireLength("width", sae.bEnc);
    return sae;
  }

  private static void readTensors(Config config, TensorFile file, Checkpoint sae) {
    SaeReader.refuseUnknown(file, Set.of("w_enc", "w_dec", "b_enc", "b_dec", "threshold", SKIP), "jump_relu");
    sae.wEnc = new Checkpoint.Matrix(file.require("w_enc"), false);
    sae.wDec = new Checkpoint.Matrix(file.require("w_dec"), true);
    sae.bEnc = file.require("b_enc");
    sae.bDec = file.require("b_dec");
    sae.threshold = file.require("threshold");
    sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc");
    boolean hasSkip = file.tensors().containsKey(SKIP);
    Boolean expected = config.flag("affine_connection");
    if (expected != null && expected != hasSkip) {
      throw config.error(
          "affine_connection is %s, but %s has %s tensor \"%s\"".formatted(expected, file.path(), hasSkip ? "a" : "no", SKIP));
    }
    if (hasSkip) {
      sae.wSkip = file.require(SKIP);
      sae.turnsSkip = true;
      sae.warnings.add(
          SKIP + " is taken as [d_in, d_out], as the publisher's example multiplies by it; it is square: its shape can't tell");
    }
  }
}

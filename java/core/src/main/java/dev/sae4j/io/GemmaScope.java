package dev.sae4j.io;

import java.nio.file.Path;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Gemma Scope: an .npz of JumpReLU weights and nothing else, W_enc [d_in, d_sae], W_dec [d_sae, d_out]. What it is is in the path
 * alone: {@code <repository>/layer_N/width_W/average_l0_K/params.npz}.
 */
final class GemmaScope {
  static final String FORMAT = "gemma-scope";
  static final String WEIGHTS = "params.npz";
  private static final Pattern L0 = Pattern.compile("average_l0_(\\d{1,6})");

  private GemmaScope() {}

  static Checkpoint read(TensorFile file) {
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    sae.architecture = "jumprelu";
    SaeReader.refuseUnknown(
        file, Set.of("W_enc", "w_enc", "W_dec", "w_dec", "b_enc", "b_dec", "threshold", "scaling_factor"), "jumprelu");
    sae.wEnc = new Checkpoint.Matrix(file.require(file.tensors().containsKey("w_enc") ? "w_enc" : "W_enc"), false);
    sae.wDec = new Checkpoint.Matrix(file.require(file.tensors().containsKey("w_dec") ? "w_dec" : "W_dec"), true);
    sae.bEnc = file.require("b_enc");
    sae.bDec = file.require("b_dec");
    sae.threshold = file.require("threshold");
    sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc");
    Tensor factor = file.tensors().get("scaling_factor");
    if (factor != null && !Checkpoint.isAllOnes(factor)) {
      throw factor.error("a scaling_factor other than 1 is not known of this format");
    }
    if (factor != null) {
      sae.folded.add("scaling_factor is 1 for every feature and was dropped");
    }
    for (Path part : file.path().toAbsolutePath()) {
      Matcher l0 = L0.matcher(part.toString());
      if (l0.matches()) {
        sae.publishedL0 = Double.valueOf(l0.group(1));
      }
    }
    return sae;
  }
}

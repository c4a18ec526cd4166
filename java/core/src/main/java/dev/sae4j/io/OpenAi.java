package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * OpenAI's autoencoders (GPT-2): a state dict with torch.nn.Linear's matrices and, beside the tensors, the name of its activation.
 * Whether the input is normalised is said nowhere: it is with TopK, and only then.
 */
final class OpenAi {
  static final String FORMAT = "openai";

  private static final Set<String> STATISTICS =
      Set.of("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square"); // of the training

  private OpenAi() {}

  /** Biases of these names are others' too: the activation, or the statistics of the training, must be there. */
  static boolean claims(TensorFile file) {
    Set<String> names = file.tensors().keySet();
    return names.containsAll(Set.of("pre_bias", "latent_bias", "encoder.weight"))
        && (names.containsAll(STATISTICS) || StateDict.members(file).containsKey("activation"));
  }

  static Checkpoint read(TensorFile file) {
    Map<String, Object> dict = StateDict.members(file);
    Object activation = dict.get("activation") == null ? "ReLU" : dict.get("activation");
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    Set<String> known = new LinkedHashSet<>(STATISTICS);
    known.addAll(List.of("pre_bias", "latent_bias", "encoder.weight", "decoder.weight"));
    SaeReader.refuseUnknown(file, known, activation.equals("TopK") ? "topk" : "standard");
    sae.wEnc = new Checkpoint.Matrix(file.require("encoder.weight"), true);
    sae.wDec = new Checkpoint.Matrix(file.require("decoder.weight"), false);
    sae.bEnc = file.require("latent_bias");
    sae.bDec = file.require("pre_bias");
    sae.subtractsBDec = true;
    sae.folded.add("pre_bias is subtracted from the input and added by decode: latent_bias becomes itself - <pre_bias, w_j>");
    if (activation.equals("TopK")) {
      selectTop(sae, dict.get("activation_state_dict"));
    } else if (!activation.equals("ReLU")) {
      throw unsupported(sae, "activation", activation, "\"ReLU\" or \"TopK\"");
    }
    return sae;
  }

  private static void selectTop(Checkpoint sae, Object state) {
    Map<?, ?> members = state instanceof Map<?, ?> map ? map : Map.of();
    if (!(members.get("k") instanceof Long k)) {
      throw unsupported(sae, "activation_state_dict.k", members.get("k"), "a whole number");
    }
    Object last = members.get("postact_fn");
    if (!"ReLU".equals(last) && !"Identity".equals(last)) {
      throw unsupported(sae, "activation_state_dict.postact_fn", last, "\"ReLU\" or \"Identity\"");
    }
    sae.architecture = "topk";
    sae.k = k;
    sae.selection = last.equals("ReLU") ? Selection.TOP : Selection.TOP_SIGNED;
    sae.normalization = Normalization.LAYER;
    sae.folded.add("each row is normalised first (activation TopK), and its scale and shift are put back by decode");
  }

  private static SaeFormatException unsupported(Checkpoint sae, String key, Object got, String expected) {
    String shown = got instanceof String text ? Failures.quote(text) : got instanceof Long ? got.toString() : Pickle.kindOf(got);
    return new SaeFormatException("%s: %s is %s, which is not supported: expected %s".formatted(sae.path, key, shown, expected));
  }
}

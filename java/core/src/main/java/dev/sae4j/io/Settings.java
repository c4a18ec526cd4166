package dev.sae4j.io;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** What a configuration of no fixed form says of an SAE's equations, under the names that are usual for it. */
record Settings(Config config) {
  private static final List<String> ACTIVATION =
      List.of("activation", "activation_fn", "activation_fn_str", "activation_function", "act_fn", "nonlinearity");
  private static final List<String> K = List.of("k", "top_k", "topk");
  private static final List<String> SUBTRACTS =
      List.of(
          "apply_b_dec_to_input", "subtract_b_dec", "subtract_decoder_bias", "apply_decoder_bias_to_pre_encoder",
          "pre_encoder_bias");
  private static final List<String> NORMALIZES =
      List.of(
          "normalize_activations", "normalize_input", "normalize_inputs", "input_norm", "norm_activation", "layer_norm");
  /** Where settings may lie; those below other names may be another thing's. */
  private static final Set<String> PLACES =
      Set.of(
          "config", "cfg", "hparams", "hyper_parameters", "hyperparameters", "args", "sae", "autoencoder", "transcoder",
          "activation_state_dict");

  /** "relu", "topk" or "jumprelu"; null where nothing is said. TopK is also said by a k alone. */
  String activation() {
    Long k = k();
    Map<String, Object> found = find(ACTIVATION);
    String activation = null;
    for (String path : found.keySet()) {
      String text = config.text(path);
      String name = text.toLowerCase(Locale.ROOT).replaceAll("^(torch\\.)?nn\\.|[_\\-]|\\(\\)$", "");
      if (!Set.of("relu", "topk", "jumprelu").contains(name) || activation != null && !name.equals(activation)) {
        throw config.unsupported(
            path, text, activation == null ? "\"relu\", \"topk\" or \"jumprelu\"" : "\"" + activation + "\" again");
      }
      if (k != null && !name.equals("topk")) {
        throw config.unsupported(path, text, "\"topk\", as k is " + k);
      }
      activation = name;
    }
    return activation == null && k != null ? "topk" : activation;
  }

  /** Null where nothing is said. */
  Long k() {
    Long k = null;
    for (String path : find(K).keySet()) {
      Long size = config.size(path);
      if (k != null && !k.equals(size)) {
        throw config.unsupported(path, size, "%d again".formatted(k));
      }
      k = size;
    }
    return k;
  }

  /** Whether b_dec is subtracted from the input; null where nothing is said. */
  Boolean subtractsBDec() {
    Boolean subtracts = null;
    for (String path : find(SUBTRACTS).keySet()) {
      Boolean flag = config.flag(path);
      if (subtracts != null && !subtracts.equals(flag)) {
        throw config.unsupported(path, flag, subtracts + " again");
      }
      subtracts = flag;
    }
    return subtracts;
  }

  void refuseNormalization() {
    find(NORMALIZES).forEach(
        (path, value) -> {
          if (!value.equals(false) && !value.equals("none") && !value.equals("inference")) {
            throw config.unsupported(path, value, "false or \"none\"");
          }
        });
  }

  /** The values under these names, by their paths. Elsewhere than in the usual places it is unknown what they are of. */
  private Map<String, Object> find(List<String> names) {
    Map<String, Object> found = new LinkedHashMap<>();
    config.map().forEach(
        (path, value) -> {
          if (value != null && names.contains(path.substring(path.lastIndexOf('.') + 1))) {
            List<String> places = List.of(path.split("\\."));
            if (!PLACES.containsAll(places.subList(0, places.size() - 1))) {
              throw config.error(
                  "%s is %s, and whether that is said of the SAE is unknown: say what it is by --format generic"
                      .formatted(path, Failures.quote(value.toString())));
            }
            found.put(path, value);
          }
        });
    return found;
  }
}

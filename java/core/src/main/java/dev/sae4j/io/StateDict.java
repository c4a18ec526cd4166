package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * A state dict as programs save it: below a key, under the prefixes of torch.compile and DDP, beside the state of a
 * training and a configuration. As a format of its own it is one encoder and decoder of which that configuration says
 * what they compute.
 */
final class StateDict {
  static final String FORMAT = "state-dict";
  private static final Set<String> WRAPPERS =
      Set.of(
          "state_dict", "model_state_dict", "sae_state_dict", "model", "sae", "autoencoder", "state", "module", "_orig_mod");
  private static final String TRAINING =
      "(optim|optimizer|scheduler|lr_scheduler|scaler|rng|cuda_rng)(_?states?)?(_dicts?)?s?";
  private static final int MAX_WRAPPERS = 4;

  private StateDict() {}

  // ---- what lies around the tensors

  /** The same tensors by the names they have in the module itself; the state of a training is left out. */
  static TensorFile unwrapped(TensorFile file) {
    Map<String, Tensor> tensors = file.tensors();
    for (int i = 0; i < MAX_WRAPPERS; i++) {
      Map<String, Tensor> inner = inner(tensors);
      if (inner == null) {
        break;
      }
      tensors = inner;
    }
    return tensors == file.tensors() ? file : new TensorFile(file.path(), file.file(), tensors);
  }

  /** Without one wrapper, what lies beside it included; null where there is none, or it is not clear which. */
  private static Map<String, Tensor> inner(Map<String, Tensor> tensors) {
    Set<String> names = new LinkedHashSet<>(tensors.keySet());
    names.removeIf(name -> head(name).replaceAll("\\[.*", "").matches(TRAINING));
    Set<String> heads = names.stream().map(StateDict::head).collect(Collectors.toSet());
    List<String> wrappers =
        heads.stream().filter(head -> WRAPPERS.contains(head) || heads.size() == 1 && isWrapper(head)).toList();
    if (wrappers.size() != 1 || !names.stream().allMatch(name -> name.contains(".") || !wrappers.contains(name))) {
      return null;
    }
    String prefix = wrappers.get(0) + ".";
    Map<String, Tensor> inner = new LinkedHashMap<>();
    for (String name : names) {
      String own = name.startsWith(prefix) ? name.substring(prefix.length()) : name;
      if (inner.put(own, tensors.get(name)) != null) {
        return null;
      }
    }
    return inner;
  }

  /** Not an item of a list, nor "ae": that is dictionary_learning's, which looks at it itself. */
  private static boolean isWrapper(String head) {
    return !head.contains("[") && !head.equals("ae");
  }

  private static String head(String name) {
    int dot = name.indexOf('.');
    return dot < 0 ? name : name.substring(0, dot);
  }

  /** What a torch file has in its dict, by the names that it has without the wrappers that the tensors are without. */
  static Map<String, Object> members(TensorFile unwrapped) {
    Map<String, Object> members = new LinkedHashMap<>();
    if (unwrapped.path().toString().matches("(?i).*\\.pth?")) {
      collect("", PyTorch.value(unwrapped.path()), wrappers(unwrapped), members);
    }
    return members;
  }

  /** "state_dict.module." before the names of the tensors. */
  private static String wrappers(TensorFile unwrapped) {
    String wrappers = "";
    for (Map.Entry<String, Tensor> entry : unwrapped.tensors().entrySet()) {
      String name = entry.getValue().name;
      String before = name.substring(0, name.length() - entry.getKey().length());
      wrappers = before.length() > wrappers.length() ? before : wrappers;
    }
    return wrappers;
  }

  private static void collect(String path, Object value, String wrappers, Map<String, Object> into) {
    if (value instanceof Map<?, ?> map) {
      map.forEach(
          (key, member) -> {
            String name = path + key;
            if (wrappers.startsWith(name + ".")) {
              collect(name + ".", member, wrappers, into);
            } else {
              String own = own(name, wrappers);
              into.put(into.containsKey(own) ? wrappers + own : own, member); // two are both kept, to be seen
            }
          });
    }
  }

  private static String own(String name, String wrappers) {
    String own = name;
    for (String wrapper : wrappers.split("(?<=\\.)")) {
      if (!own.startsWith(wrapper)) {
        break;
      }
      own = own.substring(wrapper.length());
    }
    return own;
  }

  /** What a torch file says of itself beside its tensors. */
  static Settings settings(TensorFile unwrapped) {
    Map<String, Object> settings = new LinkedHashMap<>();
    members(unwrapped).forEach((name, member) -> flatten(name, member, settings));
    return new Settings(new Config(unwrapped.path(), "", settings));
  }

  /** Opening the file bounded how deep values are nested, and how many there are. */
  private static void flatten(String path, Object value, Map<String, Object> into) {
    if (value instanceof Map<?, ?> map) {
      map.forEach((key, member) -> flatten(path + "." + key, member, into));
    } else if (value instanceof Number number) {
      into.put(path, new Json.Literal(number.toString()));
    } else if (value instanceof String || value instanceof Boolean) {
      into.put(path, value);
    }
  }

  /** Refuses an SAE that is read as something else than what the file says of itself. */
  static void requireAgreement(TensorFile unwrapped, Checkpoint sae) {
    Settings settings = settings(unwrapped);
    Long k = settings.k();
    String activation = settings.activation();
    Boolean subtracts = settings.subtractsBDec();
    boolean isTop = sae.selection != Selection.GATE;
    if (activation != null && activation.equals("topk") != isTop || isTop && k != null && k != sae.k) {
      throw disagreement(sae, k == null ? "the activation " + activation : "k = " + k);
    }
    if (activation != null && !isTop && activation.equals("jumprelu") == (sae.threshold == null)) {
      throw disagreement(sae, "the activation " + activation);
    }
    if (subtracts != null && sae.bDec != null && subtracts != sae.subtractsBDec) {
      throw disagreement(sae, "that b_dec is %ssubtracted from the input".formatted(subtracts ? "" : "not "));
    }
    if (sae.normalization == Normalization.NONE) {
      settings.refuseNormalization();
    }
  }

  private static SaeFormatException disagreement(Checkpoint sae, String said) {
    return new SaeFormatException(
        "%s: its own configuration says %s, but the format %s reads it as %s"
            .formatted(sae.path, said, sae.format, sae.equation()));
  }

  // ---- as a format

  /** A pair of matrices of the usual names, and a configuration that says what they compute. */
  static boolean claims(TensorFile file) {
    Map<String, String> names = names(file);
    boolean isPair =
        names.keySet().containsAll(List.of("W_enc", "W_dec")) && names.values().containsAll(file.tensors().keySet());
    return isPair && !DictionaryLearning.hasTrainer(file) && settings(file).activation() != null;
  }

  /** The tensors by what they are. */
  private static Map<String, String> names(TensorFile file) {
    Map<String, String> names = new LinkedHashMap<>();
    Map<String, List<String>> usual =
        Map.of(
            "W_enc", List.of("encoder.weight", "W_enc"),
            "W_dec", List.of("decoder.weight", "W_dec"),
            "b_enc", List.of("encoder.bias", "b_enc"),
            "b_dec", List.of("decoder.bias", "b_dec", "bias", "pre_bias"),
            "threshold", List.of("threshold"));
    usual.forEach(
        (what, candidates) ->
            candidates.stream().filter(file.tensors()::containsKey).findFirst().ifPresent(name -> names.put(what, name)));
    return names;
  }

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    Map<String, String> names = names(file);
    SaeReader.refuseUnknown(file, Set.copyOf(names.values()), FORMAT);
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    String wEnc = names.getOrDefault("W_enc", "encoder.weight");
    String wDec = names.getOrDefault("W_dec", "decoder.weight");
    sae.wEnc = new Checkpoint.Matrix(file.require(wEnc), wEnc.equals("encoder.weight"));
    sae.wDec = new Checkpoint.Matrix(file.require(wDec), wDec.equals("W_dec"));
    sae.conventionIsSure = wEnc.equals("encoder.weight");
    sae.bEnc =
        sae.conventionIsSure
            ? file.tensors().get(names.get("b_enc"))
            : file.require(names.getOrDefault("b_enc", "b_enc"));
    sae.bDec = file.tensors().get(names.get("b_dec"));
    sae.threshold = file.tensors().get(names.get("threshold"));
    select(settings(file), options, sae);
    return sae;
  }

  private static void select(Settings settings, SaeReader.Options options, Checkpoint sae) {
    Long k = settings.k();
    String activation = settings.activation();
    if (sae.threshold == null && "jumprelu".equals(activation)) {
      throw settings.config().error("the activation is jumprelu, but there is no tensor \"threshold\"");
    }
    if (sae.threshold != null) {
      sae.refuseNegativeThresholds();
      sae.architecture = "jumprelu";
      sae.folded.add("threshold applies after the bias: it becomes threshold - bias");
    } else if (!"relu".equals(activation)) {
      sae.architecture = "topk";
      sae.selection = Selection.TOP;
      sae.notes.add(
          "the k largest are taken to end in a ReLU, as in most programs: where fewer are positive, fewer are active");
      sae.k = k != null ? k : options.requireK(sae.path + ": there is no k");
    }
    Boolean subtracts = settings.subtractsBDec();
    if (subtracts == null && sae.bDec != null && Checkpoint.firstNot(value -> value == 0, sae.bDec) >= 0) {
      throw sae.bDec.error(
          "is not 0, and whether it is subtracted from the input (apply_b_dec_to_input) is said nowhere in the file: "
              + "say it by --format generic");
    }
    sae.subtractsBDec = Boolean.TRUE.equals(subtracts) && sae.bDec != null;
    if (sae.subtractsBDec) {
      sae.folded.add(
          "%s is subtracted from the input: the encoder's bias becomes itself - <it, w_j>".formatted(sae.bDec.name));
    }
  }
}

package dev.sae4j.io;

import static java.util.Collections.disjoint;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeWeights.Selection;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;

/**
 * dictionary_learning: the state dict of one of its classes, and a configuration that says which. Some have the same tensors and
 * other equations, so the class is guessed only where the tensors leave no choice. Values are those of the library as it is now:
 * once, encode of Gated and JumpReLU multiplied them by the norms of the decoder's rows, and decode divided by these.
 */
final class DictionaryLearning {
  static final String FORMAT = "dictionary-learning";
  private static final String CONFIG = "config.json";
  private static final Pattern NAMED = Pattern.compile("ae(_\\d+)?\\.pt");
  private static final Set<String> PECULIAR = Set.of("gate_bias", "mag_bias", "group_sizes");
  private static final String WRAPPED = "ae."; // a checkpoint of a training: {"step", "ae", ...}

  /**
   * @param bDec the name of what decode adds
   * @param subtractsBDec whether encode subtracts it from x
   * @param tensors all there are; in {@code optional} those that older versions lack
   */
  private record Kind(String architecture, String bDec, boolean subtractsBDec, Set<String> tensors, Set<String> optional) {
    boolean fits(Set<String> names) {
      return tensors.containsAll(names) && tensors.stream().allMatch(name -> names.contains(name) || optional.contains(name));
    }
  }

  /** The matrices are torch.nn.Linear's, [d_sae, d_in] and [d_in, d_sae]; W_enc and W_dec lie the other way round. */
  private static final Map<String, Kind> KINDS = new TreeMap<>();

  static {
    kind("AutoEncoder", "standard", "bias", true, "encoder.weight", "encoder.bias", "decoder.weight");
    kind("AutoEncoderNew", "standard", "decoder.bias", false, "encoder.weight", "encoder.bias", "decoder.weight");
    kind("GatedAutoEncoder", "gated", "decoder_bias", true, "encoder.weight", "decoder.weight", "r_mag", "gate_bias", "mag_bias");
    kind("JumpReluAutoEncoder", "jumprelu", "b_dec", false, "W_enc", "W_dec", "b_enc", "threshold");
    kind("AutoEncoderTopK", "topk", "b_dec", true, "encoder.weight", "encoder.bias", "decoder.weight", "k", "threshold");
    kind("BatchTopKSAE", "batchtopk", "b_dec", true, "encoder.weight", "encoder.bias", "decoder.weight", "k", "threshold");
    kind(
        "MatryoshkaBatchTopKSAE", "matryoshka_batchtopk", "b_dec", true,
        "W_enc", "W_dec", "b_enc", "k", "threshold", "group_sizes");
  }

  private static void kind(String dictClass, String architecture, String bDec, boolean subtractsBDec, String... others) {
    Set<String> tensors = new LinkedHashSet<>(List.of(others));
    tensors.add(bDec);
    Set<String> optional = architecture.equals("topk") ? Set.of("k", "threshold") : Set.of();
    KINDS.put(dictClass, new Kind(architecture, bDec, subtractsBDec, tensors, optional));
  }

  private final TensorFile file;
  private final boolean isWrapped;
  private final Config trainer;
  private final SaeReader.Options options;
  private final Checkpoint sae;

  private DictionaryLearning(TensorFile file, Config trainer, SaeReader.Options options) {
    this.file = unwrapped(file);
    this.isWrapped = this.file != file;
    this.trainer = trainer;
    this.options = options;
    this.sae = new Checkpoint(file.path(), FORMAT);
  }

  /**
   * Without a configuration only what can be no other format's, or class: AutoEncoderNew has the names of others, and those that are
   * not peculiar to the library need the name that it gives its files.
   */
  static boolean claims(TensorFile file) {
    TensorFile own = unwrapped(file);
    Set<String> names = own.tensors().keySet();
    boolean hasEncoder = names.contains("encoder.weight") || names.contains("W_enc"); // an optimizer's state has none
    boolean isPeculiar = own != file || NAMED.matcher(file.path().getFileName().toString()).matches() || !disjoint(names, PECULIAR);
    return hasEncoder && hasTrainer(file)
        || isPeculiar && fitting(names).stream().anyMatch(dictClass -> !dictClass.equals("AutoEncoderNew"));
  }

  static boolean hasTrainer(TensorFile file) {
    Path config = SaeReader.besideOrAbove(file.path(), CONFIG);
    try {
      return config != null && Config.read(config).map().get("trainer") instanceof Map;
    } catch (SaeFormatException e) {
      return false; // something else's, perhaps
    }
  }

  private static List<String> fitting(Set<String> names) {
    return KINDS.keySet().stream().filter(dictClass -> KINDS.get(dictClass).fits(names)).toList();
  }

  private static TensorFile unwrapped(TensorFile file) {
    Map<String, Tensor> inner = new LinkedHashMap<>();
    file.tensors().forEach(
        (name, tensor) -> {
          if (name.startsWith(WRAPPED)) {
            inner.put(name.substring(WRAPPED.length()), tensor);
          }
        });
    return inner.isEmpty() ? file : new TensorFile(file.path(), file.file(), inner);
  }

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    Path config = SaeReader.besideOrAbove(file.path(), CONFIG);
    Config trainer = config == null ? new Config(file.path(), "", Map.of()) : Config.read(config).nested("trainer");
    return new DictionaryLearning(file, trainer, options).read();
  }

  private Checkpoint read() {
    Kind kind = KINDS.get(dictClass());
    sae.architecture = kind.architecture;
    sae.modelName = trainer.text("lm_name");
    sae.hookName = trainer.text("submodule_name");
    SaeReader.refuseUnknown(file, kind.tensors, kind.architecture);
    readTensors(kind);
    if (isWrapped) {
      sae.warnings.add(
          "the file is a checkpoint of a training: if this normalised activations, its biases may be for normalised ones");
    }
    trainer.requireLength("activation_dim", sae.bDec);
    trainer.requireLength("dict_size", sae.gated == null ? sae.bEnc : sae.gated.bGate());
    switch (kind.architecture) {
      case "topk" -> selectTop();
      case "batchtopk" -> readThreshold();
      case "matryoshka_batchtopk" -> {
        readThreshold();
        checkGroups();
      }
      case "jumprelu" -> {
        sae.threshold = file.require("threshold");
        sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc");
      }
      default -> {} // ReLU and Gated have no more
    }
    return sae;
  }

  private String dictClass() {
    String dictClass = trainer.text("dict_class", KINDS.keySet());
    if (dictClass != null) {
      return dictClass;
    }
    List<String> fitting = fitting(file.tensors().keySet());
    if (fitting.size() != 1) {
      throw new SaeFormatException(
          "%s: trainer.dict_class of a %s beside it must say its class: by its tensors it %s"
              .formatted(
                  file.path(), CONFIG, fitting.isEmpty() ? "is none that is known" : "may be " + String.join(" or ", fitting)));
    }
    sae.conventionIsSure = options.format() != null;
    sae.warnings.add("there is no dict_class in a %s: taken as %s by the tensors' names".formatted(CONFIG, fitting.get(0)));
    return fitting.get(0);
  }

  private void readTensors(Kind kind) {
    boolean isLinear = kind.tensors.contains("encoder.weight");
    sae.wEnc = new Checkpoint.Matrix(file.require(isLinear ? "encoder.weight" : "W_enc"), isLinear);
    sae.wDec = new Checkpoint.Matrix(file.require(isLinear ? "decoder.weight" : "W_dec"), !isLinear);
    sae.bDec = file.require(kind.bDec);
    if (kind.architecture.equals("gated")) {
      sae.gated = new Checkpoint.Gated(file.require("gate_bias"), file.require("mag_bias"), file.require("r_mag"));
      sae.folded.add(
          "gated: active where <x, w_j> + gate_bias > 0, of value exp(r_mag) <x, w_j> + mag_bias; as threshold, scale and offset");
    } else {
      sae.bEnc = file.require(isLinear ? "encoder.bias" : "b_enc");
    }
    sae.subtractsBDec = kind.subtractsBDec;
    if (kind.subtractsBDec) {
      sae.folded.add(
          "%s is subtracted from the input: %s becomes itself - <%1$s, w_j>"
              .formatted(kind.bDec, sae.bEnc != null ? sae.bEnc.name : "each of gate_bias and mag_bias / exp(r_mag)"));
    }
  }

  private void selectTop() {
    Long configured = trainer.size("k");
    long[] stored = new long[1];
    if (file.tensors().containsKey("k")) {
      requireScalar("k").read(0, stored, 1);
      if (configured != null && configured != stored[0]) {
        throw trainer.error("trainer.k is %d, but the tensor k is %d".formatted(configured, stored[0]));
      }
    } else {
      stored[0] = configured != null ? configured : options.requireK(file.path() + ": there is no k");
    }
    sae.selection = Selection.TOP;
    sae.k = stored[0];
  }

  private Tensor requireScalar(String name) {
    Tensor tensor = file.require(name);
    if (!Checkpoint.isScalar(tensor)) {
      throw tensor.error("shape is %s, expected a single number".formatted(tensor.shapeText()));
    }
    return tensor;
  }

  /** One for all features, which takes the place of the selection over a batch. */
  private void readThreshold() {
    sae.threshold = requireScalar("threshold");
    double[] value = new double[1];
    sae.threshold.read(0, value, 1);
    sae.folded.add(
        "threshold, one for all, applies after the bias: it becomes threshold - %s + <b_dec, w_j>".formatted(sae.bEnc.name));
    if (value[0] < 0) {
      sae.warnings.add("threshold is %s: it was never set in training, and every positive feature is active".formatted(value[0]));
    }
  }

  private void checkGroups() {
    Tensor sizes = file.require("group_sizes");
    if (sizes.shape.length != 1 || sizes.size > sae.bEnc.size) {
      throw sizes.error("shape is %s, expected one dimension of at most d_sae groups".formatted(sizes.shapeText()));
    }
    long[] groups = new long[(int) sizes.size];
    sizes.read(0, groups, groups.length);
    List<Long> ends = new ArrayList<>();
    long end = 0;
    for (long size : groups) {
      if (size < 1 || size > sae.bEnc.size - end) {
        throw sizes.error("a group of %d after %d features, of %d".formatted(size, end, sae.bEnc.size));
      }
      end += size;
      ends.add(end);
    }
    if (end != sae.bEnc.size) {
      throw sizes.error("the groups have %d features, expected %d".formatted(end, sae.bEnc.size));
    }
    if (options.prefix() != null && !ends.contains(options.prefix())) {
      sae.warnings.add(
          "the prefix %d is not where a group ends (group_sizes): these end at %s"
              .formatted(options.prefix(), Failures.list(ends.stream().map(String::valueOf).toList())));
    }
  }
}

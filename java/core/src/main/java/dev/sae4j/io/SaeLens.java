package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * SAELens, version 6 and older: {@code cfg.json} beside a safetensors file. W_enc [d_in, d_sae], W_dec [d_sae, d_out]. Whatever
 * would change the equations and is not known is refused by name, so that no SAE is ever loaded as another kind.
 */
final class SaeLens {
  static final String FORMAT = "saelens";
  static final List<String> CONFIGS = List.of("cfg.json");
  static final List<String> WEIGHTS = List.of("sae_weights.safetensors", "model.safetensors");
  private static final Set<String> HALF_PRECISION = Set.of("float16", "bfloat16");
  private static final String SPARSITY = "sparsity.safetensors";
  private static final String SCALER = "activation_scaler.json";

  /** The tensors of an architecture beside W_enc, W_dec, b_enc and b_dec. */
  private static final Map<String, Set<String>> ARCHITECTURES =
      Map.of(
          "standard", Set.of(),
          "topk", Set.of(),
          "jumprelu", Set.of("threshold"),
          "batchtopk", Set.of("threshold"),
          "matryoshka_batchtopk", Set.of("threshold"),
          "gated", Set.of("b_gate", "b_mag", "r_mag"),
          "transcoder", Set.of(),
          "jumprelu_transcoder", Set.of("threshold"),
          "skip_transcoder", Set.of("W_skip"),
          "jumprelu_skip_transcoder", Set.of("W_skip", "threshold"));

  private final Config config;
  private final TensorFile file;
  private final SaeReader.Options options;
  private final Checkpoint sae;

  private SaeLens(TensorFile file, SaeReader.Options options) {
    this.config = Config.read(Config.beside(file.path(), CONFIGS));
    this.file = file;
    this.options = options;
    this.sae = new Checkpoint(file.path(), FORMAT);
  }

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    return new SaeLens(file, options).read();
  }

  private Checkpoint read() {
    sae.architecture = architecture();
    Config metadata = config.nested("metadata");
    sae.modelName = metadata.has("model_name") ? metadata.text("model_name") : config.text("model_name");
    sae.hookName = metadata.has("hook_name") ? metadata.text("hook_name") : config.text("hook_name", "hook_point");
    sae.isTranscoder = sae.architecture.endsWith("transcoder");
    readTensors();
    config.requireLength("d_sae", sae.gated == null ? sae.bEnc : sae.gated.bGate());
    config.requireLength(sae.isTranscoder ? "d_out" : "d_in", sae.bDec);
    requireDimensions();
    select();
    subtractBDec();
    normalize();
    noteReshape();
    noteThreshold();
    noteDtype();
    readScalingFactor(metadata);
    readSparsity();
    return sae;
  }

  private String architecture() {
    String architecture = config.text("architecture");
    if (architecture == null) {
      architecture = "standard"; // before SAELens had others
    }
    if (!ARCHITECTURES.containsKey(architecture)) {
      throw config.unsupported(
          "architecture", architecture, String.join(", ", ARCHITECTURES.keySet().stream().sorted().toList()));
    }
    String activation = activation();
    if (config.isTrue("is_transcoder") && !architecture.endsWith("transcoder")) {
      if (!architecture.equals("standard") || activation.equals("topk")) {
        throw config.unsupported("is_transcoder", true, "false with architecture %s and %s".formatted(architecture, activation));
      }
      return "transcoder"; // as versions before 6 say it
    }
    if (architecture.equals("standard") && activation.equals("topk")) {
      return "topk"; // as versions before 6 say it
    }
    if (activation.equals("topk") && !architecture.equals("topk")) {
      throw config.unsupported("activation_fn", activation, "\"relu\" with the architecture " + architecture);
    }
    if (architecture.equals("standard") && config.has("k")) {
      throw config.unsupported("k", config.size("k"), "none with the architecture standard");
    }
    return architecture;
  }

  private String activation() {
    String found = "relu";
    for (String key : List.of("activation_fn_str", "activation_fn")) {
      String activation = config.text(key);
      if (activation != null && !Set.of("relu", "topk").contains(activation)) {
        throw config.unsupported(key, activation, "\"relu\" or \"topk\"");
      }
      found = activation == null ? found : activation;
    }
    return found;
  }

  private void readTensors() {
    Set<String> own = ARCHITECTURES.get(sae.architecture);
    Set<String> known = new LinkedHashSet<>(own);
    known.addAll(List.of("W_enc", "W_dec", "b_dec", "scaling_factor"));
    if (!own.contains("b_gate")) {
      known.add("b_enc");
    }
    if (!own.contains("threshold") && file.tensors().containsKey("threshold")) {
      throw new SaeFormatException(
          "%s: has a \"threshold\" tensor, but cfg.json says architecture \"%s\"".formatted(file.path(), sae.architecture));
    }
    if (own.contains("threshold") && !file.tensors().containsKey("threshold")) {
      throw new SaeFormatException(
          "%s: no \"threshold\" tensor, but cfg.json says architecture \"%s\"%s"
              .formatted(
                  file.path(),
                  sae.architecture,
                  sae.architecture.endsWith("batchtopk") ? "; for inference SAELens saves it as \"jumprelu\", with one" : ""));
    }
    SaeReader.refuseUnknown(file, known, sae.architecture);
    sae.wEnc = new Checkpoint.Matrix(file.require("W_enc"), false);
    sae.wDec = new Checkpoint.Matrix(file.require("W_dec"), true);
    sae.bDec = file.require("b_dec");
    sae.threshold = file.tensors().get("threshold");
    if (own.contains("b_gate")) {
      sae.gated = new Checkpoint.Gated(file.require("b_gate"), file.require("b_mag"), file.require("r_mag"));
      sae.folded.add(
          "gated: active where <x, w_j> + b_gate > 0, of value exp(r_mag) <x, w_j> + b_mag; as threshold, scale and offset");
    } else {
      sae.bEnc = file.require("b_enc");
    }
    if (own.contains("W_skip")) {
      sae.wSkip = file.require("W_skip");
    }
  }

  private void requireDimensions() {
    Long dIn = config.size("d_in");
    if (!sae.isTranscoder && config.has("d_out") && !config.size("d_out").equals(dIn)) {
      throw config.unsupported("d_out", config.size("d_out"), "d_in, or the architecture of a transcoder");
    }
    config.requireDimension("d_in", sae.wEnc.tensor());
  }

  private void select() {
    rescaleByDecoderNorm();
    if (!sae.architecture.equals("topk")) {
      return;
    }
    Long k = config.size("k");
    k = k != null ? k : config.nested("activation_fn_kwargs").size("k");
    if (k == null) {
      k = options.requireK(config.path() + ": architecture is \"topk\", but there is no k");
    }
    sae.selection = Selection.TOP;
    sae.k = k;
  }

  /** SAELens folds it before it saves; then rows are of norm 1, and doing so again does nothing. */
  private void rescaleByDecoderNorm() {
    if (!config.isTrue("rescale_acts_by_decoder_norm")) {
      return;
    }
    if (!sae.architecture.endsWith("topk")) {
      throw config.unsupported("rescale_acts_by_decoder_norm", true, "false but for TopK");
    }
    sae.foldsDecoderNorm = true;
    sae.folded.add(
        "features are gated and ranked times the norm of their decoder row (rescale_acts_by_decoder_norm): "
            + "scale and offset times it, row over it");
  }

  private void subtractBDec() {
    Boolean applies = config.flag("apply_b_dec_to_input");
    if (sae.isTranscoder) {
      return; // it is of length d_out, and no transcoder subtracts it
    }
    if (applies == null) {
      sae.warnings.add("cfg.json has no apply_b_dec_to_input: taken as true, as SAELens does");
    }
    sae.subtractsBDec = applies == null || applies;
    if (sae.subtractsBDec) {
      sae.folded.add(
          "b_dec is subtracted from the input (apply_b_dec_to_input): %s becomes itself - <b_dec, w_j>"
              .formatted(sae.gated == null ? "b_enc" : "each of b_gate and b_mag / exp(r_mag)"));
    }
  }

  private void normalize() {
    Object mode = config.map().get("normalize_activations");
    if (Boolean.TRUE.equals(mode)) {
      mode = "expected_average_only_in"; // what true meant before there were several
    }
    if (mode == null || mode.equals(false) || mode.equals("none")) {
      return;
    }
    if (sae.isTranscoder) {
      throw config.unsupported("normalize_activations", mode, "\"none\" with a transcoder");
    }
    if (mode.equals("expected_average_only_in")) {
      double s = normScalingFactor();
      sae.normScalingFactor = s;
      sae.inputScale = s;
      sae.decoderScale = 1 / s;
      sae.bDecScale = 1 / s;
      sae.folded.add(
          "the input is scaled by %s (normalize_activations expected_average_only_in): ".formatted(s)
              + "scale times it, W_dec and b_dec over it; features stay in normalised units");
    } else if (mode.equals("layer_norm")) {
      sae.normalization = Normalization.LAYER;
    } else if (mode.equals("constant_norm_rescale")) {
      sae.normalization = Normalization.CONSTANT;
    } else {
      throw config.unsupported(
          "normalize_activations", mode, "\"none\", \"expected_average_only_in\", \"constant_norm_rescale\" or \"layer_norm\"");
    }
    if (sae.normalization != Normalization.NONE) {
      sae.folded.add(
          "each row is normalised first (normalize_activations %s), and its scale and shift are put back by decode".formatted(mode));
    }
  }

  /** The scalar is not in the weights: SAELens keeps it in a list of its own, or beside them. */
  private double normScalingFactor() {
    Path scaler = config.path().resolveSibling(SCALER);
    Double factor = Files.exists(scaler) ? Config.read(scaler).number("scaling_factor") : null;
    factor = factor != null ? factor : options.normScalingFactor();
    if (factor == null) {
      throw config.error(
          "normalize_activations is \"expected_average_only_in\", whose factor sqrt(d_in) / mean norm is in no file of the SAE: "
              + "give it as the norm scaling factor (--norm-scaling-factor), e.g. from SAELens' list of pretrained SAEs");
    }
    if (!(factor > 0)) {
      throw new SaeFormatException("%s: scaling_factor must be positive, got %s".formatted(scaler, factor));
    }
    return factor;
  }

  private void noteReshape() {
    String reshape = config.text("reshape_activations");
    if (reshape == null && sae.hookName != null && sae.hookName.contains("hook_z")) {
      reshape = "hook_z"; // implied by old configurations
    }
    if (reshape == null || reshape.equals("none")) {
      return;
    }
    if (!reshape.equals("hook_z")) {
      throw config.unsupported("reshape_activations", reshape, "\"none\" or \"hook_z\"");
    }
    sae.folded.add("rows are the heads of an attention layer side by side, heads outermost (reshape_activations hook_z)");
  }

  private void noteThreshold() {
    if (sae.threshold != null) {
      sae.folded.add(
          "threshold applies after the bias: it becomes threshold - b_enc" + (sae.subtractsBDec ? " + <b_dec, w_j>" : ""));
    }
  }

  /** SAELens casts the weights and x to this dtype, however the weights are stored. */
  private void noteDtype() {
    String dtype = config.text("dtype");
    if (dtype != null && HALF_PRECISION.contains(dtype.replaceFirst("^torch\\.", ""))) {
      sae.notes.add(
          "SAELens computes in %s, the dtype in cfg.json, and sae4j in float32: features near their threshold may differ"
              .formatted(dtype));
    }
  }

  /** What finetuning left: decode of versions below 6 multiplies by it, later ones don't know it. */
  private void readScalingFactor(Config metadata) {
    Tensor factor = file.tensors().get("scaling_factor");
    if (factor == null) {
      return;
    }
    String version = metadata.has("sae_lens_version") ? metadata.text("sae_lens_version") : config.text("sae_lens_version");
    if (Checkpoint.isAllOnes(factor)) {
      sae.folded.add("scaling_factor is 1 for every feature and was dropped");
    } else if (version == null || version.matches("[0-5]\\..*")) {
      sae.decodeFactor = factor;
      sae.folded.add("decode multiplies each feature by its scaling_factor (finetuning): the rows of W_dec are times it");
    } else {
      sae.warnings.add("scaling_factor is not 1 for every feature, and ignored, as SAELens %s does".formatted(version));
    }
  }

  /** What is known of the training set: log10 of the firing frequency of each feature. The SAE is whole without it. */
  private void readSparsity() {
    Path path = config.path().resolveSibling(SPARSITY);
    if (!Files.isRegularFile(path)) {
      return;
    }
    try (TensorFile sparsity = TensorFile.open(path)) {
      Tensor frequencies = sparsity.require("sparsity");
      Tensor features = sae.gated == null ? sae.bEnc : sae.gated.bGate();
      if (!Arrays.equals(frequencies.shape, features.shape)) {
        throw frequencies.error("shape is %s, expected %s".formatted(frequencies.shapeText(), features.shapeText()));
      }
      sae.publishedL0 = sumOfFrequencies(frequencies);
    } catch (SaeFormatException e) {
      sae.warnings.add("%s is not used: %s".formatted(SPARSITY, e.getMessage()));
    }
  }

  private static double sumOfFrequencies(Tensor log10) {
    double[] chunk = new double[1 << 12];
    double sum = 0;
    for (long first = 0; first < log10.size; first += chunk.length) {
      int count = (int) Math.min(chunk.length, log10.size - first);
      log10.read(first, chunk, count);
      for (int i = 0; i < count; i++) {
        if (!(chunk[i] < 1e-6)) { // 1 + 1e-10, which it is made of, may be rounded up
          throw log10.error("%s at [%d] is no log10 of a frequency".formatted(chunk[i], first + i));
        }
        sum += Math.pow(10, chunk[i]);
      }
    }
    return sum;
  }
}

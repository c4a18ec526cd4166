package dev.sae4j.io;

import dev.sae4j.SaeWeights.Selection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * What lm_saes and its successor llamascopium write: Llama Scope ({@code hyperparams.json}, a scalar threshold and two norms in
 * it) and newer ones ({@code config.json}, log thresholds and norms among the tensors). Loaded as lm_saes does for inference: first
 * the norms of the data set are folded in, so that features are in the units of the raw activations; then, where the decoder's norm
 * counts, rows of the decoder become unit vectors.
 */
final class LlamaScope {
  static final String FORMAT = "llama-scope";
  static final List<String> WEIGHTS = List.of("checkpoints/final.safetensors");
  static final List<String> CONFIGS = List.of("../hyperparams.json", "hyperparams.json");
  static final String NEW_FORMAT = "llamascopium";
  static final List<String> NEW_WEIGHTS = List.of("sae_weights.safetensors");
  static final List<String> NEW_CONFIGS = List.of("config.json");
  private static final String NORM = "dataset_average_activation_norm";
  private static final List<String> LOG_THRESHOLD =
      List.of("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold");
  /** Of training, of no use here. */
  private static final List<String> STATISTICS = List.of("tokens_since_last_activation", "is_dead");

  private final Config config;
  private final TensorFile file;
  private final Checkpoint sae;
  private final String in;
  private final String out;
  private final String activation;

  private LlamaScope(String format, List<String> configs, TensorFile file) {
    this.config = Config.read(Config.beside(file.path(), configs));
    this.file = file;
    this.sae = new Checkpoint(file.path(), format);
    config.text("sae_type", Set.of("sae"));
    in = config.text("hook_point_in");
    out = config.has("hook_point_out") ? config.text("hook_point_out") : in;
    activation = config.has("act_fn") ? config.text("act_fn", Set.of("relu", "jumprelu", "topk")) : "relu";
  }

  static Checkpoint read(String format, List<String> configs, TensorFile file, SaeReader.Options options) {
    return new LlamaScope(format, configs, file).read(options);
  }

  private Checkpoint read(SaeReader.Options options) {
    if (config.isTrue("use_glu_encoder")) {
      throw config.unsupported("use_glu_encoder", true, "false");
    }
    sae.isTranscoder = in != null && !in.equals(out);
    sae.hookName = in;
    sae.architecture = activation.equals("relu") ? "standard" : activation;
    if (sae.isTranscoder) {
      sae.architecture = activation.equals("jumprelu") ? "jumprelu_transcoder" : "transcoder";
    }
    readTensors();
    config.requireLength("d_model", sae.bDec);
    config.requireDimension("d_model", sae.wEnc.tensor());
    config.requireLength("d_sae", sae.bEnc);
    double[] s = standardise();
    sae.foldsDecoderNorm = !Boolean.FALSE.equals(config.flag("sparsity_include_decoder_norm"));
    if (sae.foldsDecoderNorm) {
      sae.folded.add(
          "features are gated and ranked times the norm of their decoder row (sparsity_include_decoder_norm): "
              + "scale and offset times it, row over it");
    }
    subtractBDec(s[1]);
    select(options, s);
    return sae;
  }

  private void readTensors() {
    boolean isNew = file.tensors().containsKey("W_E");
    String[] names =
        isNew
            ? new String[] {"W_E", "W_D", "b_E", "b_D"}
            : new String[] {"encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias"};
    Set<String> known = new LinkedHashSet<>(List.of(names));
    known.addAll(STATISTICS);
    known.addAll(List.of(NORM + "." + in, NORM + "." + out));
    if (activation.equals("jumprelu")) {
      known.addAll(LOG_THRESHOLD);
    }
    SaeReader.refuseUnknown(file, known, sae.architecture);
    sae.wEnc = new Checkpoint.Matrix(file.require(names[0]), !isNew);
    sae.wDec = new Checkpoint.Matrix(file.require(names[1]), isNew);
    sae.bEnc = file.require(names[2]);
    sae.bDec = Boolean.FALSE.equals(config.flag("use_decoder_bias")) ? null : file.require(names[3]);
  }

  /** Folds the norms in; returns the scales of input and output that the SAE was trained with. */
  private double[] standardise() {
    if ("inference".equals(config.text("norm_activation", Set.of("dataset-wise", "inference")))) {
      return new double[] {1, 1};
    }
    if (!config.has("d_model")) {
      throw config.error("has no d_model");
    }
    double root = Math.sqrt(config.size("d_model"));
    double sIn = root / norm("in", in);
    double sOut = root / norm("out", out);
    sae.biasScale = 1 / sIn;
    sae.bDecScale = 1 / sOut;
    sae.decoderScale = sIn / sOut;
    sae.folded.add(
        "trained on activations times sqrt(d_model) / their mean norm (norm_activation dataset-wise, %s: times %s in, %s out): "
                .formatted(NORM, sIn, sOut)
            + "biases over it, decoder rows times the one over the other; features are in raw units");
    return new double[] {sIn, sOut};
  }

  private double norm(String side, String hook) {
    Tensor tensor = file.tensors().get(NORM + "." + hook);
    Double norm;
    if (tensor != null) {
      if (!Checkpoint.isScalar(tensor)) {
        throw tensor.error("shape is %s, expected one number".formatted(tensor.shapeText()));
      }
      double[] value = new double[1];
      tensor.read(0, value, 1);
      norm = value[0];
    } else {
      norm = config.nested(NORM).number(side);
    }
    if (norm == null) {
      throw config.error(
          "norm_activation is \"dataset-wise\", but there is no %s, neither \"%s\" here nor the tensor of %s"
              .formatted(NORM, side, Failures.quote(String.valueOf(hook))));
    }
    if (!(norm > 0 && norm < Double.POSITIVE_INFINITY)) {
      throw config.error("%s of \"%s\" must be positive and finite, got %s".formatted(NORM, side, norm));
    }
    return norm;
  }

  private void subtractBDec(double sOut) {
    sae.subtractsBDec = config.isTrue("apply_decoder_bias_to_pre_encoder") && sae.bDec != null;
    if (!sae.subtractsBDec) {
      return;
    }
    if (sae.isTranscoder) {
      throw config.unsupported("apply_decoder_bias_to_pre_encoder", true, "false with a transcoder");
    }
    sae.deltaScale = 1 / sOut;
    sae.folded.add(
        "the decoder's bias is subtracted from the input (apply_decoder_bias_to_pre_encoder): "
            + "the encoder's becomes itself - <it, w_j>");
  }

  private void select(SaeReader.Options options, double[] s) {
    switch (activation) {
      case "topk" -> {
        Long k = config.size("top_k");
        sae.selection = Selection.TOP;
        sae.k = k != null ? k : options.requireK(config.path() + ": act_fn is \"topk\", but there is no top_k");
      }
      case "jumprelu" -> readThreshold(s);
      default -> {}
    }
  }

  private void readThreshold(double[] s) {
    for (String name : LOG_THRESHOLD) {
      sae.threshold = sae.threshold == null ? file.tensors().get(name) : sae.threshold;
    }
    if (sae.threshold == null) {
      readScalarThreshold();
      return;
    }
    sae.thresholdIsLog = true;
    // It was learnt for inputs times s_in; where the norms of the decoder's rows count, those are now times s_in / s_out.
    sae.thresholdScale = 1 / s[sae.foldsDecoderNorm ? 1 : 0];
    sae.folded.add("threshold is exp(%s), as trained: over the scale of the activations".formatted(sae.threshold.name));
    if (sae.thresholdScale != 1) {
      sae.warnings.add(
          "thresholds are taken in the units they were trained in; lm_saes itself does not scale them with the rest for inference");
    }
  }

  /** Computed by lm_saes for raw activations, after all else was folded. */
  private void readScalarThreshold() {
    Double threshold = config.number("jump_relu_threshold");
    if (threshold == null) {
      throw config.error(
          "act_fn is \"jumprelu\", but there is neither a jump_relu_threshold nor a tensor \"%s\"".formatted(LOG_THRESHOLD.get(0)));
    }
    sae.scalarThreshold = threshold;
    sae.folded.add(
        "threshold is %s for every feature, in raw units (jump_relu_threshold): it becomes itself - bias".formatted(threshold));
  }
}

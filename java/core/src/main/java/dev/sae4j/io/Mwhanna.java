package dev.sae4j.io;

import dev.sae4j.SaeWeights.Selection;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Transcoders of one layer as circuit-tracer takes them (mwhanna's of Qwen3): {@code layer_N.safetensors} beside a YAML
 * configuration. W_enc and W_dec, both [d_sae, d]; ReLU, JumpReLU where there are thresholds, or the TopK that the
 * configuration names. W_skip [d_out, d_in] adds W_skip x.
 */
final class Mwhanna {
  static final String FORMAT = "mwhanna";
  static final List<String> WEIGHTS = List.of("*.safetensors");
  static final List<String> CONFIGS =
      List.of("config.yaml", "wandb-config.yaml", "wanb-config.yaml"); // the last as published
  private static final List<String> THRESHOLDS = List.of("activation_function.threshold", "threshold");
  private static final Pattern LAYER = Pattern.compile("layer_(\\d{1,6})\\..*");

  private Mwhanna() {}

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    Config config = Config.readYaml(Config.beside(file.path(), CONFIGS));
    config.text("model_kind", Set.of("transcoder_set"));
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    sae.isTranscoder = true;
    readTensors(file, sae);
    select(new Settings(config), options, sae);
    sae.architecture = (sae.threshold == null ? "" : "jumprelu_") + (sae.wSkip == null ? "" : "skip_") + "transcoder";
    sae.conventionIsSure = options.format() != null; // SAELens has the same names and W_enc the other way
    name(config, sae);
    return sae;
  }

  private static void readTensors(TensorFile file, Checkpoint sae) {
    String threshold = file.tensors().containsKey(THRESHOLDS.get(0)) ? THRESHOLDS.get(0) : THRESHOLDS.get(1);
    SaeReader.refuseUnknown(file, Set.of("W_enc", "W_dec", "b_enc", "b_dec", "W_skip", threshold), "transcoder");
    sae.wEnc = new Checkpoint.Matrix(file.require("W_enc"), true);
    sae.wDec = new Checkpoint.Matrix(file.require("W_dec"), true);
    sae.bEnc = file.require("b_enc");
    sae.bDec = file.require("b_dec");
    sae.wSkip = file.tensors().get("W_skip");
    sae.threshold = file.tensors().get(threshold);
  }

  private static void select(Settings settings, SaeReader.Options options, Checkpoint sae) {
    Long k = settings.k();
    String activation = settings.activation();
    if (activation != null && (sae.threshold != null) != activation.equals("jumprelu")) {
      throw settings.config().error(
          "the activation is \"%s\", but %s has %s"
              .formatted(activation, sae.path, sae.threshold == null ? "no threshold" : "thresholds"));
    }
    if (Boolean.TRUE.equals(settings.subtractsBDec())) {
      throw settings.config().error("b_dec is to be subtracted from the input, which no transcoder of this format does");
    }
    settings.refuseNormalization();
    if (sae.threshold != null) {
      sae.refuseNegativeThresholds();
      sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc");
    }
    if ("topk".equals(activation)) {
      sae.selection = Selection.TOP_SIGNED;
      String path = settings.config().path().toString();
      sae.k = k != null ? k : options.requireK(path + ": the activation is \"topk\", but there is no k");
      sae.warnings.add(
          "no ReLU follows the TopK, as in circuit-tracer: where fewer than k are positive, negative values are active");
    }
  }

  private static void name(Config config, Checkpoint sae) {
    Matcher layer = LAYER.matcher(sae.path.getFileName().toString());
    sae.modelName = config.map().get("model_name") instanceof String model ? model : null;
    if (layer.matches() && config.map().get("feature_input_hook") instanceof String hook) {
      sae.hookName = "blocks.%s.%s".formatted(layer.group(1), hook);
    }
  }
}

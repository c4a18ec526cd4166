package dev.sae4j.io;

import dev.sae4j.SaeWeights.Selection;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** SAEs in one torch file of four tensors, told apart by the tensors' names, and where these are the same by the file's. */
final class TorchSaes {
  static final String GOODFIRE = "goodfire";
  static final String DEEPSEEK = "deepseek-r1";
  static final String QWEN = "qwen-scope";
  static final String HOOK_Z = "hook-z";
  private static final Set<String> GOODFIRE_NAMES =
      Set.of("encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias");
  private static final Set<String> LINEAR_NAMES = Set.of("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias");
  private static final Set<String> PLAIN_NAMES = Set.of("W_enc", "W_dec", "b_enc", "b_dec");
  private static final Pattern GOODFIRE_FILE = Pattern.compile(".+-SAE-l\\d{1,6}\\.pth?");
  private static final Pattern DEEPSEEK_FILE = Pattern.compile("DeepSeek-R1-.+-SAE-l\\d{1,6}\\.pth?");
  private static final Pattern QWEN_FILE = Pattern.compile("layer(\\d{1,6})\\.sae\\.pt");
  private static final Pattern QWEN_FOLDER = Pattern.compile("(?:.*SAE-Res-(.+)-W\\w+-)?L0_(\\d{1,6})");

  private TorchSaes() {}

  // ---- torch.nn.Linear's matrices, ReLU, b_dec not subtracted

  static boolean isGoodfire(TensorFile file) {
    return file.tensors().keySet().equals(GOODFIRE_NAMES) && isNamed(GOODFIRE_FILE, file);
  }

  static Checkpoint goodfire(TensorFile file) {
    return linear(file, GOODFIRE, GOODFIRE_NAMES, "_linear");
  }

  /** The tensors are called so in any module with two layers: it takes the published file's name. */
  static boolean isDeepSeek(TensorFile file) {
    return file.tensors().keySet().equals(LINEAR_NAMES) && isNamed(DEEPSEEK_FILE, file) && !DictionaryLearning.hasTrainer(file);
  }

  private static boolean isNamed(Pattern pattern, TensorFile file) {
    return pattern.matcher(file.path().getFileName().toString()).matches();
  }

  static Checkpoint deepSeek(TensorFile file) {
    return linear(file, DEEPSEEK, LINEAR_NAMES, "");
  }

  private static Checkpoint linear(TensorFile file, String format, Set<String> names, String suffix) {
    SaeReader.refuseUnknown(file, names, "standard");
    Checkpoint sae = new Checkpoint(file.path(), format);
    sae.wEnc = new Checkpoint.Matrix(file.require("encoder" + suffix + ".weight"), true);
    sae.wDec = new Checkpoint.Matrix(file.require("decoder" + suffix + ".weight"), false);
    sae.bEnc = file.require("encoder" + suffix + ".bias");
    sae.bDec = file.require("decoder" + suffix + ".bias");
    return sae;
  }

  // ---- SAELens' names: Qwen-Scope, and the attention SAEs of GPT-2 (Kissane et al.), which lie the other way round

  static boolean isQwen(TensorFile file) {
    return isPlain(file) && isNamed(QWEN_FILE, file);
  }

  static boolean isHookZ(TensorFile file) {
    return isPlain(file) && Files.exists(hookZConfig(file.path()));
  }

  private static boolean isPlain(TensorFile file) {
    return file.tensors().keySet().equals(PLAIN_NAMES) && !DictionaryLearning.hasTrainer(file);
  }

  private static Path hookZConfig(Path path) {
    return path.resolveSibling(path.getFileName().toString().replaceFirst("\\.pth?$", "") + "_cfg.json");
  }

  private static Checkpoint plain(TensorFile file, String format, boolean isLinear) {
    SaeReader.refuseUnknown(file, PLAIN_NAMES, format);
    Checkpoint sae = new Checkpoint(file.path(), format);
    sae.wEnc = new Checkpoint.Matrix(file.require("W_enc"), isLinear);
    sae.wDec = new Checkpoint.Matrix(file.require("W_dec"), !isLinear);
    sae.bEnc = file.require("b_enc");
    sae.bDec = file.require("b_dec");
    return sae;
  }

  /** The largest k are kept, with no ReLU after that, as programs that use these files do. */
  static Checkpoint qwen(TensorFile file, SaeReader.Options options) {
    Checkpoint sae = plain(file, QWEN, true);
    sae.architecture = "topk";
    sae.selection = Selection.TOP_SIGNED;
    sae.conventionIsSure = options.format() != null;
    Matcher layer = QWEN_FILE.matcher(file.path().getFileName().toString());
    sae.hookName = layer.matches() ? "model.layers." + layer.group(1) : null;
    for (Path part : file.path().toAbsolutePath()) {
      Matcher folder = QWEN_FOLDER.matcher(part.toString());
      if (folder.matches()) {
        sae.modelName = folder.group(1);
        sae.publishedL0 = Double.valueOf(folder.group(2));
      }
    }
    sae.k =
        options.k() == null && sae.publishedL0 != null
            ? sae.publishedL0.longValue()
            : options.requireK(file.path() + ": no folder of its path ends in L0_k, which gives k");
    if (sae.publishedL0 != null && sae.publishedL0 != sae.k) {
      sae.warnings.add(
          "the folder's name says L0 %d, and the option k (--k) %d: this is taken".formatted(sae.publishedL0.longValue(), sae.k));
    }
    sae.warnings.add(
        "b_dec is not subtracted from the input, and no ReLU follows, as in programs that use these files; no publisher's code confirms it");
    return sae;
  }

  static Checkpoint hookZ(TensorFile file) {
    Path path = hookZConfig(file.path()); // which need not be there where the format was named
    Config config = Files.exists(path) ? Config.read(path) : new Config(path, "", Map.of());
    Checkpoint sae = plain(file, HOOK_Z, false);
    sae.modelName = config.text("model_name");
    sae.hookName = config.text("act_name");
    config.requireLength("act_size", sae.bDec);
    config.requireLength("dict_size", sae.bEnc);
    sae.subtractsBDec = true;
    sae.folded.add("b_dec is subtracted from the input, as these SAEs were trained: b_enc becomes itself - <b_dec, w_j>");
    if (sae.hookName != null && sae.hookName.contains("hook_z")) {
      sae.folded.add("rows are the heads of an attention layer side by side, heads outermost (act_name)");
    }
    return sae;
  }
}

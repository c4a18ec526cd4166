package dev.sae4j.io;

import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Gemma Scope: an .npz of JumpReLU weights and nothing else, W_enc [d_in, d_sae], W_dec [d_sae, d_out]. What it is is in the path
 * alone: {@code <repository>/layer_N/width_W/average_l0_K/params.npz}; in one with "transcoder" it is a transcoder, and one below
 * {@code embedding}, and no layer, takes embeddings times sqrt(d), as the model has them.
 */
final class GemmaScope {
  static final String FORMAT = "gemma-scope";
  static final String WEIGHTS = "params.npz";
  private static final Pattern L0 = Pattern.compile("average_l0_(\\d{1,6})");
  private static final Pattern LAYER = Pattern.compile("layer_\\d+");
  private static final Pattern WIDTH = Pattern.compile("width_(\\d{1,6})([km])");
  private static final Pattern REPOSITORY = Pattern.compile("gemma-scope-(2b|9b|27b)-(?:pt|it)-(res|mlp|att|transcoders)");
  private static final Map<String, Long> D_MODEL = Map.of("2b", 2304L, "9b", 3584L, "27b", 4608L);
  private static final Map<String, Long> D_HEADS = Map.of("2b", 2048L, "9b", 4096L);

  private final TensorFile file;
  private final Checkpoint sae;
  private boolean isTranscoder;
  private boolean isEmbedding;

  private GemmaScope(TensorFile file) {
    this.file = file;
    this.sae = new Checkpoint(file.path(), FORMAT);
  }

  static Checkpoint read(TensorFile file) {
    return new GemmaScope(file).read();
  }

  private Checkpoint read() {
    sae.architecture = "jumprelu";
    readTensors();
    for (Path part : file.path().toAbsolutePath()) {
      readPath(part.toString());
    }
    if (isEmbedding) {
      double root = Math.sqrt(sae.bDec.size);
      sae.inputScale = 1 / root;
      sae.decoderScale = root;
      sae.folded.add("the path says embedding: scale is over sqrt(d_in) = %s, W_dec times it".formatted(root));
    }
    if (isTranscoder) {
      sae.isTranscoder = true;
      sae.architecture = "jumprelu_transcoder";
    }
    sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc");
    return sae;
  }

  private void readTensors() {
    Map<String, String> names = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    for (String name : file.tensors().keySet()) {
      if (names.put(name, name) != null) {
        throw file.require(name).error("there are two tensors of this name, but for the case");
      }
    }
    Set<String> known = new TreeSet<>(String.CASE_INSENSITIVE_ORDER);
    known.addAll(Set.of("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "scaling_factor"));
    SaeReader.refuseUnknown(file, known, sae.architecture);
    sae.wEnc = new Checkpoint.Matrix(file.require(names.getOrDefault("W_enc", "W_enc")), false);
    sae.wDec = new Checkpoint.Matrix(file.require(names.getOrDefault("W_dec", "W_dec")), true);
    sae.bEnc = file.require(names.getOrDefault("b_enc", "b_enc"));
    sae.bDec = file.require(names.getOrDefault("b_dec", "b_dec"));
    sae.threshold = file.require(names.getOrDefault("threshold", "threshold"));
    Tensor factor = file.tensors().get(names.get("scaling_factor"));
    if (factor != null && !Checkpoint.isAllOnes(factor)) {
      throw factor.error("a scaling_factor other than 1 is not known of this format");
    }
    if (factor != null) {
      sae.folded.add("scaling_factor is 1 for every feature and was dropped");
    }
  }

  private void readPath(String part) {
    Matcher l0 = L0.matcher(part);
    Matcher width = WIDTH.matcher(part);
    Matcher repository = REPOSITORY.matcher(part);
    if (l0.matches()) {
      sae.publishedL0 = Double.valueOf(l0.group(1));
    } else if (width.matches()) {
      long unit = width.group(2).equals("k") ? 1 << 10 : 1 << 20;
      warnUnless(part, Long.parseLong(width.group(1)) * unit, sae.bEnc);
    } else if (repository.find()) {
      Map<String, Long> sizes = repository.group(2).equals("att") ? D_HEADS : D_MODEL;
      warnUnless(repository.group(), sizes.get(repository.group(1)), sae.bDec);
    }
    isTranscoder = repository.find(0) ? part.contains("transcoders") : isTranscoder || part.contains("transcoder");
    isEmbedding = !LAYER.matcher(part).matches() && (isEmbedding || part.equals("embedding"));
  }

  private void warnUnless(String part, Long expected, Tensor vector) {
    if (expected != null && !vector.hasShape(expected)) {
      sae.warnings.add(
          "the path says %s, which is %d, but %s has shape %s".formatted(part, expected, vector.name, vector.shapeText()));
    }
  }
}

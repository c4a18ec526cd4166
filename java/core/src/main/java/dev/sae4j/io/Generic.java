package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SaeWeights.Selection;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * What the tensors of a checkpoint are, where no known format says: by it the format {@code "generic"} reads any file.
 *
 * <p>The SAE is p = x W_enc + b_enc, x_hat = f W_dec + b_dec + W_skip x, with f from p by the activation. Its
 * tensors:
 *
 * <ul>
 *   <li>{@code W_enc} [d_in, d_sae] and {@code W_dec} [d_sae, d_out], SAELens' way round; {@code W_skip} [d_out,
 *       d_in];
 *   <li>{@code b_enc} [d_sae] and {@code b_dec} [d_out], zero where they are not mapped;
 *   <li>of jumprelu {@code threshold} or {@code log_threshold}, [d_sae] or one number for all features;
 *   <li>of gated {@code b_gate}, {@code b_mag} and {@code r_mag} [d_sae], and then no {@code b_enc}.
 * </ul>
 *
 * <p>JumpReLU is p where p is above the threshold and above 0, else 0.
 *
 * <p>A vector may have further dimensions of 1. A matrix is never turned by its shape: what lies the other way round is
 * mapped with {@code .T}, and shapes that don't agree are refused; where d_in is d_sae they can't tell. One tensor may be
 * mapped twice, as of tied weights.
 *
 * @param tensors from the names above to those in the file, as {@code FILE#name} has them ({@code a.b}, {@code a[0]});
 *     of a matrix {@code NAME.T} is its transpose, unless there is a tensor of just that name
 * @param activation relu, jumprelu, gated, topk (the k largest, then a ReLU), topk-signed (the k largest, negative ones
 *     too) or topk-abs (the k of largest magnitude)
 * @param subtractsBDec whether b_dec is subtracted from x first
 * @param normalization of each row of x, before all else
 */
public record Generic(
    Map<String, String> tensors, String activation, boolean subtractsBDec, Normalization normalization) {
  static final String FORMAT = "generic";

  /** The dimensions of what may be mapped. Vectors come first: their lengths leave no doubt. */
  private static final Map<String, List<String>> DIMENSIONS = new LinkedHashMap<>();

  private static final List<String> GATED = List.of("b_gate", "b_mag", "r_mag");
  private static final Map<String, Selection> SELECTIONS = new LinkedHashMap<>();

  static {
    for (String name : List.of("b_enc", "threshold", "log_threshold", "b_gate", "b_mag", "r_mag")) {
      DIMENSIONS.put(name, List.of("d_sae"));
    }
    DIMENSIONS.put("b_dec", List.of("d_out"));
    DIMENSIONS.put("W_enc", List.of("d_in", "d_sae"));
    DIMENSIONS.put("W_dec", List.of("d_sae", "d_out"));
    DIMENSIONS.put("W_skip", List.of("d_out", "d_in"));
    List.of("relu", "jumprelu", "gated").forEach(name -> SELECTIONS.put(name, Selection.GATE));
    SELECTIONS.put("topk", Selection.TOP);
    SELECTIONS.put("topk-signed", Selection.TOP_SIGNED);
    SELECTIONS.put("topk-abs", Selection.TOP_ABS);
  }

  /**
   * @throws IllegalArgumentException if a name is none of the above, a tensor is missing that the equations need, or
   *     one is mapped that they have no use for
   */
  public Generic {
    tensors = Collections.unmodifiableMap(new LinkedHashMap<>(tensors));
    String expected = String.join(", ", new TreeSet<>(DIMENSIONS.keySet()));
    for (String name : tensors.keySet()) {
      String quoted = Failures.quote(name);
      require(DIMENSIONS.containsKey(name), "what is mapped (--map) must be %s, got %s", expected, quoted);
    }
    require(tensors.containsKey("W_enc") && tensors.containsKey("W_dec"), "W_enc and W_dec must be mapped (--map)");
    String got = activation == null ? "none" : Failures.quote(activation);
    require(
        SELECTIONS.containsKey(activation),
        "the activation (--activation) must be %s, got %s", String.join(", ", activations()), got);
    requireFitting(tensors.keySet(), activation);
    require(
        !subtractsBDec || tensors.containsKey("b_dec"),
        "to subtract b_dec from the input (--subtract-b-dec), map b_dec too");
    require(
        normalization == Normalization.NONE || !tensors.containsKey("W_skip"),
        "an SAE with W_skip can't normalise its input (--normalize-activations)");
  }

  public Generic(Map<String, String> tensors, String activation, boolean subtractsBDec) {
    this(tensors, activation, subtractsBDec, Normalization.NONE);
  }

  private static void requireFitting(Set<String> mapped, String activation) {
    boolean isGated = activation.equals("gated");
    boolean isJumpRelu = activation.equals("jumprelu");
    for (String name : mapped) {
      boolean fits =
          name.endsWith("threshold") ? isJumpRelu : GATED.contains(name) ? isGated : !name.equals("b_enc") || !isGated;
      require(fits, "the activation %s has no use for %s (--map)", activation, name);
    }
    require(
        !isJumpRelu || mapped.contains("threshold") != mapped.contains("log_threshold"),
        "the activation jumprelu needs either threshold or log_threshold (--map)");
    require(!isGated || mapped.containsAll(GATED), "the activation gated needs %s (--map)", String.join(", ", GATED));
  }

  private static void require(boolean holds, String message, Object... parts) {
    if (!holds) {
      throw new IllegalArgumentException(message.formatted(parts));
    }
  }

  /** The names of the activations. */
  public static List<String> activations() {
    return List.copyOf(SELECTIONS.keySet());
  }

  /** With what else the options say. */
  void requireFitting(Long k, Double normScalingFactor) {
    require(
        normScalingFactor == null || !tensors.containsKey("W_skip") && normalization == Normalization.NONE,
        "an SAE with W_skip, or that normalises each row, takes no norm scaling factor (--norm-scaling-factor)");
    boolean isTopK = SELECTIONS.get(activation) != Selection.GATE;
    require(k != null || !isTopK, "the activation %s needs the option k (--k)", activation);
    require(k == null || isTopK, "the activation %s has no use for the option k (--k), got %d", activation, k);
  }

  // ---- reading

  /** A tensor as it is mapped; one that is turned is to be read as its transpose. */
  private record Mapped(String as, Tensor tensor, boolean isTurned) {
    long[] shape() {
      long[] shape = tensor.shape;
      return isTurned ? new long[] {shape[1], shape[0]} : shape;
    }

    Mapped turned() {
      return new Mapped(as, tensor, !isTurned);
    }

    boolean isMatrix() {
      return DIMENSIONS.get(as).size() == 2;
    }

    boolean isForAll() {
      return as.endsWith("threshold") && Checkpoint.isScalar(tensor);
    }

    String name() {
      return tensor.name + (isTurned ? ".T" : "");
    }

    String option() {
      return Guess.option(as, name());
    }
  }

  /** What is in a file, and options to start from, which read it where the guess is complete. */
  static String suggest(TensorFile file) {
    String tensors = "it has the tensors " + Guess.shapes(file);
    return file.tensors().values().stream().noneMatch(tensor -> tensor.shape.length == 2 && !tensor.name.isEmpty())
        ? tensors
        : tensors + "; say what they are, and the activation, to begin with by --format generic " + Guess.options(file);
  }

  static Checkpoint read(TensorFile file, SaeReader.Options options) {
    Generic generic = options.generic();
    if (generic == null) {
      throw new SaeFormatException(
          "%s: the format generic must be told what the tensors are: %s".formatted(file.path(), suggest(file)));
    }
    Map<String, Mapped> mapped = new LinkedHashMap<>();
    DIMENSIONS.keySet().stream()
        .filter(generic.tensors::containsKey)
        .forEach(as -> mapped.put(as, find(file, as, generic.tensors.get(as))));
    boolean isScaled = options.normScalingFactor() != null || generic.normalization != Normalization.NONE;
    Map<String, Long> lengths = lengths(file, mapped, !isScaled && !generic.subtractsBDec);
    Checkpoint sae = new Checkpoint(file.path(), FORMAT);
    sae.isTranscoder = mapped.containsKey("W_skip") || !lengths.get("d_in").equals(lengths.get("d_out"));
    fill(sae, mapped);
    generic.select(sae, options.k());
    generic.fold(sae, mapped, options.normScalingFactor());
    warn(sae, file, mapped, lengths);
    return sae;
  }

  private static Mapped find(TensorFile file, String as, String name) {
    Tensor tensor = file.tensors().get(name);
    boolean isTurned = tensor == null && name.endsWith(".T");
    if (isTurned) {
      tensor = file.tensors().get(name.substring(0, name.length() - 2));
    }
    if (tensor == null) {
      throw new SaeFormatException(
          "%s: no tensor %s, which %s is mapped to; it has %s"
              .formatted(file.path(), Failures.quote(name), as, Failures.list(Guess.nearest(file, name))));
    }
    tensor.requireFloating();
    Mapped mapped = new Mapped(as, tensor, isTurned);
    if (mapped.isMatrix() && tensor.shape.length != 2) {
      throw tensor.error("shape is %s, expected two dimensions of %s".formatted(tensor.shapeText(), as));
    }
    if (!mapped.isMatrix() && isTurned) {
      throw tensor.error("%s is a vector, and has no transpose (.T)".formatted(as));
    }
    return mapped.isMatrix() ? mapped : new Mapped(as, flat(tensor, as), false);
  }

  private static Tensor flat(Tensor tensor, String as) {
    if (Arrays.stream(tensor.shape).filter(length -> length != 1).count() > 1) {
      throw tensor.error("shape is %s, expected one dimension of %s".formatted(tensor.shapeText(), as));
    }
    return tensor.flattened();
  }

  // ---- shapes

  /**
   * The lengths of d_in, d_sae and d_out, on which all shapes agree.
   *
   * @param mayDiffer whether d_out may be another than d_in: not where something of the input comes back in the output
   */
  private static Map<String, Long> lengths(TensorFile file, Map<String, Mapped> mapped, boolean mayDiffer) {
    Map<String, Long> lengths = new LinkedHashMap<>();
    String conflict = conflict(mapped.values(), mayDiffer, lengths);
    if (conflict == null) {
      lengths.putIfAbsent("d_out", lengths.get("d_in"));
      return lengths;
    }
    List<Mapped> turned = turnedToFit(mapped, mayDiffer);
    if (turned.isEmpty()) {
      throw new SaeFormatException(file.path() + ": " + conflict);
    }
    throw new SaeFormatException(
        "%s: %s; what would fit is %s"
            .formatted(file.path(), conflict, turned.stream().map(Mapped::option).collect(Collectors.joining(" "))));
  }

  /** Gives each dimension its length; returns what does not agree with what came before it, or null. */
  private static String conflict(Iterable<Mapped> mapped, boolean mayDiffer, Map<String, Long> lengths) {
    for (Mapped one : mapped) {
      List<String> dimensions =
          DIMENSIONS.get(one.as).stream().map(d -> mayDiffer || !d.equals("d_out") ? d : "d_in").toList();
      List<String> expected =
          dimensions.stream().map(d -> lengths.containsKey(d) ? d + " = " + lengths.get(d) : d).toList();
      for (int i = 0; i < dimensions.size() && !one.isForAll(); i++) {
        Long before = lengths.putIfAbsent(dimensions.get(i), one.shape()[i]);
        if (before != null && before != one.shape()[i]) {
          return "%s is %s of shape %s, expected %s"
              .formatted(one.as, Failures.quote(one.name()), Arrays.toString(one.shape()), expected);
        }
      }
    }
    return null;
  }

  /** The fewest matrices that the shapes would agree by if they lay the other way round; empty if none do. */
  private static List<Mapped> turnedToFit(Map<String, Mapped> mapped, boolean mayDiffer) {
    List<Mapped> matrices = mapped.values().stream().filter(Mapped::isMatrix).toList();
    List<List<Mapped>> fitting = new ArrayList<>();
    for (int set = 1; set < 1 << matrices.size(); set++) {
      Map<String, Mapped> trial = new LinkedHashMap<>(mapped);
      List<Mapped> turned = new ArrayList<>();
      for (int i = 0; i < matrices.size(); i++) {
        if ((set >> i & 1) == 1) {
          turned.add(matrices.get(i).turned());
        }
      }
      turned.forEach(one -> trial.put(one.as, one));
      if (conflict(trial.values(), mayDiffer, new LinkedHashMap<>()) == null) {
        fitting.add(turned);
      }
    }
    return fitting.stream().min(Comparator.comparingInt(List::size)).orElse(List.of());
  }

  // ---- the checkpoint

  private static void fill(Checkpoint sae, Map<String, Mapped> mapped) {
    sae.wEnc = new Checkpoint.Matrix(mapped.get("W_enc").tensor, mapped.get("W_enc").isTurned);
    sae.wDec = new Checkpoint.Matrix(mapped.get("W_dec").tensor, !mapped.get("W_dec").isTurned);
    sae.bEnc = tensor(mapped, "b_enc");
    sae.bDec = tensor(mapped, "b_dec");
    sae.wSkip = tensor(mapped, "W_skip");
    sae.turnsSkip = sae.wSkip != null && mapped.get("W_skip").isTurned;
    sae.thresholdIsLog = mapped.containsKey("log_threshold");
    sae.threshold = tensor(mapped, sae.thresholdIsLog ? "log_threshold" : "threshold");
    if (mapped.containsKey("b_gate")) {
      sae.gated = new Checkpoint.Gated(tensor(mapped, "b_gate"), tensor(mapped, "b_mag"), tensor(mapped, "r_mag"));
    }
  }

  private static Tensor tensor(Map<String, Mapped> mapped, String as) {
    return mapped.containsKey(as) ? mapped.get(as).tensor : null;
  }

  private void select(Checkpoint sae, Long k) {
    sae.selection = SELECTIONS.get(activation);
    sae.k = k == null ? 0 : k;
    String architecture =
        sae.selection != Selection.GATE ? "topk" : activation.equals("relu") ? "standard" : activation;
    String prefix = activation.equals("jumprelu") ? "jumprelu_" : "";
    sae.architecture = !sae.isTranscoder ? architecture : prefix + (sae.wSkip == null ? "" : "skip_") + "transcoder";
  }

  private void fold(Checkpoint sae, Map<String, Mapped> mapped, Double normScalingFactor) {
    List<String> told = mapped.values().stream().map(one -> one.as + " is " + Failures.quote(one.name())).toList();
    sae.folded.add("as told, %s, and the activation is %s".formatted(String.join(", ", told), activation));
    sae.subtractsBDec = subtractsBDec;
    if (subtractsBDec) {
      sae.folded.add(
          "b_dec is subtracted from the input: %s becomes itself - <b_dec, w_j>"
              .formatted(sae.gated == null ? "b_enc" : "each of b_gate and b_mag / exp(r_mag)"));
    }
    if (sae.threshold != null) {
      String delta = subtractsBDec ? " + <b_dec, w_j>" : "";
      sae.folded.add("threshold applies after the bias: it becomes threshold - b_enc" + delta);
    }
    sae.normalization = normalization;
    if (normalization != Normalization.NONE) {
      sae.folded.add("each row is normalised first, and its scale and shift are put back by decode");
    }
    if (normScalingFactor != null) {
      sae.normScalingFactor = normScalingFactor;
      sae.inputScale = normScalingFactor;
      sae.decoderScale = 1 / normScalingFactor;
      sae.bDecScale = 1 / normScalingFactor;
      sae.folded.add(
          "the input is scaled by %s: scale times it, W_dec and b_dec over it; features stay in normalised units"
              .formatted(normScalingFactor));
    }
  }

  private static void warn(Checkpoint sae, TensorFile file, Map<String, Mapped> mapped, Map<String, Long> lengths) {
    if (lengths.get("d_sae") < lengths.get("d_in")) {
      sae.warnings.add(
          "d_sae = %d is below d_in = %d: if it is the other way round, both matrices need .T, or lose it"
              .formatted(lengths.get("d_sae"), lengths.get("d_in")));
    }
    if (sae.threshold != null && !sae.thresholdIsLog && Checkpoint.firstNot(value -> !(value < 0), sae.threshold) >= 0) {
      sae.warnings.add("there are thresholds below 0: of such a feature no value below 0 is active either");
    }
    Set<String> unused = new LinkedHashSet<>(file.tensors().keySet());
    mapped.values().forEach(one -> unused.remove(one.tensor.name));
    if (!unused.isEmpty()) {
      sae.warnings.add("tensors that are not mapped, and not used: " + Failures.list(unused));
    }
  }
}

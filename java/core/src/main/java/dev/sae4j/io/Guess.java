package dev.sae4j.io;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** What the tensors of an unknown file may be, by their names and shapes, for the user to check. */
final class Guess {
  private static final String PRE = "\\bpre|_pre";
  private static final Pattern ENCODER = words("enc|w_?e\\b|latent|hidden");
  private static final Pattern DECODER = words("dec|w_?d\\b|(?<!state_?)dict|output|" + PRE);
  private static final Pattern THRESHOLD = words("thr|theta");
  private static final Pattern STATISTIC =
      words("nonzero|freq|count|square|stat|mean|std|sparsity|density|norm|scal|exp_avg|step|fired");
  private static final int MAX_MATRICES = 32;
  private static final int MAX_NAME = 120;
  private static final int MAX_LISTED = 500; // characters
  private static final String BLANK =
      "--map W_enc=NAME[.T] --map W_dec=NAME[.T] --map b_enc=NAME --map b_dec=NAME --activation relu";

  private final List<Tensor> matrices;
  private final List<Tensor> vectors;
  private final List<String> mapped = new ArrayList<>();
  private String activation = "relu";

  private Guess(TensorFile file) {
    List<Tensor> usable =
        file.tensors().values().stream()
            .filter(t -> t.isFloating() && !t.name.isEmpty() && t.name.length() <= MAX_NAME)
            .filter(t -> t.name.equals(Failures.printable(t.name)))
            .sorted(Comparator.comparingLong(t -> -t.size))
            .toList();
    matrices = usable.stream().filter(t -> t.shape.length == 2).limit(MAX_MATRICES).toList();
    vectors =
        usable.stream()
            .filter(t -> Arrays.stream(t.shape).filter(length -> length != 1).count() <= 1)
            .collect(Collectors.toList());
  }

  private static Pattern words(String words) {
    return Pattern.compile(words, Pattern.CASE_INSENSITIVE);
  }

  /** For a shell; with the word NAME in it where nothing is like an SAE. */
  static String options(TensorFile file) {
    return new Guess(file).options();
  }

  private String options() {
    Pair pair = bestPair();
    if (pair == null) {
      return BLANK;
    }
    map(pair.encoder, "W_enc", pair.isTurned(pair.encoder, 1));
    map(pair.decoder, "W_dec", pair.isTurned(pair.decoder, 0));
    mapVectors(pair.dSae(), pair.decoder.size / pair.dSae());
    return String.join(" ", mapped) + " --activation " + activation;
  }

  private void map(Tensor tensor, String as, boolean isTurned) {
    mapped.add(option(as, tensor.name + (isTurned ? ".T" : "")));
    vectors.remove(tensor);
  }

  static String option(String as, String name) {
    String map = as + "=" + name;
    return "--map " + (map.matches("[\\w./@:+=-]+") ? map : "'" + map.replace("'", "'\\''") + "'");
  }

  // ---- matrices

  /** Two matrices of a common dimension, which is that of the features: the larger one where both are. */
  private record Pair(Tensor encoder, Tensor decoder) {
    long dSae() {
      return Arrays.stream(encoder.shape).filter(this::isShared).max().orElse(0);
    }

    private boolean isShared(long length) {
      return length == decoder.shape[0] || length == decoder.shape[1];
    }

    boolean isOfOneShape() {
      return encoder.size == decoder.size;
    }

    /** @param features the dimension that the features should be */
    boolean isTurned(Tensor matrix, int features) {
      boolean isSquare = matrix.shape[0] == matrix.shape[1];
      return isSquare ? matrix.name.endsWith("weight") : matrix.shape[features] != dSae(); // torch.nn.Linear's
    }

    int likeness() {
      return resemblance(encoder, ENCODER, DECODER) + resemblance(decoder, DECODER, ENCODER);
    }

    private static int resemblance(Tensor tensor, Pattern like, Pattern unlike) {
      return (like.matcher(tensor.name).find() ? 1 : 0) - (unlike.matcher(tensor.name).find() ? 1 : 0);
    }
  }

  private Pair bestPair() {
    List<Pair> pairs = new ArrayList<>();
    for (Tensor encoder : matrices) {
      for (Tensor decoder : matrices) {
        Pair pair = new Pair(encoder, decoder);
        if (encoder != decoder && pair.dSae() > 1) {
          pairs.add(pair);
        }
      }
    }
    return pairs.stream()
        .max(
            Comparator.comparingInt(Pair::likeness)
                .thenComparing(Pair::isOfOneShape)
                .thenComparing(pair -> pair.encoder.size + pair.decoder.size)
                .thenComparing(pair -> -matrices.indexOf(pair.encoder)))
        .orElse(null);
  }

  // ---- vectors

  private void mapVectors(long dSae, long dOut) {
    Tensor threshold = vector(t -> THRESHOLD.matcher(t.name).find() && (t.size == dSae || t.size == 1));
    boolean isGated = false;
    if (threshold != null) {
      map(threshold, words("log").matcher(threshold.name).find() ? "log_threshold" : "threshold", false);
      activation = "jumprelu";
    } else {
      isGated = mapGated(dSae);
    }
    vectors.removeIf(t -> STATISTIC.matcher(t.name.substring(t.name.lastIndexOf('.') + 1)).find());
    Tensor bDec = vector(t -> t.size == dOut && (dOut != dSae || DECODER.matcher(t.name).find()));
    Tensor bEnc = vector(t -> t.size == dSae && t != bDec);
    if (bEnc != null && !isGated) {
      map(bEnc, "b_enc", false);
    }
    if (bDec != null) {
      map(bDec, "b_dec", false);
      if (words(PRE).matcher(bDec.name).find()) {
        mapped.add("--subtract-b-dec");
      }
    }
  }

  private boolean mapGated(long dSae) {
    Tensor rMag = vector(t -> t.size == dSae && words("r_mag").matcher(t.name).find());
    Tensor bMag = vector(t -> t.size == dSae && t != rMag && words("mag").matcher(t.name).find());
    Tensor bGate = vector(t -> t.size == dSae && words("gate").matcher(t.name).find());
    if (rMag == null || bMag == null || bGate == null) {
      return false;
    }
    map(bGate, "b_gate", false);
    map(bMag, "b_mag", false);
    map(rMag, "r_mag", false);
    activation = "gated";
    return true;
  }

  private Tensor vector(Predicate<Tensor> condition) {
    return vectors.stream().filter(condition).findFirst().orElse(null);
  }

  // ---- lists

  /** The tensors with their shapes, the largest first. */
  static String shapes(TensorFile file) {
    List<Tensor> all = file.tensors().values().stream().sorted(Comparator.comparingLong(t -> -t.size)).toList();
    StringBuilder text = new StringBuilder();
    int listed = 0;
    for (; listed < all.size() && text.length() < MAX_LISTED; listed++) {
      Tensor tensor = all.get(listed);
      text.append(listed == 0 ? "" : ", ").append(Failures.quote(tensor.name)).append(' ').append(tensor.shapeText());
    }
    return all.isEmpty() ? "none" : text + (listed < all.size() ? " and " + (all.size() - listed) + " more" : "");
  }

  /** The names of the tensors, the most similar first. */
  static List<String> nearest(TensorFile file, String name) {
    Map<String, Integer> distances = new HashMap<>(); // once each: there may be many
    for (String other : file.tensors().keySet()) {
      distances.put(other, other.endsWith(name) || name.endsWith(other) ? -1 : distance(name, other));
    }
    return file.tensors().keySet().stream().sorted(Comparator.comparing(distances::get)).toList();
  }

  /** Levenshtein's: how many characters to insert, delete or replace. */
  private static int distance(String a, String b) {
    int[] row = new int[b.length() + 1];
    Arrays.setAll(row, j -> j);
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int replaced = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(replaced, 1 + Math.min(row[j], row[j - 1]));
      }
    }
    return row[b.length()];
  }
}

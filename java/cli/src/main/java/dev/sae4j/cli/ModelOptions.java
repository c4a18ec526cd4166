package dev.sae4j.cli;

import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.Generic;
import dev.sae4j.io.SaeReader;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import picocli.CommandLine.Option;

/** The SAE of a command. */
final class ModelOptions extends EngineOptions {
  @Option(names = "--sae", required = true, paramLabel = "PATH", description = "Folder or file of the SAE.")
  private Path path;

  @Option(
      names = "--format",
      paramLabel = "NAME",
      description = "Read it as this format (${COMPLETION-CANDIDATES}). Default: by its content.",
      completionCandidates = Formats.class)
  private String format;

  @Option(
      names = "--norm-scaling-factor",
      paramLabel = "S",
      description = "sqrt(d_in) / mean norm of the training activations, where the SAE scales its input by it and no file has it.")
  private Double normScalingFactor;

  @Option(names = "--k", paramLabel = "K", description = "Active features of a TopK SAE whose files do not say.")
  private Long k;

  @Option(names = "--prefix", paramLabel = "N", description = "Use the first N features only (Matryoshka).")
  private Long prefix;

  @Option(
      names = "--map",
      paramLabel = "TENSOR=NAME[.T]",
      description = {
        "With --format generic, what a tensor of the file is: W_enc [d_in, d_sae] and W_dec [d_sae, d_out], "
            + "NAME.T where it lies the other way round; b_enc, b_dec, threshold, log_threshold, W_skip, b_gate, b_mag, r_mag."
      })
  private List<String> map;

  @Option(
      names = "--activation",
      paramLabel = "NAME",
      description = "With --format generic: ${COMPLETION-CANDIDATES}. topk ends in a ReLU, topk-signed and topk-abs keep negative values.",
      completionCandidates = Activations.class)
  private String activation;

  @Option(names = "--subtract-b-dec", description = "With --format generic: b_dec is subtracted from the input first.")
  private boolean subtractsBDec;

  @Option(
      names = "--normalize-activations",
      paramLabel = "NAME",
      description = "With --format generic: ${COMPLETION-CANDIDATES} of each row of the input, first of all.")
  private NormalizeActivations normalization;

  /** Named as SAELens does. */
  enum NormalizeActivations {
    none(Normalization.NONE),
    layer_norm(Normalization.LAYER),
    constant_norm_rescale(Normalization.CONSTANT);

    private final Normalization normalization;

    NormalizeActivations(Normalization normalization) {
      this.normalization = normalization;
    }
  }

  /** The names that --format takes. */
  static final class Formats implements Iterable<String> {
    @Override
    public Iterator<String> iterator() {
      return SaeReader.formats().iterator();
    }
  }

  /** The names that --activation takes. */
  static final class Activations implements Iterable<String> {
    @Override
    public Iterator<String> iterator() {
      return Generic.activations().iterator();
    }
  }

  @Option(
      names = "--labels",
      paramLabel = "FILE",
      description =
          "Labels for features that are listed, as Neuronpedia exports them: JSON Lines or one JSON array, plain or gzip; a file, "
              + "a pipe or a folder of batches.")
  private Path labels;

  /** The weights, once it is known that the device asked for is there. */
  SaeWeights read() {
    SaeReader.Options options;
    try {
      options = new SaeReader.Options(format, normScalingFactor, k, prefix, generic());
    } catch (IllegalArgumentException e) {
      throw misuse(e.getMessage());
    }
    device();
    return SaeReader.read(path, options);
  }

  /** What was said of the tensors, or null. */
  private Generic generic() {
    String given = map != null ? "--map"
        : activation != null ? "--activation"
        : subtractsBDec ? "--subtract-b-dec"
        : normalization != null ? "--normalize-activations"
        : null;
    if (given == null) {
      return null;
    }
    if (!"generic".equals(format)) {
      throw misuse(given + " needs --format generic");
    }
    Map<String, String> tensors = new LinkedHashMap<>();
    for (String one : map == null ? List.<String>of() : map) {
      int equals = one.indexOf('=');
      if (equals < 1 || equals == one.length() - 1) {
        throw misuse("--map must be TENSOR=NAME or TENSOR=NAME.T, got \"%s\"".formatted(one));
      }
      if (tensors.put(one.substring(0, equals), one.substring(equals + 1)) != null) {
        throw misuse("--map says twice what %s is".formatted(one.substring(0, equals)));
      }
    }
    Normalization how = normalization == null ? Normalization.NONE : normalization.normalization;
    return new Generic(tensors, activation, subtractsBDec, how);
  }

  SparseAutoencoder open(SaeWeights weights) {
    return open(weights, device());
  }

  /** Activations or directions of length d. Says so if the file is one to look at twice. */
  ActivationReader rows(String vectors, long d) {
    ActivationReader rows = ActivationReader.open(vectors, d);
    if (rows.warning() != null) {
      command.commandLine().getErr().println("sae4j: warning: " + Output.line(rows.warning()));
    }
    return rows;
  }

  /** One direction of length d, likewise. */
  float[] vector(String vector, long d) {
    try (ActivationReader rows = rows(vector, d)) {
      return rows.readVector();
    }
  }

  /** Of features below d_sae; without a file, none. Says so if they look as if made for another SAE. */
  Labels labels(SparseAutoencoder sae) throws IOException {
    if (labels == null) {
      return Labels.none();
    }
    Labels read = Labels.read(labels, sae.dSae());
    String doubt = read.doubt(sae.info());
    if (doubt != null) {
      command.commandLine().getErr().println("sae4j: warning: " + Output.line(labels + ": " + doubt));
    }
    return read;
  }
}

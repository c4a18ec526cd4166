package dev.sae4j.cli;

import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.SaeReader;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Iterator;
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

  /** The names that --format takes. */
  static final class Formats implements Iterable<String> {
    @Override
    public Iterator<String> iterator() {
      return SaeReader.formats().iterator();
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
      options = new SaeReader.Options(format, normScalingFactor, k, prefix);
    } catch (IllegalArgumentException e) {
      throw misuse(e.getMessage());
    }
    device();
    return SaeReader.read(path, options);
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

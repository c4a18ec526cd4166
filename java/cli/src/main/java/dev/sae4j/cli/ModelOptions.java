package dev.sae4j.cli;

import dev.sae4j.SaeWeights;
import dev.sae4j.SparseAutoencoder;
import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.SaeReader;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Option;

/** The SAE of a command. */
final class ModelOptions extends EngineOptions {
  private static final List<String> FORMATS = List.of("saelens", "gemma-scope");

  @Option(names = "--sae", required = true, paramLabel = "PATH", description = "Folder or file of the SAE.")
  private Path path;

  @Option(
      names = "--format",
      paramLabel = "NAME",
      description = "Read it as saelens or gemma-scope. Default: by its content.")
  private String format;

  @Option(
      names = "--labels",
      paramLabel = "FILE",
      description = "Labels for features that are listed: .jsonl or .jsonl.gz, as Neuronpedia exports them.")
  private Path labels;

  /** The weights, once it is known that the device asked for is there. */
  SaeWeights read() {
    if (format != null && !FORMATS.contains(format)) {
      throw misuse("--format must be %s, got \"%s\"".formatted(String.join(" or ", FORMATS), format));
    }
    device();
    return SaeReader.read(path, format);
  }

  SparseAutoencoder open(SaeWeights weights) {
    return open(weights, device());
  }

  /** Activations or directions of length d. Says so if the file is one to look at twice. */
  ActivationReader rows(String vectors, long d) {
    ActivationReader rows = ActivationReader.open(vectors, d);
    if (rows.warning() != null) {
      command.commandLine().getErr().println("sae4j: warning: " + rows.warning());
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
      command.commandLine().getErr().println("sae4j: warning: " + labels + ": " + doubt);
    }
    return read;
  }
}

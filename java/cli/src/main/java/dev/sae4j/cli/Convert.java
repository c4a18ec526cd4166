package dev.sae4j.cli;

import dev.sae4j.SaeWeights;
import dev.sae4j.io.SaeWriter;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

@Command(
    name = "convert",
    mixinStandardHelpOptions = true,
    description = "Writes an SAE of any format as a SAELens 6 folder, with all that was folded folded in.")
final class Convert implements Callable<Integer> {
  record Result(String format, String architecture, long dIn, long dOut, long dSae, String out) {}

  @Spec private CommandSpec spec;
  @Mixin private ModelOptions model;

  @Option(names = "--out", required = true, paramLabel = "FOLDER", description = "Gets cfg.json and sae_weights.safetensors.")
  private Path out;

  @Override
  public Integer call() {
    Result result;
    try (SaeWeights weights = model.read()) {
      SaeWriter.write(weights, out);
      String architecture = weights.info().architecture();
      result = new Result(weights.info().format(), architecture, weights.dIn(), weights.dOut(), weights.dSae(), out.toString());
    }
    PrintWriter to = spec.commandLine().getOut();
    if (model.json) {
      to.println(Json.of(result));
    } else {
      Tables.facts(
          to,
          "read", result.format() + ", " + result.architecture(),
          "shape", "d_in %d, d_out %d, d_sae %d".formatted(result.dIn(), result.dOut(), result.dSae()),
          "folder", result.out());
    }
    return 0;
  }
}

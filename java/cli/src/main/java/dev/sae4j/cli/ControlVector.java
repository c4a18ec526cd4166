package dev.sae4j.cli;

import dev.sae4j.io.ActivationReader;
import dev.sae4j.io.ControlVectorWriter;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

@Command(
    name = "control-vector",
    mixinStandardHelpOptions = true,
    description = "Writes directions as a control vector that llama.cpp loads (GGUF).")
final class ControlVector implements Callable<Integer> {
  record Result(List<Integer> layers, int d, String out) {}

  @Spec private CommandSpec spec;

  @Option(
      names = "--layer",
      required = true,
      paramLabel = "N=V",
      description = "A direction for the output of decoder block N, from 1 on; may be given for several.")
  private Map<Integer, String> layers;

  @Option(
      names = "--model-hint",
      paramLabel = "NAME",
      defaultValue = "unknown",
      description = "The model's architecture as llama.cpp names it, for readers. Default: ${DEFAULT-VALUE}.")
  private String modelHint;

  @Option(names = "--out", required = true, paramLabel = "V.gguf", description = "The file to write.")
  private Path out;

  @Option(names = "--json", description = "Print one JSON object.")
  private boolean json;

  @Override
  public Integer call() {
    if (!out.toString().toLowerCase().endsWith(".gguf")) {
      throw new ParameterException(spec.commandLine(), "--out must be a .gguf file, got " + out);
    }
    if (spec.commandLine().getParseResult().matchedOption("--layer").originalStringValues().size() > layers.size()) {
      throw new ParameterException(spec.commandLine(), "--layer gives a block two directions, expected one");
    }
    TreeMap<Integer, float[]> directions = new TreeMap<>();
    layers.forEach((layer, vector) -> directions.put(layer, read(vector)));
    ControlVectorWriter.write(out, modelHint, directions);
    Result result = new Result(List.copyOf(directions.keySet()), directions.firstEntry().getValue().length, out.toString());
    PrintWriter to = spec.commandLine().getOut();
    if (json) {
      to.println(Json.of(result));
    } else {
      Tables.facts(to, "layers", result.layers(), "d", result.d(), "file", result.out());
    }
    return 0;
  }

  private static float[] read(String vector) {
    try (ActivationReader reader = ActivationReader.open(vector)) {
      return reader.readVector();
    }
  }
}

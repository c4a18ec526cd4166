package dev.sae4j.cli;

import dev.sae4j.Pursuit;
import java.util.Locale;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** How directions are decomposed. */
final class PursuitOptions {
  /** Named as they are typed. */
  enum Method {
    omp,
    gradient,
    matching,
    l1
  }

  private static final long USUAL_ATOMS = 32;

  @Spec(Spec.Target.MIXEE)
  private CommandSpec command;

  @Option(
      names = "--atoms",
      paramLabel = "K",
      description = "Take at most K steps. Default: 32, or d_in where that is less.")
  private Long atoms;

  @Option(
      names = "--method",
      paramLabel = "NAME",
      defaultValue = "omp",
      description = "omp, gradient, matching or l1. Default: ${DEFAULT-VALUE}.")
  private Method method;

  Pursuit pursuit(long d) {
    long k = atoms == null ? Math.min(USUAL_ATOMS, d) : atoms;
    if (k < 1 || k > d) {
      throw new ParameterException(
          command.commandLine(), "--atoms must be 1 to d_out = %d, got %d".formatted(d, k));
    }
    return Pursuit.of(Pursuit.Method.valueOf(method.name().toUpperCase(Locale.ROOT)), k);
  }
}

package dev.sae4j.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.StringWriter;
import java.util.Arrays;

/** One run of the command line in this JVM. */
record Run(int exitCode, String out, String err) {
  /** Whether there is a CUDA device for tests: a GPU, or the CUDA kernels on the host. */
  static final boolean HAS_CUDA = !System.getProperty("sae4j.device", "cpu").equals("cpu");

  static {
    if (System.getProperty("sae4j.device", "cpu").equals("emulated")) {
      System.setProperty("sae4j.cuda.library", System.getProperty("sae4j.test.emulated"));
    }
  }

  static Run of(Object... args) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int exitCode =
        Main.commandLine(new Output(out), new Output(err))
            .execute(Arrays.stream(args).map(Object::toString).toArray(String[]::new));
    return new Run(exitCode, out.toString(), err.toString());
  }

  /** The one object on stdout of a run that succeeded and had nothing to complain of. */
  static JsonObject json(Object... args) {
    Object[] all = Arrays.copyOf(args, args.length + 1);
    all[args.length] = "--json";
    Run run = of(all);
    assertEquals("", run.err());
    assertEquals(0, run.exitCode());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }
}

package dev.sae4j.cli;

import dev.sae4j.SaeException;
import dev.sae4j.internal.FileNames;
import java.io.FileDescriptor;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Locale;
import picocli.AutoComplete.GenerateCompletion;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;
import picocli.CommandLine.UnmatchedArgumentException;

/** The command line {@code sae4j}. */
@Command(
    name = "sae4j",
    description = "Encodes, decodes, projects and decomposes with sparse autoencoders (SAEs).",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    synopsisSubcommandLabel = "COMMAND",
    footer = {
      "",
      "X and V are .npy, .npz, .safetensors, .pt, .pth, .gguf (control vectors) or .svec; FILE#name picks a tensor, "
          + "FILE#name[row] or FILE#[row] a row of it.",
      "Exit codes: 0 done, 1 failed, 2 wrong usage. Shell completion: source <(sae4j generate-completion)"
    },
    subcommands = {
      Demo.class, Devices.class, Info.class, Encode.class, Decode.class, Project.class, Decompose.class, Diagnose.class,
      Convert.class, ControlVector.class, GenerateCompletion.class
    })
public final class Main implements Runnable {
  @Spec private CommandSpec spec;

  public static void main(String[] args) {
    // JavaCPP counts the weights' pages as its own, and would refuse a large SAE for the sake of a small Java heap.
    System.setProperty("org.bytedeco.javacpp.maxPhysicalBytes", "0");
    Locale.setDefault(Locale.ROOT); // what is printed is English, and its numbers are read by scripts
    Interruption.watch();
    Output out = Output.of(FileDescriptor.out);
    CommandLine command = commandLine(out, Output.of(FileDescriptor.err));
    int exitCode;
    try {
      exitCode = command.execute(args);
    } catch (OutOfMemoryError e) {
      exitCode = fail("out of memory: " + e.getMessage(), command);
    }
    System.exit(printed(out, exitCode, command));
  }

  static CommandLine commandLine(Output out, Output err) {
    return new CommandLine(new Main())
        .setOut(new PrintWriter(out, true))
        .setErr(new PrintWriter(err, true))
        .setColorScheme(CommandLine.Help.defaultColorScheme(CommandLine.Help.Ansi.OFF)) // escapes don't pass
        .registerConverter(Path.class, Main::path)
        .setUsageHelpWidth(Math.min(100, Terminal.columns()))
        .setParameterExceptionHandler(Main::misused)
        .setExecutionExceptionHandler((e, command, parsed) -> failed(e, command));
  }

  /** The exit code, once it is known whether all that was printed arrived. */
  static int printed(Output out, int exitCode, CommandLine command) {
    String failure = out.failure();
    if (failure == null || exitCode != 0) {
      return exitCode;
    }
    return Output.isBrokenPipe(failure) ? Output.BROKEN_PIPE : fail("stdout cannot be written: " + failure, command);
  }

  private static int fail(String message, CommandLine command) {
    command.getErr().println("sae4j: " + Output.line(message));
    return 1;
  }

  private static Path path(String name) {
    try {
      return FileNames.path(name);
    } catch (SaeException e) {
      throw new TypeConversionException(e.getMessage());
    }
  }

  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "a command is missing");
  }

  private static int misused(ParameterException e, String[] args) {
    CommandLine command = e.getCommandLine();
    PrintWriter err = command.getErr();
    err.println("sae4j: " + Output.line(e.getMessage()));
    if (!UnmatchedArgumentException.printSuggestions(e, err)) {
      err.println("See '" + command.getCommandSpec().qualifiedName() + " --help'.");
    }
    return 2;
  }

  private static int failed(Exception e, CommandLine command) throws Exception {
    boolean isExpected =
        e instanceof SaeException
            || e instanceof IllegalArgumentException
            || e instanceof IOException
            || e instanceof UncheckedIOException;
    if (!isExpected) {
      throw e; // a bug: the stack trace is for us
    }
    return fail(reason(e), command);
  }

  private static String reason(Exception e) {
    if (e instanceof UncheckedIOException unchecked) {
      return reason(unchecked.getCause());
    }
    if (e instanceof FileSystemException file) {
      return file.getFile() + ": " + reason(file);
    }
    return e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
  }

  private static String reason(FileSystemException e) {
    return e instanceof NoSuchFileException ? "no such file or folder"
        : e instanceof AccessDeniedException ? "permission denied"
        : e.getReason() == null ? e.getClass().getSimpleName()
        : e.getReason();
  }

  /** As the jar's manifest has it. */
  static String version() {
    String version = Main.class.getPackage().getImplementationVersion();
    return version == null ? "development" : version;
  }

  static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {"sae4j " + version()};
    }
  }
}

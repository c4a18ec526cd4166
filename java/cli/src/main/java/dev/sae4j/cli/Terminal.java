package dev.sae4j.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import me.tongfei.progressbar.DelegatingProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/** What is known of the terminal, if there is one. */
final class Terminal {
  private static final int USUAL_COLUMNS = 100;

  private Terminal() {}

  /** Columns of the terminal that stdout is; without end where it is a file or a pipe. */
  static int columns() {
    if (!isTerminal(1)) {
      return Integer.MAX_VALUE;
    }
    String columns = System.getenv("COLUMNS"); // the launcher sets it
    return columns != null && columns.matches("[1-9]\\d{1,4}") ? Integer.parseInt(columns) : USUAL_COLUMNS;
  }

  /** System.console() asks for stdin and stdout together, so ask the kernel. */
  private static boolean isTerminal(int fileDescriptor) {
    try {
      String target = Files.readSymbolicLink(Path.of("/proc/self/fd/" + fileDescriptor)).toString();
      return target.startsWith("/dev/pts/") || target.startsWith("/dev/tty") || target.equals("/dev/console");
    } catch (IOException | UnsupportedOperationException e) {
      return false;
    }
  }

  /**
   * Work on rows, from chunk to chunk: open it before the files that are written and close it after them. Shows a bar on
   * stderr, if that is a terminal and the work takes long enough to be waited for.
   */
  static final class Progress implements AutoCloseable {
    private static final long PATIENCE_NANOS = 700_000_000;
    private static final int WIDTH = Math.min(78, columns());

    private final String task;
    private final long rows;
    private final long start = System.nanoTime();
    private final boolean isShown = isTerminal(2);
    private long done;
    private ProgressBar bar;

    Progress(String task, long rows) {
      this.task = task;
      this.rows = rows;
      Interruption.begin();
    }

    /** @throws dev.sae4j.SaeException if the user has had enough */
    void step(long n) {
      Interruption.check();
      done += n;
      if (isShown && bar == null && done < rows && System.nanoTime() - start > PATIENCE_NANOS) {
        bar =
            new ProgressBarBuilder()
                .setTaskName(task)
                .setInitialMax(rows)
                .setUnit(" rows", 1)
                .setStyle(ProgressBarStyle.ASCII)
                .setUpdateIntervalMillis(250)
                .setConsumer(new DelegatingProgressBarConsumer(line -> System.err.print("\r" + line), WIDTH))
                .build();
      }
      if (bar != null) {
        bar.stepTo(done);
      }
    }

    @Override
    public void close() {
      if (bar != null) {
        bar.close();
        System.err.print("\r" + " ".repeat(WIDTH) + "\r");
      }
      Interruption.end();
    }
  }
}

package dev.sae4j.cli;

import dev.sae4j.SaeException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Ctrl-C ends work between two chunks: unfinished files go with it, and OpenBLAS is idle when the JVM leaves. It has to be, as
 * it waits for its own threads then, and for ever if it finds them at work.
 */
final class Interruption {
  private static final int PATIENCE_SECONDS = 10;

  private static volatile CountDownLatch work = new CountDownLatch(0);
  private static volatile boolean isRequested;

  private Interruption() {}

  /** From now on, for the life of this JVM. */
  static void watch() {
    Runtime.getRuntime().addShutdownHook(new Thread(Interruption::await));
  }

  private static void await() {
    isRequested = true;
    try {
      work.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Work has begun that calls {@link #check} from chunk to chunk, and {@link #end} once its files are closed. */
  static void begin() {
    work = new CountDownLatch(1);
  }

  /** @throws SaeException if the JVM has been asked to leave */
  static void check() {
    if (isRequested) {
      throw new SaeException("interrupted");
    }
  }

  static void end() {
    work.countDown();
  }
}

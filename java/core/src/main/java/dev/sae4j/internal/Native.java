package dev.sae4j.internal;

import dev.sae4j.SaeException;
import dev.sae4j.internal.bindings.Sae4j;
import org.bytedeco.javacpp.BytePointer;

/** Loads the engine on first use, and turns its statuses into exceptions. Not part of the API. */
public final class Native {
  private static volatile boolean loaded;
  private static String failure;

  private Native() {}

  /**
   * Loads the native libraries. The first failure's reason is kept: later attempts would only see a NoClassDefFoundError.
   *
   * @throws SaeException if they cannot be loaded here
   */
  public static void load() {
    if (!loaded) {
      loadOnce();
    }
  }

  private static synchronized void loadOnce() {
    if (failure == null && !loaded) {
      try {
        Sae4j.sae_version();
        loaded = true;
      } catch (LinkageError e) {
        failure = "the native engine cannot be loaded: " + rootMessage(e);
      }
    }
    if (failure != null) {
      throw new SaeException(failure);
    }
  }

  private static String rootMessage(Throwable e) {
    Throwable root = e;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    return String.valueOf(root.getMessage()).lines().findFirst().orElse(root.toString());
  }

  /** The engine's text, decoded. */
  public static String text(BytePointer cString) {
    return cString == null ? "" : cString.getString();
  }

  /**
   * Must follow the native call at once, on the same thread: the error text is the thread's.
   *
   * @throws IllegalArgumentException if the engine refused an argument
   * @throws SaeException if it failed otherwise
   */
  public static void check(int status) {
    if (status != Sae4j.SAE_OK) {
      throw failed(status);
    }
  }

  private static RuntimeException failed(int status) {
    String message = text(Sae4j.sae_last_error());
    return status == Sae4j.SAE_INVALID_ARGUMENT ? new IllegalArgumentException(message) : new SaeException(message);
  }
}

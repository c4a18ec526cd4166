package dev.sae4j.internal;

import dev.sae4j.SaeException;
import dev.sae4j.internal.bindings.Sae4j;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;

/** Loads the engine on first use, and turns its statuses into exceptions. Not part of the API. */
public final class Native {
  private static final String CUDA_LIBRARY = "/dev/sae4j/linux-x86_64/libsae4j_cuda.so";

  private static volatile boolean loaded;
  private static String failure;
  private static volatile boolean cudaLoaded;
  private static String cudaFailure;

  private Native() {}

  /**
   * Loads the native libraries. The first failure's reason is kept: later attempts would only see a NoClassDefFoundError.
   *
   * @throws SaeException if they cannot be loaded here, or if another version's are in this JVM
   */
  public static void load() {
    if (!loaded) {
      loadOnce();
    }
  }

  private static synchronized void loadOnce() {
    if (failure == null && !loaded) {
      String reason = reasonNotToLoad();
      loaded = reason == null;
      failure = loaded ? null : "the native engine " + reason;
    }
    if (failure != null) {
      throw new SaeException(failure);
    }
  }

  private static String reasonNotToLoad() {
    try {
      String library = text(Sae4j.sae_version()); // before all other calls, which that version may not have
      String classes = version();
      return library.equals(classes) ? null : LoadFailure.versions(classes, library);
    } catch (LinkageError e) {
      return LoadFailure.reason(e);
    }
  }

  /** These classes' version. */
  private static String version() {
    try (InputStream version = Native.class.getResourceAsStream("version")) {
      return version == null ? "unknown version" : new String(version.readAllBytes(), StandardCharsets.UTF_8).strip();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Loads the engine and its CUDA backend: the library that the system property {@code sae4j.cuda.library} names, or the one on
   * the class path. Whether there is a driver and a device is the backend's to say.
   *
   * @throws SaeException if it cannot be loaded here; the first reason is kept
   */
  public static void loadCuda() {
    load();
    if (!cudaLoaded) {
      loadCudaOnce();
    }
  }

  private static synchronized void loadCudaOnce() {
    if (cudaFailure == null && !cudaLoaded) {
      try {
        check(Sae4j.sae_cuda_load(cudaLibrary()));
        cudaLoaded = true;
      } catch (SaeException e) {
        cudaFailure = firstLine(e);
      } catch (IOException e) {
        cudaFailure = "the CUDA backend " + LoadFailure.reason(List.of(e), firstLine(e));
      } catch (RuntimeException e) {
        cudaFailure = "the CUDA backend cannot be extracted: " + firstLine(e);
      }
    }
    if (cudaFailure != null) {
      throw new SaeException(cudaFailure);
    }
  }

  private static String cudaLibrary() throws IOException {
    String library = System.getProperty("sae4j.cuda.library");
    if (library != null) {
      return library;
    }
    File cached = Loader.cacheResource(Native.class, CUDA_LIBRARY);
    if (cached == null) {
      throw new SaeException(
          "the CUDA backend is not on the class path: add the jar of classifier linux-x86_64-cuda (built without a CUDA "
              + "compiler, it is empty)");
    }
    return cached.getPath();
  }

  static String rootMessage(Throwable e) {
    Throwable root = e;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    return firstLine(root);
  }

  static String firstLine(Throwable e) {
    return String.valueOf(e.getMessage()).lines().findFirst().orElse(e.toString());
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

  /**
   * As {@link #check(int)}, for calls that give an array.
   *
   * @throws SaeException if it is NULL
   */
  public static <P extends Pointer> P check(P array) {
    if (array == null) {
      throw failed(Sae4j.SAE_INTERNAL);
    }
    return array;
  }

  /** A bare address of the caller's, which may be 0. */
  public static Pointer address(long address) {
    return new Address(address);
  }

  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }

  private static RuntimeException failed(int status) {
    String message = text(Sae4j.sae_last_error());
    return status == Sae4j.SAE_INVALID_ARGUMENT ? new IllegalArgumentException(message) : new SaeException(message);
  }
}

package dev.sae4j.benchmarks;

import java.util.function.Consumer;
import org.bytedeco.javacpp.FloatPointer;

/**
 * Floats in one of the places that a call can take them from: {@code host}, {@code pinned} (page-locked) or {@code device}. On the
 * host they need no CUDA, which may be null.
 */
record Floats(FloatPointer at, Consumer<FloatPointer> release) implements AutoCloseable {
  static Floats allocate(Cuda cuda, String memory, long count) {
    return switch (memory) {
      case "host" -> new Floats(new FloatPointer(count), FloatPointer::close);
      case "pinned" -> new Floats(cuda.allocatePinned(count), cuda::freePinned);
      case "device" -> new Floats(cuda.allocate(count), cuda::free);
      default -> throw new IllegalArgumentException("memory must be host, pinned or device, got " + memory);
    };
  }

  /** A copy of an array of the host; the array itself where that serves. */
  static Floats of(Cuda cuda, String memory, FloatPointer array, long count) {
    if (memory.equals("host")) {
      return new Floats(array, lent -> {});
    }
    Floats copy = allocate(cuda, memory, count);
    cuda.copy(array, copy.at, count);
    return copy;
  }

  @Override
  public void close() {
    release.accept(at);
  }
}

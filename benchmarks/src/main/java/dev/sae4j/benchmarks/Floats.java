package dev.sae4j.benchmarks;

import java.util.function.Consumer;
import org.bytedeco.javacpp.FloatPointer;

/** Floats in one of the places that a call can take them from: {@code host}, {@code pinned} (page-locked) or {@code device}. */
record Floats(FloatPointer at, Consumer<FloatPointer> release) implements AutoCloseable {
  static Floats allocate(String memory, long count) {
    return switch (memory) {
      case "host" -> new Floats(new FloatPointer(count), FloatPointer::close);
      case "pinned" -> new Floats(Gpu.allocatePinned(count), Gpu::freePinned);
      case "device" -> new Floats(Gpu.allocate(count), Gpu::free);
      default -> throw new IllegalArgumentException("memory must be host, pinned or device, got " + memory);
    };
  }

  /** A copy of an array of the host; the array itself where that serves. */
  static Floats of(String memory, FloatPointer array, long count) {
    if (memory.equals("host")) {
      return new Floats(array, lent -> {});
    }
    Floats copy = allocate(memory, count);
    Gpu.copy(array, copy.at, 4 * count);
    return copy;
  }

  @Override
  public void close() {
    release.accept(at);
  }
}

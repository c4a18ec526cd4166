package dev.sae4j.io;

import java.lang.ref.Reference;
import java.nio.FloatBuffer;
import org.bytedeco.javacpp.FloatPointer;

/** Copies between Java arrays and 64-bit places of native memory, through a buffer that moves along: buffers end at 2^31. */
final class NativeFloats {
  private static final long SPAN = 1L << 28;

  private final FloatPointer memory;
  private FloatBuffer window;
  private long start;

  NativeFloats(FloatPointer memory) {
    this.memory = memory;
    moveTo(0);
  }

  void put(long index, float[] from, int offset, int count) {
    if (index < start || index + count > start + window.capacity()) {
      moveTo(index);
    }
    window.put((int) (index - start), from, offset, count);
    Reference.reachabilityFence(this); // the window alone doesn't keep the memory from being freed
  }

  void get(long index, float[] into, int count) {
    if (index < start || index + count > start + window.capacity()) {
      moveTo(index);
    }
    window.get((int) (index - start), into, 0, count);
    Reference.reachabilityFence(this);
  }

  private void moveTo(long index) {
    start = index;
    FloatPointer from = memory.getPointer(FloatPointer.class, index);
    window = from.capacity(Math.min(SPAN, memory.capacity() - index)).asBuffer();
  }
}

package dev.sae4j.cli;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/** Buffers of float32 vectors. */
final class Vectors {
  private Vectors() {}

  /** Native memory, which the engine uses where it lies. */
  static FloatBuffer buffer(int floats) {
    return ByteBuffer.allocateDirect(floats * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }
}

package dev.sae4j.io;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A number format on disk, little-endian. The constants carry safetensors' names. */
enum DType {
  F16("float16", 2),
  BF16("bfloat16", 2),
  F32("float32", 4),
  F64("float64", 8),
  I32("int32", 4),
  I64("int64", 8);

  final String label;
  final int bytes;

  DType(String label, int bytes) {
    this.label = label;
    this.bytes = bytes;
  }

  /** Null for a name that is not read here. */
  static DType ofSafetensors(String name) {
    for (DType type : values()) {
      if (type.name().equals(name)) {
        return type;
      }
    }
    return null;
  }

  /** Null for a descr that is not read here. */
  static DType ofNumpy(String descr) {
    return switch (descr) {
      case "<f2" -> F16;
      case "<f4" -> F32;
      case "<f8" -> F64;
      case "<i4" -> I32;
      case "<i8" -> I64;
      default -> null;
    };
  }

  boolean isFloating() {
    return this != I32 && this != I64;
  }

  /** Decodes count values of a 16- or 32-bit floating format. */
  void decode(ByteBuffer from, float[] into, int at, int count) {
    ByteBuffer bytesLittle = from.order(ByteOrder.LITTLE_ENDIAN);
    switch (this) {
      case F32 -> bytesLittle.asFloatBuffer().get(into, at, count);
      case BF16 -> {
        for (int i = 0; i < count; i++) {
          into[at + i] = Float.intBitsToFloat(bytesLittle.getShort(2 * i) << 16);
        }
      }
      case F16 -> {
        for (int i = 0; i < count; i++) {
          into[at + i] = Half.VALUES[bytesLittle.getShort(2 * i) & 0xffff];
        }
      }
      default -> throw new AssertionError(this);
    }
  }

  /** Every float16, by its bits: built on first use. */
  private static final class Half {
    static final float[] VALUES = new float[1 << 16];

    static {
      for (int bits = 0; bits < VALUES.length; bits++) {
        VALUES[bits] = toFloat(bits);
      }
    }

    private static float toFloat(int bits) {
      int exponent = bits >> 10 & 0x1f;
      int fraction = bits & 0x3ff;
      float magnitude =
          switch (exponent) {
            case 0 -> Math.scalb((float) fraction, -24);
            case 31 -> fraction == 0 ? Float.POSITIVE_INFINITY : Float.NaN;
            default -> Math.scalb((float) (1024 + fraction), exponent - 25);
          };
      return (bits & 0x8000) == 0 ? magnitude : -magnitude;
    }
  }
}

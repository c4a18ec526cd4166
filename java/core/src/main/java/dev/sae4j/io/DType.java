package dev.sae4j.io;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A number format, little-endian. The constants carry safetensors' names. */
enum DType {
  F8_E4M3("float8_e4m3fn", 1),
  F8_E5M2("float8_e5m2", 1),
  F16("float16", 2),
  BF16("bfloat16", 2),
  F32("float32", 4),
  F64("float64", 8),
  I8("int8", 1),
  U8("uint8", 1),
  I16("int16", 2),
  U16("uint16", 2),
  I32("int32", 4),
  U32("uint32", 4),
  I64("int64", 8),
  U64("uint64", 8);

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

  /**
   * Null for one that is not read here.
   *
   * @param code without the byte order, e.g. {@code "f4"}
   */
  static DType ofNumpy(String code) {
    return switch (code) {
      case "f2" -> F16;
      case "f4" -> F32;
      case "f8" -> F64;
      case "i1" -> I8;
      case "u1" -> U8;
      case "i2" -> I16;
      case "u2" -> U16;
      case "i4" -> I32;
      case "u4" -> U32;
      case "i8" -> I64;
      case "u8" -> U64;
      default -> null;
    };
  }

  boolean isFloating() {
    return compareTo(F64) <= 0;
  }

  /** Decodes count values of any format but float64. Integers are rounded to the nearest, ties to even. */
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
          into[at + i] = Tables.F16[bytesLittle.getShort(2 * i) & 0xffff];
        }
      }
      case F8_E4M3, F8_E5M2 -> {
        float[] table = this == F8_E4M3 ? Tables.F8_E4M3 : Tables.F8_E5M2;
        for (int i = 0; i < count; i++) {
          into[at + i] = table[bytesLittle.get(i) & 0xff];
        }
      }
      default -> {
        for (int i = 0; i < count; i++) {
          into[at + i] = rounded(integer(bytesLittle, i));
        }
      }
    }
  }

  /** An element of an integer format; of uint64 its bits. */
  long integer(ByteBuffer from, int i) {
    return switch (this) {
      case I8 -> from.get(i);
      case U8 -> from.get(i) & 0xffL;
      case I16 -> from.getShort(2 * i);
      case U16 -> from.getShort(2 * i) & 0xffffL;
      case I32 -> from.getInt(4 * i);
      case U32 -> from.getInt(4 * i) & 0xffffffffL;
      case I64, U64 -> from.getLong(8 * i);
      default -> throw new AssertionError(this);
    };
  }

  private float rounded(long value) {
    boolean isAbove = this == U64 && value < 0; // halved; the last bit stays, for the sake of rounding
    return isAbove ? 2 * (float) (value >>> 1 | value & 1) : (float) value;
  }

  /** Every value of the small formats, by its bits: built on first use. */
  private static final class Tables {
    static final float[] F16 = table(5, 10, true);
    static final float[] F8_E4M3 = table(4, 3, false);
    static final float[] F8_E5M2 = table(5, 2, true);

    /** @param hasInfinity as IEEE 754 has it; else only the largest fraction of the largest exponent is no number */
    private static float[] table(int exponentBits, int fractionBits, boolean hasInfinity) {
      float[] values = new float[1 << (1 + exponentBits + fractionBits)];
      int half = values.length / 2;
      for (int bits = 0; bits < half; bits++) {
        values[bits] = magnitude(bits, exponentBits, fractionBits, hasInfinity);
        values[half + bits] = -values[bits];
      }
      return values;
    }

    private static float magnitude(int bits, int exponentBits, int fractionBits, boolean hasInfinity) {
      int exponent = bits >> fractionBits;
      int one = 1 << fractionBits;
      int fraction = bits & (one - 1);
      int shift = -((1 << (exponentBits - 1)) - 1) - fractionBits; // by the bias, and to whole fractions
      boolean isLast = exponent == (1 << exponentBits) - 1;
      if (isLast && (hasInfinity || fraction == one - 1)) {
        return hasInfinity && fraction == 0 ? Float.POSITIVE_INFINITY : Float.NaN;
      }
      return exponent == 0 ? Math.scalb((float) fraction, 1 + shift) : Math.scalb((float) (one + fraction), exponent + shift);
    }
  }
}

package dev.sae4j.benchmarks;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/**
 * The dense graph of a JumpReLU SAE as a model file of ONNX, without its weights, which the session gets from memory: scores =
 * x W_enc^T + b_enc by Gemm, codes = scores where they exceed the threshold, else 0. Field numbers are those of onnx.proto.
 */
final class OnnxGraph {
  private static final int IR_VERSION = 8;
  private static final int OPSET = 17;
  private static final int FLOAT = 1;
  private static final int EXTERNAL = 1;
  private static final int INTEGER_ATTRIBUTE = 2;

  private OnnxGraph() {}

  /** Input x [n, d_in], output codes [n, d_sae]; external initializers W_enc [d_sae, d_in], b_enc, threshold [d_sae], zero [1]. */
  static byte[] jumpRelu(long n, long dIn, long dSae) {
    Message graph =
        new Message()
            .add(1, node("Gemm", "scores", "x", "W_enc", "b_enc").add(5, flag("transB")))
            .add(1, node("Greater", "active", "scores", "threshold"))
            .add(1, node("Where", "codes", "active", "scores", "zero"))
            .add(2, "sae")
            .add(5, external("W_enc", dSae, dIn))
            .add(5, external("b_enc", dSae))
            .add(5, external("threshold", dSae))
            .add(5, external("zero", 1))
            .add(11, value("x", n, dIn))
            .add(12, value("codes", n, dSae));
    return new Message().add(1, IR_VERSION).add(7, graph).add(8, new Message().add(2, OPSET)).bytes();
  }

  private static Message node(String operator, String output, String... inputs) {
    Message node = new Message();
    for (String input : inputs) {
      node.add(1, input);
    }
    return node.add(2, output).add(4, operator);
  }

  private static Message flag(String name) {
    return new Message().add(1, name).add(3, 1).add(20, INTEGER_ATTRIBUTE);
  }

  private static Message external(String name, long... shape) {
    Message tensor = new Message();
    for (long length : shape) {
      tensor.add(1, length);
    }
    Message location = new Message().add(1, "location").add(2, "memory");
    return tensor.add(2, FLOAT).add(8, name).add(13, location).add(14, EXTERNAL);
  }

  private static Message value(String name, long... shape) {
    Message dimensions = new Message();
    for (long length : shape) {
      dimensions.add(1, new Message().add(1, length));
    }
    Message tensor = new Message().add(1, FLOAT).add(2, dimensions);
    return new Message().add(1, name).add(2, new Message().add(1, tensor));
  }

  /** A message of protocol buffers: numbers, and texts and messages after their lengths. */
  private static final class Message {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    Message add(int field, long number) {
      varint(field << 3);
      varint(number);
      return this;
    }

    Message add(int field, String text) {
      return add(field, text.getBytes(StandardCharsets.UTF_8));
    }

    Message add(int field, Message message) {
      return add(field, message.bytes());
    }

    private Message add(int field, byte[] content) {
      varint(field << 3 | 2);
      varint(content.length);
      out.writeBytes(content);
      return this;
    }

    private void varint(long value) {
      for (; value > 127; value >>>= 7) {
        out.write((int) (value & 127 | 128));
      }
      out.write((int) value);
    }

    byte[] bytes() {
      return out.toByteArray();
    }
  }
}

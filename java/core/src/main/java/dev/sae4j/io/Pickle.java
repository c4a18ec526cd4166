package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The pickle of a PyTorch archive, restricted: tensors, dict, OrderedDict, list, tuple, str, numbers, torch.Size,
 * dtypes and devices. A pickle is a program; this machine has no way to run any other, refuses every other name, and
 * takes no more steps than {@link #MAX_STEPS}, each of which makes at most one object. Results are Map (keys as text),
 * List, {@link Tuple}, {@link Array} and plain values.
 */
final class Pickle {
  private static final int MAX_STEPS = 1 << 19;
  private static final int MAX_RANK = 32;
  private static final int HIGHEST_PROTOCOL = 5;

  private static final String REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2";
  private static final String REBUILD_TENSOR_OF_DTYPE = "torch._utils._rebuild_tensor_v3"; // for dtypes newer than the typed storages
  private static final String REBUILD_PARAMETER = "torch._utils._rebuild_parameter";
  private static final String ORDERED_DICT = "collections.OrderedDict";
  private static final String SIZE = "torch.Size";
  private static final String DEVICE = "torch.device";

  /** A Python tuple. */
  record Tuple(List<Object> items) {}

  /** What the elements of a storage are. */
  record Kind(DType type, String label, int bytes) {}

  /** The elements a tensor looks at: a file in the archive. */
  record Storage(String key, Kind kind, long count) {}

  /** A tensor: a view of a storage, offset and strides in elements. */
  record Array(Storage storage, long offset, long[] shape, long[] stride) {}

  /** A name of the few that may be used. */
  private record Global(String name) {}

  private static final Kind UNTYPED = new Kind(null, "bytes", 1);
  private static final Map<String, Kind> STORAGES = new HashMap<>();
  private static final Map<String, Kind> DTYPES = new HashMap<>();
  private static final Map<String, Object> GLOBALS = new HashMap<>();

  static {
    kind("Float", DType.F32, "float32", 4);
    kind("Double", DType.F64, "float64", 8);
    kind("Half", DType.F16, "float16", 2);
    kind("BFloat16", DType.BF16, "bfloat16", 2);
    kind("Long", DType.I64, "int64", 8);
    kind("Int", DType.I32, "int32", 4);
    kind("Short", null, "int16", 2);
    kind("Char", null, "int8", 1);
    kind("Byte", null, "uint8", 1);
    kind("Bool", null, "bool", 1);
    dtype(new Kind(DType.F8_E4M3, "float8_e4m3fn", 1));
    dtype(new Kind(DType.F8_E5M2, "float8_e5m2", 1));
    storage("torch.storage.UntypedStorage", UNTYPED);
    for (String name : List.of(REBUILD_TENSOR, REBUILD_TENSOR_OF_DTYPE, REBUILD_PARAMETER, ORDERED_DICT, SIZE, DEVICE)) {
      GLOBALS.put(name, new Global(name));
    }
  }

  private static void kind(String storage, DType type, String label, int bytes) {
    Kind kind = new Kind(type, label, bytes);
    storage("torch." + storage + "Storage", kind);
    dtype(kind);
  }

  private static void storage(String name, Kind kind) {
    STORAGES.put(name, kind);
    GLOBALS.put(name, new Global(name));
  }

  /** A dtype, as a value. */
  private static void dtype(Kind kind) {
    DTYPES.put("torch." + kind.label, kind);
    GLOBALS.put("torch." + kind.label, "torch." + kind.label);
  }

  private final String where;
  private final ByteBuffer in;
  private final List<Object> stack = new ArrayList<>();
  private final List<Integer> marks = new ArrayList<>();
  private final Map<Integer, Object> memo = new HashMap<>();

  private Pickle(String where, byte[] bytes) {
    this.where = where;
    this.in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** The object that the bytes describe. */
  static Object read(String where, byte[] bytes) {
    return new Pickle(where, bytes).run();
  }

  private Object run() {
    for (int step = 0; step < MAX_STEPS; step++) {
      int opcode = take(1).get() & 0xff;
      if (opcode == '.') {
        return pop();
      }
      step(opcode);
    }
    throw error("has more than %d steps".formatted(MAX_STEPS));
  }

  private void step(int opcode) {
    switch (opcode) {
      case 0x80 -> requireProtocol(unsigned(1));
      case 0x95 -> take(8); // a frame: only a hint for reading ahead
      case '(' -> marks.add(stack.size());
      case '0' -> pop();
      case '1' -> popMark();
      case 'N' -> stack.add(null);
      case 0x88 -> stack.add(true);
      case 0x89 -> stack.add(false);
      case 'K' -> stack.add(unsigned(1));
      case 'M' -> stack.add(unsigned(2));
      case 'J' -> stack.add((long) take(4).getInt());
      case 0x8a -> stack.add(integer(length(1)));
      case 'G' -> stack.add(take(8).order(ByteOrder.BIG_ENDIAN).getDouble());
      case 0x8c -> stack.add(text(length(1)));
      case 'X' -> stack.add(text(length(4)));
      case 0x8d -> stack.add(text(length(8)));
      case ']' -> stack.add(new ArrayList<>());
      case '}' -> stack.add(new LinkedHashMap<String, Object>());
      case ')' -> stack.add(new Tuple(List.of()));
      case 0x85, 0x86, 0x87 -> stack.add(new Tuple(popLast(stack.size() - (opcode - 0x84))));
      case 't' -> stack.add(new Tuple(popMark()));
      case 'a' -> appendAll(popLast(stack.size() - 1));
      case 'e' -> appendAll(popMark());
      case 's' -> putAll(popLast(stack.size() - 2));
      case 'u' -> putAll(popMark());
      case 'q' -> memo.put((int) unsigned(1), top());
      case 'r' -> memo.put(take(4).getInt(), top());
      case 0x94 -> memo.put(memo.size(), top());
      case 'h' -> stack.add(recall((int) unsigned(1)));
      case 'j' -> stack.add(recall(take(4).getInt()));
      case 'c' -> stack.add(global(line(), line()));
      case 0x93 -> {
        String name = pop(String.class, "a name");
        stack.add(global(pop(String.class, "a module"), name));
      }
      case 'Q' -> stack.add(storage(pop(Tuple.class, "a tuple").items));
      case 'R' -> {
        List<Object> arguments = pop(Tuple.class, "a tuple of arguments").items;
        stack.add(call(pop(Global.class, "a function").name, arguments));
      }
      case 'b' -> { // the attributes of an OrderedDict, such as a state dict's versions
        pop();
        as(Map.class, "an OrderedDict", top());
      }
      default -> throw error("the opcode 0x%02x is not supported".formatted(opcode));
    }
  }

  // ---- what may be named and called

  private Object global(String module, String name) {
    String fullName = module + "." + name;
    Object global = GLOBALS.get(fullName);
    if (global == null) {
      throw error(
          "refuses %s: only tensors, containers, text and numbers are read, nothing is run"
              .formatted(Failures.quote(fullName)));
    }
    return global;
  }

  private Object call(String function, List<Object> arguments) {
    return switch (function) {
      case ORDERED_DICT -> {
        if (!arguments.isEmpty()) {
          throw error("an OrderedDict is made of %d arguments, expected none".formatted(arguments.size()));
        }
        yield new LinkedHashMap<String, Object>();
      }
      case SIZE -> as(Tuple.class, "a tuple", argument(arguments, 0));
      case DEVICE -> "device";
      case REBUILD_PARAMETER -> as(Array.class, "a tensor", argument(arguments, 0));
      case REBUILD_TENSOR -> array(arguments);
      case REBUILD_TENSOR_OF_DTYPE -> arrayOfDtype(arguments);
      default -> throw error("%s can't be called".formatted(function));
    };
  }

  /** ('storage', torch.FloatStorage, '0', 'cpu', count). */
  private Storage storage(List<Object> id) {
    Kind kind = STORAGES.get(as(Global.class, "a storage type", argument(id, 1)).name);
    if (!"storage".equals(id.get(0)) || kind == null) {
      throw error("a persistent id is not that of a storage");
    }
    return new Storage(as(String.class, "a storage's key", argument(id, 2)), kind, size(argument(id, 4)));
  }

  /** (storage, offset, shape, stride, requires_grad, backward_hooks). */
  private Array array(List<Object> arguments) {
    Storage storage = as(Storage.class, "a storage", argument(arguments, 0));
    long[] shape = sizes(argument(arguments, 2));
    long[] stride = sizes(argument(arguments, 3));
    if (shape.length != stride.length) {
      throw error("a tensor has %d dimensions but %d strides".formatted(shape.length, stride.length));
    }
    return new Array(storage, size(argument(arguments, 1)), shape, stride);
  }

  /** The same, of an untyped storage, and a dtype at the end. */
  private Array arrayOfDtype(List<Object> arguments) {
    Array bytes = array(arguments);
    Kind kind = DTYPES.get(as(String.class, "a dtype", argument(arguments, 6)));
    if (kind == null || bytes.storage.kind != UNTYPED || bytes.storage.count % kind.bytes != 0) {
      throw error("a storage of %d %s can't be taken as another dtype".formatted(bytes.storage.count, bytes.storage.kind.label));
    }
    Storage storage = new Storage(bytes.storage.key, kind, bytes.storage.count / kind.bytes);
    return new Array(storage, bytes.offset, bytes.shape, bytes.stride);
  }

  private Object argument(List<Object> arguments, int index) {
    if (index >= arguments.size()) {
      throw error("%d arguments, expected more than %d".formatted(arguments.size(), index));
    }
    return arguments.get(index);
  }

  private long[] sizes(Object value) {
    List<Object> items = as(Tuple.class, "a tuple of sizes", value).items;
    if (items.size() > MAX_RANK) {
      throw error("rank is %d, expected at most %d".formatted(items.size(), MAX_RANK));
    }
    return items.stream().mapToLong(this::size).toArray();
  }

  private long size(Object value) {
    long size = as(Long.class, "a whole number", value);
    if (size < 0) {
      throw error("a size, offset or stride is %d, expected 0 or more".formatted(size));
    }
    return size;
  }

  // ---- stack and memo

  private Object top() {
    if (stack.size() <= floor()) {
      throw error("takes from an empty stack");
    }
    return stack.get(stack.size() - 1);
  }

  private Object pop() {
    Object top = top();
    stack.remove(stack.size() - 1);
    return top;
  }

  private <T> T pop(Class<T> type, String what) {
    return as(type, what, pop());
  }

  /** No operation reaches below the last mark. */
  private int floor() {
    return marks.isEmpty() ? 0 : marks.get(marks.size() - 1);
  }

  private List<Object> popMark() {
    if (marks.isEmpty()) {
      throw error("has no mark to go back to");
    }
    List<Object> items = popLast(floor());
    marks.remove(marks.size() - 1);
    return items;
  }

  /** Takes what lies from a place of the stack on. */
  private List<Object> popLast(int from) {
    if (from < floor()) {
      throw error("takes from an empty stack");
    }
    List<Object> tail = stack.subList(from, stack.size());
    List<Object> items = new ArrayList<>(tail);
    tail.clear();
    return items;
  }

  @SuppressWarnings("unchecked") // lists and maps of this machine hold any objects
  private void appendAll(List<Object> items) {
    as(List.class, "a list", top()).addAll(items);
  }

  @SuppressWarnings("unchecked")
  private void putAll(List<Object> items) {
    Map<String, Object> map = as(Map.class, "a dict", top());
    if (items.size() % 2 != 0) {
      throw error("a dict has a key without a value");
    }
    for (int i = 0; i < items.size(); i += 2) {
      String key = keyText(items.get(i));
      if (map.containsKey(key)) {
        throw error("the key %s is there twice".formatted(Failures.quote(key)));
      }
      map.put(key, items.get(i + 1));
    }
  }

  /** A key as it is typed: text, or what Python prints for a number. */
  private String keyText(Object key) {
    if (key instanceof String || key instanceof Long || key instanceof BigInteger || key instanceof Double) {
      return key.toString();
    }
    throw error("a dict has %s for a key, expected text or a number".formatted(kindOf(key)));
  }

  private Object recall(int index) {
    if (!memo.containsKey(index)) {
      throw error("recalls %d, which was never stored".formatted(Integer.toUnsignedLong(index)));
    }
    return memo.get(index);
  }

  private <T> T as(Class<T> type, String what, Object value) {
    if (!type.isInstance(value)) {
      throw error("expected %s, got %s".formatted(what, kindOf(value)));
    }
    return type.cast(value);
  }

  /** For messages: a value itself may be too large to show. */
  static String kindOf(Object value) {
    return value == null ? "None"
        : value instanceof Map ? "a dict"
        : value instanceof List ? "a list"
        : value instanceof Array ? "a tensor"
        : value instanceof Number ? "a number"
        : value instanceof Global global ? global.name
        : "a " + value.getClass().getSimpleName().toLowerCase(Locale.ROOT);
  }

  // ---- bytes

  /** The next bytes, to be read from. */
  private ByteBuffer take(int count) {
    if (count > in.remaining()) {
      throw error("ends too early");
    }
    ByteBuffer taken = in.slice(in.position(), count).order(ByteOrder.LITTLE_ENDIAN);
    in.position(in.position() + count);
    return taken;
  }

  private long unsigned(int bytes) {
    ByteBuffer taken = take(bytes);
    return bytes == 1 ? taken.get() & 0xffL : taken.getShort() & 0xffffL;
  }

  private int length(int bytes) {
    ByteBuffer taken = take(bytes);
    long length = bytes == 1 ? taken.get() & 0xffL : bytes == 4 ? taken.getInt() & 0xffffffffL : taken.getLong();
    if (length < 0 || length > in.remaining()) {
      throw error("ends too early: text of %s bytes".formatted(Long.toUnsignedString(length)));
    }
    return (int) length;
  }

  private String text(int length) {
    return StandardCharsets.UTF_8.decode(take(length)).toString();
  }

  private Object integer(int length) {
    byte[] bigEndian = new byte[length + 1];
    ByteBuffer taken = take(length);
    for (int i = length; i > 0; i--) {
      bigEndian[i] = taken.get();
    }
    bigEndian[0] = (byte) (length > 0 && bigEndian[1] < 0 ? -1 : 0); // the sign
    BigInteger value = new BigInteger(bigEndian);
    return value.bitLength() < Long.SIZE ? (Object) value.longValue() : value;
  }

  private String line() {
    int start = in.position();
    while (take(1).get() != '\n') {
      // to the end of the line
    }
    return StandardCharsets.UTF_8.decode(in.slice(start, in.position() - 1 - start)).toString();
  }

  private void requireProtocol(long protocol) {
    if (protocol > HIGHEST_PROTOCOL) {
      throw error("protocol is %d, expected at most %d".formatted(protocol, HIGHEST_PROTOCOL));
    }
  }

  private SaeFormatException error(String message) {
    return new SaeFormatException("%s: pickle, byte %d: %s".formatted(where, in.position(), message));
  }
}

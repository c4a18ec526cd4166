package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The pickle of a PyTorch archive, restricted: tensors, numpy's arrays and scalars, dict, OrderedDict, list, tuple, str, bytes,
 * numbers, torch.Size, dtypes and devices. A pickle is a program; this machine has no way to run any other, refuses every other
 * name, and takes no more steps than {@link #MAX_STEPS}, each of which makes at most one object. Results are Map (keys as text),
 * List, {@link Tuple}, {@link Array}, {@link Numpy} and plain values.
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
  private static final String NUMPY_ARRAY = "numpy.ndarray";
  private static final String NUMPY_TYPE = "numpy.dtype";
  private static final String RECONSTRUCT = "numpy.core.multiarray._reconstruct";
  private static final String SCALAR = "numpy.core.multiarray.scalar";
  private static final String FROM_BUFFER = "numpy.core.numeric._frombuffer"; // from protocol 5 on
  private static final String ENCODE = "_codecs.encode"; // how protocol 2 has bytes: as text of Latin-1
  private static final String BYTES = "__builtin__.bytes"; // and none

  /** A Python tuple. */
  record Tuple(List<Object> items) {}

  /** What the elements of a storage are. */
  record Kind(DType type, String label, int bytes) {}

  /** The elements a tensor looks at: a file in the archive. */
  record Storage(String key, Kind kind, long count) {}

  /** A tensor: a view of a storage, offset and strides in elements. */
  record Array(Storage storage, long offset, long[] shape, long[] stride) {}

  /** A numpy array, whose bytes lie in the pickle. Made empty, then filled. */
  static final class Numpy {
    private String descr;
    private long[] shape;
    private boolean isFortran;
    private byte[] bytes;

    /** @param where file and name, for messages */
    Tensor tensor(String name, String where) {
      if (descr == null) {
        throw new SaeFormatException(where + ": a numpy array without content");
      }
      return Npy.array(name, where, descr, isFortran, shape, new ByteSource.Memory(bytes));
    }
  }

  /** numpy's dtype. Its byte order comes after it. */
  private static final class NumpyType {
    private final String code;
    private String order = "|";

    NumpyType(String code) {
      this.code = code;
    }

    String descr() {
      return order + code;
    }
  }

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
    kind("Short", DType.I16, "int16", 2);
    kind("Char", DType.I8, "int8", 1);
    kind("Byte", DType.U8, "uint8", 1);
    kind("Bool", null, "bool", 1);
    for (DType type : List.of(DType.F8_E4M3, DType.F8_E5M2, DType.U16, DType.U32, DType.U64)) {
      dtype(new Kind(type, type.label, type.bytes));
    }
    storage("torch.storage.UntypedStorage", UNTYPED);
    for (String name : List.of(REBUILD_TENSOR, REBUILD_TENSOR_OF_DTYPE, REBUILD_PARAMETER, ORDERED_DICT, SIZE, DEVICE)) {
      GLOBALS.put(name, new Global(name));
    }
    for (String name : List.of(NUMPY_ARRAY, NUMPY_TYPE, RECONSTRUCT, SCALAR, FROM_BUFFER, ENCODE, BYTES)) {
      GLOBALS.put(name, new Global(name));
      GLOBALS.put(name.replace("numpy.core.", "numpy._core."), new Global(name)); // as numpy 2 has it
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
  private final Map<String, byte[]> encoded = new IdentityHashMap<>(); // once each: a text may be named again and again

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
      case 'C' -> stack.add(bytes(length(1)));
      case 'B' -> stack.add(bytes(length(4)));
      case 0x8e, 0x96 -> stack.add(bytes(length(8))); // the second may be written to
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
      case 'b' -> {
        Object state = pop();
        fill(top(), state);
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
      case NUMPY_TYPE -> new NumpyType(as(String.class, "a dtype", argument(arguments, 0)));
      case RECONSTRUCT -> {
        if (!new Global(NUMPY_ARRAY).equals(argument(arguments, 0))) {
          throw error("makes an array of %s, expected numpy.ndarray".formatted(kindOf(arguments.get(0))));
        }
        yield new Numpy();
      }
      case FROM_BUFFER -> { // (bytes, dtype, shape, order)
        String order = as(String.class, "an order", argument(arguments, 3));
        if (!order.equals("C") && !order.equals("F")) { // "K": axes in an order that comes after it
          throw error(
              "a numpy array lies in the order %s, expected C or F: save np.ascontiguousarray of it"
                  .formatted(Failures.quote(order)));
        }
        yield numpy(new Numpy(), arguments.get(2), arguments.get(1), order.equals("F"), arguments.get(0));
      }
      case SCALAR -> scalar(as(NumpyType.class, "a dtype", argument(arguments, 0)), argument(arguments, 1));
      case ENCODE -> encode(as(String.class, "text", argument(arguments, 0)), argument(arguments, 1));
      case BYTES -> {
        if (!arguments.isEmpty()) {
          throw error("bytes are made of %d arguments, expected none".formatted(arguments.size()));
        }
        yield new byte[0];
      }
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

  // ---- numpy's arrays

  /** The state that an object is given after it was made. */
  private void fill(Object object, Object state) {
    if (object instanceof Numpy array) { // (version, shape, dtype, is_fortran, bytes)
      List<Object> items = as(Tuple.class, "an array's state", state).items;
      numpy(array, argument(items, 1), argument(items, 2), Boolean.TRUE.equals(argument(items, 3)), argument(items, 4));
    } else if (object instanceof NumpyType type) { // (version, byte order, ...)
      String order = as(String.class, "a byte order", argument(as(Tuple.class, "a dtype's state", state).items, 1));
      if (order.length() != 1) {
        throw error("the byte order of a dtype is %s, expected one character".formatted(Failures.quote(order)));
      }
      type.order = order;
    } else { // the attributes of an OrderedDict, such as a state dict's versions
      as(Map.class, "an OrderedDict", object);
    }
  }

  /** Content that is no bytes is a list of Python objects: an array whose dtype is not read here. */
  private Numpy numpy(Numpy array, Object shape, Object type, boolean isFortran, Object content) {
    array.shape = sizes(shape);
    array.descr = as(NumpyType.class, "a dtype", type).descr();
    array.isFortran = isFortran;
    array.bytes = content instanceof byte[] bytes ? bytes : new byte[0];
    return array;
  }

  /** A number, or of another dtype an array of no dimensions. */
  private Object scalar(NumpyType numpyType, Object content) {
    byte[] bytes = content instanceof byte[] some ? some : new byte[0];
    DType type = Npy.type(numpyType.descr());
    if (numpyType.code.equals("b1") && bytes.length == 1) {
      return bytes[0] != 0;
    }
    if (type == null || type == DType.U64 || bytes.length != type.bytes) {
      return numpy(new Numpy(), new Tuple(List.of()), numpyType, false, bytes);
    }
    ByteBuffer element = ByteBuffer.wrap(bytes.clone()).order(ByteOrder.LITTLE_ENDIAN);
    if (numpyType.order.equals(">")) {
      ByteSource.Swapped.swap(element, 0, type.bytes);
    }
    if (type == DType.F64) {
      return element.getDouble(0);
    }
    if (!type.isFloating()) {
      return type.integer(element, 0);
    }
    float[] value = new float[1];
    type.decode(element, value, 0, 1);
    return (double) value[0];
  }

  private byte[] encode(String text, Object encoding) {
    if (!"latin1".equals(encoding)) {
      String got = encoding instanceof String name ? Failures.quote(name) : kindOf(encoding);
      throw error("text is encoded as %s, expected latin1".formatted(got));
    }
    return encoded.computeIfAbsent(
        text,
        characters -> {
          if (characters.chars().anyMatch(c -> c > 0xff)) {
            throw error("bytes as text have a character beyond 255");
          }
          return characters.getBytes(StandardCharsets.ISO_8859_1);
        });
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
        : value instanceof Numpy ? "a numpy array"
        : value instanceof byte[] ? "bytes"
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
    ByteBuffer taken = take(length);
    return new String(taken.array(), taken.arrayOffset(), length, StandardCharsets.UTF_8);
  }

  private byte[] bytes(int length) {
    byte[] bytes = new byte[length];
    take(length).get(bytes);
    return bytes;
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

package dev.sae4j.io;

import dev.sae4j.SaeFormatException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/**
 * What torch.save writes: a zip file of a pickle, {@code data.pkl}, and the storages that its tensors look at; numpy's arrays
 * lie in the pickle. Both are named by their path: {@code a.b} in nested dicts, {@code a[0]} in lists, nothing for one that
 * stands alone.
 */
final class PyTorch {
  private static final byte[] LEGACY = HexFormat.of().parseHex("80028a0a6cfc9c46f920"); // a pickle of its number
  private static final int MAX_PICKLE = 1 << 25;
  private static final int MAX_TENSORS = 1 << 16;
  private static final int MAX_VISITS = 1 << 19; // a pickle has no more values, if it does not share them
  private static final int MAX_DEPTH = 32;
  private static final int MAX_NAME = 400;

  private final Path path;
  private final ZipFile zip;
  private final String folder;
  private final long fileSize;
  private final Map<String, Tensor> tensors = new LinkedHashMap<>();
  private int visits;

  private PyTorch(Path path, ZipFile zip, String folder) throws IOException {
    this.path = path;
    this.zip = zip;
    this.folder = folder;
    this.fileSize = Files.size(path);
  }

  /** The caller closes the zip file, once the tensors have been read. */
  static ZipFile open(Path path) throws IOException {
    byte[] start = new byte[LEGACY.length];
    try (var in = Files.newInputStream(path)) {
      in.readNBytes(start, 0, start.length);
    }
    if (Arrays.equals(start, LEGACY)) {
      throw new SaeFormatException(
          path + ": is in PyTorch's legacy format, expected a zip file: load it in Python and torch.save it again");
    }
    if (start[0] == (byte) 0x80) {
      throw new SaeFormatException(path + ": is a bare pickle, expected a zip file: load it, and torch.save its tensors");
    }
    return Npz.open(path);
  }

  static Map<String, Tensor> read(Path path, ZipFile zip) throws IOException {
    PyTorch archive = new PyTorch(path, zip, folder(path, zip));
    archive.requireLittleEndian();
    archive.collect("", archive.value(), 0);
    return archive.tensors;
  }

  /** What was saved, for what in it is no tensor. */
  static Object value(Path path) {
    try (ZipFile zip = open(path)) {
      return new PyTorch(path, zip, folder(path, zip)).value();
    } catch (IOException e) {
      throw Failures.of(path, e);
    }
  }

  private Object value() {
    return Pickle.read(path + ": data.pkl", bytes("data.pkl", MAX_PICKLE));
  }

  /** The folder that everything in the archive is under, with its slash. */
  private static String folder(Path path, ZipFile zip) {
    List<String> pickles =
        Npz.entries(path, zip).stream()
            .map(ZipEntry::getName)
            .filter(name -> name.matches("([^/]+/)?data\\.pkl"))
            .toList();
    if (pickles.size() != 1) {
      throw new SaeFormatException(
          "%s: has %d data.pkl, expected one: not written by torch.save".formatted(path, pickles.size()));
    }
    String folder = pickles.get(0).substring(0, pickles.get(0).length() - "data.pkl".length());
    if (zip.getEntry(folder + "constants.pkl") != null) {
      throw new SaeFormatException(path + ": is a TorchScript program, expected tensors: torch.save its state_dict()");
    }
    return folder;
  }

  private void requireLittleEndian() {
    if (zip.getEntry(folder + "byteorder") == null) {
      return; // written before there was this mark: little
    }
    String order = new String(bytes("byteorder", 1 << 10), StandardCharsets.US_ASCII);
    if (!order.equals("little")) {
      throw new SaeFormatException("%s: byteorder is %s, expected \"little\"".formatted(path, Failures.quote(order)));
    }
  }

  private byte[] bytes(String name, int max) {
    ByteSource source = source(name, path + ": " + name);
    if (source.size() > max) {
      throw new SaeFormatException("%s: %s has %d bytes, expected at most %d".formatted(path, name, source.size(), max));
    }
    ByteBuffer bytes = ByteBuffer.allocate((int) source.size());
    try {
      source.read(0, bytes);
    } catch (IOException e) {
      throw Failures.of(path + ": " + name, e);
    }
    return bytes.array();
  }

  private ByteSource source(String name, String where) {
    ZipEntry entry = zip.getEntry(folder + name);
    if (entry == null) {
      throw new SaeFormatException("%s: there is no %s in the archive".formatted(where, Failures.quote(folder + name)));
    }
    return Npz.source(zip, entry, fileSize, where);
  }

  /** Adds the tensors in a value. Values may share parts and contain themselves, so the walk is bounded. */
  private void collect(String name, Object value, int depth) {
    if (++visits > MAX_VISITS || depth > MAX_DEPTH || name.length() > MAX_NAME) {
      throw new SaeFormatException(
          "%s: %s is nested too deeply, or has too many values (limits: depth %d, %d values, names of %d characters)"
              .formatted(path, Failures.quote(name), MAX_DEPTH, MAX_VISITS, MAX_NAME));
    }
    if (value instanceof Pickle.Array || value instanceof Pickle.Numpy) {
      add(name, value);
    } else if (value instanceof Map<?, ?> map) {
      map.forEach((key, member) -> collect(name.isEmpty() ? key.toString() : name + "." + key, member, depth + 1));
    } else if (value instanceof List<?> list) {
      collectItems(name, list, depth);
    } else if (value instanceof Pickle.Tuple tuple) {
      collectItems(name, tuple.items(), depth);
    }
  }

  private void collectItems(String name, List<?> items, int depth) {
    for (int i = 0; i < items.size(); i++) {
      collect(name + "[" + i + "]", items.get(i), depth + 1);
    }
  }

  private void add(String name, Object array) {
    String where = name.isEmpty() ? path.toString() : path + ": " + Failures.quote(name);
    if (tensors.size() == MAX_TENSORS) {
      throw new SaeFormatException("%s: has more than %d tensors".formatted(path, MAX_TENSORS));
    }
    Tensor tensor = array instanceof Pickle.Numpy numpy ? numpy.tensor(name, where) : tensor(name, where, (Pickle.Array) array);
    if (tensors.put(name, tensor) != null) {
      throw new SaeFormatException(where + ": there are two tensors of this name");
    }
  }

  private Tensor tensor(String name, String where, Pickle.Array array) {
    Pickle.Storage storage = array.storage();
    Pickle.Kind kind = storage.kind();
    ByteSource bytes = source("data/" + storage.key(), where);
    if (storage.count() > Long.MAX_VALUE / 8 || storage.count() * kind.bytes() != bytes.size()) {
      throw new SaeFormatException(
          "%s: its storage of %d %s has %d bytes".formatted(where, storage.count(), kind.label(), bytes.size()));
    }
    return Tensor.strided(
        name, where, kind.type(), kind.label(), kind.bytes(), array.shape(), bytes, array.offset(), array.stride());
  }
}

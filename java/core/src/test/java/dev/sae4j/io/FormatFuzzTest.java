package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.code_intelligence.jazzer.junit.FuzzTest;
import com.sun.management.ThreadMXBean;
import dev.sae4j.SaeFormatException;
import dev.sae4j.SparseCodes;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Any bytes, as a file of each format, are read to their end or refused by a {@link SaeFormatException} of one line, and take
 * little memory. A build goes over the fixtures and the past findings (FormatFuzzTestInputs); {@code java/core/fuzz} goes on from
 * there, guided by coverage. A test of "entries" makes the zip file itself: what is in it would not get past the CRC otherwise.
 */
class FormatFuzzTest {
  private static final long MAX_ALLOCATED = 128 << 20; // with garbage; what lives at a time is up to the heap of java/core/fuzz
  private static final int CHUNK = 1 << 12;
  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

  @TempDir static Path folder;

  private final float[] floats = new float[CHUNK];
  private final long[] longs = new long[CHUNK];

  @MethodSource("safetensorsFiles")
  @FuzzTest
  void safetensors(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.safetensors", bytes)));
  }

  @MethodSource("npyFiles")
  @FuzzTest
  void npy(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.npy", bytes)));
  }

  @MethodSource("npzFiles")
  @FuzzTest
  void npz(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.npz", bytes)));
  }

  @MethodSource("ptFiles")
  @FuzzTest
  void pt(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.pt", bytes)));
  }

  @MethodSource("ptEntryLists")
  @FuzzTest
  void ptEntries(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.pt", zipped(unpacked(bytes)))));
  }

  @MethodSource("ggufFiles")
  @FuzzTest
  void gguf(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.gguf", bytes)));
  }

  @MethodSource("svecFiles")
  @FuzzTest
  void svec(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drain(write("x.svec", bytes)));
  }

  @MethodSource("npzEntryLists")
  @FuzzTest
  void codesEntries(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> drainCodes(write("codes.npz", zipped(unpacked(bytes)))));
  }

  @MethodSource("npzEntryLists")
  @FuzzTest
  void paramsEntries(byte[] bytes) throws Throwable {
    readsOrRefuses(() -> SaeReader.read(write("params.npz", zipped(unpacked(bytes)))).close());
  }

  @MethodSource("cfgFiles")
  @FuzzTest
  void cfg(byte[] bytes) throws Throwable {
    byte[] weights = bytes(Fixtures.path("jumprelu-f32/sae_weights.safetensors"));
    readsOrRefuses(() -> SaeReader.read(saeFolder(bytes, weights)).close());
  }

  @MethodSource("yamlFiles")
  @FuzzTest
  void yaml(byte[] bytes) throws Throwable {
    Path sae = Files.createDirectories(folder.resolve("transcoder"));
    Files.write(sae.resolve("layer_7.safetensors"), bytes(Fixtures.path("saes/mwhanna-topk-skip/layer_7.safetensors")));
    Files.write(sae.resolve("config.yaml"), bytes);
    readsOrRefuses(() -> SaeReader.read(sae).close());
  }

  /** A list of two: cfg.json and the weights. */
  @MethodSource("saeFolders")
  @FuzzTest
  void saeEntries(byte[] bytes) throws Throwable {
    List<byte[]> files = List.copyOf(unpacked(bytes).values());
    if (files.size() > 1) {
      readsOrRefuses(() -> SaeReader.read(saeFolder(files.get(0), files.get(1))).close());
    }
  }

  // ---- the one rule

  private static void readsOrRefuses(Executable reading) throws Throwable {
    long before = THREADS.getCurrentThreadAllocatedBytes();
    try {
      reading.execute();
    } catch (SaeFormatException e) {
      String message = e.getMessage();
      assertEquals(1, message.lines().count(), message);
      assertTrue(message.length() < 1000, message);
    }
    long allocated = THREADS.getCurrentThreadAllocatedBytes() - before;
    assertTrue(allocated <= MAX_ALLOCATED, () -> "reading took %d bytes of heap".formatted(allocated));
  }

  private void drain(Path path) {
    try (TensorFile file = TensorFile.open(path)) {
      file.warning();
      assertEquals(1, Generic.suggest(file).lines().count());
      file.tensors().values().forEach(this::drain);
    }
  }

  private void drain(Tensor tensor) {
    boolean isInteger = tensor.type != null && !tensor.type.isFloating() && tensor.type != DType.U64;
    for (long first = 0; first < tensor.size && tensor.type != null; first += CHUNK) {
      int count = (int) Math.min(CHUNK, tensor.size - first);
      if (isInteger) {
        tensor.read(first, longs, count);
      }
      tensor.read(first, floats, 0, count);
    }
    tensor.release();
  }

  private static void drainCodes(Path path) {
    try (CodesReader reader = CodesReader.open(path);
        SparseCodes codes = new SparseCodes()) {
      while (reader.read(codes, 4) > 0) {
        assertTrue(codes.rows() <= 4);
      }
    }
  }

  // ---- files

  private static Path write(String name, byte[] bytes) throws IOException {
    return Files.write(folder.resolve(name), bytes);
  }

  private static Path saeFolder(byte[] cfg, byte[] weights) throws IOException {
    Path sae = Files.createDirectories(folder.resolve("sae"));
    Files.write(sae.resolve("cfg.json"), cfg);
    Files.write(sae.resolve("sae_weights.safetensors"), weights);
    return sae;
  }

  private static byte[] zipped(Map<String, byte[]> entries) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
      for (Map.Entry<String, byte[]> file : entries.entrySet()) {
        ZipEntry entry = new ZipEntry(file.getKey());
        CRC32 crc = new CRC32();
        crc.update(file.getValue());
        entry.setMethod(ZipEntry.STORED);
        entry.setSize(file.getValue().length);
        entry.setCrc(crc.getValue());
        zip.putNextEntry(entry);
        zip.write(file.getValue());
      }
    }
    return bytes.toByteArray();
  }

  /** Of each file the length of its name, the name, its length, the bytes. */
  private static byte[] packed(Map<String, byte[]> entries) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    entries.forEach(
        (name, content) -> {
          out.write(name.length());
          out.writeBytes(name.getBytes(StandardCharsets.US_ASCII));
          out.write(content.length >> 8);
          out.write(content.length);
          out.writeBytes(content);
        });
    return out.toByteArray();
  }

  /** What {@link #packed} made, or any bytes: what is missing at the end is left out. */
  private static Map<String, byte[]> unpacked(byte[] bytes) {
    Map<String, byte[]> entries = new LinkedHashMap<>();
    ByteBuffer in = ByteBuffer.wrap(bytes);
    while (in.hasRemaining()) {
      String name = new String(take(in, in.get() & 0xff), StandardCharsets.UTF_8);
      entries.put(name, take(in, in.remaining() < 2 ? 0 : in.getShort() & 0xffff));
    }
    return entries;
  }

  private static byte[] take(ByteBuffer in, int length) {
    byte[] taken = new byte[Math.min(length, in.remaining())];
    in.get(taken);
    return taken;
  }

  // ---- seeds: the fixtures

  static Stream<byte[]> safetensorsFiles() {
    return fixtures(".safetensors").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> npyFiles() {
    return fixtures(".npy").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> npzFiles() {
    return fixtures(".npz").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> ptFiles() {
    return fixtures(".pt", ".pth").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> ggufFiles() {
    return fixtures(".gguf").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> svecFiles() {
    return fixtures(".svec").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> cfgFiles() {
    return fixtures("cfg.json").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> yamlFiles() {
    return fixtures(".yaml").map(FormatFuzzTest::bytes);
  }

  static Stream<byte[]> npzEntryLists() {
    return fixtures(".npz").map(FormatFuzzTest::entryList);
  }

  static Stream<byte[]> ptEntryLists() {
    return fixtures(
            "nested.pt", "views.pt", "state_dict.pt", "list.pt", "bf16.pt", "float8_e4m3.pt", "numpy_mixed.pt",
            "numpy_protocol5.pt", "numpy_old.pt", ".pth")
        .map(FormatFuzzTest::entryList);
  }

  static Stream<byte[]> saeFolders() {
    return fixtures("cfg.json")
        .filter(cfg -> Files.exists(cfg.resolveSibling("sae_weights.safetensors")))
        .map(
            cfg -> {
              Map<String, byte[]> files = new LinkedHashMap<>();
              files.put("cfg.json", bytes(cfg));
              files.put("sae_weights.safetensors", bytes(cfg.resolveSibling("sae_weights.safetensors")));
              return packed(files);
            });
  }

  private static Stream<Path> fixtures(String... endings) {
    try (Stream<Path> files = Files.walk(Fixtures.path("."))) {
      return files.filter(file -> Stream.of(endings).anyMatch(file.toString()::endsWith)).sorted().toList().stream();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static byte[] bytes(Path file) {
    try {
      return Files.readAllBytes(file);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static byte[] entryList(Path archive) {
    Map<String, byte[]> entries = new LinkedHashMap<>();
    try (ZipFile zip = new ZipFile(archive.toFile())) {
      for (ZipEntry entry : Collections.list(zip.entries())) {
        entries.put(entry.getName(), zip.getInputStream(entry).readAllBytes());
      }
      return packed(entries);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}

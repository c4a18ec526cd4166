package dev.sae4j.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeException;
import dev.sae4j.SparseCodes;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Any file, however damaged, either loads or is refused in one line. {@code -Dsae4j.seed=} and {@code -Dsae4j.mutations=}
 * repeat a run or make a longer one.
 */
@Timeout(120)
class MutationTest {
  private static final long SEED = Long.getLong("sae4j.seed", System.nanoTime());
  private static final int MUTATIONS = Integer.getInteger("sae4j.mutations", 400);
  private static final long[] EDGES = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffffL, 0x80000000L, 0xffffffffL, Long.MIN_VALUE, -1};

  @TempDir Path folder;

  @ParameterizedTest
  @ValueSource(
      strings = {
        "jumprelu-f32/cfg.json", "jumprelu-f32/sae_weights.safetensors", "gemma-stored/params.npz", "gemma-deflated/params.npz",
        "x_f2.npy", "x_f8.npy", "x.npz", "x.safetensors", "codes.npz", "codes_wide.npz",
        "vectors/nested.pt", "vectors/views.pt", "vectors/deflated.pt", "vectors/aligned.gguf", "vectors/two.svec",
        "vectors/fortran_cube.npy", "vectors/big_f8.npy", "vectors/ties.npy"
      })
  void loadsOrRefusesInOneLine(String name) throws IOException {
    byte[] original = Files.readAllBytes(Fixtures.path(name));
    Path target = folder.resolve(Path.of(name).getFileName());
    if (name.startsWith("jumprelu")) {
      for (String file : new String[] {"cfg.json", "sae_weights.safetensors"}) {
        Files.copy(Fixtures.path("jumprelu-f32/" + file), folder.resolve(file));
      }
    }
    for (int i = 0; i < MUTATIONS; i++) {
      Files.write(target, mutated(original, new Random(SEED + i)));
      requireLoadedOrRefused(target, "%s, -Dsae4j.seed=%d".formatted(name, SEED + i));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "saelens-gated-average, cfg.json", "saelens-gated-average, activation_scaler.json", "saelens-standard, sparsity.safetensors",
    "saelens-sharded, model.safetensors.index.json", "saelens-sharded, model-00001-of-00002.safetensors",
    "saelens-float8, sae_weights.safetensors", "sparsify-skip/layers.1.mlp, cfg.json", "sparsify-skip/layers.1.mlp, sae.safetensors",
    "llama-scope-ltc, hyperparams.json", "llama-scope-ltc, checkpoints/final.safetensors", "llamascopium-r1, config.json",
    "llamascopium-r1, sae_weights.safetensors", "gemma-scope-2-transcoder/layer_12_width_16k_l0_medium, config.json",
    "gemma-scope-2-transcoder/layer_12_width_16k_l0_medium, params.safetensors", "mwhanna, layer_0.safetensors"
  })
  void saesLoadOrAreRefusedInOneLine(String sae, String name) throws IOException {
    Path source = Fixtures.path("saes/" + sae);
    try (Stream<Path> files = Files.walk(source)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Path copy = folder.resolve(source.relativize(file).toString());
        Files.createDirectories(copy.getParent());
        Files.copy(file, copy);
      }
    }
    byte[] original = Files.readAllBytes(source.resolve(name));
    for (int i = 0; i < MUTATIONS; i++) {
      Files.write(folder.resolve(name), mutated(original, new Random(SEED + i)));
      requireLoadedOrRefused(folder, "%s, -Dsae4j.seed=%d".formatted(name, SEED + i));
    }
  }

  /** In archives that are whole otherwise: a CRC would find the damage first. */
  @ParameterizedTest
  @ValueSource(
      strings = {"vectors/nested.pt", "vectors/views.pt", "vectors/state_dict.pt", "vectors/numpy.pt",
        "vectors/numpy_protocol5.pt", "saes/openai-topk/4.pt", "saes/dl-matryoshka/ae.pt"})
  void picklesLoadOrAreRefusedInOneLine(String name) throws IOException {
    Map<String, byte[]> entries = new LinkedHashMap<>();
    try (ZipFile zip = new ZipFile(Fixtures.path(name).toFile())) {
      for (ZipEntry entry : Collections.list(zip.entries())) {
        entries.put(entry.getName(), zip.getInputStream(entry).readAllBytes());
      }
    }
    String pickle = entries.keySet().stream().filter(entry -> entry.endsWith("data.pkl")).findFirst().orElseThrow();
    byte[] original = entries.get(pickle);
    Path target = folder.resolve(name.startsWith("saes") ? "sae.pt" : Path.of(name).getFileName().toString());
    for (int i = 0; i < MUTATIONS; i++) {
      entries.put(pickle, mutated(original, new Random(SEED + i)));
      try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(target))) {
        zip.setLevel(0);
        for (Map.Entry<String, byte[]> entry : entries.entrySet()) {
          zip.putNextEntry(new ZipEntry(entry.getKey()));
          zip.write(entry.getValue());
        }
      }
      requireLoadedOrRefused(target, "%s, -Dsae4j.seed=%d".formatted(name, SEED + i));
    }
  }

  private static void requireLoadedOrRefused(Path path, String replay) {
    try {
      load(path);
    } catch (SaeException | IllegalArgumentException e) {
      assertEquals(1, e.getMessage().lines().count(), replay + ": " + e.getMessage());
      assertTrue(e.getMessage().length() < 1000, replay + ": " + e.getMessage());
    } catch (Throwable e) {
      throw new AssertionError(replay, e);
    }
  }

  private static void load(Path path) {
    String name = path.getFileName().toString();
    if (Files.isDirectory(path)) {
      SaeReader.read(path).close();
    } else if (name.startsWith("codes")) {
      try (CodesReader reader = CodesReader.open(path);
          SparseCodes codes = new SparseCodes()) {
        while (reader.read(codes, 4) > 0) {
          assertTrue(codes.rows() <= 4);
        }
      }
    } else if (name.startsWith("x")) {
      readAll(path.toString());
    } else if (name.equals("sae.pt")) {
      SaeReader.read(path).close();
    } else if (name.matches(".*\\.(npy|pt|gguf|svec)")) {
      Set<String> names;
      try (TensorFile file = TensorFile.open(path)) {
        names = file.tensors().keySet();
      }
      for (String tensor : names) {
        readAll(path + "#" + tensor);
      }
    } else {
      SaeReader.read(name.equals("params.npz") ? path : path.getParent()).close();
    }
  }

  private static void readAll(String spec) {
    try (ActivationReader reader = ActivationReader.open(spec)) {
      FloatBuffer buffer = FloatBuffer.allocate((int) Math.min(1 << 20, reader.columns()));
      while (reader.read(buffer.clear()) > 0) {
        assertTrue(buffer.position() > 0);
      }
    }
  }

  private static byte[] mutated(byte[] original, Random random) {
    byte[] bytes = original.clone();
    int times = 1 + random.nextInt(3);
    for (int i = 0; i < times && bytes.length > 0; i++) {
      // headers and directories are at the ends, and worth more tries than data
      int at = random.nextInt(bytes.length);
      if (random.nextBoolean()) {
        at = random.nextBoolean() ? Math.min(at, random.nextInt(256)) : Math.max(at, bytes.length - 1 - random.nextInt(400));
        at = Math.max(0, Math.min(at, bytes.length - 1));
      }
      switch (random.nextInt(6)) {
        case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
        case 1 -> bytes[at] = (byte) random.nextInt(256);
        case 2 -> bytes[at] = (byte) "0123456789-\"{}[]:, ".charAt(random.nextInt(19));
        case 3 -> bytes = Arrays.copyOf(bytes, at);
        case 4 -> bytes = moved(bytes, at, random.nextInt(bytes.length));
        default -> {
          long edge = EDGES[random.nextInt(EDGES.length)];
          for (int k = 0, width = 1 << random.nextInt(4); k < width && at + k < bytes.length; k++) {
            bytes[at + k] = (byte) (edge >> 8 * k);
          }
        }
      }
    }
    return bytes;
  }

  /** A piece written over another place. */
  private static byte[] moved(byte[] bytes, int from, int to) {
    byte[] result = bytes.clone();
    int length = Math.min(64, bytes.length - Math.max(from, to));
    System.arraycopy(bytes, from, result, to, length);
    return result;
  }
}

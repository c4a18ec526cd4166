package dev.sae4j.io;

import dev.sae4j.SaeException;
import dev.sae4j.SaeFormatException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Safetensors in several files, as large models are saved: {@code <name>.safetensors.index.json} has a {@code weight_map} from each
 * tensor to the file that holds it, in the same folder. What the map and the files say must agree.
 */
final class Shards {
  static final String INDEX = ".index.json";
  private static final String FILE = "[\\w.@+ -]+\\.safetensors"; // of this folder: an index must not lead anywhere else
  private static final int MAX_FILES = 1024;

  private Shards() {}

  static TensorFile open(Path index) {
    Map<String, Set<String>> files = tensorsByFile(Config.read(index));
    List<TensorFile> open = new ArrayList<>();
    TensorFile whole = new TensorFile(index, () -> open.forEach(TensorFile::close), new LinkedHashMap<>());
    try {
      files.forEach(
          (file, tensors) -> {
            TensorFile shard = openShard(index, file);
            open.add(shard);
            requireTensors(index, shard, tensors);
            whole.tensors().putAll(shard.tensors());
          });
      return whole;
    } catch (RuntimeException | Error e) {
      whole.close();
      throw e;
    }
  }

  private static Map<String, Set<String>> tensorsByFile(Config config) {
    Map<String, Object> map = config.nested("weight_map").map();
    Map<String, Set<String>> files = new TreeMap<>();
    map.forEach(
        (tensor, file) -> {
          if (!(file instanceof String name) || !name.matches(FILE)) {
            throw config.error(
                "weight_map has %s in %s, expected a .safetensors file of the same folder"
                    .formatted(Failures.quote(tensor), Failures.quote(String.valueOf(file))));
          }
          files.computeIfAbsent(name, key -> new LinkedHashSet<>()).add(tensor);
        });
    if (files.isEmpty() || files.size() > MAX_FILES) {
      throw config.error("weight_map has %d files, expected 1 to %d".formatted(files.size(), MAX_FILES));
    }
    return files;
  }

  private static TensorFile openShard(Path index, String file) {
    Path shard = index.resolveSibling(file);
    if (!Files.isRegularFile(shard)) {
      throw new SaeException("%s: no such file; %s needs it".formatted(shard, index.getFileName()));
    }
    return TensorFile.open(shard);
  }

  private static void requireTensors(Path index, TensorFile shard, Set<String> expected) {
    Set<String> different = new LinkedHashSet<>(shard.tensors().keySet());
    for (String tensor : expected) {
      if (!different.remove(tensor)) {
        different.add(tensor);
      }
    }
    if (!different.isEmpty()) {
      throw new SaeFormatException(
          "%s: does not hold what %s says; they differ in %s"
              .formatted(shard.path(), index.getFileName(), Failures.list(different)));
    }
  }
}

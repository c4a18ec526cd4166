package dev.sae4j;

import java.util.List;

/**
 * What a reader found: where weights come from and what was folded into them.
 *
 * @param format the file format, e.g. {@code "saelens"} or {@code "gemma-scope"}
 * @param architecture as SAELens names it: {@code "standard"} (ReLU) or {@code "jumprelu"}
 * @param dtype of the matrices on disk, e.g. {@code "bfloat16"}; in memory all is float32
 * @param modelName the language model, or null where the file does not say
 * @param hookName the place in the model the activations come from, or null
 * @param folded one sentence for each thing folded into the weights, with the keys it came from
 * @param warnings one sentence for each thing that a careful user should look at
 */
public record SaeInfo(
    String format,
    String architecture,
    String dtype,
    String modelName,
    String hookName,
    List<String> folded,
    List<String> warnings) {
  public SaeInfo {
    folded = List.copyOf(folded);
    warnings = List.copyOf(warnings);
  }
}

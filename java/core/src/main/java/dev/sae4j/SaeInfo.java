package dev.sae4j;

import java.util.ArrayList;
import java.util.List;

/**
 * What a reader found: where weights come from and what was folded into them.
 *
 * @param format the file format, e.g. {@code "saelens"} or {@code "gemma-scope"}
 * @param architecture as SAELens names it, e.g. {@code "standard"} (ReLU), {@code "jumprelu"}, {@code "topk"}
 * @param dtype of the matrices on disk, e.g. {@code "bfloat16"}; in memory all is float32
 * @param modelName the language model, or null where the file does not say
 * @param hookName the place in the model the activations come from, or null
 * @param folded one sentence for each thing folded into the weights, with the keys it came from
 * @param warnings one sentence for each thing that a careful user should look at
 * @param source the file of the weights, or null: several SAEs of one shape may differ in this alone
 * @param publishedL0 the mean number of active features that the publisher gives, or null
 * @param notes one sentence for each thing that is no fault, but explains why another program's answer may differ
 */
public record SaeInfo(
    String format,
    String architecture,
    String dtype,
    String modelName,
    String hookName,
    List<String> folded,
    List<String> warnings,
    String source,
    Double publishedL0,
    List<String> notes) {
  public SaeInfo {
    notes = List.copyOf(notes);
    folded = List.copyOf(folded);
    warnings = List.copyOf(warnings);
  }

  /** Of weights that are from no file. */
  public SaeInfo(
      String format,
      String architecture,
      String dtype,
      String modelName,
      String hookName,
      List<String> folded,
      List<String> warnings) {
    this(format, architecture, dtype, modelName, hookName, folded, warnings, null, null, List.of());
  }

  /** This and more warnings. */
  SaeInfo withWarnings(List<String> more) {
    List<String> all = new ArrayList<>(warnings);
    all.addAll(more);
    return new SaeInfo(format, architecture, dtype, modelName, hookName, folded, all, source, publishedL0, notes);
  }
}

package dev.sae4j;

/**
 * Which signed projection of a direction v is wanted.
 *
 * @param readout {@code DECODER}: coefficient_j = &lt;v, d_j&gt;; {@code ENCODER}: &lt;v, w_j&gt;, free of the bias
 * @param unit divide by ||d_j|| (decoder readout only); features of norm 0 read 0
 * @param k how many features to keep
 * @param perSign false: the k largest by |coefficient|; true: the k most positive and the k most negative
 */
public record Projection(Readout readout, boolean unit, long k, boolean perSign) {
  /** The row of a feature that a direction is read against. */
  public enum Readout {
    DECODER,
    ENCODER
  }

  /** The k largest by |coefficient| against the decoder rows as they are. */
  public static Projection top(long k) {
    return new Projection(Readout.DECODER, false, k, false);
  }

  /** The k most positive and the k most negative against the decoder rows as they are. */
  public static Projection topPerSign(long k) {
    return new Projection(Readout.DECODER, false, k, true);
  }

  public Projection withReadout(Readout readout) {
    return new Projection(readout, unit, k, perSign);
  }

  public Projection withUnit(boolean unit) {
    return new Projection(readout, unit, k, perSign);
  }
}

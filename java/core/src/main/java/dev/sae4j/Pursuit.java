package dev.sae4j;

/**
 * How a direction v is decomposed into few decoder rows: v ~ sum_j a_j d_j, with signed a_j unless told otherwise.
 *
 * @param method how atoms are chosen and fitted
 * @param nonNegative only a_j &gt;= 0
 * @param atoms take at most so many steps (for OMP and L1: atoms); each costs one pass over the decoder
 * @param residual stop when ||v - sum_j a_j d_j|| is at most this share of ||v||; not for L1
 * @param gain stop before a step that lowers the squared residual by less than this share of ||v||^2; 0 for no such rule; not
 *     for L1
 * @param penalty L1 alone: lambda as a share of max_j |&lt;v, d_j&gt;| / ||d_j||, at which nothing would be chosen
 */
public record Pursuit(Method method, boolean nonNegative, long atoms, double residual, double gain, double penalty) {
  /** The algorithms, in the order of the native {@code sae_method}. */
  public enum Method {
    /** Orthogonal matching pursuit: a least-squares fit of all chosen atoms after each step. */
    OMP,
    /** Gradient pursuit (Blumensath and Davies 2008). */
    GRADIENT,
    /** Matching pursuit (Mallat and Zhang 1993); may choose an atom again. */
    MATCHING,
    /** The minimum of ||v - sum_j a_j d_j||^2 / 2 + lambda sum_j ||d_j|| |a_j|, to a duality gap of 1e-6 ||v||^2 / 2. */
    L1
  }

  /** Why a pursuit ended, in the order of the native {@code sae_stop}. */
  public enum Stop {
    /** These codes are not a pursuit's. */
    NONE,
    /** All steps that were allowed are taken. */
    ATOMS,
    /** The residual is small enough. */
    RESIDUAL,
    /** The next step would have gained too little. */
    GAIN,
    /** No atom is correlated with the residual, as far as float32 can tell. */
    EXHAUSTED,
    /** L1: the duality gap is closed. */
    CONVERGED
  }

  /** Orthogonal matching pursuit of at most so many atoms. */
  public static Pursuit omp(long atoms) {
    return of(Method.OMP, atoms);
  }

  /** Signed, down to a residual of 1e-6, without a rule on the gain; an l1 penalty of 0.1. */
  public static Pursuit of(Method method, long atoms) {
    return new Pursuit(method, false, atoms, 1e-6, 0, 0.1);
  }

  public Pursuit withNonNegative(boolean nonNegative) {
    return new Pursuit(method, nonNegative, atoms, residual, gain, penalty);
  }

  public Pursuit withResidual(double residual) {
    return new Pursuit(method, nonNegative, atoms, residual, gain, penalty);
  }

  public Pursuit withGain(double gain) {
    return new Pursuit(method, nonNegative, atoms, residual, gain, penalty);
  }

  public Pursuit withPenalty(double penalty) {
    return new Pursuit(method, nonNegative, atoms, residual, gain, penalty);
  }
}

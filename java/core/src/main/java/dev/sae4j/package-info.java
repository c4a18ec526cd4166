/**
 * Sparse autoencoders on the JVM: encode, decode and project, natively and to the bit.
 *
 * <p>Start at {@link dev.sae4j.SparseAutoencoder}. Shapes are row-major; {@code n} rows, model dimension {@code dIn} (and {@code
 * dOut}, equal but for transcoders), {@code dSae} features.
 */
package dev.sae4j;

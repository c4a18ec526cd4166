/** Reading SAEs, activations and vectors from the formats people have, and writing codes and arrays. */
package dev.sae4j.io;

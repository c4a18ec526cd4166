#pragma once
// The error bounds of the screens, as functions of norms: the same code on the host and on a CUDA device.
//
// Feature j is a candidate of row x iff !(s + b < T): s the screen's value, T the cut of the feature's gate (gate.hpp), and the bound
//   b = Q + (E_screen + E_canon) ||x|| ||w_j|| + d 2^-126 (1 + ||x|| + ||w_j||),
//   E_canon = 1.01 u (ceil(d / 128) + 8),  E_sgemm = 1.01 u (d + 32) (any summation order),  u = 2^-24,
//   Q = ||x - x'|| ||w_j|| + ||x'|| ||w_j - w'_j|| for a screen of quantised x', w' (none for SGEMM).
// Tensor cores align and truncate their addends: E_tensor = 4 d u, on ||x'|| ||w'_j||, holds if in any block of products each addend
// and the result lose less than 2^-23 of the largest magnitude. ||w'_j|| <= ||w_j|| + ||w_j - w'_j|| keeps b a sum of two products.
// Norms and factors are computed in double and rounded up; rounding is monotone, so comparing in float needs no slack of its own.
#include <cmath>
#include <cstdint>

#include "law/host_device.hpp"

namespace sae {

constexpr double kUnit = 0x1p-24;  // u, the unit roundoff of float32
// Absorbs the roundings of the few operations between the norms and the bound.
constexpr double kInflation = 1 + 0x1p-18;
// Rows whose products might overflow skip the screens: their bound is infinite.
constexpr double kLargestProduct = 0x1p100;

SAE_HOST_DEVICE inline float rounded_up(double value) {
  const float nearest = static_cast<float>(value);
  return nearest >= value ? nearest : nextafterf(nearest, INFINITY);
}

SAE_HOST_DEVICE inline double canonical_error(int64_t d) {
  return 1.01 * kUnit * (static_cast<double>((d + 127) / 128) + 8);
}

SAE_HOST_DEVICE inline double sgemm_error(int64_t d) { return 1.01 * kUnit * (static_cast<double>(d) + 32); }

SAE_HOST_DEVICE inline double tensor_error(int64_t d) { return 4 * kUnit * static_cast<double>(d); }

// What evaluating an int8 score in float32 errs by, relative to what its parts hold: a conversion, two scalings, the sums with up to
// 8 dimensions apart, a second digit; and <m, w_j>, rounded once.
SAE_HOST_DEVICE inline double int8_error() { return 1.01 * kUnit * 32; }

SAE_HOST_DEVICE inline double underflow_floor(double largest_norm, double largest_feature_norm, int64_t d) {
  return static_cast<double>(d) * 0x1p-126 * (1 + largest_norm + largest_feature_norm);
}

// The bound of a screen on quantised rows and features is row.of_norm * feature.norm + row.of_loss * feature.loss + row.floor.
struct FeatureBound {
  float norm;  // ||w_j||
  float loss;  // ||w_j - w'_j||
};

// The bounds of some rows with one feature: b[r] = fma(of_norm[r], feature.norm, fma(of_loss[r], feature.loss, floor)).
struct Bounds {
  const float* of_norm;
  const float* of_loss;
  float floor;
  FeatureBound feature;
  Bounds from(int64_t row) const { return {of_norm + row, of_loss + row, floor, feature}; }
  float at(int64_t row) const { return fmaf(of_norm[row], feature.norm, fmaf(of_loss[row], feature.loss, floor)); }
};

struct TensorRowBound {
  float of_norm;  // ||x - x'|| + E_canon ||x|| + E_tensor ||x'||; infinite for rows that skip the screens
  float of_loss;  // (1 + E_tensor) ||x'||
  float floor;
};

SAE_HOST_DEVICE inline FeatureBound feature_bound(double norm, double loss) {
  return {rounded_up(kInflation * norm), rounded_up(kInflation * loss)};
}

// bound_scale, of each of these: 1 but in tests, which must see 0 lose features.
SAE_HOST_DEVICE inline TensorRowBound tensor_row_bound(double norm, double quantised_norm, double loss, double largest_feature_norm,
                                                       int64_t d, double bound_scale) {
  if (!(norm * largest_feature_norm < kLargestProduct)) return {INFINITY, INFINITY, INFINITY};
  const double factor = bound_scale * kInflation;
  return {rounded_up(factor * (loss + canonical_error(d) * norm + tensor_error(d) * quantised_norm)),
          rounded_up(factor * (1 + tensor_error(d)) * quantised_norm),
          rounded_up(factor * underflow_floor(norm, largest_feature_norm, d))};
}

// SGEMM's factor of ||w_j||.
SAE_HOST_DEVICE inline float sgemm_row_bound(double norm, double largest_feature_norm, int64_t d, double bound_scale) {
  if (!(norm * largest_feature_norm < kLargestProduct)) return INFINITY;
  return rounded_up(bound_scale * kInflation * (canonical_error(d) + sgemm_error(d)) * norm);
}

// What the bound of every row of a batch has beside its factors.
SAE_HOST_DEVICE inline float bound_floor(double largest_norm, double largest_feature_norm, int64_t d, double bound_scale) {
  return rounded_up(bound_scale * kInflation * underflow_floor(largest_norm, largest_feature_norm, d));
}

// The int8 screen's (int8.hpp): <x, w> - score = <x - c m - y_apart - q, w> + <q, w - w'> + roundings. y is x - c m in float32,
// whose two roundings leave up to u (|c m| + |y|) more. quantised_norm, loss: ||q||, ||y - y_apart - q||; centre: ||c m||; held:
// the sum of the norms of c m, y_apart, and q as one and as two digits.
struct Int8RowBound {
  float of_norm, of_loss;
};

SAE_HOST_DEVICE inline Int8RowBound int8_row_bound(double norm, double centre, double held, double quantised_norm, double loss,
                                                   double largest_feature_norm, int64_t d, double bound_scale) {
  if (!(norm * largest_feature_norm < kLargestProduct)) return {INFINITY, INFINITY};
  const double factor = bound_scale * kInflation;
  return {rounded_up(factor * (loss + 2.02 * kUnit * (norm + centre) + canonical_error(d) * norm + int8_error() * held)),
          rounded_up(factor * (quantised_norm + int8_error() * held))};
}

SAE_HOST_DEVICE inline float bound_of(const TensorRowBound& row, const FeatureBound& feature) {
  return fmaf(row.of_norm, feature.norm, fmaf(row.of_loss, feature.loss, row.floor));
}

}  // namespace sae

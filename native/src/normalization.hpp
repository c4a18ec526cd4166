#pragma once
// What encode does to a row of x first (sae4j.h, sae_normalization): sequentially in double, so that no vector width, thread count
// or backend can change a bit.
#include <cmath>
#include <cstdint>

#include "sae4j.h"

namespace sae {

struct RowNormalization {
  float scale, shift;  // scale is infinite if the standard deviation overflows float32
};

// (x - mean) / (std + 1e-5)
inline RowNormalization layer_normalize(const float* x, int64_t d, float* normalized) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < d; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(d);
  for (int64_t i = 0; i < d; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(d - 1));
  for (int64_t i = 0; i < d; ++i) normalized[i] = static_cast<float>((x[i] - mean) / (deviation + 1e-5));
  return {static_cast<float>(deviation), static_cast<float>(mean)};
}

// x sqrt(d) / ||x||; 0 stays 0
inline RowNormalization constant_normalize(const float* x, int64_t d, float* normalized) {
  double squares = 0;
  for (int64_t i = 0; i < d; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double scale = std::sqrt(squares) / std::sqrt(static_cast<double>(d));
  for (int64_t i = 0; i < d; ++i) normalized[i] = scale == 0 ? 0.0f : static_cast<float>(x[i] / scale);
  return {static_cast<float>(scale), 0};
}

inline RowNormalization normalize_row(sae_normalization how, const float* x, int64_t d, float* normalized) {
  return how == SAE_NORMALIZE_LAYER ? layer_normalize(x, d, normalized) : constant_normalize(x, d, normalized);
}

}  // namespace sae

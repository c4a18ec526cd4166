#pragma once
// What encode does to a row of x first (sae4j.h, sae_normalization): statistics in double, i ascending, so that no vector width, thread
// count or backend can change a bit. The sums are the caller's; what becomes of them is here.
#include <cmath>
#include <cstdint>

#include "law/host_device.hpp"
#include "sae4j.h"

namespace sae {

// x'_i = (x_i - mean) / divisor; the deviation is the row's scale, infinite as a float if it overflows one, and the mean its shift.
struct RowStatistics {
  double mean, deviation, divisor;
  SAE_HOST_DEVICE float normalized(float x) const { return divisor == 0 ? 0.0f : static_cast<float>((x - mean) / divisor); }
};

// squares: the sum of (x_i - mean)^2.
SAE_HOST_DEVICE inline RowStatistics layer_statistics(double mean, double squares, int64_t d) {
  const double deviation = sqrt(squares / static_cast<double>(d - 1));
  return {mean, deviation, deviation + 1e-5};
}

// squares: the sum of x_i^2; a row of zeros stays one.
SAE_HOST_DEVICE inline RowStatistics constant_statistics(double squares, int64_t d) {
  const double deviation = sqrt(squares) / sqrt(static_cast<double>(d));
  return {0, deviation, deviation};
}

// On the host, one row after the other.
inline RowStatistics normalize_row(sae_normalization how, const float* x, int64_t d, float* normalized) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; how == SAE_NORMALIZE_LAYER && i < d; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(d);
  for (int64_t i = 0; i < d; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const RowStatistics row = how == SAE_NORMALIZE_LAYER ? layer_statistics(mean, squares, d) : constant_statistics(squares, d);
  for (int64_t i = 0; i < d; ++i) normalized[i] = row.normalized(x[i]);
  return row;
}

}  // namespace sae

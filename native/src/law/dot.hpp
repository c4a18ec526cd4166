#pragma once
// Dot(x, w) of the canonical arithmetic (sae4j.h): partial sums by fused multiply-add, halved, plus +0.
#include <cmath>
#include <cstdint>

namespace sae {

constexpr int kPartialSums = 128;  // element i joins sum i mod 128

// The definition, on the host. Kernels hold the sums in registers, and must give the same bits.
inline float canonical_dot(const float* x, const float* w, int64_t d) {
  float s[kPartialSums] = {};
  int64_t i = 0;
  for (; i + kPartialSums <= d; i += kPartialSums) {
    for (int lane = 0; lane < kPartialSums; ++lane) s[lane] = std::fma(x[i + lane], w[i + lane], s[lane]);
  }
  for (int lane = 0; i + lane < d; ++lane) s[lane] = std::fma(x[i + lane], w[i + lane], s[lane]);
  for (int half = kPartialSums / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) s[lane] += s[lane + half];
  }
  return s[0] + 0.0f;
}

}  // namespace sae

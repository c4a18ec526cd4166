#include "sums.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

// Compiled several times; the loader picks what this CPU has. (Before ThreadSanitizer is up, which would watch the choice.)
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#define SAE_FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SAE_FOR_EACH_CPU
#endif

namespace sae {

SAE_FOR_EACH_CPU double norm(const float* a, int64_t d) {
  constexpr int kLanes = 8;  // independent sums, so that the compiler may vectorise
  double sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += static_cast<double>(a[i + lane]) * a[i + lane];
  }
  for (; i < d; ++i) sum[0] += static_cast<double>(a[i]) * a[i];
  for (int lane = 1; lane < kLanes; ++lane) sum[0] += sum[lane];
  return std::sqrt(sum[0]);
}

SAE_FOR_EACH_CPU double product(const float* a, const float* b, int64_t d) {
  constexpr int kLanes = 16;
  double sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += static_cast<double>(a[i + lane]) * b[i + lane];
  }
  for (; i < d; ++i) sum[0] += static_cast<double>(a[i]) * b[i];
  return std::accumulate(sum, sum + kLanes, 0.0);
}

SAE_FOR_EACH_CPU float largest_of(const float* a, int64_t d) {
  constexpr int kLanes = 64;
  float largest[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float size = std::fabs(a[i + lane]);
      largest[lane] = size > largest[lane] ? size : largest[lane];
    }
  }
  for (; i < d; ++i) largest[0] = std::max(largest[0], std::fabs(a[i]));
  return *std::max_element(largest, largest + kLanes);
}

}  // namespace sae

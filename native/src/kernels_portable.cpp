// The kernels in plain C++: the definition that the others must equal, and the fallback.
#include <cmath>

#include "kernels.hpp"

namespace sae {
namespace {

constexpr int kLanes = 128;

bool supported() { return true; }

float dot(const float* x, const float* w, int64_t d) {
  float s[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) s[lane] = std::fma(x[i + lane], w[i + lane], s[lane]);
  }
  for (int lane = 0; i + lane < d; ++lane) s[lane] = std::fma(x[i + lane], w[i + lane], s[lane]);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) s[lane] += s[lane + half];
  }
  return s[0] + 0.0f;
}

void dots(const float* x, const int32_t* rows, int count, const float* w, int64_t d, float* out) {
  for (int k = 0; k < count; ++k) out[k] = dot(x + rows[k] * d, w, d);
}

uint64_t above(const float* s, const Bounds& b, int count, float cut) {
  uint64_t mask = 0;
  for (int r = 0; r < count; ++r) {
    mask |= static_cast<uint64_t>(!(s[r] + b.at(r) < cut)) << r;
  }
  return mask;
}

uint64_t beyond(const float* s, const Bounds& b, int count, float scale, float offset, const float* positive_cut,
                const float* negative_cut) {
  uint64_t mask = 0;
  for (int r = 0; r < count; ++r) {
    const float bound = b.at(r);
    const bool positive = !(std::fma(scale, s[r] + bound, offset) < positive_cut[r]);
    const bool negative = !(std::fma(scale, bound - s[r], -offset) < negative_cut[r]);
    mask |= static_cast<uint64_t>(positive || negative) << r;
  }
  return mask;
}

void gather(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz, const float* bias,
            int64_t width, float* out) {
  constexpr int kBlock = 64;
  for (int64_t i = 0; i < width; i += kBlock) {
    const int count = static_cast<int>(width - i < kBlock ? width - i : kBlock);
    float sum[kBlock] = {};
    for (int64_t k = 0; k < nnz; ++k) {
      const float* row = rows + indices[k] * stride + i;
      for (int c = 0; c < count; ++c) sum[c] = std::fma(values[k], row[c], sum[c]);
    }
    for (int c = 0; c < count; ++c) out[i + c] = bias == nullptr ? sum[c] : sum[c] + bias[i + c];
  }
}

}  // namespace

const Kernels kPortableKernels = {"portable", supported, dot, dots, above, beyond, gather};

}  // namespace sae

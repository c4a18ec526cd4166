// The kernels in plain C++: the definition that the others must equal, and the fallback.
#include <cmath>

#include "int8.hpp"
#include "kernels.hpp"
#include "law/dot.hpp"

namespace sae {
namespace {

bool supported() { return true; }

void dots(const float* x, const int32_t* rows, int count, const float* w, int64_t d, float* out) {
  for (int k = 0; k < count; ++k) out[k] = canonical_dot(x + rows[k] * d, w, d);
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

int32_t int8_dot(const uint8_t* x, const int8_t* w, int64_t length) {
  int32_t sum = 0;
  for (int64_t i = 0; i < length; ++i) sum += x[i] * w[i];
  return sum;
}

Digits split(const float* y, int64_t d, float unit, uint8_t* high, uint8_t* low) {
  constexpr float kMost = 32639;
  const float inverse = unit > 0 ? 1 / unit : 0;
  double norm = 0, loss = 0, full_norm = 0, full_loss = 0;
  for (int64_t i = 0; i < d; ++i) {
    const float scaled = std::fmin(std::fmax(y[i] * inverse, -kMost), kMost);
    const int both = static_cast<int>(std::nearbyint(scaled)), h = (both + 128 + (1 << 15)) / 256 - 128;
    high[i] = static_cast<uint8_t>(h + 128);
    if (low != nullptr) low[i] = static_cast<uint8_t>(both - 256 * h + 128);
    const double q = 256.0 * h * unit, full = static_cast<double>(both) * unit;
    norm += q * q, loss += (y[i] - q) * (y[i] - q), full_norm += full * full, full_loss += (y[i] - full) * (y[i] - full);
  }
  return {std::sqrt(norm), std::sqrt(loss), std::sqrt(full_norm), std::sqrt(full_loss)};
}

bool never() { return false; }

}  // namespace

const Int8Kernels kPortableInt8Kernels = {"portable", never, int8_dot, nullptr, split};

const Kernels kPortableKernels = {"portable", supported, canonical_dot, dots, above, beyond, gather};

}  // namespace sae

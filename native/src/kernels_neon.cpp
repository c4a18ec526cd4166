// The kernels of the int8 screen in NEON with dot products (ARMv8.2). Compiled with its instructions: nothing but kernels may live
// here. They multiply signed bytes, so a row's 128 + h is taken back to h.
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "int8.hpp"

namespace sae {
namespace {

bool supported() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

inline int8x16_t signed_digits(const uint8_t* x) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80))); }

int32_t dot(const uint8_t* x, const int8_t* w, int64_t length) {
  const int8x16_t half = vdupq_n_s8(64);  // 128 is no signed byte
  int32x4_t sum[4] = {}, halves[4] = {};
  for (int64_t i = 0; i < length; i += 64) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int8x16_t ws = vld1q_s8(w + i + 16 * k);
      sum[k] = vdotq_s32(sum[k], signed_digits(x + i + 16 * k), ws);
      halves[k] = vdotq_s32(halves[k], half, ws);
    }
  }
  for (int k = 0; k < 4; ++k) sum[k] = vaddq_s32(sum[k], vaddq_s32(halves[k], halves[k]));
  return vaddvq_s32(vaddq_s32(vaddq_s32(sum[0], sum[1]), vaddq_s32(sum[2], sum[3])));
}

constexpr int kVectors = 4;        // of four rows each
constexpr int kRows = 4 * kVectors;

// Sixteen rows of a panel from `first` on, four elements of each in a lane, with some features; four elements of a feature in every lane.
template <int kFeatures>
void block(const Int8Panel& panel, int first, const Int8Feature* features, int64_t length, float* scores, int64_t stride) {
  int32x4_t sum[kFeatures][kVectors] = {};
  const uint8_t* x = panel.digits + 4 * first;
  for (int64_t i = 0; i < length; i += 4, x += 4 * kPanelRows) {
    int8x16_t rows[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) rows[v] = signed_digits(x + 16 * v);
#pragma GCC unroll 6
    for (int f = 0; f < kFeatures; ++f) {
      int32_t four;
      std::memcpy(&four, features[f].digits + i, sizeof four);
      const int8x16_t w = vreinterpretq_s8_s32(vdupq_n_s32(four));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[f][v] = vdotq_s32(sum[f][v], rows[v], w);
    }
  }
  const int count = std::min(kRows, panel.rows - first);
  for (int f = 0; f < kFeatures; ++f) {
    int32_t products[kRows];
    for (int v = 0; v < kVectors; ++v) vst1q_s32(products + 4 * v, sum[f][v]);
    for (int r = 0; r < count; ++r) {
      const int row = first + r;
      float score = static_cast<float>(products[r]) * (panel.step[row] * features[f].step);
      score = std::fma(panel.along[row], features[f].along, score);
      for (int k = 0; k < panel.apart_count; ++k) score = std::fma(panel.apart[k][row], features[f].apart[k], score);
      scores[f * stride + row] = score;
    }
  }
}

void scores(const Int8Panel& panel, const Int8Feature* features, int count, int64_t length, float* out, int64_t stride) {
  for (int first = 0; first < panel.rows; first += kRows) {
    int f = 0;
    for (; f + 6 <= count; f += 6) block<6>(panel, first, features + f, length, out + f * stride, stride);
    for (; f < count; ++f) block<1>(panel, first, features + f, length, out + f * stride, stride);
  }
}

// Its work is small beside the products'.
Digits split(const float* y, int64_t d, float unit, uint8_t* high, uint8_t* low) {
  return kPortableInt8Kernels.split(y, d, unit, high, low);
}

}  // namespace

const Int8Kernels kNeonInt8Kernels = {"neon dotprod", supported, dot, scores, split};

}  // namespace sae

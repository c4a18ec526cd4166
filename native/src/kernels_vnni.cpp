// The kernels of the int8 screen in AVX-512 with VNNI. Compiled with its instructions: nothing but kernels may live here.
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "int8.hpp"

namespace sae {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

// sum += products of four pairs of bytes in each lane. (gcc 12 takes the intrinsic's result for a new register, and copies each sum.)
inline void add_products(__m512i& sum, __m512i x, __m512i w) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w)); }

int32_t dot(const uint8_t* x, const int8_t* w, int64_t length) {
  __m512i sum[4] = {};
  int64_t i = 0;
  for (; i + 256 <= length; i += 256) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      add_products(sum[k], _mm512_loadu_si512(x + i + 64 * k), _mm512_loadu_si512(w + i + 64 * k));
    }
  }
  for (; i < length; i += 64) add_products(sum[0], _mm512_loadu_si512(x + i), _mm512_loadu_si512(w + i));
  return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(sum[2], sum[3])));
}

// Rows in vectors of 16, four elements of each in a lane; four elements of a feature in every lane.
template <int kVectors, int kFeatures>
void block(const Int8Panel& panel, const Int8Feature* features, int64_t length, float* scores, int64_t stride) {
  __m512i sum[kFeatures][kVectors];
#pragma GCC unroll 6
  for (int f = 0; f < kFeatures; ++f) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[f][v] = _mm512_setzero_si512();
  }
  const uint8_t* x = panel.digits;
  // The next features lie behind these. Their short rows, read side by side, are no stream that a hardware prefetcher would know. (Into the
  // first-level cache it was 8 to 18 % slower at 8 and 16 rows.)
  const int8_t* next = features[0].digits + kFeatures * length;
  for (int64_t i = 0; i < length; i += 4, x += 4 * kPanelRows) {
    _mm_prefetch(reinterpret_cast<const char*>(next + i * kFeatures), _MM_HINT_T1);
    __m512i rows[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) rows[v] = _mm512_load_si512(x + 64 * v);
#pragma GCC unroll 6
    for (int f = 0; f < kFeatures; ++f) {
      int32_t four;
      std::memcpy(&four, features[f].digits + i, sizeof four);
      const __m512i w = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) add_products(sum[f][v], rows[v], w);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int left = panel.rows - 16 * v;
    const __mmask16 lanes = left >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << left) - 1);
    const __m512 step = _mm512_maskz_loadu_ps(lanes, panel.step + 16 * v);
    const __m512 along = _mm512_maskz_loadu_ps(lanes, panel.along + 16 * v);
#pragma GCC unroll 6
    for (int f = 0; f < kFeatures; ++f) {
      const __m512 product = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[f][v], _mm512_set1_epi32(features[f].offset)));
      __m512 score = _mm512_mul_ps(product, _mm512_mul_ps(step, _mm512_set1_ps(features[f].step)));
      score = _mm512_fmadd_ps(along, _mm512_set1_ps(features[f].along), score);
      for (int k = 0; k < panel.apart_count; ++k) {
        const __m512 apart = _mm512_maskz_loadu_ps(lanes, panel.apart[k] + 16 * v);
        score = _mm512_fmadd_ps(apart, _mm512_set1_ps(features[f].apart[k]), score);
      }
      _mm512_mask_storeu_ps(scores + f * stride + 16 * v, lanes, score);
    }
  }
}

template <int kVectors>
void blocks(const Int8Panel& panel, const Int8Feature* features, int count, int64_t length, float* scores, int64_t stride) {
  int f = 0;
  for (; f + 6 <= count; f += 6) block<kVectors, 6>(panel, features + f, length, scores + f * stride, stride);
  for (; f < count; ++f) block<kVectors, 1>(panel, features + f, length, scores + f * stride, stride);
}

void scores(const Int8Panel& panel, const Int8Feature* features, int count, int64_t length, float* out, int64_t stride) {
  switch ((panel.rows + 15) / 16) {
    case 1: return blocks<1>(panel, features, count, length, out, stride);
    case 2: return blocks<2>(panel, features, count, length, out, stride);
    case 3: return blocks<3>(panel, features, count, length, out, stride);
    default: return blocks<4>(panel, features, count, length, out, stride);
  }
}

// Bytes of 16 lanes. (A masked store of all of them is slow to read back.)
inline void store(uint8_t* to, __m512i lanes, __mmask16 mask) {
  const __m128i bytes = _mm512_cvtepi32_epi8(lanes);
  if (mask == 0xFFFF) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  } else {
    _mm_mask_storeu_epi8(to, mask, bytes);
  }
}

// Half of 16 elements: the sums of squares of what their digits hold and leave.
inline void add_squares(__m256 y, __m256i digits, __m512d units, __m512d& held, __m512d& left) {
  const __m512d q = _mm512_mul_pd(_mm512_cvtepi32_pd(digits), units), rest = _mm512_sub_pd(_mm512_cvtps_pd(y), q);
  held = _mm512_fmadd_pd(q, q, held);
  left = _mm512_fmadd_pd(rest, rest, left);
}

Digits split(const float* y, int64_t d, float unit, uint8_t* high, uint8_t* low) {
  const __m512 inverse = _mm512_set1_ps(unit > 0 ? 1 / unit : 0);
  const __m512d units = _mm512_set1_pd(unit);
  const __m512i most = _mm512_set1_epi32(32639), half = _mm512_set1_epi32(128);
  __m512d norm = _mm512_setzero_pd(), loss = norm, full_norm = norm, full_loss = norm;
  for (int64_t i = 0; i < d; i += 16) {
    const __mmask16 lanes = d - i >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << (d - i)) - 1);
    const __m512 values = _mm512_maskz_loadu_ps(lanes, y + i);
    const __m256 y_low = _mm512_castps512_ps256(values), y_high = _mm512_extractf32x8_ps(values, 1);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(values, inverse));
    const __m512i both = _mm512_max_epi32(_mm512_min_epi32(rounded, most), _mm512_sub_epi32(_mm512_setzero_si512(), most));
    const __m512i h = _mm512_srai_epi32(_mm512_add_epi32(both, half), 8);
    const __m512i first = _mm512_slli_epi32(h, 8);
    store(high + i, _mm512_add_epi32(h, half), lanes);
    add_squares(y_low, _mm512_castsi512_si256(first), units, norm, loss);
    add_squares(y_high, _mm512_extracti32x8_epi32(first, 1), units, norm, loss);
    if (low == nullptr) continue;
    store(low + i, _mm512_add_epi32(_mm512_sub_epi32(both, first), half), lanes);
    add_squares(y_low, _mm512_castsi512_si256(both), units, full_norm, full_loss);
    add_squares(y_high, _mm512_extracti32x8_epi32(both, 1), units, full_norm, full_loss);
  }
  return {std::sqrt(_mm512_reduce_add_pd(norm)), std::sqrt(_mm512_reduce_add_pd(loss)), std::sqrt(_mm512_reduce_add_pd(full_norm)),
          std::sqrt(_mm512_reduce_add_pd(full_loss))};
}

}  // namespace

const Int8Kernels kVnniKernels = {"avx512vnni", supported, dot, scores, split};

}  // namespace sae

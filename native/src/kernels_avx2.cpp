// The kernels in AVX2 with FMA. Compiled with its instructions: nothing but kernels may live here.
#include <cpuid.h>
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "int8.hpp"
#include "kernels.hpp"

namespace sae {
namespace {

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// The first `count` of 8 lanes; a masked load touches no byte beyond them.
inline __m256i first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int n = count >= 8 ? 8 : count <= 0 ? 0 : static_cast<int>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

// Of the 128 partial sums, those of elements i with first <= i mod 128 < first + 64: eight registers.
inline void half_dot(const float* x, const float* w, int64_t d, int first, __m256 s[8]) {
  for (int k = 0; k < 8; ++k) s[k] = _mm256_setzero_ps();
  int64_t i = first;
  for (; i + 64 <= d; i += 128) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      s[k] = _mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8 * k), _mm256_loadu_ps(w + i + 8 * k), s[k]);
    }
  }
  if (i < d) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const __m256i lanes = first_lanes(d - i - 8 * k);
      s[k] = _mm256_fmadd_ps(_mm256_maskload_ps(x + i + 8 * k, lanes), _mm256_maskload_ps(w + i + 8 * k, lanes), s[k]);
    }
  }
}

float dot(const float* x, const float* w, int64_t d) {
  // Sixteen accumulators would leave no register for the operands: two passes of 64 lanes.
  __m256 low[8], high[8];
  half_dot(x, w, d, 0, low);
  float parked[64];
  for (int k = 0; k < 8; ++k) _mm256_storeu_ps(parked + 8 * k, low[k]);
  half_dot(x, w, d, 64, high);
  __m256 s[8];
  for (int k = 0; k < 8; ++k) s[k] = _mm256_add_ps(_mm256_loadu_ps(parked + 8 * k), high[k]);
  for (int k = 0; k < 4; ++k) s[k] = _mm256_add_ps(s[k], s[k + 4]);
  for (int k = 0; k < 2; ++k) s[k] = _mm256_add_ps(s[k], s[k + 2]);
  const __m256 s8 = _mm256_add_ps(s[0], s[1]);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  const __m128 s1 = _mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1));
  return _mm_cvtss_f32(s1) + 0.0f;
}

// One row at a time: the registers hold the sums of no second one.
void dots(const float* x, const int32_t* rows, int count, const float* w, int64_t d, float* out) {
  for (int k = 0; k < count; ++k) out[k] = dot(x + rows[k] * d, w, d);
}

// b[r .. r+7] of the rows that lanes has.
inline __m256 bounds(const Bounds& b, int r, __m256i lanes) {
  const __m256 of_loss =
      _mm256_fmadd_ps(_mm256_maskload_ps(b.of_loss + r, lanes), _mm256_set1_ps(b.feature.loss), _mm256_set1_ps(b.floor));
  return _mm256_fmadd_ps(_mm256_maskload_ps(b.of_norm + r, lanes), _mm256_set1_ps(b.feature.norm), of_loss);
}

uint64_t above(const float* s, const Bounds& b, int count, float cut) {
  const __m256 cuts = _mm256_set1_ps(cut);
  uint64_t mask = 0;
  for (int r = 0; r < count; r += 8) {
    const __m256i lanes = first_lanes(count - r);
    const __m256 bound = bounds(b, r, lanes);
    const __m256 upper = _mm256_add_ps(_mm256_maskload_ps(s + r, lanes), bound);
    const __m256 candidate = _mm256_and_ps(_mm256_cmp_ps(upper, cuts, _CMP_NLT_UQ), _mm256_castsi256_ps(lanes));
    mask |= static_cast<uint64_t>(_mm256_movemask_ps(candidate)) << r;
  }
  return mask;
}

uint64_t beyond(const float* s, const Bounds& b, int count, float scale, float offset, const float* positive_cut,
                const float* negative_cut) {
  const __m256 scales = _mm256_set1_ps(scale);
  const __m256 offsets = _mm256_set1_ps(offset);
  uint64_t mask = 0;
  for (int r = 0; r < count; r += 8) {
    const __m256i lanes = first_lanes(count - r);
    const __m256 bound = bounds(b, r, lanes);
    const __m256 value = _mm256_maskload_ps(s + r, lanes);
    const __m256 positive = _mm256_fmadd_ps(scales, _mm256_add_ps(value, bound), offsets);
    const __m256 negative = _mm256_fmsub_ps(scales, _mm256_sub_ps(bound, value), offsets);
    const __m256 either = _mm256_or_ps(_mm256_cmp_ps(positive, _mm256_maskload_ps(positive_cut + r, lanes), _CMP_NLT_UQ),
                                       _mm256_cmp_ps(negative, _mm256_maskload_ps(negative_cut + r, lanes), _CMP_NLT_UQ));
    mask |= static_cast<uint64_t>(_mm256_movemask_ps(_mm256_and_ps(either, _mm256_castsi256_ps(lanes)))) << r;
  }
  return mask;
}

// Rows that gather asks for early: they lie anywhere, so no hardware prefetcher finds them. Into the second-level cache, which can wait for
// more of them than the first: 1.2 to 1.6 times as fast (measured in AVX-512; 8 to 32 rows ahead were alike).
constexpr int64_t kAhead = 8;

// Columns 0 .. 8 * kVectors - 1, the sums in registers all the way; the last vector may be partial.
template <int kVectors>
void gather_columns(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz,
                    const float* bias, __m256i last, float* out) {
  __m256 sum[kVectors];
  for (int k = 0; k < kVectors; ++k) sum[k] = _mm256_setzero_ps();
  for (int64_t j = 0; j < nnz; ++j) {
    const float* row = rows + indices[j] * stride;
    const float* ahead = rows + indices[j + kAhead < nnz ? j + kAhead : nnz - 1] * stride;
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; k += 2) _mm_prefetch(reinterpret_cast<const char*>(ahead + 8 * k), _MM_HINT_T1);
    const __m256 value = _mm256_set1_ps(values[j]);
#pragma GCC unroll 8
    for (int k = 0; k < kVectors - 1; ++k) sum[k] = _mm256_fmadd_ps(value, _mm256_loadu_ps(row + 8 * k), sum[k]);
    const __m256 tail = _mm256_maskload_ps(row + 8 * (kVectors - 1), last);
    sum[kVectors - 1] = _mm256_fmadd_ps(value, tail, sum[kVectors - 1]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) {
    const __m256i lanes = k + 1 < kVectors ? first_lanes(8) : last;
    if (bias != nullptr) sum[k] = _mm256_add_ps(sum[k], _mm256_maskload_ps(bias + 8 * k, lanes));
    _mm256_maskstore_ps(out + 8 * k, lanes, sum[k]);
  }
}

void gather(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz, const float* bias,
            int64_t width, float* out) {
  int64_t i = 0;
  for (; i + 64 <= width; i += 64) {
    gather_columns<8>(rows + i, stride, indices, values, nnz, bias == nullptr ? bias : bias + i, first_lanes(8), out + i);
  }
  for (; i < width; i += 8) {
    gather_columns<1>(rows + i, stride, indices, values, nnz, bias == nullptr ? bias : bias + i, first_lanes(width - i), out + i);
  }
}

int32_t sum_of(__m256i lanes) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
  return _mm_cvtsi128_si32(s);
}

// Sixteen pairs of bytes at a time, widened: an instruction that multiplies bytes would saturate.
int32_t int8_dot(const uint8_t* x, const int8_t* w, int64_t length) {
  __m256i sum[4] = {};
  for (int64_t i = 0; i < length; i += 64) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m256i xs = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i + 16 * k)));
      const __m256i ws = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + i + 16 * k)));
      sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(xs, ws));
    }
  }
  return sum_of(_mm256_add_epi32(_mm256_add_epi32(sum[0], sum[1]), _mm256_add_epi32(sum[2], sum[3])));
}

Digits split(const float* y, int64_t d, float unit, uint8_t* high, uint8_t* low) {
  const __m256 inverse = _mm256_set1_ps(unit > 0 ? 1 / unit : 0);
  const __m256d units = _mm256_set1_pd(unit);
  const __m256i most = _mm256_set1_epi32(32639), half = _mm256_set1_epi32(128);
  __m256d norm = _mm256_setzero_pd(), loss = norm, full_norm = norm, full_loss = norm;
  const auto add = [&](__m128 y4, __m128i first, __m128i both) {
    const __m256d exact = _mm256_cvtps_pd(y4);
    const __m256d q = _mm256_mul_pd(_mm256_cvtepi32_pd(first), units), full = _mm256_mul_pd(_mm256_cvtepi32_pd(both), units);
    const __m256d rest = _mm256_sub_pd(exact, q), full_rest = _mm256_sub_pd(exact, full);
    norm = _mm256_fmadd_pd(q, q, norm);
    loss = _mm256_fmadd_pd(rest, rest, loss);
    full_norm = _mm256_fmadd_pd(full, full, full_norm);
    full_loss = _mm256_fmadd_pd(full_rest, full_rest, full_loss);
  };
  for (int64_t i = 0; i < d; i += 8) {
    const __m256 values = _mm256_maskload_ps(y + i, first_lanes(d - i));
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(values, inverse));
    const __m256i both = _mm256_max_epi32(_mm256_min_epi32(rounded, most), _mm256_sub_epi32(_mm256_setzero_si256(), most));
    const __m256i h = _mm256_srai_epi32(_mm256_add_epi32(both, half), 8);
    const __m256i first = _mm256_slli_epi32(h, 8);
    alignas(32) int32_t highs[8], lows[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(highs), _mm256_add_epi32(h, half));
    _mm256_store_si256(reinterpret_cast<__m256i*>(lows), _mm256_add_epi32(_mm256_sub_epi32(both, first), half));
    for (int64_t k = 0; k < 8 && i + k < d; ++k) {
      high[i + k] = static_cast<uint8_t>(highs[k]);
      if (low != nullptr) low[i + k] = static_cast<uint8_t>(lows[k]);
    }
    add(_mm256_castps256_ps128(values), _mm256_castsi256_si128(first), _mm256_castsi256_si128(both));
    add(_mm256_extractf128_ps(values, 1), _mm256_extracti128_si256(first, 1), _mm256_extracti128_si256(both, 1));
  }
  const auto root = [](__m256d sums) {
    double s[4];
    _mm256_storeu_pd(s, sums);
    return std::sqrt((s[0] + s[1]) + (s[2] + s[3]));
  };
  return {root(norm), root(loss), root(full_norm), root(full_loss)};
}

// AVX-VNNI: VEX-encoded. The same instruction in AVX-512's encoding lets CPUs that have that run the code: for the tests.
template <bool kVex>
inline void add_products(__m256i& sum, __m256i x, __m256i w) {
  if (kVex) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
  } else {
    asm("%{evex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
  }
}

bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return supported() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

bool has_avx512_vnni() {
  return supported() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

template <bool kVex>
int32_t vnni_dot(const uint8_t* x, const int8_t* w, int64_t length) {
  __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int64_t i = 0; i < length; i += 64) {
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) {
      add_products<kVex>(sum[k], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 32 * k)),
                         _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + i + 32 * k)));
    }
  }
  return sum_of(_mm256_add_epi32(sum[0], sum[1]));
}

// Sixteen rows of a panel from `first` on, in two vectors (kernels_vnni.cpp has the layout), with some features.
template <bool kVex, int kFeatures>
void block(const Int8Panel& panel, int first, const Int8Feature* features, int64_t length, float* scores, int64_t stride) {
  __m256i sum[kFeatures][2];
#pragma GCC unroll 6
  for (int f = 0; f < kFeatures; ++f) sum[f][0] = sum[f][1] = _mm256_setzero_si256();
  const uint8_t* x = panel.digits + 4 * first;
  for (int64_t i = 0; i < length; i += 4, x += 4 * kPanelRows) {
    const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(x));
    const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + 32));
#pragma GCC unroll 6
    for (int f = 0; f < kFeatures; ++f) {
      int32_t four;
      std::memcpy(&four, features[f].digits + i, sizeof four);
      const __m256i w = _mm256_set1_epi32(four);
      add_products<kVex>(sum[f][0], low, w);
      add_products<kVex>(sum[f][1], high, w);
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const int r = first + 8 * v;
    const __m256i lanes = first_lanes(panel.rows - r);
    const __m256 step = _mm256_maskload_ps(panel.step + r, lanes), along = _mm256_maskload_ps(panel.along + r, lanes);
#pragma GCC unroll 6
    for (int f = 0; f < kFeatures; ++f) {
      const __m256 product = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[f][v], _mm256_set1_epi32(features[f].offset)));
      __m256 score = _mm256_mul_ps(product, _mm256_mul_ps(step, _mm256_set1_ps(features[f].step)));
      score = _mm256_fmadd_ps(along, _mm256_set1_ps(features[f].along), score);
      for (int k = 0; k < panel.apart_count; ++k) {
        score = _mm256_fmadd_ps(_mm256_maskload_ps(panel.apart[k] + r, lanes), _mm256_set1_ps(features[f].apart[k]), score);
      }
      _mm256_maskstore_ps(scores + f * stride + r, lanes, score);
    }
  }
}

template <bool kVex>
void vnni_scores(const Int8Panel& panel, const Int8Feature* features, int count, int64_t length, float* scores, int64_t stride) {
  for (int first = 0; first < panel.rows; first += 16) {
    int f = 0;
    for (; f + 6 <= count; f += 6) block<kVex, 6>(panel, first, features + f, length, scores + f * stride, stride);
    for (; f < count; ++f) block<kVex, 1>(panel, first, features + f, length, scores + f * stride, stride);
  }
}

}  // namespace

const Int8Kernels kAvx2Int8Kernels = {"avx2", supported, int8_dot, nullptr, split};
const Int8Kernels kAvxVnniKernels = {"avxvnni", has_avx_vnni, vnni_dot<true>, vnni_scores<true>, split};
const Int8Kernels kAvxVnniInEvexKernels = {"avxvnni in evex", has_avx512_vnni, vnni_dot<false>, vnni_scores<false>, split};

const Kernels kAvx2Kernels = {"avx2", supported, dot, dots, above, beyond, gather};

}  // namespace sae

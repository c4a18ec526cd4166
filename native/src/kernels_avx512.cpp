// The kernels in AVX-512. Compiled with its instructions: nothing but kernels may live here.
#include <immintrin.h>

#include "kernels.hpp"

namespace sae {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
}

// The first `count` of 16 lanes; a masked load touches no byte beyond them.
inline __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xFFFF : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

// Partial sums 16k .. 16k+15 live in s[k]; each halving of the 128 is a vector add until 16 are left.
float halve(__m512 s[8]) {
  for (int k = 0; k < 4; ++k) s[k] = _mm512_add_ps(s[k], s[k + 4]);
  for (int k = 0; k < 2; ++k) s[k] = _mm512_add_ps(s[k], s[k + 2]);
  const __m512 s16 = _mm512_add_ps(s[0], s[1]);
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(s16), _mm512_extractf32x8_ps(s16, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  const __m128 s1 = _mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1));
  return _mm_cvtss_f32(s1) + 0.0f;
}

// kRows dots with one w, their sums in registers: 8 for each row.
template <int kRows>
inline void dot_rows(const float* const x[kRows], const float* w, int64_t d, float* out) {
  __m512 s[kRows][8];
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < 8; ++k) s[r][k] = _mm512_setzero_ps();
  }
  int64_t i = 0;
  for (; i + 128 <= d; i += 128) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const __m512 wk = _mm512_loadu_ps(w + i + 16 * k);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) s[r][k] = _mm512_fmadd_ps(_mm512_loadu_ps(x[r] + i + 16 * k), wk, s[r][k]);
    }
  }
  if (i < d) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const __mmask16 mask = first_lanes(d - i - 16 * k);
      const __m512 wk = _mm512_maskz_loadu_ps(mask, w + i + 16 * k);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        s[r][k] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, x[r] + i + 16 * k), wk, s[r][k]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) out[r] = halve(s[r]);
}

float dot(const float* x, const float* w, int64_t d) {
  float result;
  dot_rows<1>(&x, w, d, &result);
  return result;
}

void dots(const float* x, const int32_t* rows, int count, const float* w, int64_t d, float* out) {
  int k = 0;
  for (; k + 3 <= count; k += 3) {
    const float* three[3] = {x + rows[k] * d, x + rows[k + 1] * d, x + rows[k + 2] * d};
    dot_rows<3>(three, w, d, out + k);
  }
  for (; k < count; ++k) out[k] = dot(x + rows[k] * d, w, d);
}

// b[r .. r+15] of the rows that lanes has.
inline __m512 bounds(const Bounds& b, int r, __mmask16 lanes) {
  const __m512 of_loss =
      _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, b.of_loss + r), _mm512_set1_ps(b.feature.loss), _mm512_set1_ps(b.floor));
  return _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, b.of_norm + r), _mm512_set1_ps(b.feature.norm), of_loss);
}

uint64_t above(const float* s, const Bounds& b, int count, float cut) {
  const __m512 cuts = _mm512_set1_ps(cut);
  uint64_t mask = 0;
  for (int r = 0; r < count; r += 16) {
    const __mmask16 lanes = first_lanes(count - r);
    const __m512 bound = bounds(b, r, lanes);
    const __m512 upper = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, s + r), bound);
    mask |= static_cast<uint64_t>(_mm512_mask_cmp_ps_mask(lanes, upper, cuts, _CMP_NLT_UQ)) << r;
  }
  return mask;
}

uint64_t beyond(const float* s, const Bounds& b, int count, float scale, float offset, const float* positive_cut,
                const float* negative_cut) {
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512 offsets = _mm512_set1_ps(offset);
  uint64_t mask = 0;
  for (int r = 0; r < count; r += 16) {
    const __mmask16 lanes = first_lanes(count - r);
    const __m512 bound = bounds(b, r, lanes);
    const __m512 value = _mm512_maskz_loadu_ps(lanes, s + r);
    const __m512 positive = _mm512_fmadd_ps(scales, _mm512_add_ps(value, bound), offsets);
    const __m512 negative = _mm512_fmsub_ps(scales, _mm512_sub_ps(bound, value), offsets);
    const __mmask16 either =
        _mm512_mask_cmp_ps_mask(lanes, positive, _mm512_maskz_loadu_ps(lanes, positive_cut + r), _CMP_NLT_UQ) |
        _mm512_mask_cmp_ps_mask(lanes, negative, _mm512_maskz_loadu_ps(lanes, negative_cut + r), _CMP_NLT_UQ);
    mask |= static_cast<uint64_t>(either) << r;
  }
  return mask;
}

// Rows that gather asks for early: they lie anywhere, so no hardware prefetcher finds them. Into the second-level cache, which can wait for
// more of them than the first: 1.2 to 1.6 times as fast (measured in AVX-512; 8 to 32 rows ahead were alike).
constexpr int64_t kAhead = 8;

// Columns 0 .. 16 * kVectors - 1, the sums in registers all the way; the last vector may be partial.
template <int kVectors>
void gather_columns(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz,
                    const float* bias, __mmask16 last, float* out) {
  __m512 sum[kVectors];
  for (int k = 0; k < kVectors; ++k) sum[k] = _mm512_setzero_ps();
  for (int64_t j = 0; j < nnz; ++j) {
    const float* row = rows + indices[j] * stride;
    const float* ahead = rows + indices[j + kAhead < nnz ? j + kAhead : nnz - 1] * stride;
#pragma GCC unroll 16
    for (int k = 0; k < kVectors; ++k) _mm_prefetch(reinterpret_cast<const char*>(ahead + 16 * k), _MM_HINT_T1);
    const __m512 value = _mm512_set1_ps(values[j]);
#pragma GCC unroll 16
    for (int k = 0; k < kVectors - 1; ++k) sum[k] = _mm512_fmadd_ps(value, _mm512_loadu_ps(row + 16 * k), sum[k]);
    const __m512 tail = _mm512_maskz_loadu_ps(last, row + 16 * (kVectors - 1));
    sum[kVectors - 1] = _mm512_fmadd_ps(value, tail, sum[kVectors - 1]);
  }
#pragma GCC unroll 16
  for (int k = 0; k < kVectors; ++k) {
    const __mmask16 lanes = k + 1 < kVectors ? static_cast<__mmask16>(0xFFFF) : last;
    if (bias != nullptr) sum[k] = _mm512_add_ps(sum[k], _mm512_maskz_loadu_ps(lanes, bias + 16 * k));
    _mm512_mask_storeu_ps(out + 16 * k, lanes, sum[k]);
  }
}

void gather(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz, const float* bias,
            int64_t width, float* out) {
  int64_t i = 0;
  for (; i + 256 <= width; i += 256) {
    gather_columns<16>(rows + i, stride, indices, values, nnz, bias == nullptr ? bias : bias + i, 0xFFFF, out + i);
  }
  for (; i + 64 <= width; i += 64) {
    gather_columns<4>(rows + i, stride, indices, values, nnz, bias == nullptr ? bias : bias + i, 0xFFFF, out + i);
  }
  for (; i < width; i += 16) {
    gather_columns<1>(rows + i, stride, indices, values, nnz, bias == nullptr ? bias : bias + i, first_lanes(width - i), out + i);
  }
}

}  // namespace

const Kernels kAvx512Kernels = {"avx512", supported, dot, dots, above, beyond, gather};

}  // namespace sae

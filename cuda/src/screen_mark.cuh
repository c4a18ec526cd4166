#pragma once
// The end of both screens on tensor cores: from scores in registers to the bits of the mask.
#include "fragments.hpp"
#include "kernels.cuh"

namespace sae::cuda {

// A warp's scores of 16 features, from first_feature on, with 8 kRowTiles rows, from first_row on: each tile as c_element().
//   1. Each score against its bound and gate: a bit. A lane has the same rows of two features, and reads their bounds once.
//   2. The four lanes that share a feature join their bits into words of 32 rows, and take turns to store them.
template <int kRowTiles, typename Gate>
__device__ __forceinline__ void mark_candidates(const float (&sum)[kRowTiles][4], int64_t first_feature, int first_row,
                                                const Features& features, const Batch& batch, const Gate& gate, Mask mask) {
  const int lane = threadIdx.x & 31;
  int64_t feature[2];
  FeatureBound bound[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t j = first_feature + c_element(lane, 2 * half).row;
    feature[half] = j < features.count ? j : features.count - 1;
    bound[half] = features.bounds[feature[half]];
  }
#pragma unroll
  for (int w = 0; w < kRowTiles / 4; ++w) {
    uint32_t word[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int bit = 8 * n + c_element(lane, i).column;
        const int r = first_row + 32 * w + bit;
        if (r >= batch.rows) continue;
        const TensorRowBound row = batch.bounds[r];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float s = sum[4 * w + n][2 * half + i];
          if (gate.may_be_active(s, bound_of(row, bound[half]), feature[half], r)) word[half] |= 1u << bit;
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      word[half] |= __shfl_xor_sync(kAllLanes, word[half], 1);
      word[half] |= __shfl_xor_sync(kAllLanes, word[half], 2);
      const int64_t j = first_feature + c_element(lane, 2 * half).row;
      if (lane % 4 == w % 4 && j < features.count) mask.bits[j * mask.words + first_row / 32 + w] = word[half];
    }
  }
}

}  // namespace sae::cuda

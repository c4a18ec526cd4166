// No screen at all: the canonical dot of every feature and row, and its gate. The mask is then exact. A warp takes eight features
// and the 32 rows of a word, kRows at a time, with 32 kRows partial sums in its registers; the warps of a block share the features,
// which stay in the first-level cache. For few rows this is one pass over the weights, eight loads a lane in flight.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kFeatures = 8;

// 1. Dots of eight features with kRows rows. 2. The gate: one bit a row. 3. Write the word of each feature.
template <int kRows, typename Gate>
__global__ void __launch_bounds__(32 * kWarps) screen_canonical_kernel(Features features, Batch batch, Gate gate, Mask mask,
                                                                      int used_words) {
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int word = static_cast<int>(warp % used_words);
  const int64_t first = warp / used_words * kFeatures;
  if (first >= features.count) return;
  const int last_row = batch.rows - 1 < 32 * word + 31 ? batch.rows - 1 : 32 * word + 31;
  const int64_t j = first + threadIdx.x % 32 / 4;  // the feature whose dots this lane gets
  uint32_t bits = 0;
  for (int row = 32 * word; row <= last_row; row += kRows) {
    float4 sum[kRows][kFeatures];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int k = 0; k < kFeatures; ++k) sum[r][k] = make_float4(0, 0, 0, 0);
    }
    for (int64_t i = 0; i < features.pitch; i += kSlice) {
      float4 x[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int clamped = row + r < last_row ? row + r : last_row;
        x[r] = load4(batch.x + clamped * batch.pitch + i);
      }
#pragma unroll
      for (int k = 0; k < kFeatures; ++k) {
        const int64_t clamped = first + k < features.count ? first + k : features.count - 1;
        const float4 w = load4(features.rows + clamped * features.pitch + i);
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum[r][k] = fma4(x[r], w, sum[r][k]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float p = finish_eight(sum[r]);
      if (row + r > last_row || j >= features.count) continue;
      // A product that is not finite is a candidate, so that it is decided, and reported.
      if (!isfinite(p) || gate.value(p, j, row + r) != 0) bits |= 1u << (row + r - 32 * word);
    }
  }
  if (j < features.count && threadIdx.x % 4 == 0) mask.bits[j * mask.words + word] = bits;
}

}  // namespace

template <typename Gate>
void launch_screen_canonical(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream) {
  const int used_words = static_cast<int>(divide_up(batch.rows, 32));
  if (used_words < mask.words) {
    check(cudaMemsetAsync(mask.bits, 0, static_cast<size_t>(features.count) * mask.words * sizeof(uint32_t), stream), "mask");
  }
  const int64_t blocks = divide_up(divide_up(features.count, kFeatures) * used_words, kWarps);
  const auto kernel = batch.rows == 1   ? screen_canonical_kernel<1, Gate>
                      : batch.rows == 2 ? screen_canonical_kernel<2, Gate>
                                        : screen_canonical_kernel<4, Gate>;
  launch(kernel, blocks, 32 * kWarps, 0, stream, features, batch, gate, mask, used_words);
}

template void launch_screen_canonical(const Features&, const Batch&, const EncodeGate&, Mask, cudaStream_t);
template void launch_screen_canonical(const Features&, const Batch&, const ProjectGate&, Mask, cudaStream_t);

}  // namespace sae::cuda

// Canonical dots of whole tiles, features x rows. They serve as the screen that is exact, decide where candidates are so many that
// picking them singly would read more than it saves, and give dense products where there is no cuBLAS.
//
// A warp takes eight features and the 32 rows of a mask's word, kRows at a time, with 32 kRows partial sums in its registers; the
// warps of a block share the features, which stay in the first-level cache. For few rows it is one pass over the weights, with eight
// loads a lane in flight.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kFeatures = 8;

// What becomes of the products. begin is told the feature and word of a lane, and gives the rows of the word that are wanted, by all
// lanes of the warp alike; take comes once for each, by each of the four lanes of a feature; end after the last.

// A bit for what is active. A product that is not finite is a candidate, so that it is decided, and reported.
template <typename Gate>
struct MaskSink {
  Gate gate;
  Mask mask;
  uint32_t bits = 0;

  __device__ uint32_t begin(int64_t, int, bool) { return 0xffffffffu; }
  __device__ void take(float p, int64_t j, int row) {
    if (!isfinite(p) || gate.value(p, j, row) != 0) bits |= 1u << (row & 31);
  }
  __device__ void end(int64_t j, int word) { mask.bits[j * mask.words + word] = bits; }
};

// The values of candidates, in the place that list_kernel gave them: by feature, rows ascending.
template <typename Gate>
struct ValueSink {
  Gate gate;
  Mask mask;
  const uint32_t* offsets;
  float* values;
  int64_t first_row;
  Failures* failures;
  uint32_t bits = 0, place = 0;

  __device__ uint32_t begin(int64_t j, int word, bool is_feature) {
    bits = is_feature ? mask.bits[j * mask.words + word] : 0;
    // The candidates in the words before: the four lanes of a feature count a part each.
    uint32_t before = 0;
    for (int w = threadIdx.x & 3; w < word && is_feature; w += 4) before += __popc(mask.bits[j * mask.words + w]);
    before += __shfl_xor_sync(kAllLanes, before, 1);
    before += __shfl_xor_sync(kAllLanes, before, 2);
    place = is_feature ? offsets[j] + before : 0;
    uint32_t wanted = bits;
    for (int lanes = 4; lanes < 32; lanes *= 2) wanted |= __shfl_xor_sync(kAllLanes, wanted, lanes);
    return wanted;
  }
  __device__ void take(float p, int64_t j, int row) {
    const int r = row & 31;
    if ((bits >> r & 1) == 0 || (threadIdx.x & 3) != 0) return;
    if (!isfinite(p)) report_overflow(failures, first_row + row, j);
    values[place + __popc(bits & ((1u << r) - 1))] = isfinite(p) ? gate.value(p, j, row) : 0;
  }
  __device__ void end(int64_t, int) {}
};

// The products themselves.
struct ProductSink {
  float* p;
  int64_t stride;
  int64_t first_row;
  Failures* failures;

  __device__ uint32_t begin(int64_t, int, bool) { return 0xffffffffu; }
  __device__ void take(float product, int64_t j, int row) {
    if ((threadIdx.x & 3) != 0) return;
    if (failures != nullptr && !isfinite(product)) report_overflow(failures, first_row + row, j);
    p[row * stride + j] = product;
  }
  __device__ void end(int64_t, int) {}
};

// 1. Dots of eight features with kRows rows. 2. Lane l takes those of feature l / 4 to the sink.
template <int kRows, typename Sink>
__global__ void __launch_bounds__(32 * kWarps, 1) canonical_kernel(Features features, Batch batch, Sink sink, int used_words) {
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int word = static_cast<int>(warp % used_words);
  const int64_t first = warp / used_words * kFeatures;
  if (first >= features.count) return;
  const int last_row = batch.rows - 1 < 32 * word + 31 ? batch.rows - 1 : 32 * word + 31;
  const int64_t j = first + threadIdx.x % 32 / 4;
  const uint32_t wanted = sink.begin(j, word, j < features.count);
  for (int row = 32 * word; row <= last_row; row += kRows) {
    if ((wanted >> (row & 31) & ((1u << kRows) - 1)) == 0) continue;
    float4 sum[kRows][kFeatures];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int k = 0; k < kFeatures; ++k) sum[r][k] = make_float4(0, 0, 0, 0);
    }
    for (int64_t i = 0; i < features.pitch; i += kSlice) {
      float4 x[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) x[r] = load4(batch.x + (row + r < last_row ? row + r : last_row) * batch.pitch + i);
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
      if (row + r <= last_row && j < features.count) sink.take(p, j, row + r);
    }
  }
  if (j < features.count && threadIdx.x % 4 == 0) sink.end(j, word);
}

template <typename Sink>
void launch_canonical(const Features& features, const Batch& batch, const Sink& sink, cudaStream_t stream) {
  const int used_words = static_cast<int>(divide_up(batch.rows, 32));
  const int64_t blocks = divide_up(divide_up(features.count, kFeatures) * used_words, kWarps);
  const auto kernel = batch.rows == 1   ? canonical_kernel<1, Sink>
                      : batch.rows == 2 ? canonical_kernel<2, Sink>
                                        : canonical_kernel<4, Sink>;
  launch(kernel, blocks, 32 * kWarps, 0, stream, features, batch, sink, used_words);
}

}  // namespace

template <typename Gate>
void launch_screen_canonical(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream) {
  if (divide_up(batch.rows, 32) < mask.words) {  // words without rows
    check(cudaMemsetAsync(mask.bits, 0, static_cast<size_t>(features.count) * mask.words * sizeof(uint32_t), stream), "mask");
  }
  launch_canonical(features, batch, MaskSink<Gate>{gate, mask}, stream);
}

template <typename Gate>
void launch_decide_tiles(const Features& features, const Batch& batch, const Gate& gate, Mask mask, const uint32_t* offsets,
                         float* values, Failures* failures, cudaStream_t stream) {
  launch_canonical(features, batch, ValueSink<Gate>{gate, mask, offsets, values, batch.first_row, failures}, stream);
}

void launch_products(const Features& features, const Batch& batch, float* p, int64_t stride, Failures* failures,
                     cudaStream_t stream) {
  launch_canonical(features, batch, ProductSink{p, stride, batch.first_row, failures}, stream);
}

template void launch_screen_canonical(const Features&, const Batch&, const EncodeGate&, Mask, cudaStream_t);
template void launch_screen_canonical(const Features&, const Batch&, const TopGate&, Mask, cudaStream_t);
template void launch_screen_canonical(const Features&, const Batch&, const ProjectGate&, Mask, cudaStream_t);
template void launch_decide_tiles(const Features&, const Batch&, const EncodeGate&, Mask, const uint32_t*, float*, Failures*,
                                  cudaStream_t);
template void launch_decide_tiles(const Features&, const Batch&, const TopGate&, Mask, const uint32_t*, float*, Failures*,
                                  cudaStream_t);
template void launch_decide_tiles(const Features&, const Batch&, const ProjectGate&, Mask, const uint32_t*, float*, Failures*,
                                  cudaStream_t);

}  // namespace sae::cuda

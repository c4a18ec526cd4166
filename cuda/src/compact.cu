// From a mask of candidates to CSR, without an atomic that could decide an order.
//   count  candidates of each feature, and their running sum over blocks of 32 features
//   list   the candidates by feature, rows ascending (decide.cu then gives each a value, 0 where inactive)
//   place  the active ones by row, features ascending: a segment of 64 features is tallied by row, tallies are summed over the
//          segments of a row and over rows, and each segment then writes its own, feature after feature. The rows of one feature
//          are distinct, so the lanes of a warp never meet.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;

// Inclusive sums over a warp.
__device__ __forceinline__ uint32_t sum_up(uint32_t value) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint32_t below = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += below;
  }
  return value;
}

// Inclusive sums over a block of kScanThreads. Every thread of it must come.
__device__ uint32_t sum_up_block(uint32_t value, uint32_t* warp_sums) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  value = sum_up(value);
  if (lane == 31) warp_sums[warp] = value;
  __syncthreads();
  if (warp == 0) warp_sums[lane] = sum_up(warp_sums[lane]);
  __syncthreads();
  if (warp > 0) value += warp_sums[warp - 1];
  __syncthreads();
  return value;
}

__global__ void count_kernel(Mask mask, int64_t features, uint32_t* counts, uint32_t* sums) {
  __shared__ uint32_t block_counts[kListFeatures];
  const int lane = threadIdx.x & 31;
  for (int f = threadIdx.x / 32; f < kListFeatures; f += kThreads / 32) {
    const int64_t j = static_cast<int64_t>(blockIdx.x) * kListFeatures + f;
    uint32_t count = 0;
    if (j < features) {
      for (int w = lane; w < mask.words; w += 32) count += __popc(mask.bits[j * mask.words + w]);
    }
    count = sum_up(count);
    if (lane == 31) {
      block_counts[f] = count;
      if (j < features) counts[j] = count;
    }
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const uint32_t sum = sum_up(block_counts[lane]);
    if (lane == 31) sums[blockIdx.x] = sum;
  }
}

// Exclusive sums in place, by one block; *total is the sum of all.
__global__ void scan_kernel(uint32_t* sums, int64_t count, uint32_t* total) {
  __shared__ uint32_t warp_sums[32];
  __shared__ uint32_t before;
  if (threadIdx.x == 0) before = 0;
  __syncthreads();
  for (int64_t first = 0; first < count; first += kScanThreads) {
    const int64_t at = first + threadIdx.x;
    const uint32_t value = at < count ? sums[at] : 0;
    const uint32_t upto = sum_up_block(value, warp_sums);
    const uint32_t base = before;
    if (at < count) sums[at] = base + upto - value;
    __syncthreads();
    if (threadIdx.x == kScanThreads - 1) before = base + upto;
    __syncthreads();
  }
  if (threadIdx.x == 0) *total = before;
}

__global__ void list_kernel(Mask mask, int64_t features, const uint32_t* counts, const uint32_t* sums, uint32_t* offsets,
                            Candidates candidates) {
  __shared__ uint32_t starts[kListFeatures];
  const int lane = threadIdx.x & 31;
  const int64_t block_first = static_cast<int64_t>(blockIdx.x) * kListFeatures;
  if (threadIdx.x < 32) {
    const uint32_t count = block_first + lane < features ? counts[block_first + lane] : 0;
    const uint32_t start = sums[blockIdx.x] + sum_up(count) - count;
    starts[lane] = start;
    if (block_first + lane < features) offsets[block_first + lane] = start;
    if (block_first + lane == features - 1) offsets[features] = start + count;
  }
  __syncthreads();
  for (int f = threadIdx.x / 32; f < kListFeatures; f += kThreads / 32) {
    const int64_t j = block_first + f;
    if (j >= features || counts[j] == 0) continue;
    uint32_t at = starts[f];
    for (int first_word = 0; first_word < mask.words; first_word += 32) {
      const int w = first_word + lane;
      uint32_t bits = w < mask.words ? mask.bits[j * mask.words + w] : 0;
      const uint32_t count = __popc(bits);
      const uint32_t upto = sum_up(count);
      uint32_t place = at + upto - count;
      for (; bits != 0; bits &= bits - 1) {
        candidates.rows[place] = 32 * w + __ffs(bits) - 1;
        candidates.features[place++] = static_cast<uint32_t>(j);
      }
      at += __shfl_sync(kAllLanes, upto, 31);
    }
  }
}

// tally[segment, r]: active features of row r in the segment. Counts do not depend on the order in which atomics come.
__global__ void tally_kernel(const uint32_t* offsets, int64_t features, Candidates candidates, int rows, uint32_t* tally) {
  SAE_DYNAMIC_SHARED(memory);
  uint32_t* counters = reinterpret_cast<uint32_t*>(memory);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kSegmentFeatures;
  const int64_t end = first + kSegmentFeatures < features ? first + kSegmentFeatures : features;
  for (int r = threadIdx.x; r < rows; r += 32) counters[r] = 0;
  __syncwarp();
  for (uint32_t e = offsets[first] + threadIdx.x; e < offsets[end]; e += 32) {
    if (candidates.values[e] != 0) atomicAdd(&counters[candidates.rows[e]], 1u);
  }
  __syncwarp();
  for (int r = threadIdx.x; r < rows; r += 32) tally[blockIdx.x * static_cast<int64_t>(rows) + r] = counters[r];
}

// tally[segment, r] becomes the number of row r's active features before the segment; row_counts[r] of all. A block takes 32 rows,
// its 32 warps a part of the segments each.
__global__ void sum_tallies_kernel(uint32_t* tally, int64_t segments, int rows, uint32_t* row_counts) {
  __shared__ uint32_t parts[32][32];
  const int lane = threadIdx.x & 31, part = threadIdx.x / 32;
  const int r = static_cast<int>(blockIdx.x) * 32 + lane;
  const int64_t begin = segments * part / 32, end = segments * (part + 1) / 32;
  uint32_t sum = 0;
  if (r < rows) {
    for (int64_t s = begin; s < end; ++s) sum += tally[s * rows + r];
  }
  parts[part][lane] = sum;
  __syncthreads();
  uint32_t before = 0;
  for (int p = 0; p < part; ++p) before += parts[p][lane];
  if (r >= rows) return;
  for (int64_t s = begin; s < end; ++s) {
    const uint32_t count = tally[s * rows + r];
    tally[s * rows + r] = before;
    before += count;
  }
  if (part == 31) row_counts[r] = before;
}

__global__ void row_offsets_kernel(const uint32_t* row_counts, int rows, int64_t* row_offsets) {
  __shared__ uint32_t warp_sums[32];
  __shared__ int64_t before;
  if (threadIdx.x == 0) before = row_offsets[0];
  __syncthreads();
  for (int first = 0; first < rows; first += kScanThreads) {
    const int r = first + static_cast<int>(threadIdx.x);
    const uint32_t upto = sum_up_block(r < rows ? row_counts[r] : 0, warp_sums);
    const int64_t base = before;
    if (r < rows) row_offsets[r + 1] = base + upto;
    __syncthreads();
    if (threadIdx.x == kScanThreads - 1) before = base + upto;
    __syncthreads();
  }
}

__global__ void place_kernel(const uint32_t* offsets, int64_t features, Candidates candidates, int rows, const uint32_t* tally,
                             const int64_t* row_offsets, int32_t* indices, float* values) {
  SAE_DYNAMIC_SHARED(memory);
  uint32_t* cursors = reinterpret_cast<uint32_t*>(memory);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kSegmentFeatures;
  const int64_t end = first + kSegmentFeatures < features ? first + kSegmentFeatures : features;
  if (offsets[first] == offsets[end]) return;
  for (int r = threadIdx.x; r < rows; r += 32) cursors[r] = tally[blockIdx.x * static_cast<int64_t>(rows) + r];
  __syncwarp();
  for (int64_t j = first; j < end; ++j) {
    for (uint32_t e = offsets[j] + threadIdx.x; e < offsets[j + 1]; e += 32) {
      const float value = candidates.values[e];
      if (value == 0) continue;
      const uint32_t r = candidates.rows[e];
      const int64_t at = row_offsets[r] + cursors[r]++;
      indices[at] = static_cast<int32_t>(j);
      values[at] = value;
    }
    __syncwarp();
  }
}

}  // namespace

void launch_count(Mask mask, int64_t features, uint32_t* counts, uint32_t* sums, uint32_t* total, cudaStream_t stream) {
  const int64_t blocks = divide_up(features, kListFeatures);
  launch(count_kernel, blocks, kThreads, 0, stream, mask, features, counts, sums);
  launch(scan_kernel, 1, kScanThreads, 0, stream, sums, blocks, total);
}

void launch_list(Mask mask, int64_t features, const uint32_t* counts, const uint32_t* sums, uint32_t* offsets,
                 const Candidates& candidates, cudaStream_t stream) {
  launch(list_kernel, divide_up(features, kListFeatures), kThreads, 0, stream, mask, features, counts, sums, offsets, candidates);
}

void launch_place(const uint32_t* offsets, int64_t features, const Candidates& candidates, int rows, int64_t first_row,
                  uint32_t* tally, uint32_t* row_counts, int64_t* row_offsets, int32_t* indices, float* values,
                  cudaStream_t stream) {
  const int64_t segments = divide_up(features, kSegmentFeatures);
  const size_t counters = static_cast<size_t>(rows) * sizeof(uint32_t);
  launch(tally_kernel, segments, 32, counters, stream, offsets, features, candidates, rows, tally);
  launch(sum_tallies_kernel, divide_up(rows, 32), 1024, 0, stream, tally, segments, rows, row_counts);
  launch_row_offsets(row_counts, rows, first_row, row_offsets, stream);
  launch(place_kernel, segments, 32, counters, stream, offsets, features, candidates, rows, tally, row_offsets + first_row,
         indices, values);
}

void launch_row_offsets(const uint32_t* row_counts, int rows, int64_t first_row, int64_t* row_offsets, cudaStream_t stream) {
  launch(row_offsets_kernel, 1, kScanThreads, 0, stream, row_counts, rows, row_offsets + first_row);
}

}  // namespace sae::cuda

// The k first of each row of a CSR, by size, by size on each side, or by value; ties to the lower index. One block a row.
//   cut   a radix search by bits that are ordered as the values are: four passes, eight bits each
//   keep  what is beyond the cut, and of what equals it the first ones, in place in the row's order
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kThreads = 256;

enum Side { kBoth, kPositive, kNegative, kByValue };

// What the side orders by, 0 for what is never selected: the bits of |value|, or of the value with the negative ones turned round.
__device__ __forceinline__ uint32_t key(float value, Side side) {
  if ((side == kPositive && !(value > 0)) || (side == kNegative && !(value < 0)) || value == 0) return 0;
  const uint32_t bits = __float_as_uint(value);
  if (side != kByValue) return bits & 0x7fffffffu;
  return value < 0 ? ~bits : bits | 0x80000000u;
}

// Inverse of key() by value; -infinity for key 0.
__device__ __forceinline__ float value_of_key(uint32_t key) {
  if (key == 0) return -INFINITY;
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

// The k-th largest key of [begin, end), 0 if fewer than k are above 0. Every thread of the block must come.
__device__ uint32_t kth_key(const float* values, int64_t begin, int64_t end, int64_t k, Side side) {
  __shared__ unsigned long long histogram[256];
  __shared__ uint32_t chosen;
  __shared__ unsigned long long left;
  uint32_t prefix = 0;
  unsigned long long wanted = static_cast<unsigned long long>(k);
  for (int shift = 24; shift >= 0; shift -= 8) {
    histogram[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
      const uint32_t bits = key(values[e], side);
      const bool matches = shift == 24 || bits >> (shift + 8) == prefix >> (shift + 8);
      if (bits != 0 && matches) atomicAdd(&histogram[bits >> shift & 255], 1ull);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      while (digit > 0 && histogram[digit] < wanted) wanted -= histogram[digit--];
      chosen = histogram[digit] < wanted ? 0xffffffffu : static_cast<uint32_t>(digit);  // too few: no cut
      left = wanted;
    }
    __syncthreads();
    if (chosen == 0xffffffffu) return 0;
    prefix |= chosen << shift;
    wanted = left;
    __syncthreads();
  }
  return prefix;
}

// From the keys of both sides. By value there is one side: nothing passes for being negative.
__device__ void set_cuts(int64_t row, Order order, uint32_t positive, uint32_t negative, Cuts cuts) {
  cuts.positive[row] = order == Order::kSigned ? value_of_key(positive) : __uint_as_float(positive);
  cuts.negative[row] = order == Order::kSigned ? INFINITY : __uint_as_float(negative);
}

__global__ void no_cuts_kernel(int rows, Order order, Cuts cuts) {
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row < rows) set_cuts(row, order, 0, 0, cuts);
}

__global__ void cuts_kernel(Csr csr, int64_t k, Order order, Cuts cuts) {
  const int64_t row = blockIdx.x;
  const int64_t begin = csr.row_offsets[row], end = csr.row_offsets[row + 1];
  const Side side = order == Order::kPerSign ? kPositive : order == Order::kSigned ? kByValue : kBoth;
  const uint32_t positive = kth_key(csr.values, begin, end, k, side);
  const uint32_t negative = order == Order::kPerSign ? kth_key(csr.values, begin, end, k, kNegative) : positive;
  if (threadIdx.x == 0) set_cuts(row, order, positive, negative, cuts);
}

__device__ __forceinline__ bool is_beyond(float value, float positive_cut, float negative_cut) {
  return value != 0 && (value > positive_cut || -value > negative_cut);
}

// Of the two sides' equal values the negative ones are the positive ones' ties where the k are taken over both.
__device__ __forceinline__ bool is_on_negative(float value, float negative_cut, Order order) {
  return order == Order::kPerSign && value != 0 && -value == negative_cut;
}

__device__ __forceinline__ bool is_on_positive(float value, float positive_cut, Order order) {
  return value != 0 && (order == Order::kAbs ? fabsf(value) : value) == positive_cut;
}

// Exclusive sum over the block of a flag; *total is the sum of all. Every thread of the block must come.
__device__ uint32_t rank_of(bool flag, uint32_t* warp_counts, uint32_t* total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  const unsigned flags = __ballot_sync(kAllLanes, flag);
  if (lane == 0) warp_counts[warp] = __popc(flags);
  __syncthreads();
  uint32_t before = 0, all = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    if (w < warp) before += warp_counts[w];
    all += warp_counts[w];
  }
  __syncthreads();
  *total = all;
  return before + __popc(flags & ((1u << lane) - 1));
}

// How many of a side's entries on its cut are kept: what is left of k.
struct Quota {
  int64_t positive, negative;
};

__device__ Quota quota_of(const Csr& csr, int64_t row, int64_t k, Order order, float positive_cut, float negative_cut) {
  __shared__ unsigned long long beyond_positive, beyond_negative;
  if (threadIdx.x == 0) beyond_positive = beyond_negative = 0;
  __syncthreads();
  for (int64_t e = csr.row_offsets[row] + threadIdx.x; e < csr.row_offsets[row + 1]; e += kThreads) {
    const float value = csr.values[e];
    const bool counts_negative = order == Order::kPerSign && value < 0;
    if (is_beyond(value, positive_cut, negative_cut)) atomicAdd(counts_negative ? &beyond_negative : &beyond_positive, 1ull);
  }
  __syncthreads();
  const Quota quota = {k - static_cast<int64_t>(beyond_positive), k - static_cast<int64_t>(beyond_negative)};
  __syncthreads();
  return quota;
}

// Walks a row in order and tells which entries are kept; with indices null only counts.
__device__ void walk(const Csr& csr, int64_t row, int64_t k, Order order, float positive_cut, float negative_cut, int64_t at,
                     int32_t* indices, float* values, uint32_t* count) {
  __shared__ uint32_t warp_counts[kThreads / 32];
  const Quota quota = quota_of(csr, row, k, order, positive_cut, negative_cut);
  int64_t positive_seen = 0, negative_seen = 0, kept = 0;
  const int64_t begin = csr.row_offsets[row], end = csr.row_offsets[row + 1];
  for (int64_t first = begin; first < end; first += kThreads) {
    const int64_t e = first + threadIdx.x;
    const float value = e < end ? csr.values[e] : 0;
    const bool on_negative = is_on_negative(value, negative_cut, order);
    const bool on_positive = !on_negative && is_on_positive(value, positive_cut, order);
    uint32_t positives, negatives, all;
    const int64_t positive_rank = positive_seen + rank_of(on_positive, warp_counts, &positives);
    const int64_t negative_rank = negative_seen + rank_of(on_negative, warp_counts, &negatives);
    const bool keep = is_beyond(value, positive_cut, negative_cut) || (on_positive && positive_rank < quota.positive) ||
                      (on_negative && negative_rank < quota.negative);
    const uint32_t place = rank_of(keep, warp_counts, &all);
    if (keep && indices != nullptr) {
      indices[at + kept + place] = csr.indices[e];
      values[at + kept + place] = value;
    }
    positive_seen += positives;
    negative_seen += negatives;
    kept += all;
  }
  if (count != nullptr && threadIdx.x == 0) *count = static_cast<uint32_t>(kept);
}

__global__ void count_kept_kernel(Csr csr, int64_t k, Order order, Cuts cuts, uint32_t* row_counts) {
  const int64_t row = blockIdx.x;
  walk(csr, row, k, order, cuts.positive[row], cuts.negative[row], 0, nullptr, nullptr, row_counts + row);
}

__global__ void keep_kernel(Csr csr, int64_t k, Order order, Cuts cuts, const int64_t* row_offsets, int32_t* indices, float* values) {
  const int64_t row = blockIdx.x;
  walk(csr, row, k, order, cuts.positive[row], cuts.negative[row], row_offsets[row], indices, values, nullptr);
}

}  // namespace

void launch_no_cuts(int rows, Order order, Cuts cuts, cudaStream_t stream) {
  launch(no_cuts_kernel, divide_up(rows, kThreads), kThreads, 0, stream, rows, order, cuts);
}

void launch_cuts(const Csr& csr, int rows, int64_t k, Order order, Cuts cuts, cudaStream_t stream) {
  launch(cuts_kernel, rows, kThreads, 0, stream, csr, k, order, cuts);
}

void launch_count_kept(const Csr& csr, int rows, int64_t k, Order order, Cuts cuts, uint32_t* row_counts, cudaStream_t stream) {
  launch(count_kept_kernel, rows, kThreads, 0, stream, csr, k, order, cuts, row_counts);
}

void launch_keep(const Csr& csr, int rows, int64_t first_row, int64_t k, Order order, Cuts cuts, const int64_t* row_offsets,
                 int32_t* indices, float* values, cudaStream_t stream) {
  launch(keep_kernel, rows, kThreads, 0, stream, csr, k, order, cuts, row_offsets + first_row, indices, values);
}

}  // namespace sae::cuda

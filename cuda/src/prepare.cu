// Normalises rows, a thread a row for the sums, whose order is defined. Then measures rows [n, pitch] and rounds them to bf16 for the
// screens: one warp a row.
//   x'_i = bf16(x_i), 0 where that would be denormal;  ||x||, ||x'|| and ||x - x'|| in double.
#include "bf16.hpp"
#include "kernels.cuh"
#include "law/normalize.hpp"

namespace sae::cuda {
namespace {

constexpr int kWarps = 8;

constexpr int kTileRows = 32;

// The sum of term(x_i, i) over row threadIdx.x of the block's kTileRows, i ascending: the first kTileRows threads have it. The block
// brings tiles, and every thread of it must come.
template <typename Term>
__device__ double row_sum(const float* x, int64_t pitch, int rows, int64_t d, const Term& term) {
  __shared__ float tile[kTileRows][kSlice + 1];  // one more, so that a column lies in as many banks
  double sum = 0;
  for (int64_t first = 0; first < d; first += kSlice) {
    for (int at = threadIdx.x; at < rows * kSlice; at += 32 * kWarps) {
      tile[at / kSlice][at % kSlice] = x[at / kSlice * pitch + first + at % kSlice];
    }
    __syncthreads();
    const int64_t count = static_cast<int>(threadIdx.x) >= rows ? 0 : d - first < kSlice ? d - first : kSlice;
    for (int64_t i = 0; i < count; ++i) sum += term(tile[threadIdx.x][i], first + i);
    __syncthreads();
  }
  return sum;
}

// 1. The statistics, one thread a row. 2. The rows, by all threads.
__global__ void __launch_bounds__(32 * kWarps) normalize_kernel(const float* x, int64_t pitch, int all_rows, int64_t first_row,
                                                                int64_t d, sae_normalization how, float* normalized, float* scale,
                                                                float* shift, Failures* failures) {
  __shared__ RowStatistics statistics[kTileRows];
  const int64_t block_first = static_cast<int64_t>(blockIdx.x) * kTileRows;
  const int rows = static_cast<int>(all_rows - block_first < kTileRows ? all_rows - block_first : kTileRows);
  x += block_first * pitch;
  int64_t bad = INT64_MAX;
  const double sum = row_sum(x, pitch, rows, d, [&](float value, int64_t i) {
    if (!isfinite(value) && bad == INT64_MAX) bad = i;
    return how == SAE_NORMALIZE_LAYER ? static_cast<double>(value) : static_cast<double>(value) * static_cast<double>(value);
  });
  RowStatistics row;
  if (how == SAE_NORMALIZE_LAYER) {
    const double mean = sum / static_cast<double>(d);
    const double squares = row_sum(x, pitch, rows, d, [&](float value, int64_t) {
      const double distance = value - mean;
      return distance * distance;
    });
    row = layer_statistics(mean, squares, d);
  } else {
    row = constant_statistics(sum, d);
  }
  if (static_cast<int>(threadIdx.x) < rows) {
    const int64_t r = block_first + threadIdx.x;
    if (bad != INT64_MAX) {
      atomicMin(&failures->input, static_cast<unsigned long long>(first_row + r) << 24 | static_cast<unsigned long long>(bad));
      row.divisor = 0;
    } else if (!isfinite(static_cast<float>(row.deviation))) {
      atomicMin(&failures->scale, static_cast<unsigned long long>(first_row + r));
    }
    statistics[threadIdx.x] = row;
    scale[r] = static_cast<float>(row.deviation);
    shift[r] = static_cast<float>(row.mean);
  }
  __syncthreads();
  for (int r = threadIdx.x / 32; r < rows; r += kWarps) {
    for (int64_t i = threadIdx.x % 32; i < pitch; i += 32) {
      normalized[(block_first + r) * pitch + i] = i < d ? statistics[r].normalized(x[r * pitch + i]) : 0;
    }
  }
}

__device__ double sum_of_lanes(double value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

struct Norms {
  double exact, quantised, loss;
};

// 1. Read a slice. 2. Round it. 3. Add the squares. A value that is not finite is reported by the first column that has one.
__device__ Norms measure(const float* row, uint16_t* quantised, int64_t pitch, int64_t place, Failures* failures) {
  Norms sums = {0, 0, 0};
  int64_t bad = INT64_MAX;
  for (int64_t i = 4 * (threadIdx.x & 31); i < pitch; i += kSlice) {
    const float4 four = *reinterpret_cast<const float4*>(row + i);
    const float x[4] = {four.x, four.y, four.z, four.w};
    uint16_t rounded[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      rounded[c] = to_bf16(x[c]);
      const double exact = x[c], q = from_bf16(rounded[c]);
      sums.exact += exact * exact;
      sums.quantised += q * q;
      sums.loss += (exact - q) * (exact - q);
      if (!isfinite(x[c]) && i + c < bad) bad = i + c;
    }
    if (quantised != nullptr) {
      uint32_t* out = reinterpret_cast<uint32_t*>(quantised + i);
      out[0] = rounded[0] | static_cast<uint32_t>(rounded[1]) << 16;
      out[1] = rounded[2] | static_cast<uint32_t>(rounded[3]) << 16;
    }
  }
  if (bad != INT64_MAX) atomicMin(&failures->input, static_cast<unsigned long long>(place) << 24 | static_cast<unsigned long long>(bad));
  return {sqrt(sum_of_lanes(sums.exact)), sqrt(sum_of_lanes(sums.quantised)), sqrt(sum_of_lanes(sums.loss))};
}

__global__ void prepare_rows_kernel(const float* x, int64_t pitch, int rows, int64_t first_row, double largest_feature_norm,
                                    int64_t d, double bound_scale, uint16_t* quantised, TensorRowBound* bounds, Failures* failures) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (r >= rows) return;
  const Norms norms = measure(x + r * pitch, quantised == nullptr ? nullptr : quantised + r * pitch, pitch, first_row + r, failures);
  if (threadIdx.x % 32 == 0) {
    bounds[r] = tensor_row_bound(norms.exact, norms.quantised, norms.loss, largest_feature_norm, d, bound_scale);
  }
}

__global__ void prepare_features_kernel(const float* w, int64_t pitch, int64_t count, uint16_t* quantised, FeatureBound* bounds,
                                        unsigned long long* largest_norm, Failures* failures) {
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (j >= count) return;
  const Norms norms = measure(w + j * pitch, quantised == nullptr ? nullptr : quantised + j * pitch, pitch, j, failures);
  if (threadIdx.x % 32 == 0) {
    bounds[j] = feature_bound(norms.exact, norms.loss);
    unsigned long long bits;  // doubles that are not negative are ordered as their bits
    memcpy(&bits, &norms.exact, sizeof(bits));
    atomicMax(largest_norm, bits);
  }
}

// ||d_j|| = sqrt(Dot(d_j, d_j)), canonical, and a little more than its inverse: a warp for eight rows.
__global__ void norms_kernel(const float* w, int64_t pitch, int64_t count, float* norm, float* above) {
  const int64_t first = 8 * (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32);
  if (first >= count) return;
  float4 sum[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) sum[k] = make_float4(0, 0, 0, 0);
  for (int64_t i = 0; i < pitch; i += kSlice) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float4 a = load4(w + (first + k < count ? first + k : count - 1) * pitch + i);
      sum[k] = fma4(a, a, sum[k]);
    }
  }
  const float squared = finish_eight(sum);
  const int64_t j = first + (threadIdx.x % 32) / 4;
  if (threadIdx.x % 4 == 0 && j < count) {
    norm[j] = sqrtf(squared);
    above[j] = norm[j] > 0 ? static_cast<float>((1 + 0x1p-20) / norm[j]) : 0;
  }
}

}  // namespace

void launch_normalize(const float* x, int64_t pitch, int rows, int64_t first_row, int64_t d, sae_normalization how,
                      float* normalized, float* scale, float* shift, Failures* failures, cudaStream_t stream) {
  launch(normalize_kernel, divide_up(rows, kTileRows), 32 * kWarps, 0, stream, x, pitch, rows, first_row, d, how, normalized, scale,
         shift, failures);
}

void launch_prepare_rows(const float* x, int64_t pitch, int rows, int64_t first_row, double largest_feature_norm, int64_t d,
                         double bound_scale, uint16_t* quantised, TensorRowBound* bounds, Failures* failures, cudaStream_t stream) {
  launch(prepare_rows_kernel, divide_up(rows, kWarps), 32 * kWarps, 0, stream, x, pitch, rows, first_row, largest_feature_norm, d,
         bound_scale, quantised, bounds, failures);
}

void launch_prepare_features(const float* w, int64_t pitch, int64_t count, uint16_t* quantised, FeatureBound* bounds,
                             unsigned long long* largest_norm, Failures* failures, cudaStream_t stream) {
  launch(prepare_features_kernel, divide_up(count, kWarps), 32 * kWarps, 0, stream, w, pitch, count, quantised, bounds,
         largest_norm, failures);
}

void launch_norms(const float* w, int64_t pitch, int64_t count, float* norm, float* above, cudaStream_t stream) {
  launch(norms_kernel, divide_up(count, 8 * kWarps), 32 * kWarps, 0, stream, w, pitch, count, norm, above);
}

}  // namespace sae::cuda

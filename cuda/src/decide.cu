// Decides candidates by canonical dots: a warp takes eight consecutive ones. They are sorted by feature, so that w_j is read once
// for most of them, and while the feature's rows are decided it is in the first-level cache.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kWarps = 8;

// 1. Eight candidates to a warp. 2. Their dots. 3. The gate: the value, or 0.
template <typename Gate>
__global__ void __launch_bounds__(32 * kWarps, 1) decide_kernel(Features features, Batch batch, Gate gate, Candidates candidates,
                                                            Failures* failures) {
  const int64_t first = 8 * (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32);
  if (first >= candidates.total) return;
  const float* x[8];
  const float* w[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int64_t e = first + k < candidates.total ? first + k : candidates.total - 1;
    x[k] = batch.x + candidates.rows[e] * batch.pitch;
    w[k] = features.rows + candidates.features[e] * features.pitch;
  }
  float4 sum[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) sum[k] = make_float4(0, 0, 0, 0);
  for (int64_t i = 0; i < features.pitch; i += kSlice) {
    float4 feature = load4(w[0] + i);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      if (k > 0 && w[k] != w[k - 1]) feature = load4(w[k] + i);
      sum[k] = fma4(load4(x[k] + i), feature, sum[k]);
    }
  }
  const float p = finish_eight(sum);
  const int64_t e = first + threadIdx.x % 32 / 4;
  if (threadIdx.x % 4 != 0 || e >= candidates.total) return;
  const int row = static_cast<int>(candidates.rows[e]);
  const int64_t j = candidates.features[e];
  if (!isfinite(p)) report_overflow(failures, batch.first_row + row, j);
  candidates.values[e] = isfinite(p) ? gate.value(p, j, row) : 0;
}

__global__ void divide_kernel(float* coefficients, int64_t count, int64_t d_sae, const float* norm) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const float length = norm[at % d_sae];
  coefficients[at] = length > 0 ? coefficients[at] / length : 0;
}

}  // namespace

template <typename Gate>
void launch_decide(const Features& features, const Batch& batch, const Gate& gate, const Candidates& candidates,
                   Failures* failures, cudaStream_t stream) {
  launch(decide_kernel<Gate>, divide_up(candidates.total, 8 * kWarps), 32 * kWarps, 0, stream, features, batch, gate, candidates,
         failures);
}

template void launch_decide(const Features&, const Batch&, const EncodeGate&, const Candidates&, Failures*, cudaStream_t);
template void launch_decide(const Features&, const Batch&, const TopGate&, const Candidates&, Failures*, cudaStream_t);
template void launch_decide(const Features&, const Batch&, const ProjectGate&, const Candidates&, Failures*, cudaStream_t);

void launch_divide(float* coefficients, int64_t rows, int64_t d_sae, const float* norm, cudaStream_t stream) {
  launch(divide_kernel, divide_up(rows * d_sae, 256), 256, 0, stream, coefficients, rows * d_sae, d_sae, norm);
}

}  // namespace sae::cuda

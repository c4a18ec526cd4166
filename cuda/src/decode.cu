// Decode: x_hat[r, i] = sum_k f_k w_dec[j_k, i], k ascending, and what comes to it. A block takes 512 columns of a row, a thread four
// of them; it reads kAhead decoder rows by 16-byte loads before the first is used, so that many are in flight. No atomics: one thread
// owns an element from +0 to the end.
#include "kernels.cuh"

namespace sae::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 8;

__global__ void __launch_bounds__(kThreads) decode_kernel(Csr csr, int64_t first_row, int64_t blocks_a_row, const float* w_dec,
                                                         int64_t pitch, int64_t d, DecodeEnd after, bool aligned, float* x_hat) {
  const int64_t row = blockIdx.x / blocks_a_row;
  const int64_t i = 4 * (blockIdx.x % blocks_a_row * kThreads + threadIdx.x);
  if (i >= d) return;
  const int64_t end = csr.row_offsets[first_row + row + 1];
  float4 sum = make_float4(0, 0, 0, 0);
  for (int64_t k = csr.row_offsets[first_row + row]; k < end; k += kAhead) {
    float4 feature[kAhead];
    float value[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (k + a >= end) break;
      value[a] = __ldg(csr.values + k + a);
      feature[a] = *reinterpret_cast<const float4*>(w_dec + __ldg(csr.indices + k + a) * pitch + i);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (k + a >= end) break;
      sum = fma4(make_float4(value[a], value[a], value[a], value[a]), feature[a], sum);
    }
  }
  float all[4] = {sum.x, sum.y, sum.z, sum.w};
  float* out = x_hat + row * d + i;
  const float scale = after.scale == nullptr ? 1 : after.scale[first_row + row];
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    if (i + c >= d) break;
    if (after.bias != nullptr) all[c] += after.bias[i + c];
    if (after.skip) all[c] += out[c];
    all[c] = after.shift == nullptr ? scale * all[c] : fmaf(scale, all[c], after.shift[first_row + row]);
  }
  if (aligned) {
    *reinterpret_cast<float4*>(out) = make_float4(all[0], all[1], all[2], all[3]);
    return;
  }
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    if (i + c < d) out[c] = all[c];
  }
}

}  // namespace

void launch_decode(const Csr& csr, int64_t first_row, int64_t rows, const float* w_dec, int64_t pitch, int64_t d,
                   const DecodeEnd& end, float* x_hat, cudaStream_t stream) {
  const int64_t blocks_a_row = divide_up(d, 4 * kThreads);
  const bool aligned = d % 4 == 0 && reinterpret_cast<uintptr_t>(x_hat) % 16 == 0;
  launch(decode_kernel, rows * blocks_a_row, kThreads, 0, stream, csr, first_row, blocks_a_row, w_dec, pitch, d, end, aligned,
         x_hat);
}

}  // namespace sae::cuda

#pragma once
// What every kernel and launcher of this backend stands on: launching, checking, memory, and the canonical dot of a warp.
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "error.hpp"
#include "law/bound.hpp"
#include "law/dot.hpp"
#include "law/gate.hpp"
#include "law/order.hpp"

namespace sae::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;
// Rows on the device are padded with zeros to whole slices: a warp reads 128 floats at a time, and no kernel has a tail in d.
constexpr int64_t kSlice = kPartialSums;

SAE_HOST_DEVICE constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
SAE_HOST_DEVICE constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// ---- the runtime

// Throws Error if a call to the CUDA runtime failed.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next launch does not report it again
  fail(error == cudaErrorMemoryAllocation ? SAE_OUT_OF_MEMORY : SAE_INTERNAL, "CUDA failed (%s): %s", what,
       cudaGetErrorString(error));
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t grid, int block, size_t shared_bytes, cudaStream_t stream,
            const Arguments&... arguments) {
  if (grid == 0) return;
  if (grid > INT32_MAX) fail(SAE_INVALID_ARGUMENT, "too large for one launch: %lld blocks", static_cast<long long>(grid));
#if defined(SAE_EMULATED)
  emu::launch(dim3(static_cast<unsigned>(grid)), dim3(block), shared_bytes, stream,
              [=] { kernel(static_cast<Parameters>(arguments)...); });
#else
  kernel<<<static_cast<unsigned>(grid), block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
#endif
  check(cudaGetLastError(), "launch");
}

// Dynamic shared memory, aligned to 1024 bytes (what swizzled tiles need).
#if defined(SAE_EMULATED)
#define SAE_DYNAMIC_SHARED(name) char* name = static_cast<char*>(emu::shared_memory())
#else
#define SAE_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) char name[]
#endif

// count elements of device memory that only grow. The content is lost when they do.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray(DeviceArray&& other) noexcept { swap(other); }
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  int64_t capacity() const { return capacity_; }
  void swap(DeviceArray& other) {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
  }

  T* reserve(int64_t count, const char* what) {
    if (count <= capacity_) return data_;
    cudaFree(data_);
    data_ = nullptr;
    capacity_ = 0;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      fail(SAE_OUT_OF_MEMORY, "out of device memory: %s needs %zu bytes, %zu of %zu are free", what, bytes, free, total);
    }
    check(error, what);
    data_ = static_cast<T*>(memory);
    capacity_ = count;
    return data_;
  }

 private:
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

// ---- canonical dots

__device__ __forceinline__ float4 fma4(float4 a, float4 b, float4 c) {
  return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

__device__ __forceinline__ float4 add_from(float4 keep, float4 give, int lanes) {
  return make_float4(keep.x + __shfl_xor_sync(kAllLanes, give.x, lanes), keep.y + __shfl_xor_sync(kAllLanes, give.y, lanes),
                     keep.z + __shfl_xor_sync(kAllLanes, give.z, lanes), keep.w + __shfl_xor_sync(kAllLanes, give.w, lanes));
}

// Element 4 lane of a slice: lane l of a warp holds the partial sums 4 l .. 4 l + 3 of the 128.
__device__ __forceinline__ float4 load4(const float* slice) {
  return *reinterpret_cast<const float4*>(slice + 4 * (threadIdx.x & 31));
}

// Ends eight dots at once, of which each lane holds its four partial sums; returns dot lane / 4. The halvings by 64, 32 and 16 are
// exchanges in which a lane gives away half of the dots it holds, those by 8 and 4 ones of half its partial sums: 33 shuffles.
__device__ __forceinline__ float finish_eight(const float4 (&sum)[8]) {
  const int lane = threadIdx.x & 31;
  float4 four[4], two[2];
#pragma unroll
  for (int k = 0; k < 4; ++k) four[k] = add_from(lane & 16 ? sum[k + 4] : sum[k], lane & 16 ? sum[k] : sum[k + 4], 16);
#pragma unroll
  for (int k = 0; k < 2; ++k) two[k] = add_from(lane & 8 ? four[k + 2] : four[k], lane & 8 ? four[k] : four[k + 2], 8);
  const float4 one = add_from(lane & 4 ? two[1] : two[0], lane & 4 ? two[0] : two[1], 4);
  // Lanes 4 k .. 4 k + 3 now hold s[0 .. 15] of dot k, s[4 q + c] in lane q, component c.
  const bool upper = (lane & 2) != 0;
  float first = (upper ? one.z : one.x) + __shfl_xor_sync(kAllLanes, upper ? one.x : one.z, 2);
  float second = (upper ? one.w : one.y) + __shfl_xor_sync(kAllLanes, upper ? one.y : one.w, 2);
  const bool odd = (lane & 1) != 0;
  float s = (odd ? second : first) + __shfl_xor_sync(kAllLanes, odd ? first : second, 1);
  // s[0], s[1], s[2], s[3] lie in lanes 0, 1, 2, 3 of the four: s[i] += s[i + 2], then s[0] += s[1].
  s += __shfl_xor_sync(kAllLanes, s, 2);
  s += __shfl_xor_sync(kAllLanes, s, 1);
  return s + 0.0f;
}

// ---- what a feature's product means: the gates of encode and of project

// Feature j of row r is active iff value(p, j, r) != 0, and that is its value. may_be_active: from a screen's value s and bound b.
struct EncodeGate {
  const float *threshold, *scale, *offset;
  const float* cut;  // [d_sae] Gate::cut of the three

  __device__ __forceinline__ float value(float p, int64_t j, int) const {
    if (!passes(p, threshold[j])) return 0;
    const float v = value_of(p, scale[j], offset[j]);
    return is_active(v) ? v : 0;
  }
  __device__ __forceinline__ bool may_be_active(float s, float b, int64_t j, int) const { return !(s + b < cut[j]); }
};

// The k largest v, where they reach the row's cut: of v > 0 the cut is not below 0, and the size of v is v.
struct TopGate {
  const float *threshold, *scale, *offset;
  const float* cut;  // [d_sae] Gate::cut, or Gate::signed_cut where negative values stay
  bool by_size;
  Cuts cuts;

  __device__ __forceinline__ float value(float p, int64_t j, int r) const {
    if (!passes(p, threshold[j])) return 0;
    const float v = value_of(p, scale[j], offset[j]);
    return (by_size ? fabsf(v) : v) >= cuts.positive[r] ? v : 0;
  }
  // Scales are positive, and rounding is monotone: bounds of p become bounds of v without a slack of their own.
  __device__ __forceinline__ bool may_be_active(float s, float b, int64_t j, int r) const {
    if (s + b < cut[j]) return false;
    const float c = cuts.positive[r];
    return !(value_of(s + b, scale[j], offset[j]) < c) || (by_size && !(-value_of(s - b, scale[j], offset[j]) < c));
  }
};

// The coefficient, where it reaches the row's cut on its side.
struct ProjectGate {
  const float* norm;   // [d_sae] ||d_j||, or null for no division
  const float* above;  // [d_sae] a little more than 1 / ||d_j||, so that products with it bound the quotient; null as norm
  Cuts cuts;

  __device__ __forceinline__ float value(float p, int64_t j, int r) const {
    float v = p;
    if (norm != nullptr) v = norm[j] > 0 ? p / norm[j] : 0;
    return cuts.reached(r, v) ? v : 0;
  }
  __device__ __forceinline__ bool may_be_active(float s, float b, int64_t j, int r) const {
    const float factor = above == nullptr ? 1.0f : above[j];
    return !((s + b) * factor < cuts.positive[r]) || !((b - s) * factor < cuts.negative[r]);
  }
};

// ---- what a call works on

// Rows of x on the device, in one chunk of a call.
struct Batch {
  const float* x;                // [rows, pitch]
  const uint16_t* quantised;     // [rows, pitch] bf16, or null without a quantised screen
  const TensorRowBound* bounds;  // [rows]
  int64_t pitch;
  int rows;
  int64_t first_row;  // of the call's n: where errors are
};

struct Features {
  const float* rows;          // [count, pitch]
  const uint16_t* quantised;  // [count, pitch] bf16
  const FeatureBound* bounds;
  int64_t pitch, count;
};

// Bit r of a feature's words is set if row r is a candidate; words is a multiple of 8, bits from rows on are 0.
struct Mask {
  uint32_t* bits;  // [count, words]
  int words;
};

constexpr int kMaskRows = 256;  // rows a mask is a multiple of

// Where the first failure of a call is; all ones for none. Minima, so that the same one is reported whatever the order.
struct Failures {
  unsigned long long input;    // row << 24 | column of a value that is not finite
  unsigned long long scale;    // row whose scale overflows
  unsigned long long product;  // row << 31 | feature of a product that overflows
};

__device__ __forceinline__ void report_overflow(Failures* failures, int64_t row, int64_t feature) {
  atomicMin(&failures->product, static_cast<unsigned long long>(row) << 31 | static_cast<unsigned long long>(feature));
}

}  // namespace sae::cuda

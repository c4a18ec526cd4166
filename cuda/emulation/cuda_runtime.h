#pragma once
// CUDA on the host, for tests: what our kernels and launchers use of the runtime, so that the same sources compile with a C++
// compiler, and run without a GPU under the parity suite, sanitizers and injected failures. Never shipped.
//
// A block's threads are fibers on one host thread, run in an order that tests may reverse or shuffle; warp functions and barriers are
// where they meet, and a thread that never arrives is reported as a deadlock. Streams are lazy: work is done when somebody waits for
// it, as late as the rules allow, so that a missing wait is seen. Memory starts poisoned. Numbers are IEEE, but for the tensor cores'
// (ptx.cuh), which truncate as pessimistically as our bound admits.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

using std::isfinite;  // global names in CUDA

#define SAE_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- the runtime

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
constexpr unsigned long long cudaEnableDefault = 0;
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount, l2CacheSize;
};

namespace emu {
struct Stream;
struct Event;
}  // namespace emu
using cudaStream_t = emu::Stream*;
using cudaEvent_t = emu::Event*;

extern "C" {
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMallocHost(void** pointer, size_t bytes);
cudaError_t cudaFreeHost(void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer);
}

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}

// ---- what test hooks set and read (emulation.cpp)

extern "C" {
// The call to the runtime (from 1, of those that can fail) that fails next, with this error, once; 0 for none. A launch failure
// loses the device: every later call fails too, until it is set again.
void emu_fail_call(int64_t call, int error);
int64_t emu_calls();             // such calls since emu_fail_call
int64_t emu_live_allocations();  // device and pinned memory, streams and events that were not freed
// 0 threads ascend, 1 they descend, else they are shuffled by this seed; and asynchronous work is done at other times.
void emu_set_order(uint64_t order);
void emu_set_memory(int64_t bytes);    // the device's memory; as much as the host's by default
void emu_set_shared_memory(int bytes); // what a block may have: 227 KiB by default
void emu_set_chunk_rows(int64_t rows); // rows that the engine works on at a time: 256 here, so that tests meet several chunks
void emu_scale_bounds(double factor);  // the screens' error bounds: 1 but in tests, which must see 0 lose features
}

// ---- a kernel's thread

namespace emu {

struct Place {
  dim3 thread, block, block_size, grid;
};
extern const Place* place;

void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> kernel);
void* shared_memory();
void barrier();
void named_wait(const std::function<bool()>& ready);  // waits until ready() holds
// All lanes of the mask meet; then each may read what the others gave. bytes <= 128, the same for all.
const void* const* exchange(unsigned mask, const void* given, size_t bytes);
int lane();

template <typename T>
T from_lane(unsigned mask, T value, int source) {
  T result;
  std::memcpy(&result, exchange(mask, &value, sizeof(T))[source], sizeof(T));
  return result;
}

}  // namespace emu

#define threadIdx (emu::place->thread)
#define blockIdx (emu::place->block)
#define blockDim (emu::place->block_size)
#define gridDim (emu::place->grid)

inline void __syncthreads() { emu::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::exchange(mask, nullptr, 0); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emu::from_lane(mask, value, source & 31);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return emu::from_lane(mask, value, emu::lane() ^ bits);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  const int source = emu::lane() - static_cast<int>(distance);
  return emu::from_lane(mask, value, source < 0 ? emu::lane() : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
  const int source = emu::lane() + static_cast<int>(distance);
  return emu::from_lane(mask, value, source > 31 ? emu::lane() : source);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  const char given = predicate;
  const void* const* all = emu::exchange(mask, &given, 1);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1 && *static_cast<const char*>(all[i])) bits |= 1u << i;
  }
  return bits;
}
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
inline bool __all_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) == mask; }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(unsigned value) { return __builtin_ffs(static_cast<int>(value)); }
inline int __clz(unsigned value) { return value == 0 ? 32 : __builtin_clz(value); }
template <typename T>
T __ldg(const T* pointer) {
  return *pointer;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }

template <typename T>
T atomicMin(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(address, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <typename T>
T atomicMax(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value > old && !__atomic_compare_exchange_n(address, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <typename T>
T atomicAdd(T* address, T value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

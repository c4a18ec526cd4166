#pragma once
// The few instructions that CUDA C++ has no word for.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#if defined(SAE_EMULATED)
#include "ptx_emulation.hpp"
#else

namespace sae::cuda::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- sm_80: copies by threads, products of a warp

// 16 bytes from global to shared memory, behind the caller's back until wait.
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most kPending of the calling thread's groups are on their way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// fragments.hpp says which lane gives which address.
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(shared))
               : "memory");
}

// c += a b: [16, 16] x [16, 8], bf16 with float sums.
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- sm_90: barriers in shared memory, and tiles that the copy engine brings

// A barrier's phase ends when `arrivals` threads have arrived and all bytes that were announced have come; the next one begins.
__device__ __forceinline__ void init_barrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// What the calling thread has written to shared memory, barriers too, is there for the copy engine.
__device__ __forceinline__ void publish_to_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and announces bytes.
__device__ __forceinline__ void arrive_expecting(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}

// Until the phase of this parity has ended. The first phase's is 0; the one before it counts as ended.
__device__ __forceinline__ void wait_barrier(uint64_t* barrier, uint32_t parity) {
  // Each try sleeps in hardware for a while. Seconds mean that what should arrive never will: a failed launch is an error that the
  // caller sees, a kernel that waits for ever is not.
  for (int tries = 0; tries < 1 << 22; ++tries) {
    uint32_t ended;
    asm volatile(
        "{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; selp.u32 %0, 1, 0, ended; }"
        : "=r"(ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    if (ended != 0) return;
  }
  __trap();
}

// The box of a map at [row, k] into a tile, on the barrier's account. What lies outside of the tensor comes as zeros.
__device__ __forceinline__ void copy_tile(void* tile, const CUtensorMap* map, int k, int row, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(tile)),
               "l"(map), "r"(k), "r"(row), "r"(shared_address(barrier))
               : "memory");
}

// ---- sm_90a: products of a warpgroup, whose four warps call all of these together

// Registers of each of the warpgroup's threads from here on.
template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Tells the compiler that sums change here: it moves no reading or writing of these registers to the other side.
__device__ __forceinline__ void pin(float (&sum)[32][4]) {
#pragma unroll
  for (int n = 0; n < 32; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sum[n][i])::"memory");
  }
}

// Before products: what was written to their sums is there for the tensor cores.
__device__ __forceinline__ void begin_products(float (&sum)[32][4]) {
  pin(sum);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

#define SAE_TILE(n) "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
#define SAE_TILES(n) SAE_TILE(n), SAE_TILE(n + 1), SAE_TILE(n + 2), SAE_TILE(n + 3)
// sum += a b: [64, 16] x [16, 256], bf16 with float sums, both with k in lines. Operands and sums are in use until waited for.
__device__ __forceinline__ void multiply_async(float (&sum)[32][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, 1, 1, 1, 0, 0;"
      : SAE_TILES(0), SAE_TILES(4), SAE_TILES(8), SAE_TILES(12), SAE_TILES(16), SAE_TILES(20), SAE_TILES(24), SAE_TILES(28)
      : "l"(a), "l"(b)
      : "memory");
}
#undef SAE_TILES
#undef SAE_TILE

__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most kPending of the committed groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Until sum is complete.
__device__ __forceinline__ void finish_products(float (&sum)[32][4]) {
  wait_products<0>();
  pin(sum);
}

}  // namespace sae::cuda::ptx

#endif

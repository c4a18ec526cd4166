// The screen on Hopper's tensor cores, sm_90a alone: x' w'_j by wgmma, the gate and the bits of the mask in the epilogue. No
// score leaves the registers.
//
// A block takes tiles of 128 features x 256 rows, one after another: as many blocks as multiprocessors share them. Neighbouring
// tiles share the features. One warpgroup fetches, two multiply, 64 features x 256 rows each; they meet at two barriers a stage.
//   1. The producer, one thread, waits until a stage is empty and asks the copy engine for its [128 + 256 rows, 64 k]. It runs
//      ahead into the next tile while the consumers end this one.
//   2. A consumer waits until a stage is full and issues 4 products of 64 x 256 x 16 on it. They run on while it waits for the
//      next stage; when they are done, their stage is empty again.
//   3. Each score against its bound and gate: a bit of the mask (screen_mark.cuh).
#include <cuda.h>

#include "ptx.cuh"
#include "screen_mark.cuh"

namespace sae::cuda {
namespace {

constexpr int kWarpgroup = 128;
constexpr int kConsumers = 2;
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kGroupFeatures = 64;
constexpr int kTileFeatures = kConsumers * kGroupFeatures;
constexpr int kTileRows = kMaskRows;
constexpr int kTileK = 64;
constexpr int kLineBytes = kTileK * 2;
constexpr int kStages = 4;
constexpr int kFeatureBytes = kTileFeatures * kLineBytes;
constexpr int kStageBytes = kFeatureBytes + kTileRows * kLineBytes;
constexpr int kSharedBytes = kStages * kStageBytes + 2 * kStages * static_cast<int>(sizeof(uint64_t));

#if defined(SAE_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Of the 168 registers a thread that the block is launched with, the producer's warpgroup gives what the consumers take.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

// Step s of a block, counted over all of its tiles, uses stage s mod kStages for the time s / kStages.
struct Stages {
  char* memory;

  __device__ __forceinline__ static uint32_t parity(uint32_t step) { return step / kStages & 1; }
  __device__ __forceinline__ char* features(uint32_t step) const { return memory + step % kStages * kStageBytes; }
  __device__ __forceinline__ char* rows(uint32_t step) const { return features(step) + kFeatureBytes; }
  __device__ __forceinline__ uint64_t* full(uint32_t step) const {
    return reinterpret_cast<uint64_t*>(memory + kStages * kStageBytes) + step % kStages;
  }
  __device__ __forceinline__ uint64_t* empty(uint32_t step) const { return full(step) + kStages; }
};

#endif

template <typename Gate>
__global__ void __launch_bounds__(kThreads, 1)
    screen_wgmma_kernel(const __grid_constant__ CUtensorMap feature_map, const __grid_constant__ CUtensorMap row_map,
                        Features features, Batch batch, Gate gate, Mask mask, int row_tiles, int64_t all_tiles) {
#if defined(SAE_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  SAE_DYNAMIC_SHARED(memory);
  const Stages stages = {memory};
  const int steps = static_cast<int>(features.pitch / kTileK);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::init_barrier(stages.full(stage), 1);
      ptx::init_barrier(stages.empty(stage), kConsumers * kWarpgroup / 32);
    }
    ptx::publish_to_copies();
  }
  __syncthreads();

  uint32_t step = 0;
  if (threadIdx.x < kWarpgroup) {
    // 1. Fetch.
    ptx::give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) {
      for (int64_t tile = blockIdx.x; tile < all_tiles; tile += gridDim.x) {
        const int first_feature = static_cast<int>(tile / row_tiles) * kTileFeatures;
        const int first_row = static_cast<int>(tile % row_tiles) * kTileRows;
        for (int i = 0; i < steps; ++i, ++step) {
          ptx::wait_barrier(stages.empty(step), Stages::parity(step) ^ 1);  // at once in the first round
          ptx::arrive_expecting(stages.full(step), kStageBytes);
          ptx::copy_tile(stages.features(step), &feature_map, i * kTileK, first_feature, stages.full(step));
          ptx::copy_tile(stages.rows(step), &row_map, i * kTileK, first_row, stages.full(step));
        }
      }
    }
  } else {
    ptx::take_registers<kConsumerRegisters>();
    const int warp_feature = (threadIdx.x - kWarpgroup) / 32 * 16;
    const int group_feature = warp_feature / kGroupFeatures * kGroupFeatures;
    const bool is_first_lane = threadIdx.x % 32 == 0;
    for (int64_t tile = blockIdx.x; tile < all_tiles; tile += gridDim.x) {
      float sum[kTileRows / 8][4];
#pragma unroll
      for (int n = 0; n < kTileRows / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[n][i] = 0;
      }

      // 2. Multiply.
      for (int i = 0; i < steps; ++i, ++step) {
        ptx::wait_barrier(stages.full(step), Stages::parity(step));
        ptx::begin_products(sum);
        const uint32_t a = ptx::shared_address(stages.features(step)) + group_feature * kLineBytes;
        const uint32_t b = ptx::shared_address(stages.rows(step));
#pragma unroll
        for (int k = 0; k < kTileK; k += 16) ptx::multiply_async(sum, matrix_descriptor(a + 2 * k), matrix_descriptor(b + 2 * k));
        ptx::commit_products();
        ptx::wait_products<1>();
        if (i > 0 && is_first_lane) ptx::arrive(stages.empty(step - 1));
      }
      ptx::finish_products(sum);
      if (is_first_lane) ptx::arrive(stages.empty(step - 1));

      // 3. Decide which may be active.
      const int first_row = static_cast<int>(tile % row_tiles) * kTileRows;
      mark_candidates(sum, tile / row_tiles * kTileFeatures + warp_feature, first_row, features, batch, gate, mask);
    }
  }
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

// How the copy engine reads tiles of `box` rows: lines of 64 k, 128 bytes, swizzled as tile_offset(); zeros behind the last row.
CUtensorMap tensor_map(const uint16_t* rows, int64_t count, int64_t pitch, int box) {
  // The driver's function by way of the runtime, so that the library needs no libcuda where there is none.
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
          "looking up cuTensorMapEncodeTiled");
    if (found != cudaDriverEntryPointSuccess) fail(SAE_UNAVAILABLE, "the CUDA driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(pitch), static_cast<cuuint64_t>(count)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(pitch) * sizeof(uint16_t)};
  const cuuint32_t boxes[] = {kTileK, static_cast<cuuint32_t>(box)}, every[] = {1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<uint16_t*>(rows), sizes, strides, boxes, every,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) fail(SAE_INTERNAL, "CUDA failed (encoding a tensor map): error %d", static_cast<int>(result));
  return map;
}

int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
  return count;
}

}  // namespace

template <typename Gate>
void launch_screen_wgmma(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream) {
  const int row_tiles = mask.words * 32 / kTileRows;
  const int64_t all_tiles = divide_up(features.count, kTileFeatures) * row_tiles;
  const int64_t most_blocks = multiprocessors();
  check(cudaFuncSetAttribute(screen_wgmma_kernel<Gate>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "asking for shared memory");
  launch(screen_wgmma_kernel<Gate>, all_tiles < most_blocks ? all_tiles : most_blocks, kThreads, kSharedBytes, stream,
         tensor_map(features.quantised, features.count, features.pitch, kTileFeatures),
         tensor_map(batch.quantised, batch.rows, batch.pitch, kTileRows), features, batch, gate, mask, row_tiles, all_tiles);
}

template void launch_screen_wgmma(const Features&, const Batch&, const EncodeGate&, Mask, cudaStream_t);
template void launch_screen_wgmma(const Features&, const Batch&, const TopGate&, Mask, cudaStream_t);
template void launch_screen_wgmma(const Features&, const Batch&, const ProjectGate&, Mask, cudaStream_t);

}  // namespace sae::cuda

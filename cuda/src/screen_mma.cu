// The screen on tensor cores, sm_80 and later: x' w'_j by mma.sync, the gate and the bits of the mask in the epilogue. No score leaves
// the registers.
//
// A block takes 128 features x 256 rows, its eight warps 64 x 64 each. Neighbouring blocks share the features.
//   1. Three stages of tiles [128 + 256 rows, 64 k] travel into shared memory by cp.async, pieces permuted against bank conflicts. (Two
//      where a block may have no more than 99 KiB, as on consumer cards.)
//   2. While the others are on their way, each warp multiplies one: ldmatrix, then 32 products of 16 x 8 x 16 for each 16 k.
//   3. Each score against its bound and gate: a bit of the mask (screen_mark.cuh).
#include "ptx.cuh"
#include "screen_mark.cuh"

namespace sae::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileFeatures = 128;
constexpr int kTileRows = kMaskRows;
constexpr int kTileK = 64;
constexpr int kFeatureBytes = kTileFeatures * kTileK * 2;
constexpr int kStageBytes = kFeatureBytes + kTileRows * kTileK * 2;
constexpr int kWarpFeatures = 64, kWarpRows = 64;
constexpr int kFeatureTiles = kWarpFeatures / 16, kRowTiles = kWarpRows / 8;

// Rows [count, pitch] from first on, 64 k from k on, into a tile. In place of rows beyond the last, that one is read again; their bits
// are dropped.
template <int kRows>
__device__ __forceinline__ void load_tile(char* tile, const uint16_t* rows, int64_t first, int64_t last, int64_t pitch, int64_t k) {
#pragma unroll
  for (int piece = threadIdx.x; piece < kRows * 8; piece += kThreads) {
    const int row = piece / 8, in_row = piece % 8 * 8;
    const int64_t from = first + row < last ? first + row : last;
    ptx::copy_async(tile + tile_offset(row, in_row), rows + from * pitch + k + in_row);
  }
}

template <int kStages, typename Gate>
__global__ void __launch_bounds__(kThreads) screen_mma_kernel(Features features, Batch batch, Gate gate, Mask mask, int row_tiles) {
  SAE_DYNAMIC_SHARED(memory);
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  const int64_t first_feature = blockIdx.x / row_tiles * static_cast<int64_t>(kTileFeatures);
  const int first_row = static_cast<int>(blockIdx.x % row_tiles) * kTileRows;
  const int warp_feature = warp / 4 * kWarpFeatures, warp_row = warp % 4 * kWarpRows;
  const int tiles = static_cast<int>(features.pitch / kTileK);

  // 1. Ask for a stage. Past the last one the group is empty, so that the count of groups stays right.
  const auto load = [&](int tile) {
    if (tile < tiles) {
      char* stage = memory + tile % kStages * kStageBytes;
      load_tile<kTileFeatures>(stage, features.quantised, first_feature, features.count - 1, features.pitch, tile * kTileK);
      load_tile<kTileRows>(stage + kFeatureBytes, batch.quantised, first_row, batch.rows - 1, batch.pitch, tile * kTileK);
    }
    ptx::commit_copies();
  };

  float sum[kFeatureTiles][kRowTiles][4];
#pragma unroll
  for (int m = 0; m < kFeatureTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;
    }
  }

  // 2. Multiply.
  for (int tile = 0; tile < kStages - 1; ++tile) load(tile);
  for (int tile = 0; tile < tiles; ++tile) {
    ptx::wait_copies<kStages - 2>();
    __syncthreads();  // all pieces of this stage are here, and nobody reads the one that is filled next
    load(tile + kStages - 1);
    const char* a_tile = memory + tile % kStages * kStageBytes;
    const char* b_tile = a_tile + kFeatureBytes;
#pragma unroll
    for (int k = 0; k < kTileK; k += 16) {
      uint32_t a[kFeatureTiles][4], b[kRowTiles / 2][4];
#pragma unroll
      for (int m = 0; m < kFeatureTiles; ++m) {
        const Element at = a_address(lane);
        ptx::load_matrices(a[m], a_tile + tile_offset(warp_feature + 16 * m + at.row, k + at.column));
      }
#pragma unroll
      for (int n = 0; n < kRowTiles / 2; ++n) {
        const Element at = b_address(lane);
        ptx::load_matrices(b[n], b_tile + tile_offset(warp_row + 16 * n + at.row, k + at.column));
      }
#pragma unroll
      for (int m = 0; m < kFeatureTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n) {
          ptx::multiply_add(sum[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
        }
      }
    }
  }

  // 3. Decide which may be active.
#pragma unroll
  for (int m = 0; m < kFeatureTiles; ++m) {
    mark_candidates(sum[m], first_feature + warp_feature + 16 * m, first_row + warp_row, features, batch, gate, mask);
  }
}

template <int kStages, typename Gate>
void launch_staged(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream) {
  const int row_tiles = mask.words * 32 / kTileRows;
  const int64_t blocks = divide_up(features.count, kTileFeatures) * row_tiles;
  const auto kernel = screen_mma_kernel<kStages, Gate>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kStages * kStageBytes), "asking for shared memory");
  launch(kernel, blocks, kThreads, kStages * kStageBytes, stream, features, batch, gate, mask, row_tiles);
}

}  // namespace

template <typename Gate>
void launch_screen_mma(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream) {
  int device = 0, most_bytes = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&most_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "asking for shared memory");
  const auto staged = most_bytes >= 3 * kStageBytes ? launch_staged<3, Gate> : launch_staged<2, Gate>;
  staged(features, batch, gate, mask, stream);
}

template void launch_screen_mma(const Features&, const Batch&, const EncodeGate&, Mask, cudaStream_t);
template void launch_screen_mma(const Features&, const Batch&, const TopGate&, Mask, cudaStream_t);
template void launch_screen_mma(const Features&, const Batch&, const ProjectGate&, Mask, cudaStream_t);

}  // namespace sae::cuda

#pragma once
// Which thread holds what in a tensor-core product, and where a tile's bytes lie in shared memory: index arithmetic alone, the same
// on the host, where tests compare it with the layouts of the PTX manual (mma.m16n8k16, ldmatrix, wgmma.m64nNk16 and
// its matrix descriptor).
#include <cstdint>

#include "law/bound.hpp"

namespace sae::cuda {

struct Element {
  int row, column;
};

// A [16 features, 16 k], bf16: register i of a lane holds this element and the next k.
SAE_HOST_DEVICE constexpr Element a_element(int lane, int i) { return {lane / 4 + 8 * (i & 1), lane % 4 * 2 + 8 * (i >> 1)}; }

// B [16 k, 8 rows], bf16: register i of a lane holds this element and the next k. row is k, column the row of x.
SAE_HOST_DEVICE constexpr Element b_element(int lane, int i) { return {lane % 4 * 2 + 8 * i, lane / 4}; }

// C [16 features, 8 rows], float: element i of a lane.
SAE_HOST_DEVICE constexpr Element c_element(int lane, int i) { return {lane / 4 + 8 * (i >> 1), lane % 4 * 2 + (i & 1)}; }

// ldmatrix.x4 reads four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8, and register i of a lane receives
// row lane / 4 and columns lane % 4 * 2, + 1 of matrix i.

// The row and first k that a lane addresses, so that registers 0 .. 3 are A's (16 features x 16 k, stored [feature, k]).
SAE_HOST_DEVICE constexpr Element a_address(int lane) { return {lane % 8 + 8 * (lane / 8 & 1), 8 * (lane / 16)}; }

// The same for two neighbouring B's (16 rows of x, 16 k, stored [row, k]): registers 0, 1 are the first's, 2, 3 the second's.
SAE_HOST_DEVICE constexpr Element b_address(int lane) { return {lane % 8 + 8 * (lane / 16), 8 * (lane / 8 & 1)}; }

// A tile's line is 64 bf16 of one row, 128 bytes: all banks once. Its eight 16-byte pieces are permuted by the row, so that the eight
// rows that ldmatrix reads at a time lie in different banks. Byte offset of element k of a row:
// (This is also the 128-byte swizzle of the bulk copies and of wgmma, for tiles that are aligned to 1024 bytes.)
SAE_HOST_DEVICE constexpr int tile_offset(int row, int k) { return row * 128 + ((k / 8 ^ row % 8) * 16) + k % 8 * 2; }

// Where wgmma finds an operand [rows, 16 k] in such a tile. The swizzle is of address bits, so a later k is 2 bytes on, whatever
// the row. In units of 16 bytes: bits 0-13 the address, 16-29 the leading offset (unused in a swizzled operand whose k lie in one
// line: 1 by convention), 32-45 the stride between groups of eight rows. Bits 62-63: 1, the swizzle of 128 bytes.
SAE_HOST_DEVICE constexpr uint64_t matrix_descriptor(uint32_t shared_address) {
  return (shared_address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// wgmma's D [64 features, N rows], float: element [n][i] of a thread of the warpgroup is C's element i of tile n of its warp.
SAE_HOST_DEVICE constexpr Element d_element(int thread, int n, int i) {
  return {16 * (thread / 32) + c_element(thread % 32, i).row, 8 * n + c_element(thread % 32, i).column};
}

}  // namespace sae::cuda

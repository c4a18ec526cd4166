#pragma once
// ptx.cuh on the host. Asynchronous work is done when it is waited for and not before (the copy engine's and a warpgroup's products
// earlier in some orders of threads); the tensor cores align all addends of a block to the largest magnitude and truncate, as
// pessimistically as law/bound.hpp admits.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "bf16.hpp"
#include "cuda.h"
#include "cuda_runtime.h"
#include "fragments.hpp"

namespace emu {
void copy_async(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_copies(int pending);

void init_barrier(void* barrier, int arrivals);
void publish_barriers();
void arrive(void* barrier, int64_t bytes);
void wait_barrier(void* barrier, uint32_t parity);
void copy_tile(char* tile, const CUtensorMap& map, int column, int row, void* barrier);

void begin_products();
void multiply_async(std::function<void()> product);
void commit_products();
void wait_products(int pending);

[[noreturn]] void die(const char* what);

// mode: 0 for none, 1, 2, 3 for one of 32, 64, 128 bytes. Of a shared address, bits from 4 on are permuted by those from 7 on.
inline uint32_t swizzled(uint32_t address, int mode) { return address ^ (address >> 7 & ((1u << mode) - 1)) << 4; }
}  // namespace emu

namespace sae::cuda::ptx {

inline void copy_async(void* shared, const void* global) { emu::copy_async(shared, global, 16); }
inline void commit_copies() { emu::commit_copies(); }
template <int kPending>
void wait_copies() {
  emu::wait_copies(kPending);
}

inline void load_matrices(uint32_t (&out)[4], const void* shared) {
  const int lane = emu::lane();
  const void* const* given = emu::exchange(0xffffffffu, shared, 16);
  for (int i = 0; i < 4; ++i) {
    std::memcpy(&out[i], static_cast<const char*>(given[8 * i + lane / 4]) + lane % 4 * 4, 4);
  }
}

// The power of two at or below |value|, for finite values but 0.
inline double leading_power(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits &= uint64_t{0x7ff} << 52;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

// sum + <a, b>: all addends are truncated to a multiple of 2^-23 of the largest magnitude, and so is the result.
inline float truncating_dot(float sum, const double (&a)[16], const double (&b)[16]) {
  double addend[16];
  double largest = std::fabs(static_cast<double>(sum));
  for (int k = 0; k < 16; ++k) {
    addend[k] = a[k] * b[k];
    largest = std::fmax(largest, std::fabs(addend[k]));
  }
  double result = sum;
  if (!(largest > 0) || !std::isfinite(largest)) {
    for (int k = 0; k < 16; ++k) result += addend[k];
    return static_cast<float>(result);
  }
  const double unit = leading_power(largest) * 0x1p-23;
  double units = std::trunc(result / unit);
  for (int k = 0; k < 16; ++k) units += std::trunc(addend[k] / unit);
  result = units * unit;
  if (result == 0) return 0;
  const double last = leading_power(result) * 0x1p-23;
  return static_cast<float>(std::trunc(result / last) * last);
}

inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const void* const* given = emu::exchange(0xffffffffu, mine, sizeof(mine));
  const auto half = [&](int lane, int word, int k) {
    uint32_t bits;
    std::memcpy(&bits, static_cast<const char*>(given[lane]) + 4 * word, 4);
    return static_cast<double>(from_bf16(static_cast<uint16_t>(bits >> (16 * (k & 1)))));
  };
  double rows[2][16], columns[2][16];
  for (int i = 0; i < 2; ++i) {
    const int row = c_element(emu::lane(), 2 * i).row, column = c_element(emu::lane(), i).column;
    for (int k = 0; k < 16; ++k) {
      // Who holds A[row, k] and B[k, column]: the inverse of a_element and b_element.
      rows[i][k] = half(row % 8 * 4 + k % 8 / 2, row / 8 + 2 * (k / 8), k);
      columns[i][k] = half(column * 4 + k % 8 / 2, 4 + k / 8, k);
    }
  }
  for (int i = 0; i < 4; ++i) c[i] = truncating_dot(c[i], rows[i >> 1], columns[i & 1]);
}

// ---- sm_90

inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(static_cast<const char*>(shared) - static_cast<const char*>(emu::shared_memory()));
}

inline void init_barrier(uint64_t* barrier, int arrivals) { emu::init_barrier(barrier, arrivals); }
inline void publish_to_copies() { emu::publish_barriers(); }
inline void arrive(uint64_t* barrier) { emu::arrive(barrier, 0); }
inline void arrive_expecting(uint64_t* barrier, int bytes) { emu::arrive(barrier, bytes); }
inline void wait_barrier(uint64_t* barrier, uint32_t parity) { emu::wait_barrier(barrier, parity); }
inline void copy_tile(void* tile, const CUtensorMap* map, int k, int row, uint64_t* barrier) {
  emu::copy_tile(static_cast<char*>(tile), *map, k, row, barrier);
}

// ---- sm_90a

template <int kCount>
void give_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "setmaxnreg takes no such number");
}
template <int kCount>
void take_registers() {
  give_registers<kCount>();
}

// Row r, 16 k, of an operand as the manual has it: lines of k in groups of eight rows, `stride` from group to group, in a swizzle
// of 128, 64 or 32 bytes; without one in core matrices of 8 x 16 bytes, `leading` from one to the next along k. False if all are 0.
inline bool read_operand(uint64_t descriptor, int r, double (&values)[16]) {
  const auto field = [&](int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  const int mode = static_cast<int>(4 - (descriptor >> 62)) % 4;  // as copies count it: 128 bytes are 3 there and 1 here
  if ((descriptor >> 49 & 7) != 0) emu::die("a matrix descriptor's base offset is not emulated");
  uint64_t any = 0;
  for (int piece = 0; piece < 2; ++piece) {
    const uint32_t line = mode == 0 ? 16 : 16u << mode, next = mode == 0 ? leading : 16;
    const uint32_t address = start + r / 8 * stride + r % 8 * line + piece * next;
    uint16_t bits[8];
    std::memcpy(bits, static_cast<const char*>(emu::shared_memory()) + emu::swizzled(address, mode), sizeof(bits));
    for (int k = 0; k < 8; ++k) {
      values[8 * piece + k] = from_bf16(bits[k]);
      any |= bits[k];
    }
  }
  return any != 0;
}

inline void begin_products(float (&)[32][4]) { emu::begin_products(); }
inline void multiply_async(float (&sum)[32][4], uint64_t a, uint64_t b) {
  float(*const to)[4] = sum;
  const int thread = threadIdx.x % 128;
  emu::multiply_async([=] {
    double rows[2][16], column[16];
    for (int half = 0; half < 2; ++half) read_operand(a, d_element(thread, 0, 2 * half).row, rows[half]);
    for (int n = 0; n < 32; ++n) {
      for (int i = 0; i < 2; ++i) {
        if (!read_operand(b, d_element(thread, n, i).column, column)) continue;
        for (int half = 0; half < 2; ++half) to[n][2 * half + i] = truncating_dot(to[n][2 * half + i], rows[half], column);
      }
    }
  });
}
inline void commit_products() { emu::commit_products(); }
template <int kPending>
void wait_products() {
  emu::wait_products(kPending);
  __syncwarp();
}
inline void finish_products(float (&)[32][4]) { wait_products<0>(); }

}  // namespace sae::cuda::ptx

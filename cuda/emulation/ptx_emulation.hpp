#pragma once
// ptx.cuh on the host. Asynchronous copies are done when they are waited for and not before; the tensor cores align all addends of a
// block to the largest magnitude and truncate, as pessimistically as bound.hpp admits.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "bf16.hpp"
#include "cuda_runtime.h"
#include "fragments.hpp"

namespace emu {
void copy_async(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_copies(int pending);
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

}  // namespace sae::cuda::ptx

#pragma once
// bfloat16 by its bits, on the host and the device alike.
#include <cstdint>
#include <cstring>

#include "law/bound.hpp"

namespace sae::cuda {

// Round to nearest, ties to even; what would be denormal becomes 0, since not all hardware keeps denormals. The caller's residual
// x - x' carries what is lost, an overflow to infinity included.
SAE_HOST_DEVICE inline uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffu) < 0x00800000u) return 0;
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

SAE_HOST_DEVICE inline float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace sae::cuda

#pragma once
// By what the k best of a row are chosen. Ties go to the lower feature; a value of zero is never chosen.
#include <cmath>
#include <cstdint>

#include "law/host_device.hpp"
#include "sae4j.h"

namespace sae {

enum class Order {
  kAbs,       // the largest |value|
  kPerSign,   // the most positive, and as many most negative ones
  kPositive,  // the largest value, of the positive ones alone
  kSigned     // the largest value, negative ones last
};

// Of SAE_SELECT_TOP, TOP_SIGNED and TOP_ABS.
inline Order order_of(sae_selection selection) {
  return selection == SAE_SELECT_TOP ? Order::kPositive : selection == SAE_SELECT_TOP_SIGNED ? Order::kSigned : Order::kAbs;
}

// What the values of one side are compared by.
SAE_HOST_DEVICE inline float rank_of(float value, Order order) { return order == Order::kSigned ? value : fabsf(value); }

// What a value of each row must reach on its side, [rows]: value >= positive or -value >= negative. Where size alone counts both are the
// same; where negative values can't be chosen by their size the negative one is infinite.
struct Cuts {
  float *positive, *negative;
  SAE_HOST_DEVICE bool reached(int64_t row, float value) const { return value >= positive[row] || -value >= negative[row]; }
};

}  // namespace sae

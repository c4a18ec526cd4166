#pragma once
// What bounds and digits need to know of vectors [d]. Products of two floats are exact in double and the order of the sums is
// fixed, so all instruction sets give the same bits.
#include <cstdint>

namespace sae {

// ||a||; not finite if an element is not.
double norm(const float* a, int64_t d);

// <a, b> in double.
double product(const float* a, const float* b, int64_t d);

// max |a_i|; 0 for d = 0.
float largest_of(const float* a, int64_t d);

}  // namespace sae

#pragma once
// The inner loops, one set of them for each instruction set. All sets give the same bits (sae4j.h, "Numbers").
#include <cstdint>

#include "law/bound.hpp"

namespace sae {

struct Kernels {
  const char* name;
  bool (*supported)();

  // Dot(x, w) of d elements.
  float (*dot)(const float* x, const float* w, int64_t d);

  // out[k] = Dot(row rows[k] of x [.., d], w) for k < count: w is loaded once for several rows.
  void (*dots)(const float* x, const int32_t* rows, int count, const float* w, int64_t d, float* out);

  // Bit r, r < count <= 64, is set iff row r may be active: !(s[r] + b[r] < cut).
  uint64_t (*above)(const float* s, const Bounds& b, int count, float cut);

  // Bit r is set iff row r may enter its top k on either side:
  // !(fma(scale, s[r] + b[r], offset) < positive_cut[r]) or !(fma(scale, b[r] - s[r], -offset) < negative_cut[r]).
  uint64_t (*beyond)(const float* s, const Bounds& b, int count, float scale, float offset, const float* positive_cut,
                     const float* negative_cut);

  // out[i] = bias[i] + sum_k values[k] rows[indices[k] * stride + i] for i < width, k ascending by fma from +0, the bias last;
  // bias may be null.
  void (*gather)(const float* rows, int64_t stride, const int32_t* indices, const float* values, int64_t nnz,
                 const float* bias, int64_t width, float* out);
};

extern const Kernels kAvx512Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kPortableKernels;

// Best first; ends with null. The one list of them.
extern const Kernels* const kAllKernels[];

// The named form, or the best one for null. Throws Error if the name is unknown or this CPU can't run it.
const Kernels& choose_kernels(const char* name);

}  // namespace sae

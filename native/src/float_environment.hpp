#pragma once
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace sae {

// Round to nearest, denormals kept, no traps: results are defined under these. What the caller had comes back.
class DefaultFloatEnvironment {
 public:
#if defined(__SSE__)
  DefaultFloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloatEnvironment() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFloatEnvironment() : saved_(__builtin_aarch64_get_fpcr()) { __builtin_aarch64_set_fpcr(0); }
  ~DefaultFloatEnvironment() { __builtin_aarch64_set_fpcr(saved_); }

 private:
  unsigned saved_;
#else
  DefaultFloatEnvironment() = default;
#endif
 public:
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;
};

}  // namespace sae

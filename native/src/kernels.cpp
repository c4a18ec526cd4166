#include "kernels.hpp"

#include <cstring>

#include "error.hpp"

namespace sae {

const Kernels* const kAllKernels[] = {&kAvx512Kernels, &kAvx2Kernels, &kPortableKernels, nullptr};

const Kernels& choose_kernels(const char* name) {
  for (const Kernels* const* kernels = kAllKernels; *kernels != nullptr; ++kernels) {
    const bool wanted = name == nullptr || std::strcmp(name, (*kernels)->name) == 0;
    if (wanted && (*kernels)->supported()) return **kernels;
    if (wanted && name != nullptr) fail(SAE_UNAVAILABLE, "kernel %s needs instructions that this CPU lacks", name);
  }
  fail(SAE_INVALID_ARGUMENT, "kernel must be avx512, avx2 or portable, got \"%s\"", name);
}

}  // namespace sae

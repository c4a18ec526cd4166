#include "kernels.hpp"

#include <cstring>
#include <string>

#include "error.hpp"

namespace sae {

const Kernels* const kAllKernels[] = {
#if defined(__x86_64__)
    &kAvx512Kernels, &kAvx2Kernels,
#endif
    &kPortableKernels, nullptr};

const Kernels& choose_kernels(const char* name) {
  std::string names;
  for (const Kernels* const* kernels = kAllKernels; *kernels != nullptr; ++kernels) {
    const bool wanted = name == nullptr || std::strcmp(name, (*kernels)->name) == 0;
    if (wanted && (*kernels)->supported()) return **kernels;
    if (wanted && name != nullptr) fail(SAE_UNAVAILABLE, "kernel %s needs instructions that this CPU lacks", name);
    names += (names.empty() ? "" : kernels[1] == nullptr ? " or " : ", ") + std::string((*kernels)->name);
  }
  fail(SAE_INVALID_ARGUMENT, "kernel must be %s, got \"%s\"", names.c_str(), name);
}

}  // namespace sae

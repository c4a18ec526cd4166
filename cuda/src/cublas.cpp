#include "cublas.hpp"

#include <dlfcn.h>

#include <mutex>

namespace sae::cuda {
namespace {

template <typename Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

Cublas functions;
std::string why_not;
bool is_loaded = false;

void load() {
  void* library = nullptr;
  std::string tried;
  // By its name, which the loader's path and the preset's copy serve; then where a toolkit lies.
  for (const char* name : {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13"}) {
    library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
    if (tried.empty()) tried = dlerror();
  }
  if (library == nullptr) {
    why_not = "cuBLAS 13 cannot be loaded: " + tried;
    return;
  }
  is_loaded = find(library, "cublasCreate_v2", &functions.create) && find(library, "cublasDestroy_v2", &functions.destroy) &&
              find(library, "cublasSetStream_v2", &functions.set_stream) &&
              find(library, "cublasSetMathMode", &functions.set_math_mode) &&
              find(library, "cublasGetVersion_v2", &functions.version) && find(library, "cublasSgemm_v2", &functions.sgemm) &&
              find(library, "cublasGemmEx", &functions.gemm_ex);
  if (!is_loaded) why_not = "libcublas.so.13 lacks a function: " + std::string(dlerror());
}

}  // namespace

const Cublas* load_cublas(std::string* reason) {
  static std::once_flag once;
  std::call_once(once, load);
  if (!is_loaded && reason != nullptr) *reason = why_not;
  return is_loaded ? &functions : nullptr;
}

}  // namespace sae::cuda

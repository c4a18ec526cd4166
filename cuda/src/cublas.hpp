#pragma once
// The few functions of cuBLAS that we call, found at run time: the library comes with a toolkit, and nothing needs it but the dense
// projection and the screen that is named after it.
#include <cuda_runtime.h>

#include <string>

namespace sae::cuda {

// As cublas_v2.h declares them.
struct Cublas {
  int (*create)(void** handle);
  int (*destroy)(void* handle);
  int (*set_stream)(void* handle, cudaStream_t stream);
  int (*set_math_mode)(void* handle, int mode);
  int (*version)(void* handle, int* version);
  int (*sgemm)(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha, const float* a, int lda,
               const float* b, int ldb, const float* beta, float* c, int ldc);
  int (*gemm_ex)(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                 int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute_type,
                 int algorithm);
};

constexpr int kNotTransposed = 0, kTransposed = 1;              // CUBLAS_OP_N, CUBLAS_OP_T
constexpr int kReal32 = 0, kReal16Bf = 14;                      // CUDA_R_32F, CUDA_R_16BF
constexpr int kCompute32 = 68;                                  // CUBLAS_COMPUTE_32F
constexpr int kDefaultAlgorithm = -1;                           // CUBLAS_GEMM_DEFAULT
constexpr int kNoReducedPrecisionReduction = 16;                // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, no TF32

// Null, with the reason, where cuBLAS cannot be loaded. Loaded once for the process.
const Cublas* load_cublas(std::string* reason);

}  // namespace sae::cuda

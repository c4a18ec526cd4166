// cuBLAS on the host, for tests: the two products that the backend asks for, in double, rounded once.
#include "cublas.hpp"

#include <cstring>
#include <vector>

#include "bf16.hpp"

namespace sae::cuda {
namespace {

struct Handle {
  cudaStream_t stream = nullptr;
};

// c [m, n] = a^T b, column-major, a [k, m] and b [k, n] read as floats.
template <typename Read>
void multiply(int m, int n, int k, const Read& a, const Read& b, float* c, int ldc) {
  std::vector<double> rows(static_cast<size_t>(m) * k);
  for (int i = 0; i < m; ++i) {
    for (int p = 0; p < k; ++p) rows[static_cast<size_t>(i) * k + p] = a(i, p);
  }
  std::vector<double> column(k);
  for (int j = 0; j < n; ++j) {
    for (int p = 0; p < k; ++p) column[p] = b(j, p);
    for (int i = 0; i < m; ++i) {
      double sum = 0;
      for (int p = 0; p < k; ++p) sum += rows[static_cast<size_t>(i) * k + p] * column[p];
      c[static_cast<int64_t>(j) * ldc + i] = static_cast<float>(sum);
    }
  }
}

// A kernel that multiplies, in the handle's stream.
void enqueue(void* handle, std::function<void()> work) {
  emu::launch(dim3(1), dim3(1), 0, static_cast<Handle*>(handle)->stream, std::move(work));
}

struct ReadFloat {
  const float* data;
  int64_t ld;
  double operator()(int64_t column, int64_t row) const { return data[column * ld + row]; }
};

struct ReadBf16 {
  const uint16_t* data;
  int64_t ld;
  double operator()(int64_t column, int64_t row) const { return from_bf16(data[column * ld + row]); }
};

const Cublas kFunctions = {
    [](void** handle) { return *handle = new Handle, 0; },
    [](void* handle) { return delete static_cast<Handle*>(handle), 0; },
    [](void* handle, cudaStream_t stream) { return static_cast<Handle*>(handle)->stream = stream, 0; },
    [](void*, int) { return 0; },
    [](void*, int* version) { return *version = 0; },
    [](void* handle, int, int, int m, int n, int k, const float*, const float* a, int lda, const float* b, int ldb, const float*,
       float* c, int ldc) {
      enqueue(handle, [=] { multiply(m, n, k, ReadFloat{a, lda}, ReadFloat{b, ldb}, c, ldc); });
      return 0;
    },
    [](void* handle, int, int, int m, int n, int k, const void*, const void* a, int, int lda, const void* b, int, int ldb,
       const void*, void* c, int, int ldc, int, int) {
      enqueue(handle, [=] {
        multiply(m, n, k, ReadBf16{static_cast<const uint16_t*>(a), lda}, ReadBf16{static_cast<const uint16_t*>(b), ldb},
                 static_cast<float*>(c), ldc);
      });
      return 0;
    },
};

}  // namespace

const Cublas* load_cublas(std::string*) { return &kFunctions; }

}  // namespace sae::cuda

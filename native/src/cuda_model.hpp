#pragma once
// The CUDA backend as libsae4j sees it: a library loaded on request (cuda_backend.h), behind the same sae_model as the CPU's.
#include "cuda_backend.h"
#include "model.hpp"
#include "thread_pool.hpp"

namespace sae {

// Loads the backend's library, once for the process. Throws Error with the reason if it cannot be.
void load_cuda(const char* library);

// Null before load_cuda.
const sae_cuda_backend* cuda_backend();

class CudaModel final : public sae_model {
 public:
  // Throws Error if the backend is not loaded, the device cannot serve, or the weights do not fit there.
  CudaModel(const Weights& weights, int device, int threads, const char* screen, void* stream);
  ~CudaModel() override;

  void encode(const float* x, int64_t n, sae_codes& codes) const override;
  bool finds(const sae_codes& codes) const override;
  void decode(const sae_codes& codes, const float* x, bool direction, float* x_hat) const override;
  void project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) const override;
  void project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign,
                   sae_codes& codes) const override;
  void pursue(const float* v, int64_t n, const Pursuit& how, sae_codes& codes) const override;
  const char* screen_for(int64_t n) const override;

 private:
  sae_cuda_codes* room(sae_codes& codes) const;

  const sae_cuda_backend& backend_;
  sae_cuda_engine* engine_ = nullptr;
  mutable ThreadPool pool_;
};

}  // namespace sae

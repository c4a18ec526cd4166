// The table that libsae4j looks up: each entry turns exceptions into a status and a text. No arithmetic.
#include <memory>
#include <string>

#include "cublas.hpp"
#include "engine.hpp"

struct sae_cuda_engine : sae::cuda::Engine {
  using Engine::Engine;
};

struct sae_cuda_codes : sae::cuda::Codes {
  using Codes::Codes;
};

namespace {

using sae::cuda::Screen;

thread_local sae::ErrorText last_error = "";

template <typename Body>
sae_status guarded(const Body& body) {
  return sae::status_of(body, last_error);
}

// The calling thread's text, for functions that return one.
const char* text(std::string value) {
  thread_local std::string kept;
  kept = std::move(value);
  return kept.c_str();
}

const sae_cuda_backend kTable = {
    SAE_CUDA_BACKEND_VERSION,
    sae::cuda::kScreenCount,
    []() -> const char* { return last_error; },
    [](int32_t device) { return text(sae::cuda::device_reason(device)); },
    [](int32_t device) {
      const std::string line = sae::cuda::describe_device(device);
      if (line.empty()) return text("");
      // Loaded for this answer and where it multiplies, not by opening a model: it is large.
      return text(line + (sae::cuda::load_cublas(nullptr) == nullptr ? ", no cuBLAS" : ", cuBLAS"));
    },
    [](int32_t screen) { return sae::cuda::screen_name(static_cast<Screen>(screen)); },
    [](int32_t device, int32_t screen) {
      const std::string reason = sae::cuda::device_reason(device);
      return text(reason.empty() ? sae::cuda::screen_reason(device, static_cast<Screen>(screen)) : reason);
    },
    [](int32_t device) { return sae::cuda::screen_name(sae::cuda::default_screen(device)); },

    [](int32_t device, const sae_weights* weights, int32_t threads, const char* screen, void* stream,
       sae_cuda_engine** engine) {
      return guarded([&] {
        *engine = nullptr;
        *engine = new sae_cuda_engine(device, *weights, threads, screen, static_cast<cudaStream_t>(stream));
      });
    },
    [](sae_cuda_engine* engine) { delete engine; },
    [](const sae_cuda_engine* engine) { return engine->description(); },
    [](const sae_cuda_engine* engine, int64_t n) { return engine->screen_for(n); },

    [](const sae_cuda_engine* engine, sae_cuda_codes** codes) {
      return guarded([&] { *codes = new sae_cuda_codes(engine->device()); });
    },
    [](sae_cuda_codes* codes) {
      if (codes != nullptr) cudaSetDevice(codes->device);
      delete codes;
    },
    [](const sae_cuda_engine* engine, const sae_cuda_codes* codes) -> int32_t { return engine->device() == codes->device; },
    [](const sae_cuda_codes* codes) { return codes->nnz; },
    [](sae_cuda_engine* engine, sae_cuda_codes* codes, int64_t n, const int64_t* row_offsets, const int32_t* indices,
       const float* values, const float* scale, const float* shift) {
      return guarded([&] { engine->upload(*codes, n, row_offsets, indices, values, scale, shift); });
    },
    [](const sae_cuda_codes* codes, int64_t* row_offsets, int32_t* indices, float* values, float* scale, float* shift) {
      return guarded([&] { codes->download(row_offsets, indices, values, scale, shift); });
    },

    [](sae_cuda_engine* engine, const float* x, int64_t n, sae_cuda_codes* codes) {
      return guarded([&] { engine->encode(x, n, *codes); });
    },
    [](sae_cuda_engine* engine, const sae_cuda_codes* codes, const float* x, int32_t direction, float* x_hat) {
      return guarded([&] { engine->decode(*codes, x, direction != 0, x_hat); });
    },
    [](sae_cuda_engine* engine, const float* v, int64_t n, sae_readout readout, int32_t unit, float* coefficients) {
      return guarded([&] { engine->project_dense(v, n, readout, unit != 0, coefficients); });
    },
    [](sae_cuda_engine* engine, const float* v, int64_t n, sae_readout readout, int32_t unit, int64_t k, int32_t per_sign,
       sae_cuda_codes* codes) {
      return guarded([&] { engine->project_top(v, n, readout, unit != 0, k, per_sign != 0, *codes); });
    },
    [](sae_cuda_engine* engine, const float* from, int64_t count, float* to) {
      return guarded([&] { engine->to_host(from, count, to); });
    },
};

}  // namespace

extern "C" const sae_cuda_backend* sae_cuda_backend_table(void) { return &kTable; }

#include "cuda_model.hpp"

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <vector>

#include "error.hpp"
#include "pursuit.hpp"

namespace sae {
namespace {

const sae_cuda_backend* loaded = nullptr;
std::mutex loading;

const sae_cuda_backend& require_backend() {
  if (cuda_backend() == nullptr) fail(SAE_UNAVAILABLE, "the CUDA backend is not loaded");
  return *cuda_backend();
}

void require_ok(const sae_cuda_backend& backend, sae_status status) {
  if (status != SAE_OK) throw Error(status, backend.last_error());
}

// The device's copy of codes: owned by them, and used again by the next call that writes them.
class CudaCodes final : public DeviceCodes {
 public:
  CudaCodes(const sae_cuda_backend& backend, const sae_cuda_engine* engine) : backend_(backend) {
    require_ok(backend, backend.codes_create(engine, &handle_));
  }
  ~CudaCodes() override { backend_.codes_destroy(handle_); }

  void download(int64_t* row_offsets, int32_t* indices, float* values, float* scale, float* shift) const override {
    require_ok(backend_, backend_.codes_download(handle_, row_offsets, indices, values, scale, shift));
  }

  sae_cuda_codes* handle() const { return handle_; }

 private:
  const sae_cuda_backend& backend_;
  sae_cuda_codes* handle_ = nullptr;
};

sae_cuda_codes* handle_of(DeviceCodes* codes) {
  // There is one backend with codes on a device, so this is what they are.
  return codes == nullptr ? nullptr : static_cast<CudaCodes*>(codes)->handle();
}

}  // namespace

void load_cuda(const char* library) {
  std::lock_guard<std::mutex> lock(loading);
  if (loaded != nullptr) return;
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail(SAE_UNAVAILABLE, "the CUDA backend cannot be loaded: %s", dlerror());
  const auto table =
      reinterpret_cast<decltype(&sae_cuda_backend_table)>(dlsym(handle, "sae_cuda_backend_table"));
  if (table == nullptr || table()->version != SAE_CUDA_BACKEND_VERSION) {
    const int version = table == nullptr ? 0 : table()->version;
    dlclose(handle);
    fail(SAE_UNAVAILABLE, "%s is not this version's CUDA backend: expected %d, got %d", library, SAE_CUDA_BACKEND_VERSION,
         version);
  }
  __atomic_store_n(&loaded, table(), __ATOMIC_RELEASE);
}

const sae_cuda_backend* cuda_backend() { return __atomic_load_n(&loaded, __ATOMIC_ACQUIRE); }

CudaModel::CudaModel(const Weights& weights, int device, int threads, const char* screen, void* stream)
    : sae_model(weights), backend_(require_backend()), pool_(threads) {
  require_ok(backend_, backend_.open(device, &weights, threads, screen, stream, &engine_));
  description = backend_.description(engine_);
}

CudaModel::~CudaModel() { backend_.close(engine_); }

const char* CudaModel::screen_for(int64_t n) const { return backend_.screen_for(engine_, n); }

// Where the device may write these codes.
sae_cuda_codes* CudaModel::room(sae_codes& codes) const {
  if (!codes.device() || !backend_.codes_fit(engine_, handle_of(codes.device().get()))) {
    codes.device() = std::make_unique<CudaCodes>(backend_, engine_);
  }
  return handle_of(codes.device().get());
}

void CudaModel::encode(const float* x, int64_t n, sae_codes& codes) const {
  sae_cuda_codes* device = room(codes);
  require_ok(backend_, backend_.encode(engine_, x, n, device));
  codes.hold_on_device(n, backend_.codes_nnz(device), weights.normalization != SAE_NORMALIZE_NONE);
}

bool CudaModel::finds(const sae_codes& codes) const {
  const sae_cuda_codes* device = handle_of(codes.on_device());
  return device != nullptr && backend_.codes_fit(engine_, device);
}

void CudaModel::decode(const sae_codes& codes, const float* x, bool direction, float* x_hat) const {
  if (finds(codes)) {
    require_ok(backend_, backend_.decode(engine_, handle_of(codes.on_device()), x, direction, x_hat));
    return;
  }
  const CudaCodes uploaded(backend_, engine_);
  require_ok(backend_, backend_.codes_upload(engine_, uploaded.handle(), codes.rows(), codes.row_offsets(),
                                             codes.indices(), codes.values(), codes.scale(), codes.shift()));
  require_ok(backend_, backend_.decode(engine_, uploaded.handle(), x, direction, x_hat));
}

void CudaModel::project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) const {
  require_ok(backend_, backend_.project_dense(engine_, v, n, readout, unit, coefficients));
}

void CudaModel::project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign,
                            sae_codes& codes) const {
  sae_cuda_codes* device = room(codes);
  require_ok(backend_, backend_.project_top(engine_, v, n, readout, unit, k, per_sign, device));
  codes.hold_on_device(n, backend_.codes_nnz(device), false);
}

// The solver is sequential and the host's; v may be the device's.
void CudaModel::pursue(const float* v, int64_t n, const Pursuit& how, sae_codes& codes) const {
  std::vector<float> host(static_cast<size_t>(n * weights.d_out));
  require_ok(backend_, backend_.to_host(engine_, v, n * weights.d_out, host.data()));
  sae::pursue(*this, pool_, host.data(), n, how, codes);
}

}  // namespace sae

// The C boundary: null and range checks, and exceptions into statuses. No arithmetic.
#include <cblas.h>

#include <climits>
#include <cmath>
#include <cstdio>
#include <memory>
#include <new>
#include <string>

#include "codes.hpp"
#include "cpu_model.hpp"
#include "cuda_model.hpp"
#include "error.hpp"
#include "float_environment.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "model.hpp"
#include "int8.hpp"
#include "screen.hpp"

namespace sae {

void require_valid_vectors(const Weights& weights) {
  for (int64_t j = 0; j < weights.d_sae; ++j) {
    const bool valid = !std::isnan(weights.threshold[j]) && std::isfinite(weights.offset[j]) &&
                       std::isfinite(weights.scale[j]) && weights.scale[j] > 0;
    if (!valid) {
      fail(SAE_INVALID_ARGUMENT, "feature %lld: threshold must be a number, offset finite and scale positive, got %g, %g, %g",
           static_cast<long long>(j), weights.threshold[j], weights.offset[j], weights.scale[j]);
    }
  }
  for (int64_t i = 0; i < weights.d_out; ++i) {
    if (!std::isfinite(weights.b_dec[i])) {
      fail(SAE_INVALID_ARGUMENT, "b_dec must be finite, got %g at %lld", weights.b_dec[i], static_cast<long long>(i));
    }
  }
}

}  // namespace sae

namespace {

using sae::fail;

thread_local sae::ErrorText last_error = "";

// Every function that can fail runs its body through this.
template <typename Body>
sae_status guarded(const Body& body) {
  const sae::DefaultFloatEnvironment environment;
  return sae::status_of(body, last_error);
}

// As guarded, and codes that the body was writing hold no rows if it fails.
template <typename Body>
sae_status guarded_writing(sae_codes* codes, const Body& body) {
  const sae_status status = guarded(body);
  if (status != SAE_OK && codes != nullptr) codes->clear(codes->features());
  return status;
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(SAE_INVALID_ARGUMENT, "%s is null", name);
}

void require_range(int64_t value, int64_t low, int64_t high, const char* name) {
  if (value < low || value > high) {
    fail(SAE_INVALID_ARGUMENT, "%s must be %lld to %lld, got %lld", name, static_cast<long long>(low),
         static_cast<long long>(high), static_cast<long long>(value));
  }
}

// An array of n rows, which may be null if there are none.
void require_rows(const void* pointer, int64_t n, int64_t d, const char* name) {
  require_range(n, 0, INT64_MAX / 16 / d, "n");
  if (n > 0) require(pointer, name);
}

void require_fraction(double value, const char* name) {
  if (!(value >= 0 && value < 1)) fail(SAE_INVALID_ARGUMENT, "%s must be at least 0 and below 1, got %g", name, value);
}

void require_projection(const sae_model* model, const float* v, int64_t n, sae_readout readout, int32_t unit) {
  require(model, "model");
  require_range(readout, SAE_READOUT_DECODER, SAE_READOUT_ENCODER, "readout");
  if (readout == SAE_READOUT_ENCODER && unit != 0) {
    fail(SAE_INVALID_ARGUMENT, "unit applies to the decoder readout, got the encoder readout");
  }
  require_rows(v, n, readout == SAE_READOUT_DECODER ? model->weights.d_out : model->weights.d_in, "v");
}

// All but the matrices' values, which a backend reads anyway.
void require_valid(const sae_weights* weights) {
  require(weights, "weights");
  require_range(weights->d_in, 1, 1 << 24, "d_in");
  require_range(weights->d_out, 1, 1 << 24, "d_out");
  require_range(weights->d_sae, 1, INT32_MAX, "d_sae");
  require(weights->w_enc, "w_enc");
  require(weights->w_dec, "w_dec");
  require(weights->b_dec, "b_dec");
  require(weights->threshold, "threshold");
  require(weights->scale, "scale");
  require(weights->offset, "offset");
  require_range(weights->selection, SAE_SELECT_GATE, SAE_SELECT_TOP_ABS, "selection");
  if (weights->selection != SAE_SELECT_GATE) require_range(weights->k, 1, weights->d_sae, "k");
  require_range(weights->normalization, SAE_NORMALIZE_NONE, SAE_NORMALIZE_CONSTANT, "normalization");
  if (weights->normalization == SAE_NORMALIZE_LAYER) require_range(weights->d_in, 2, 1 << 24, "d_in of a layer norm");
  if (weights->normalization != SAE_NORMALIZE_NONE && weights->d_out != weights->d_in) {
    fail(SAE_INVALID_ARGUMENT, "a model that normalises must have d_out = d_in = %lld, got %lld",
         static_cast<long long>(weights->d_in), static_cast<long long>(weights->d_out));
  }
  sae::require_valid_vectors(*weights);
}

// An array of codes; null, with the error remembered, if it could not be brought from a device.
template <typename T>
const T* array_of(const sae_codes* codes, const T* (sae_codes::*array)() const) {
  const T* result = nullptr;
  if (codes != nullptr) guarded([&] { result = (codes->*array)(); });
  return result;
}

std::string openblas_version() {
  // "OpenBLAS 0.3.31 DYNAMIC_ARCH ..." -> "OpenBLAS 0.3.31", then the core it chose.
  const std::string config = openblas_get_config();
  return config.substr(0, config.find(' ', config.find(' ') + 1)) + " " + openblas_get_corename();
}

}  // namespace

extern "C" {

const char* sae_version(void) { return SAE4J_VERSION; }

const char* sae_last_error(void) { return last_error; }

const char* sae_cpu_describe(void) {
  thread_local std::string text;
  text = "kernels";
  for (const sae::Kernels* const* k = sae::kAllKernels; *k != nullptr; ++k) {
    if ((*k)->supported()) text += std::string(" ") + (*k)->name;
  }
  text += std::string(", int8 ") + sae::int8_kernels(sae::choose_kernels(nullptr)).name;
  const int threads = openblas_get_num_threads();
  text += ", " + openblas_version() + " with " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  return text.c_str();
}

int32_t sae_cpu_screen_count(void) { return sae::kScreenCount; }

const char* sae_cpu_screen_name(int32_t screen) {
  return screen < 0 || screen >= sae::kScreenCount ? "" : sae::screen_name(static_cast<sae::Screen>(screen));
}

const char* sae_cpu_screen_reason(int32_t screen) {
  return screen < 0 || screen >= sae::kScreenCount ? "no such screen" : sae::screen_reason(static_cast<sae::Screen>(screen));
}

float* sae_alloc(int64_t count) {
  float* array = nullptr;
  guarded([&] { array = sae::alloc_floats(count); });
  return array;
}

void sae_free(float* array) { sae::free_floats(array); }

const char* sae_cpu_default_screen(void) {
  const auto serves = [](sae::Screen screen) { return *sae::screen_reason(screen) == 0; };
  const bool of_batches = sae::int8_kernels(sae::choose_kernels(nullptr)).scores != nullptr;
  return sae::screen_name(of_batches && serves(sae::Screen::kInt8) ? sae::Screen::kInt8
                          : serves(sae::Screen::kSgemm) ? sae::Screen::kSgemm
                                                        : sae::Screen::kCanonical);
}

sae_status sae_cpu_open(const sae_weights* weights, int32_t threads, const char* screen, const char* kernel,
                        sae_model** model) {
  return guarded([&] {
    require(model, "model");
    *model = nullptr;
    require_range(threads, 1, 1024, "threads");
    require_valid(weights);
    auto opened = std::make_unique<sae::CpuModel>(*weights, threads, screen, kernel);
    opened->description += ", " + openblas_version();
    *model = opened.release();
  });
}

sae_status sae_cuda_load(const char* library) {
  return guarded([&] {
    require(library, "library");
    sae::load_cuda(library);
  });
}

const char* sae_cuda_reason(int32_t device) {
  const sae_cuda_backend* backend = sae::cuda_backend();
  return backend == nullptr ? "the CUDA backend is not loaded" : backend->reason(device);
}

const char* sae_cuda_describe(int32_t device) {
  const sae_cuda_backend* backend = sae::cuda_backend();
  return backend == nullptr ? "" : backend->describe(device);
}

int32_t sae_cuda_screen_count(void) {
  const sae_cuda_backend* backend = sae::cuda_backend();
  return backend == nullptr ? 0 : backend->screen_count;
}

const char* sae_cuda_screen_name(int32_t screen) {
  return screen < 0 || screen >= sae_cuda_screen_count() ? "" : sae::cuda_backend()->screen_name(screen);
}

const char* sae_cuda_screen_reason(int32_t device, int32_t screen) {
  return screen < 0 || screen >= sae_cuda_screen_count() ? "no such screen" : sae::cuda_backend()->screen_reason(device, screen);
}

const char* sae_cuda_default_screen(int32_t device) {
  const sae_cuda_backend* backend = sae::cuda_backend();
  return backend == nullptr ? "" : backend->default_screen(device);
}

sae_status sae_cuda_open(int32_t device, const sae_weights* weights, int32_t threads, const char* screen, void* stream,
                         sae_model** model) {
  return guarded([&] {
    require(model, "model");
    *model = nullptr;
    require_range(threads, 1, 1024, "threads");
    require_valid(weights);
    *model = new sae::CudaModel(*weights, device, threads, screen, stream);
  });
}

void sae_close(sae_model* model) { delete model; }

const char* sae_describe(const sae_model* model) { return model == nullptr ? "" : model->description.c_str(); }

int64_t sae_screen_bytes(const sae_model* model) { return model == nullptr ? 0 : model->screen_bytes(); }

const char* sae_screen_for(const sae_model* model, int64_t n) { return model == nullptr ? "" : model->screen_for(n); }

sae_status sae_codes_create(sae_codes** codes) {
  return guarded([&] {
    require(codes, "codes");
    *codes = new sae_codes();
  });
}

void sae_codes_destroy(sae_codes* codes) { delete codes; }

sae_status sae_codes_assign(sae_codes* codes, int64_t n, int64_t d_sae, const int64_t* row_offsets, const int32_t* indices,
                            const float* values, const float* scale, const float* shift) {
  return guarded_writing(codes, [&] {
    require(codes, "codes");
    require_range(n, 0, INT64_MAX / 16, "n");
    require_range(d_sae, 1, INT32_MAX, "d_sae");
    require(row_offsets, "row_offsets");
    codes->clear(d_sae);
    if (row_offsets[0] != 0) {
      fail(SAE_INVALID_ARGUMENT, "row_offsets[0] must be 0, got %lld", static_cast<long long>(row_offsets[0]));
    }
    for (int64_t row = 0; row < n; ++row) {
      const int64_t begin = row_offsets[row];
      const int64_t count = row_offsets[row + 1] - begin;
      if (count < 0 || count > d_sae) {
        fail(SAE_INVALID_ARGUMENT, "row_offsets[%lld] must be at most d_sae = %lld above the one before, got %lld after %lld",
             static_cast<long long>(row + 1), static_cast<long long>(d_sae), static_cast<long long>(row_offsets[row + 1]),
             static_cast<long long>(begin));
      }
      if (count > 0) {
        require(indices, "indices");
        require(values, "values");
      }
      int64_t previous = -1;
      for (int64_t k = begin; k < begin + count; ++k) {
        if (indices[k] <= previous || indices[k] >= d_sae) {
          fail(SAE_INVALID_ARGUMENT, "indices of row %lld must ascend strictly within [0, %lld), got %d after %lld",
               static_cast<long long>(row), static_cast<long long>(d_sae), indices[k], static_cast<long long>(previous));
        }
        if (!std::isfinite(values[k])) {
          fail(SAE_INVALID_ARGUMENT, "values must be finite, got %g for feature %d of row %lld", values[k], indices[k],
               static_cast<long long>(row));
        }
        previous = indices[k];
      }
      codes->append_row(indices + begin, values + begin, count);
    }
    if ((scale == nullptr) != (shift == nullptr)) {
      fail(SAE_INVALID_ARGUMENT, "scale and shift must both be given, or neither");
    }
    if (scale == nullptr) return;
    for (int64_t row = 0; row < n; ++row) {
      if (!std::isfinite(scale[row]) || !std::isfinite(shift[row])) {
        fail(SAE_INVALID_ARGUMENT, "scale and shift must be finite, got %g and %g in row %lld", scale[row], shift[row],
             static_cast<long long>(row));
      }
    }
    codes->append_normalization(scale, shift, n);
  });
}

sae_status sae_codes_to_host(sae_codes* codes) {
  return guarded([&] {
    require(codes, "codes");
    codes->to_host();
  });
}

int64_t sae_codes_rows(const sae_codes* codes) { return codes == nullptr ? 0 : codes->rows(); }
int64_t sae_codes_features(const sae_codes* codes) { return codes == nullptr ? 0 : codes->features(); }
int64_t sae_codes_nnz(const sae_codes* codes) { return codes == nullptr ? 0 : codes->nnz(); }
const int64_t* sae_codes_row_offsets(const sae_codes* codes) { return array_of(codes, &sae_codes::row_offsets); }
const int32_t* sae_codes_indices(const sae_codes* codes) { return array_of(codes, &sae_codes::indices); }
const float* sae_codes_values(const sae_codes* codes) { return array_of(codes, &sae_codes::values); }
int32_t sae_codes_normalized(const sae_codes* codes) { return codes != nullptr && codes->normalized() ? 1 : 0; }
const float* sae_codes_scale(const sae_codes* codes) { return array_of(codes, &sae_codes::scale); }
const float* sae_codes_shift(const sae_codes* codes) { return array_of(codes, &sae_codes::shift); }
sae_stop sae_codes_stop(const sae_codes* codes, int64_t row) { return codes == nullptr ? SAE_STOP_NONE : codes->stop(row); }

sae_status sae_encode(const sae_model* model, const float* x, int64_t n, sae_codes* codes) {
  return guarded_writing(codes, [&] {
    require(model, "model");
    require(codes, "codes");
    require_rows(x, n, model->weights.d_in, "x");
    codes->clear(model->weights.d_sae);
    model->encode(x, n, *codes);
  });
}

sae_status sae_decode(const sae_model* model, sae_codes* codes, const float* x, int32_t direction, float* x_hat) {
  return guarded([&] {
    require(model, "model");
    require(codes, "codes");
    require_rows(x_hat, codes->rows(), model->weights.d_out, "x_hat");
    if (codes->rows() > 0 && codes->features() != model->weights.d_sae) {
      fail(SAE_INVALID_ARGUMENT, "codes have %lld features, expected d_sae = %lld", static_cast<long long>(codes->features()),
           static_cast<long long>(model->weights.d_sae));
    }
    const bool normalizes = model->weights.normalization != SAE_NORMALIZE_NONE;
    if (codes->rows() > 0 && codes->normalized() && !normalizes) {
      fail(SAE_INVALID_ARGUMENT, "codes carry scale and shift of a model that normalises, and this one does not");
    }
    if (codes->rows() > 0 && !codes->normalized() && normalizes && direction == 0) {
      fail(SAE_INVALID_ARGUMENT, "codes carry no scale and shift, which this model's decode needs: it normalises");
    }
    if (model->weights.w_skip != nullptr) {
      if (codes->rows() > 0 && x == nullptr && direction == 0) {
        fail(SAE_INVALID_ARGUMENT, "decode needs x: the model has a skip connection");
      }
    } else if (x != nullptr) {
      fail(SAE_INVALID_ARGUMENT, "decode takes no x: the model has no skip connection");
    }
    if (!model->finds(*codes)) codes->to_host();
    model->decode(*codes, x, direction != 0, x_hat);
  });
}

sae_status sae_project_dense(const sae_model* model, const float* v, int64_t n, sae_readout readout, int32_t unit,
                             float* coefficients) {
  return guarded([&] {
    require_projection(model, v, n, readout, unit);
    require_rows(coefficients, n, model->weights.d_sae, "coefficients");
    model->project_dense(v, n, readout, unit != 0, coefficients);
  });
}

sae_status sae_project_top(const sae_model* model, const float* v, int64_t n, sae_readout readout, int32_t unit, int64_t k,
                           int32_t per_sign, sae_codes* codes) {
  return guarded_writing(codes, [&] {
    require_projection(model, v, n, readout, unit);
    require(codes, "codes");
    require_range(k, 1, INT32_MAX, "k");
    codes->clear(model->weights.d_sae);
    model->project_top(v, n, readout, unit != 0, k, per_sign != 0, *codes);
  });
}

sae_status sae_pursue(const sae_model* model, const float* v, int64_t n, sae_method method, int32_t non_negative, int64_t atoms,
                      double residual, double gain, double penalty, sae_codes* codes) {
  return guarded_writing(codes, [&] {
    require(model, "model");
    require(codes, "codes");
    require_rows(v, n, model->weights.d_out, "v");
    require_range(method, SAE_METHOD_OMP, SAE_METHOD_L1, "method");
    require_range(atoms, 1, INT32_MAX, "atoms");
    require_fraction(residual, "residual");
    require_fraction(gain, "gain");
    require_fraction(penalty, "penalty");
    if (method == SAE_METHOD_L1 && penalty == 0) fail(SAE_INVALID_ARGUMENT, "penalty must be above 0 for l1, got 0");
    codes->clear(model->weights.d_sae);
    model->pursue(v, n, {method, non_negative != 0, atoms, residual, gain, penalty}, *codes);
  });
}

}  // extern "C"

#pragma once
// The CUDA backend's model: weights on a device, and the way of a call through the kernels (kernels.cuh).
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_backend.h"
#include "kernels.cuh"
#include "thread_pool.hpp"

namespace sae::cuda {

enum class Screen { kCanonical, kCublas, kMma, kWgmma };
constexpr int kScreenCount = 4;

const char* screen_name(Screen screen);
// "" if the screen serves on this device, else why it does not. Probes it the first time.
std::string screen_reason(int device, Screen screen);
// What was measured to be fastest on such a device; kCanonical where nothing was.
Screen default_screen(int device);
// Why this device can't serve, "" if it can.
std::string device_reason(int device);
// One line; "" if it can't serve.
std::string describe_device(int device);

// CSR on a device: rows, indices ascending within one, values; of a model that normalises what it took out of each row.
struct Codes {
  explicit Codes(int device) : device(device) {}

  // No rows yet, room for n and, unless told otherwise, not for their scale and shift.
  void start(int64_t n, cudaStream_t stream, bool normalized = false);
  // Room for count entries; the first `keep` stay.
  void reserve(int64_t count, int64_t keep, cudaStream_t stream);
  // To host arrays of n + 1, nnz and nnz elements, and n each; scale and shift are null where none is.
  void download(int64_t* row_offsets, int32_t* indices, float* values, float* scale, float* shift) const;
  Csr csr() const { return {row_offsets.data(), indices.data(), values.data()}; }

  const int device;
  int64_t n = 0, nnz = 0;
  DeviceArray<int64_t> row_offsets;
  DeviceArray<int32_t> indices;
  DeviceArray<float> values;
  bool normalized = false;
  DeviceArray<float> scale, shift;  // of rows that a model normalised
};

struct Workspace;

class Engine {
 public:
  // probing: opened by the probe of its screen, which must not ask for it again.
  Engine(int device, const sae_weights& weights, int threads, const char* screen, cudaStream_t callers_stream,
         bool probing = false);
  ~Engine();

  int device() const { return device_; }
  const char* description() const { return description_.c_str(); }
  const char* screen_for(int64_t n) const { return screen_name(choose_screen(n)); }

  void encode(const float* x, int64_t n, Codes& codes);
  void decode(const Codes& codes, const float* x, bool direction, float* x_hat);
  void project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients);
  void project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign, Codes& codes);
  void to_host(const float* from, int64_t count, float* to);
  void upload(Codes& codes, int64_t n, const int64_t* row_offsets, const int32_t* indices, const float* values, const float* scale,
              const float* shift);

 private:
  // Rows [count, pitch] that vectors are multiplied with: the features', or the skip connection's.
  struct Dictionary {
    int64_t count = 0, d = 0, pitch = 0;
    DeviceArray<float> rows;
    DeviceArray<uint16_t> quantised;  // none without a quantised screen
    DeviceArray<FeatureBound> bounds;
    double largest_norm = 0;
  };
  class Lease;
  class Source;

  void require_memory(const sae_weights& weights) const;
  void upload(Dictionary& dictionary, const float* rows, int64_t count, int64_t d, bool quantised, const char* name,
              Workspace& workspace);
  Features features(const Dictionary& dictionary) const;
  Screen choose_screen(int64_t n) const;
  int64_t chunk_rows(int64_t n) const;
  Batch prepare(const Dictionary& dictionary, const float* x, int64_t first_row, int rows, Screen screen, Workspace& workspace) const;
  template <typename Gate>
  void screen_chunk(const Features& features, const Batch& batch, const Gate& gate, Screen screen, Workspace& workspace) const;
  template <typename Gate>
  void screen_by_cublas(const Features& features, const Batch& batch, const Gate& gate, Mask mask, Workspace& workspace) const;
  template <typename Gate>
  int64_t compact_chunk(const Features& features, const Batch& batch, const Gate& gate, int64_t first_row, Codes& into,
                        const int64_t* nnz_before, Workspace& workspace) const;
  const float* normalize(const float* x, int64_t first_row, int rows, Codes& codes, Workspace& workspace) const;
  template <typename Gate>
  void top(const Dictionary& dictionary, const float* x, int64_t n, const char* name, bool normalizes, Gate gate, Order order,
           int64_t k, Codes& codes);
  void finish(Codes& codes, int64_t n, Lease& lease) const;
  void wait_and_check(const float* x, const Dictionary& dictionary, const char* name, Workspace& workspace) const;
  void check_failures(const Failures& failures, const float* x, int64_t d, const char* name) const;

  const int device_;
  const int64_t d_sae_;
  const sae_selection selection_;
  const int64_t k_;
  const sae_normalization normalization_;
  Screen screen_;
  cudaStream_t callers_stream_;
  std::string description_;
  Dictionary encoder_, decoder_, skip_;
  DeviceArray<float> threshold_, scale_, offset_, cut_, b_dec_, decoder_norm_, decoder_above_;
  ThreadPool pool_;
  std::mutex workspace_mutex_;
  std::unique_ptr<Workspace> spare_;  // kept between calls, so that small calls allocate nothing
};

// Test hook: the bounds are multiplied by this. 1 but in tests, which must see 0 lose features.
extern double bound_scale_for_tests;

}  // namespace sae::cuda

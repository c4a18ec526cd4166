#pragma once
// A small SAE between guard pages, codes that free themselves, and their comparison to the bit.
#include <cmath>
#include <string>

#include "codes.hpp"
#include "sae4j.h"
#include "test.hpp"

namespace test {

struct Sae {
  Sae(int64_t d_in, int64_t d_out, int64_t d_sae)
      : d_in(d_in), d_out(d_out), d_sae(d_sae), w_enc(d_sae * d_in), w_dec(d_sae * d_out), b_dec(d_out), threshold(d_sae),
        scale(d_sae), offset(d_sae), w_skip(d_out * d_in) {
    Random random;
    for (int64_t i = 0; i < w_enc.size(); ++i) w_enc[i] = random.normal();
    for (int64_t i = 0; i < w_dec.size(); ++i) w_dec[i] = random.normal();
    for (int64_t i = 0; i < d_out; ++i) b_dec[i] = random.normal();
    for (int64_t j = 0; j < d_sae; ++j) {
      threshold[j] = std::sqrt(static_cast<float>(d_in)) * random.normal();
      scale[j] = 0.5f + random.uniform();
      offset[j] = random.normal();
    }
    for (int64_t i = 0; i < w_skip.size(); ++i) w_skip[i] = random.normal();
  }

  sae_weights weights() const {
    return {d_in, d_out, d_sae, w_enc.data(), w_dec.data(), b_dec.data(), has_skip ? w_skip.data() : nullptr, threshold.data(), scale.data(), offset.data(),
            selection, k, normalization};
  }

  sae_model* open(int threads, const char* screen = nullptr, const char* kernel = nullptr) {
    sae_model* model = nullptr;
    const sae_weights borrowed = weights();
    const sae_status status = sae_cpu_open(&borrowed, threads, screen, kernel, &model);
    CHECK(status == SAE_OK, "open: %s", sae_last_error());
    return model;
  }

  int64_t d_in, d_out, d_sae;
  Guarded<float> w_enc, w_dec, b_dec, threshold, scale, offset, w_skip;
  // Plain unless a test says otherwise.
  sae_selection selection = SAE_SELECT_GATE;
  int64_t k = 0;
  sae_normalization normalization = SAE_NORMALIZE_NONE;
  bool has_skip = false;
};

// A screen of the CPU that may lack instructions here.
inline bool has_screen(const std::string& name) {
  for (int32_t i = 0; i < sae_cpu_screen_count(); ++i) {
    if (name == sae_cpu_screen_name(i)) return *sae_cpu_screen_reason(i) == 0;
  }
  return false;
}

inline std::string same_codes(const sae_codes* a, const sae_codes* b) {
  if (a->rows() != b->rows() || a->features() != b->features()) return "shapes differ";
  if (a->nnz() != b->nnz()) return "nnz " + std::to_string(a->nnz()) + " and " + std::to_string(b->nnz());
  for (int64_t row = 0; row <= a->rows(); ++row) {
    if (a->row_offsets()[row] != b->row_offsets()[row]) return "offsets differ at row " + std::to_string(row);
  }
  for (int64_t k = 0; k < a->nnz(); ++k) {
    if (a->indices()[k] != b->indices()[k]) return "indices differ at " + std::to_string(k);
    if (bits(a->values()[k]) != bits(b->values()[k])) return "values differ at " + std::to_string(k);
  }
  if (a->normalized() != b->normalized()) return "only one carries scale and shift";
  for (int64_t row = 0; a->normalized() && row < a->rows(); ++row) {
    if (bits(a->scale()[row]) != bits(b->scale()[row])) return "scale differs in row " + std::to_string(row);
    if (bits(a->shift()[row]) != bits(b->shift()[row])) return "shift differs in row " + std::to_string(row);
  }
  return "";
}

struct Codes {
  Codes() { sae_codes_create(&handle); }
  ~Codes() { sae_codes_destroy(handle); }
  operator sae_codes*() { return handle; }
  sae_codes* handle;
};

}  // namespace test

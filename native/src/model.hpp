#pragma once
#include <cstdint>
#include <string>

#include "codes.hpp"
#include "sae4j.h"

namespace sae {

using Weights = sae_weights;

// Throws Error unless thresholds are numbers, offsets and b_dec finite, scales finite and positive.
void require_valid_vectors(const Weights& weights);

// How to pursue (sae4j.h, sae_pursue).
struct Pursuit {
  sae_method method;
  bool non_negative;
  int64_t atoms;
  double residual, gain, penalty;
};

}  // namespace sae

// The operations. A backend is one subclass and one constructor. Arguments have been checked (c_api.cpp) but for their values.
struct sae_model {
 public:
  explicit sae_model(const sae::Weights& weights) : weights(weights) {}
  virtual ~sae_model() = default;

  virtual void encode(const float* x, int64_t n, sae_codes& codes) const = 0;
  // Whether decode reads these codes on the model's own device. Others must be on the host.
  virtual bool finds(const sae_codes&) const { return false; }
  virtual void decode(const sae_codes& codes, const float* x, bool direction, float* x_hat) const = 0;
  virtual void project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) const = 0;
  virtual void project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign,
                           sae_codes& codes) const = 0;
  // One line in every backend: sae::pursue (pursuit.hpp) with the threads for its solver.
  virtual void pursue(const float* v, int64_t n, const sae::Pursuit& how, sae_codes& codes) const = 0;
  virtual const char* screen_for(int64_t n) const = 0;
  virtual int64_t screen_bytes() const { return 0; }

  const sae::Weights weights;
  std::string description;
};

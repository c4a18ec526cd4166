#pragma once
// What a product p = Dot(x, w_j) means for feature j (sae4j.h, sae_selection). Functions of single numbers where a device should not load
// what it may not need.
#include <cmath>

#include "law/host_device.hpp"

namespace sae {

SAE_HOST_DEVICE inline bool passes(float p, float threshold) { return p > threshold; }

// v, one rounding.
SAE_HOST_DEVICE inline float value_of(float p, float scale, float offset) { return fmaf(scale, p, offset); }

// Where SAE_SELECT_GATE decides, a feature that passes is active if v > 0.
SAE_HOST_DEVICE inline bool is_active(float value) { return value > 0; }

struct Gate {
  float threshold, scale, offset;
  bool passes(float p) const { return sae::passes(p, threshold); }
  float value(float p) const { return value_of(p, scale, offset); }

  // A product up to this is not active, whatever its rounding: nextDown(max(threshold, -offset / scale)).
  float cut() const {
    const double positive = -static_cast<double>(offset) / scale;  // v > 0 needs p above this
    const double larger = static_cast<double>(threshold) > positive ? static_cast<double>(threshold) : positive;
    return nextafterf(static_cast<float>(larger), -INFINITY);
  }
  // The same where v may be negative.
  float signed_cut() const { return nextafterf(threshold, -INFINITY); }
};

}  // namespace sae

#pragma once
// Encode and decode of every form of SAE as they are defined, written once more and plainly; and SAEs and rows that are nasty to them.
#include <algorithm>
#include <string>
#include <vector>

#include "codes.hpp"
#include "kernels.hpp"
#include "sae4j.h"
#include "test.hpp"
#include "test_sae.hpp"

namespace test {

constexpr sae_selection kSelections[] = {SAE_SELECT_GATE, SAE_SELECT_TOP, SAE_SELECT_TOP_SIGNED, SAE_SELECT_TOP_ABS};
constexpr sae_normalization kNormalizations[] = {SAE_NORMALIZE_NONE, SAE_NORMALIZE_LAYER, SAE_NORMALIZE_CONSTANT};

inline float dot(const float* x, const float* w, int64_t d) {
  static const sae::Kernels& kernels = sae::choose_kernels(nullptr);  // kernels_test.cpp shows that all are the same
  return kernels.dot(x, w, d);
}

struct Normalized {
  std::vector<float> x;
  float scale, shift;
};

inline Normalized normalized(const Sae& sae, const float* x) {
  const int64_t d = sae.d_in;
  Normalized row = {std::vector<float>(x, x + d), 1, 0};
  double sum = 0, squares = 0;
  if (sae.normalization == SAE_NORMALIZE_LAYER) {
    for (int64_t i = 0; i < d; ++i) sum += x[i];
    const double mean = sum / static_cast<double>(d);
    for (int64_t i = 0; i < d; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(d - 1));
    for (int64_t i = 0; i < d; ++i) row.x[i] = static_cast<float>((x[i] - mean) / (deviation + 1e-5));
    row.scale = static_cast<float>(deviation), row.shift = static_cast<float>(mean);
  } else if (sae.normalization == SAE_NORMALIZE_CONSTANT) {
    for (int64_t i = 0; i < d; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double scale = std::sqrt(squares) / std::sqrt(static_cast<double>(d));
    for (int64_t i = 0; i < d; ++i) row.x[i] = scale == 0 ? 0 : static_cast<float>(x[i] / scale);
    row.scale = static_cast<float>(scale);
  }
  return row;
}

inline void expect_codes(const Sae& sae, const float* x, int64_t n, sae_codes& codes) {
  codes.clear(sae.d_sae);
  if (sae.normalization != SAE_NORMALIZE_NONE) codes.append_normalization(nullptr, nullptr, 0);
  for (int64_t r = 0; r < n; ++r) {
    const Normalized row = normalized(sae, x + r * sae.d_in);
    std::vector<std::pair<float, int32_t>> active;
    for (int64_t j = 0; j < sae.d_sae; ++j) {
      const float p = dot(row.x.data(), sae.w_enc.data() + j * sae.d_in, sae.d_in);
      const float v = std::fma(sae.scale.data()[j], p, sae.offset.data()[j]);
      const bool positive = sae.selection == SAE_SELECT_GATE || sae.selection == SAE_SELECT_TOP;
      if (p > sae.threshold.data()[j] && (positive ? v > 0 : v != 0)) active.emplace_back(v, static_cast<int32_t>(j));
    }
    if (sae.selection != SAE_SELECT_GATE) {
      const auto rank = [&](float v) { return sae.selection == SAE_SELECT_TOP_ABS ? std::fabs(v) : v; };
      std::stable_sort(active.begin(), active.end(), [&](auto& a, auto& b) { return rank(a.first) > rank(b.first); });
      if (static_cast<int64_t>(active.size()) > sae.k) active.resize(sae.k);
      std::sort(active.begin(), active.end(), [](auto& a, auto& b) { return a.second < b.second; });
    }
    std::vector<int32_t> indices;
    std::vector<float> values;
    for (const auto& [v, j] : active) indices.push_back(j), values.push_back(v);
    codes.append_row(indices.data(), values.data(), static_cast<int64_t>(active.size()));
    if (sae.normalization != SAE_NORMALIZE_NONE) codes.append_normalization(&row.scale, &row.shift, 1);
  }
}

inline std::vector<float> expect_decoded(const Sae& sae, const sae_codes& codes, const float* x, bool direction) {
  std::vector<float> x_hat(codes.rows() * sae.d_out);
  for (int64_t r = 0; r < codes.rows(); ++r) {
    for (int64_t i = 0; i < sae.d_out; ++i) {
      float sum = 0;
      for (int64_t k = codes.row_offsets()[r]; k < codes.row_offsets()[r + 1]; ++k) {
        sum = std::fma(codes.values()[k], sae.w_dec.data()[codes.indices()[k] * sae.d_out + i], sum);
      }
      if (!direction) sum += sae.b_dec.data()[i];
      if (sae.has_skip) sum += dot(x + r * sae.d_in, sae.w_skip.data() + i * sae.d_in, sae.d_in);
      if (codes.normalized()) sum = direction ? codes.scale()[r] * sum : std::fma(codes.scale()[r], sum, codes.shift()[r]);
      x_hat[r * sae.d_out + i] = sum;
    }
  }
  return x_hat;
}

// What makes an SAE nasty, and its rows.
enum Kind { kRandom, kTies, kEqual, kPrefix, kCancelling, kHuge, kKinds };

inline void make_nasty(Sae& sae, Kind kind, Guarded<float>& x) {
  Random random;
  const auto small = [&random] { return static_cast<float>(random.below(3) - 1); };
  for (int64_t i = 0; i < x.size(); ++i) x[i] = kind == kTies ? small() : random.normal();
  for (int64_t i = 0; i < std::min(sae.d_in, x.size()); ++i) x[i] = 0;  // a row of zeros
  for (int64_t i = 0; kind == kTies && i < sae.w_enc.size(); ++i) sae.w_enc[i] = small();
  for (int64_t i = 0; kind == kEqual && i < sae.w_enc.size(); ++i) sae.w_enc[i] = sae.w_enc[i % sae.d_in];
  for (int64_t j = 0; j < sae.d_sae; ++j) {
    if (kind != kRandom) sae.threshold[j] = -INFINITY;
    if (kind == kTies || kind == kEqual) sae.scale[j] = 1, sae.offset[j] = 0;
    if (kind == kPrefix && j >= sae.d_sae / 2) sae.threshold[j] = INFINITY;
    if (kind == kCancelling) {  // of a row, so that v is what rounding leaves
      const float* row = x.data() + (x.size() / sae.d_in / 2) * sae.d_in;
      sae.scale[j] = 1e6f;
      sae.offset[j] = x.size() == 0 ? 0 : -1e6f * dot(normalized(sae, row).x.data(), &sae.w_enc[j * sae.d_in], sae.d_in);
    }
  }
  for (int64_t i = x.size() - sae.d_in; kind == kHuge && i >= 0 && i < x.size(); ++i) x[i] *= 1e34f;  // skips the screens
}

inline std::string where(const Sae& sae, Kind kind, int64_t n) {
  char text[160];
  std::snprintf(text, sizeof(text), "d_in %lld, d_sae %lld, n %lld, selection %d, k %lld, normalization %d, kind %d",
                static_cast<long long>(sae.d_in), static_cast<long long>(sae.d_sae), static_cast<long long>(n), sae.selection,
                static_cast<long long>(sae.k), sae.normalization, kind);
  return text;
}

}  // namespace test

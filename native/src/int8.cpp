#include "int8.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels.hpp"
#include "screen.hpp"
#include "sums.hpp"

namespace sae {
namespace {

constexpr float kMostDigits = 32639;  // 127 * 256 + 127
constexpr int64_t kSampledRows = 64;
// A dimension is massive if its energy is so many times the median dimension's.
constexpr float kMassive = 36;
constexpr int64_t kBlock = 48;  // features scored at a time: a multiple of what the kernel takes

int64_t multiple_of(int64_t unit, int64_t value) { return (value + unit - 1) / unit * unit; }

// So small that unit would be denormal, its inverse infinite: no digits at all, and the loss says so. So large: no digits either.
float unit_of(float largest) { return largest > 0x1p-80f && largest < 0x1p120f ? largest / kMostDigits : 0; }

}  // namespace

const Int8Kernels& int8_kernels(const Kernels& beside) {
#if defined(__x86_64__)
  if (&beside == &kAvx512Kernels && kVnniKernels.supported()) return kVnniKernels;
  if (&beside == &kPortableKernels) return kPortableInt8Kernels;
  return kAvxVnniKernels.supported() ? kAvxVnniKernels : kAvx2Int8Kernels.supported() ? kAvx2Int8Kernels : kPortableInt8Kernels;
#elif defined(__aarch64__)
  (void)beside;  // the compiler makes NEON of the portable set
  return kNeonInt8Kernels.supported() ? kNeonInt8Kernels : kPortableInt8Kernels;
#else
  (void)beside;
  return kPortableInt8Kernels;
#endif
}

Int8Features::Int8Features(const Int8Kernels& kernels, const float* rows, int64_t count, int64_t d, const float* centre)
    : kernels_(kernels), rows_(rows), count_(count), d_(d), length_(multiple_of(64, d)), centre_(centre) {
  if (centre != nullptr) centre_norm_ = norm(centre, d);
  digits_.reserve(count * length_);
  step_.reserve(count);
  offset_.reserve(count);
  along_.reserve(count);
  bounds_.reserve(count);
  ones_.reserve(length_);
  std::fill_n(ones_.data(), length_, 1);
}

void Int8Features::add(int64_t j, double norm) {
  const float* w = rows_ + j * d_;
  uint8_t* digits = digits_.data() + j * length_;
  const float unit = unit_of(largest_of(w, d_));
  const Digits split = kernels_.split(w, d_, unit, digits, nullptr);
  std::transform(digits, digits + d_, digits, [](uint8_t digit) { return digit ^ 0x80; });  // signed
  step_[j] = 256 * unit;
  offset_[j] = 128 * kernels_.dot(ones_.data(), reinterpret_cast<const int8_t*>(digits), length_);
  along_[j] = centre_ == nullptr ? 0 : static_cast<float>(product(centre_, w, d_));
  bounds_[j] = feature_bound(norm, split.loss);
}

void Int8Rows::start(const Int8Features& features, const float* x, int64_t rows) {
  kernels_ = &features.kernels_;
  features_ = &features;
  x_ = x;
  rows_ = rows;
  d_ = features.d_;
  length_ = features.length_;
  few_ = rows <= kFewRows || kernels_->scores == nullptr;
  high_.reserve((few_ ? rows : multiple_of(kPanelRows, rows)) * length_);
  low_.reserve(rows * length_);
  for (Buffer<float>* each : {&unit_, &step_, &along_, &of_norm_, &of_loss_, &refined_of_norm_, &refined_of_loss_}) each->reserve(rows);
  apart_values_.reserve(kMostApart * rows);
  choose_apart();
}

// The best c for |x - c m|; any would serve.
float Int8Rows::multiple_of_centre(const float* x) const {
  if (!(features_->centre_norm_ > 0)) return 0;
  const float c = static_cast<float>(product(features_->centre_, x, d_) / features_->centre_norm_ / features_->centre_norm_);
  return std::isfinite(c) ? c : 0;
}

void Int8Rows::choose_apart() {
  std::vector<float> energy(d_), sorted;
  const int64_t sampled = std::min(rows_, kSampledRows);
  for (int64_t s = 0; s < sampled; ++s) {
    const float* x = x_ + s * rows_ / sampled * d_;
    const float c = multiple_of_centre(x);
    for (int64_t i = 0; i < d_; ++i) {
      const float y = c == 0 ? x[i] : x[i] - c * features_->centre_[i];
      energy[i] += y * y;
    }
  }
  sorted = energy;
  std::nth_element(sorted.begin(), sorted.begin() + d_ / 2, sorted.end());
  const float massive = kMassive * sorted[d_ / 2];
  std::vector<int64_t> found;
  for (int64_t i = 0; i < d_; ++i) {
    if (energy[i] > massive) found.push_back(i);
  }
  apart_count_ = static_cast<int>(std::min<int64_t>(kMostApart, static_cast<int64_t>(found.size())));
  std::partial_sort(found.begin(), found.begin() + apart_count_, found.end(), [&](int64_t a, int64_t b) {
    return energy[a] != energy[b] ? energy[a] > energy[b] : a < b;
  });
  std::copy_n(found.begin(), apart_count_, apart_);
}

void Int8Rows::add(int64_t r, double norm, double largest_feature_norm) {
  const float* x = x_ + r * d_;
  const float c = multiple_of_centre(x);
  std::vector<float> y(x, x + d_);
  std::vector<uint8_t> high(length_, 128);
  uint8_t* low = low_.data() + r * length_;
  std::fill(low + d_, low + length_, 128);
  for (int64_t i = 0; c != 0 && i < d_; ++i) y[i] = x[i] - c * features_->centre_[i];
  double apart = 0;
  for (int k = 0; k < apart_count_; ++k) {
    float& value = y[apart_[k]];
    apart += static_cast<double>(value) * value;
    apart_values_[k * rows_ + r] = std::exchange(value, 0.0f);
  }
  unit_[r] = unit_of(largest_of(y.data(), d_));
  step_[r] = 256 * unit_[r];
  along_[r] = c;
  const Digits digits = kernels_->split(y.data(), d_, unit_[r], high.data(), low);
  if (few_) {
    std::copy(high.begin(), high.end(), high_.data() + r * length_);
  } else {
    uint8_t* panel = high_.data() + r / kPanelRows * kPanelRows * length_ + r % kPanelRows * 4;
    for (int64_t i = 0; i < length_; i += 4) std::memcpy(panel + i * kPanelRows, &high[i], 4);
  }

  const double centre = std::fabs(c) * features_->centre_norm_;
  const double held = centre + std::sqrt(apart) + digits.norm + digits.full_norm;
  const Int8RowBound first = int8_row_bound(norm, centre, held, digits.norm, digits.loss, largest_feature_norm, d_, bound_scale_for_tests);
  const Int8RowBound both =
      int8_row_bound(norm, centre, held, digits.full_norm, digits.full_loss, largest_feature_norm, d_, bound_scale_for_tests);
  of_norm_[r] = few_ ? both.of_norm : first.of_norm;
  of_loss_[r] = few_ ? both.of_loss : first.of_loss;
  refined_of_norm_[r] = both.of_norm;
  refined_of_loss_[r] = both.of_loss;
}

void Int8Rows::scores(int64_t first, int64_t count, float* scores) const {
  const Int8Features& all = *features_;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    Int8Feature block[kBlock];
    const int64_t size = std::min(kBlock, count - begin);
    for (int64_t f = 0; f < size; ++f) {
      const int64_t j = first + begin + f;
      const auto* digits = reinterpret_cast<const int8_t*>(all.digits_.data()) + j * length_;
      block[f] = {digits, all.step_[j], all.offset_[j], all.along_[j], {}};
      for (int k = 0; k < apart_count_; ++k) block[f].apart[k] = all.rows_[j * d_ + apart_[k]];
    }
    if (few_) {
      for (int64_t f = 0; f < size; ++f) {
        for (int64_t r = 0; r < rows_; ++r) {
          const int32_t high = kernels_->dot(high_.data() + r * length_, block[f].digits, length_) - block[f].offset;
          const int32_t low = kernels_->dot(low_.data() + r * length_, block[f].digits, length_) - block[f].offset;
          double score = (256.0 * high + low) * unit_[r] * block[f].step + static_cast<double>(along_[r]) * block[f].along;
          for (int k = 0; k < apart_count_; ++k) score += static_cast<double>(apart_values_[k * rows_ + r]) * block[f].apart[k];
          scores[(begin + f) * rows_ + r] = static_cast<float>(score);
        }
      }
      continue;
    }
    for (int64_t r = 0; r < rows_; r += kPanelRows) {
      Int8Panel panel = {high_.data() + r * length_, static_cast<int>(std::min<int64_t>(kPanelRows, rows_ - r)), step_.data() + r,
                         along_.data() + r, {}, apart_count_};
      for (int k = 0; k < apart_count_; ++k) panel.apart[k] = apart_values_.data() + k * rows_ + r;
      kernels_->scores(panel, block, static_cast<int>(size), length_, scores + begin * rows_ + r, rows_);
    }
  }
}

float Int8Rows::refined(int64_t r, int64_t j, float score) const {
  const auto* digits = reinterpret_cast<const int8_t*>(features_->digits_.data()) + j * length_;
  const int32_t low = kernels_->dot(low_.data() + r * length_, digits, length_) - features_->offset_[j];
  return std::fma(static_cast<float>(low), unit_[r] * features_->step_[j], score);
}

Bounds Int8Rows::bounds(int64_t j, float floor) const {
  return {of_norm_.data(), of_loss_.data(), floor, features_->bounds_[j]};
}

Bounds Int8Rows::refined_bounds(int64_t j, float floor) const {
  return {refined_of_norm_.data(), refined_of_loss_.data(), floor, features_->bounds_[j]};
}

}  // namespace sae

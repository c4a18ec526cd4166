#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "error.hpp"
#include "memory.hpp"
#include "sae4j.h"

namespace sae {

// One active feature of one row, found while a tile of rows x features is decided.
struct Hit {
  uint32_t place;  // local feature << kRowBits | local row
  float value;

  static constexpr int kRowBits = 10;
  static constexpr int64_t kMaxRows = int64_t{1} << kRowBits;
  static constexpr int64_t kMaxFeatures = int64_t{1} << (32 - kRowBits);
  int64_t feature() const { return place >> kRowBits; }
  int64_t row() const { return place & (kMaxRows - 1); }
};

// What the last call of a device's model left there: the same rows, or room for the next.
class DeviceCodes {
 public:
  virtual ~DeviceCodes() = default;
  // Throws Error.
  // scale and shift: null where the rows have none.
  virtual void download(int64_t* row_offsets, int32_t* indices, float* values, float* scale, float* shift) const = 0;
};

}  // namespace sae

// CSR that grows row by row, or by tiles of rows x features.
struct sae_codes {
 public:
  sae_codes() { clear(0); }

  int64_t rows() const { return rows_; }
  int64_t features() const { return features_; }
  int64_t nnz() const { return on_host_ ? row_offsets_[rows_] : device_nnz_; }

  // Brings the arrays from the device if they are only there. One thread does so, before others read. Throws Error if that fails.
  void to_host();

  // These throw Error for arrays that are only on a device: they must not change what another thread may be reading.
  const int64_t* row_offsets() const { return require_host(), row_offsets_.data(); }
  const int32_t* indices() const { return require_host(), indices_.data(); }
  const float* values() const { return require_host(), values_.data(); }

  // Of a model that normalises: what it took out of each row, [rows]. Null where none did.
  bool normalized() const { return normalized_; }
  const float* scale() const { return normalized_ ? (require_host(), scale_.data()) : nullptr; }
  const float* shift() const { return normalized_ ? (require_host(), shift_.data()) : nullptr; }

  // No rows, of so many features.
  void clear(int64_t features);

  // Appends n empty rows; returns the index of the first.
  int64_t append_rows(int64_t n);

  // Adds hits to the rows from first_row to the end. They must be sorted by feature, and all their features
  // (first_feature + local feature) lie behind those that the rows hold already: so indices stay ascending.
  struct HitList {
    const sae::Hit* hits;
    int64_t count;
  };
  void merge(int64_t first_row, int64_t first_feature, const HitList* lists, int64_t list_count);

  // The scale and shift of n rows that follow those which have them. All rows have them in the end, or none.
  void append_normalization(const float* scale, const float* shift, int64_t n);

  // n rows that are in device(), of a model's call that wrote them there.
  void hold_on_device(int64_t n, int64_t nnz, bool normalized);
  // The device's copy of these rows; null if there is none.
  sae::DeviceCodes* on_device() const { return is_on_device_ ? device_.get() : nullptr; }
  // Where a device keeps its copy. Lives as long as these codes, so that its memory is used again.
  std::unique_ptr<sae::DeviceCodes>& device() { return device_; }

  // Appends one row.
  void append_row(const int32_t* indices, const float* values, int64_t count);

  // Why pursue stopped in the row just appended; it gives one for every row.
  void append_stop(sae_stop stop) { stops_.push_back(static_cast<uint8_t>(stop)); }
  sae_stop stop(int64_t row) const {
    return row < 0 || row >= static_cast<int64_t>(stops_.size()) ? SAE_STOP_NONE : static_cast<sae_stop>(stops_[row]);
  }

 private:
  void reserve_nnz(int64_t nnz) {
    indices_.reserve(nnz);
    values_.reserve(nnz);
  }

  void require_host() const {
    if (!on_host_) sae::fail(SAE_INVALID_ARGUMENT, "the codes are only on a device: sae_codes_to_host brings them");
  }

  int64_t rows_ = 0;
  int64_t features_ = 0;
  sae::Buffer<int64_t> row_offsets_;
  sae::Buffer<int32_t> indices_;
  sae::Buffer<float> values_;
  bool normalized_ = false;
  int64_t normalized_rows_ = 0;
  sae::Buffer<float> scale_;
  sae::Buffer<float> shift_;
  bool on_host_ = true;
  bool is_on_device_ = false;
  int64_t device_nnz_ = 0;
  std::unique_ptr<sae::DeviceCodes> device_;
  std::vector<uint8_t> stops_;
  sae::Buffer<int64_t> cursor_;  // scratch of merge
};

#include "codes.hpp"

#include <algorithm>
#include <cstring>

void sae_codes::clear(int64_t features) {
  rows_ = 0;
  features_ = features;
  on_host_ = true;
  is_on_device_ = false;
  normalized_ = false;
  normalized_rows_ = 0;
  stops_.clear();
  row_offsets_.reserve(1);
  reserve_nnz(1);  // so that the arrays have an address even when empty
  row_offsets_[0] = 0;
}

void sae_codes::append_normalization(const float* scale, const float* shift, int64_t n) {
  normalized_ = true;
  scale_.reserve(normalized_rows_ + n + 1);  // so that the arrays have an address even when empty
  shift_.reserve(normalized_rows_ + n + 1);
  std::copy(scale, scale + n, scale_.data() + normalized_rows_);
  std::copy(shift, shift + n, shift_.data() + normalized_rows_);
  normalized_rows_ += n;
}

void sae_codes::hold_on_device(int64_t n, int64_t nnz, bool normalized) {
  rows_ = n;
  device_nnz_ = nnz;
  normalized_ = normalized;
  normalized_rows_ = normalized ? n : 0;
  is_on_device_ = true;
  on_host_ = false;
}

void sae_codes::to_host() {
  if (on_host_) return;
  row_offsets_.reserve(rows_ + 1);
  reserve_nnz(device_nnz_);
  scale_.reserve(normalized_rows_ + 1);
  shift_.reserve(normalized_rows_ + 1);
  device_->download(row_offsets_.data(), indices_.data(), values_.data(), normalized_ ? scale_.data() : nullptr,
                    normalized_ ? shift_.data() : nullptr);
  on_host_ = true;
}

int64_t sae_codes::append_rows(int64_t n) {
  const int64_t first = rows_;
  const int64_t end = nnz();
  row_offsets_.reserve(rows_ + n + 1);
  for (int64_t row = 1; row <= n; ++row) row_offsets_[first + row] = end;
  rows_ += n;
  return first;
}

void sae_codes::merge(int64_t first_row, int64_t first_feature, const HitList* lists, int64_t list_count) {
  int64_t added = 0;
  for (int64_t l = 0; l < list_count; ++l) added += lists[l].count;
  if (added == 0) return;
  reserve_nnz(nnz() + added);

  // 1. How far each row's end moves: the hits of the rows up to it.
  const int64_t rows = rows_ - first_row;
  cursor_.reserve(rows);
  std::memset(cursor_.data(), 0, static_cast<size_t>(rows) * sizeof(int64_t));
  for (int64_t l = 0; l < list_count; ++l) {
    for (int64_t h = 0; h < lists[l].count; ++h) ++cursor_[lists[l].hits[h].row()];
  }
  for (int64_t row = 1; row < rows; ++row) cursor_[row] += cursor_[row - 1];

  // 2. Move what the rows hold, the last row first; cursor becomes the place of the row's first new hit.
  int32_t* indices = indices_.data();
  float* values = values_.data();
  int64_t* offsets = row_offsets_.data() + first_row;
  int64_t old_end = offsets[rows];
  for (int64_t row = rows - 1; row >= 0; --row) {
    const int64_t shift = row == 0 ? 0 : cursor_[row - 1];
    const int64_t held = old_end - offsets[row];
    old_end = offsets[row];
    if (shift > 0 && held > 0) {
      std::memmove(indices + offsets[row] + shift, indices + offsets[row], static_cast<size_t>(held) * sizeof(int32_t));
      std::memmove(values + offsets[row] + shift, values + offsets[row], static_cast<size_t>(held) * sizeof(float));
    }
    offsets[row + 1] += cursor_[row];
    cursor_[row] = old_end + shift + held;
  }

  // 3. Append.
  for (int64_t l = 0; l < list_count; ++l) {
    for (int64_t h = 0; h < lists[l].count; ++h) {
      const sae::Hit hit = lists[l].hits[h];
      const int64_t at = cursor_[hit.row()]++;
      indices[at] = static_cast<int32_t>(first_feature + hit.feature());
      values[at] = hit.value;
    }
  }
}

void sae_codes::append_row(const int32_t* indices, const float* values, int64_t count) {
  const int64_t at = nnz();
  reserve_nnz(at + count);
  if (count > 0) {
    std::memcpy(indices_.data() + at, indices, static_cast<size_t>(count) * sizeof(int32_t));
    std::memcpy(values_.data() + at, values, static_cast<size_t>(count) * sizeof(float));
  }
  append_rows(1);
  row_offsets_[rows_] = at + count;
}

#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "codes.hpp"
#include "memory.hpp"

namespace sae {

// The k best features of each of some rows, while features are offered in any order: by |value|, or, per sign, the k most
// positive and the k most negative. Ties go to the lower feature; zeros never enter. Rows may be filled on different threads.
class TopK {
 public:
  static constexpr int64_t kMostEntries = int64_t{1} << 20;  // rows * k: what bounds the memory

  void start(int64_t rows, int64_t k, bool per_sign) {
    rows_ = rows;
    k_ = k;
    sides_ = per_sign ? 2 : 1;
    entries_.reserve(rows * sides_ * k);
    sizes_.assign(rows * sides_, 0);
    cuts_.assign(2 * rows, 0.0f);
  }

  // A row's best on a side are full once its cut is above 0: then a value must reach the cut to enter.
  const float* positive_cuts() const { return cuts_.data(); }
  const float* negative_cuts() const { return cuts_.data() + rows_; }
  bool may_enter(int64_t row, float value) const { return value >= cuts_[row] || -value >= cuts_[rows_ + row]; }

  void offer(int64_t row, int64_t feature, float value) {
    if (value == 0) return;
    const int side = sides_ == 2 && value < 0 ? 1 : 0;
    int64_t& size = sizes_[row * sides_ + side];
    Entry* heap = entries_.data() + (row * sides_ + side) * k_;
    const Entry entry = {value, static_cast<int32_t>(feature)};
    if (size < k_) {
      heap[size++] = entry;
      std::push_heap(heap, heap + size, better);
    } else if (better(entry, heap[0])) {
      std::pop_heap(heap, heap + size, better);
      heap[size - 1] = entry;
      std::push_heap(heap, heap + size, better);
    }
    if (size == k_) {
      const float worst = std::fabs(heap[0].value);
      if (sides_ == 1 || side == 0) cuts_[row] = worst;
      if (sides_ == 1 || side == 1) cuts_[rows_ + row] = worst;
    }
  }

  // Appends the rows, features ascending.
  void append_to(sae_codes& codes) {
    for (int64_t row = 0; row < rows_; ++row) {
      kept_.clear();
      for (int64_t side = row * sides_; side < (row + 1) * sides_; ++side) {
        const Entry* heap = entries_.data() + side * k_;
        kept_.insert(kept_.end(), heap, heap + sizes_[side]);
      }
      std::sort(kept_.begin(), kept_.end(), [](const Entry& a, const Entry& b) { return a.feature < b.feature; });
      features_.clear();
      values_.clear();
      for (const Entry& entry : kept_) {
        features_.push_back(entry.feature);
        values_.push_back(entry.value);
      }
      codes.append_row(features_.data(), values_.data(), static_cast<int64_t>(kept_.size()));
    }
  }

 private:
  struct Entry {
    float value;
    int32_t feature;
  };

  // As the order of a heap this keeps the worst entry in front.
  static bool better(const Entry& a, const Entry& b) {
    const float size_a = std::fabs(a.value), size_b = std::fabs(b.value);
    return size_a != size_b ? size_a > size_b : a.feature < b.feature;
  }

  int64_t rows_ = 0, k_ = 0, sides_ = 1;
  Buffer<Entry> entries_;       // [rows, sides, k]
  std::vector<int64_t> sizes_;  // [rows, sides]
  std::vector<float> cuts_;     // [2, rows]
  std::vector<Entry> kept_;
  std::vector<int32_t> features_;
  std::vector<float> values_;
};

}  // namespace sae

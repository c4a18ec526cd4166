#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "codes.hpp"
#include "law/order.hpp"
#include "memory.hpp"

namespace sae {

// The k best features of each of some rows, while features are offered in any order. Ties go to the lower feature; zeros never
// enter. Rows may be filled on different threads.
class TopK {
 public:
  static constexpr int64_t kMostEntries = int64_t{1} << 20;  // rows * k: what bounds the memory

  void start(int64_t rows, int64_t k, Order order) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    rows_ = rows;
    k_ = k;
    order_ = order;
    sides_ = order == Order::kPerSign ? 2 : 1;
    entries_.reserve(rows * sides_ * k);
    bounds_.reserve(rows * sides_ * k);
    sizes_.assign(rows * sides_, 0);
    bound_counts_.assign(rows * sides_, 0);
    const bool one_sided = order == Order::kPositive || order == Order::kSigned;
    cut_values_.assign(rows, order == Order::kSigned ? -kInfinity : 0.0f);
    cut_values_.resize(2 * rows, one_sided ? kInfinity : 0.0f);
    cuts_ = {cut_values_.data(), cut_values_.data() + rows};
  }

  // What a value, or a negated one, must reach to enter a row's best.
  const float* positive_cuts() const { return cuts_.positive; }
  const float* negative_cuts() const { return cuts_.negative; }
  bool may_enter(int64_t row, float value) const { return cuts_.reached(row, value); }

  // A feature's value is known to lie in [lower, upper]: the k-th largest of what such features reach at least is a lower bound
  // of the k-th best, so it raises the cut before anything is decided. Once for each row and feature at most. A value that may
  // be zero may not enter at all, so it raises nothing; neither does a bound that is not a number.
  void foresee(int64_t row, float lower, float upper) {
    const bool negative = upper < 0;
    if (!(lower > 0) && !(negative && order_ != Order::kPositive)) return;
    const float rank = negative && order_ != Order::kSigned ? -upper : lower;
    const int side = side_of(negative);
    int64_t& count = bound_counts_[row * sides_ + side];
    float* heap = bounds_.data() + (row * sides_ + side) * k_;
    if (count == k_ && rank <= heap[0]) return;
    if (count == k_) std::pop_heap(heap, heap + count--, std::greater<float>());
    heap[count++] = rank;
    std::push_heap(heap, heap + count, std::greater<float>());
    if (count == k_) raise_cuts(row, side, heap[0]);
  }

  void offer(int64_t row, int64_t feature, float value) {
    if (value == 0 || (value < 0 && order_ == Order::kPositive)) return;
    const int side = side_of(value < 0);
    int64_t& size = sizes_[row * sides_ + side];
    Entry* heap = entries_.data() + (row * sides_ + side) * k_;
    const Entry entry = {value, static_cast<int32_t>(feature)};
    const auto better = [this](const Entry& a, const Entry& b) { return is_better(a, b); };
    if (size == k_ && !better(entry, heap[0])) return;
    if (size == k_) std::pop_heap(heap, heap + size--, better);
    heap[size++] = entry;
    std::push_heap(heap, heap + size, better);
    if (size == k_) raise_cuts(row, side, rank_of(heap[0].value, order_));
  }

  // Appends the rows, features ascending. Ends what start began: the heaps are sorted in place.
  void append_to(sae_codes& codes) {
    features_.reserve(sides_ * k_);
    values_.reserve(sides_ * k_);
    for (int64_t row = 0; row < rows_; ++row) {
      Entry* kept = entries_.data() + row * sides_ * k_;
      Entry* end = kept + sizes_[row * sides_];
      if (sides_ == 2) end = std::copy(kept + k_, kept + k_ + sizes_[2 * row + 1], end);
      std::sort(kept, end, [](const Entry& a, const Entry& b) { return a.feature < b.feature; });
      for (const Entry* entry = kept; entry < end; ++entry) {
        features_[entry - kept] = entry->feature;
        values_[entry - kept] = entry->value;
      }
      codes.append_row(features_.data(), values_.data(), end - kept);
    }
  }

 private:
  struct Entry {
    float value;
    int32_t feature;
  };

  int side_of(bool negative) const { return sides_ == 2 && negative ? 1 : 0; }

  void raise_cuts(int64_t row, int side, float cut) {
    if (sides_ == 1 || side == 0) cuts_.positive[row] = std::max(cuts_.positive[row], cut);
    if (sides_ == 1 || side == 1) cuts_.negative[row] = std::max(cuts_.negative[row], cut);
  }

  // As the order of a heap this keeps the worst entry in front.
  bool is_better(const Entry& a, const Entry& b) const {
    const float rank_a = rank_of(a.value, order_), rank_b = rank_of(b.value, order_);
    return rank_a != rank_b ? rank_a > rank_b : a.feature < b.feature;
  }

  int64_t rows_ = 0, k_ = 0, sides_ = 1;
  Order order_ = Order::kAbs;
  Buffer<Entry> entries_;              // [rows, sides, k] heaps, the worst in front
  Buffer<float> bounds_;               // [rows, sides, k] heaps of lower bounds, the least in front
  std::vector<int64_t> sizes_;         // [rows, sides]
  std::vector<int64_t> bound_counts_;  // [rows, sides]
  std::vector<float> cut_values_;      // [2, rows]
  Cuts cuts_ = {};                     // into them
  Buffer<int32_t> features_;           // [sides * k] of a row
  Buffer<float> values_;
};

}  // namespace sae

#pragma once
// The int8 screen: rows and features as 8-bit digits, whose products are exact integers. law/bound.hpp has the bound.
//
// A row is split as x = c m + y_apart + q + rest. c m is a multiple of a fixed centre; y_apart are the few dimensions in which the
// batch is massive, in float32: real residual streams have some, and one scale for all would leave the others no digits. q = step h,
// h in -127 .. 127, and with a second digit q = unit (256 h + l), l in -128 .. 127, step = 256 unit. A feature is w = step h + rest.
// The score is <q, w'> + c <m, w> + <y_apart, w>.
#include <cstdint>
#include <utility>

#include "law/bound.hpp"
#include "memory.hpp"

namespace sae {

struct Kernels;

constexpr int64_t kMostInt8Elements = 1 << 16;  // 255 * 127 * d must not overflow int32
constexpr int kPanelRows = 64;                  // rows whose digits lie interleaved: what the kernel's registers hold
constexpr int kMostApart = 8;                   // dimensions apart
constexpr int64_t kFewRows = 4;                 // bound by the reading of the features: two digits cost what one does

// Bytes on a cache line, zeroed when allocated. Growing loses what was there.
class Bytes {
 public:
  Bytes() = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { free_floats(data_); }
  void reserve(int64_t count) {
    if (count <= capacity_) return;
    float* grown = alloc_floats((count + 3) / 4);
    free_floats(std::exchange(data_, grown));
    capacity_ = count;
  }
  uint8_t* data() { return reinterpret_cast<uint8_t*>(data_); }
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(data_); }

 private:
  float* data_ = nullptr;
  int64_t capacity_ = 0;
};

// A vector's digits: what they hold, and what they leave.
struct Digits {
  double norm, loss;            // of the first digit: ||q||, ||y - q||
  double full_norm, full_loss;  // of both
};

struct Int8Panel {
  const uint8_t* digits;  // [length / 4, kPanelRows, 4] 128 + h
  int rows;
  const float* step;               // [rows]
  const float* along;              // [rows] c
  const float* apart[kMostApart];  // [rows] each
  int apart_count;
};

struct Int8Feature {
  const int8_t* digits;  // [length]
  float step;
  int32_t offset;  // 128 * the digits' sum: what 128 + h adds to the product
  float along;     // <m, w>
  float apart[kMostApart];
};

// The inner loops, one set of them for each instruction set. length is a multiple of 64.
struct Int8Kernels {
  const char* name;
  bool (*supported)();

  // sum_i x[i] w[i].
  int32_t (*dot)(const uint8_t* x, const int8_t* w, int64_t length);

  // scores[f * stride + r], for each row of the panel and count features. Null where that would be no faster than SGEMM: such a set
  // serves few rows, by dot.
  void (*scores)(const Int8Panel& panel, const Int8Feature* features, int count, int64_t length, float* scores, int64_t stride);

  // y [d] in digits of this unit: high[i] = 128 + h, low[i] = 128 + l. |y| <= 32639.5 unit, or unit is 0 and so are all
  // digits. low may be null: then nothing is said of both.
  Digits (*split)(const float* y, int64_t d, float unit, uint8_t* high, uint8_t* low);
};

extern const Int8Kernels kVnniKernels;
extern const Int8Kernels kAvxVnniKernels;
extern const Int8Kernels kAvxVnniInEvexKernels;  // never chosen: the tests' stand-in for the one above
extern const Int8Kernels kAvx2Int8Kernels;
extern const Int8Kernels kNeonInt8Kernels;
extern const Int8Kernels kPortableInt8Kernels;  // what they mean; never chosen where SGEMM could serve

// The best set beside these kernels (kernels.hpp): none is of a later instruction set.
const Int8Kernels& int8_kernels(const Kernels& beside);

// The features of a dictionary.
class Int8Features {
 public:
  // rows: [count, d], centre: [d] or null; both are borrowed.
  Int8Features(const Int8Kernels& kernels, const float* rows, int64_t count, int64_t d, const float* centre);

  // Quantises feature j. Features may be added on different threads.
  void add(int64_t j, double norm);

  FeatureBound bound(int64_t j) const { return bounds_[j]; }
  int64_t bytes() const { return count_ * (length_ + static_cast<int64_t>(sizeof(float) * 2 + sizeof(int32_t) + sizeof(FeatureBound))); }

 private:
  friend class Int8Rows;
  const Int8Kernels& kernels_;
  const float* const rows_;
  const int64_t count_, d_, length_;
  const float* const centre_;
  double centre_norm_ = 0;
  Bytes digits_;  // [count, length]
  Bytes ones_;    // [length]
  Buffer<float> step_;
  Buffer<int32_t> offset_;
  Buffer<float> along_;
  Buffer<FeatureBound> bounds_;
};

// The rows of a batch, beside the features they are scored with.
class Int8Rows {
 public:
  // Finds the dimensions apart. x: [rows, d], borrowed.
  void start(const Int8Features& features, const float* x, int64_t rows);

  // Quantises row r. Rows may be added on different threads.
  void add(int64_t r, double norm, double largest_feature_norm);

  // scores[f * rows + r] for features first .. first + count - 1.
  void scores(int64_t first, int64_t count, float* scores) const;

  // The score of row r and feature j, which was `score`, with the second digit.
  float refined(int64_t r, int64_t j, float score) const;

  // Few rows are scored with both digits at once.
  bool is_refined() const { return few_; }

  // Of the scores, and of the refined ones; with the feature's bound and the floor that every screen has.
  Bounds bounds(int64_t j, float floor) const;
  Bounds refined_bounds(int64_t j, float floor) const;

 private:
  void choose_apart();
  float multiple_of_centre(const float* x) const;

  const Int8Kernels* kernels_ = nullptr;
  const Int8Features* features_ = nullptr;
  const float* x_ = nullptr;
  int64_t rows_ = 0, d_ = 0, length_ = 0;
  bool few_ = false;
  int apart_count_ = 0;
  int64_t apart_[kMostApart];
  Bytes high_;  // panels, or of few rows [rows, length]
  Bytes low_;   // [rows, length]
  Buffer<float> unit_, step_, along_, of_norm_, of_loss_, refined_of_norm_, refined_of_loss_;  // [rows]
  Buffer<float> apart_values_;                                                                  // [kMostApart, rows]
};

}  // namespace sae

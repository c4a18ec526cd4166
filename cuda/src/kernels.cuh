#pragma once
// The launchers, in the order of a call. Each is defined in the file of its name; arrays are the device's unless said otherwise.
#include "device.cuh"

namespace sae::cuda {

// ---- prepare.cu

// What encode does to rows [rows, pitch] of d elements first: normalized of the same shape, with what was taken out of each row.
// A row that is not finite becomes 0 and is reported, as is one whose scale overflows float32.
void launch_normalize(const float* x, int64_t pitch, int rows, int64_t first_row, int64_t d, sae_normalization how,
                      float* normalized, float* scale, float* shift, Failures* failures, cudaStream_t stream);

// bounds[r] and, unless null, quantised[r, :] of each row. d: the length of a row without its padding.
void launch_prepare_rows(const float* x, int64_t pitch, int rows, int64_t first_row, double largest_feature_norm, int64_t d,
                         double bound_scale, uint16_t* quantised, TensorRowBound* bounds, Failures* failures, cudaStream_t stream);

// The same of features; *largest_norm becomes at least the largest ||w_j||, as the bits of a double.
void launch_prepare_features(const float* w, int64_t pitch, int64_t count, uint16_t* quantised, FeatureBound* bounds,
                             unsigned long long* largest_norm, Failures* failures, cudaStream_t stream);

// norm[j] = ||d_j||, canonical; above[j] a little more than 1 / norm[j], 0 where that is 0.
void launch_norms(const float* w, int64_t pitch, int64_t count, float* norm, float* above, cudaStream_t stream);

// ---- canonical.cu

// The exact mask: what is active, and what is not finite.
template <typename Gate>
void launch_screen_canonical(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream);

// launch_decide by tiles, for candidates that are dense: values[offsets[j] + rank of the row among feature j's candidates].
template <typename Gate>
void launch_decide_tiles(const Features& features, const Batch& batch, const Gate& gate, Mask mask, const uint32_t* offsets,
                         float* values, Failures* failures, cudaStream_t stream);

// p[r * stride + j] of all features and rows, without a gate. failures: null where an overflow is none.
void launch_products(const Features& features, const Batch& batch, float* p, int64_t stride, Failures* failures,
                     cudaStream_t stream);

// ---- screens on tensor cores: each fills the mask with a superset of the active features

template <typename Gate>
void launch_screen_mma(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream);

// For compute capability 9.0 and no other.
template <typename Gate>
void launch_screen_wgmma(const Features& features, const Batch& batch, const Gate& gate, Mask mask, cudaStream_t stream);

// Scores [features, rows of the mask], row-major, as another library computed them, of features first .. first + count - 1.
template <typename Gate>
void launch_screen_scores(const float* scores, const Features& features, int64_t first, int64_t count, const Batch& batch,
                          const Gate& gate, Mask mask, cudaStream_t stream);

// ---- decide.cu

// Candidates by feature, rows ascending within one.
struct Candidates {
  uint32_t* rows;      // [total]
  uint32_t* features;  // [total]
  float* values;       // [total] 0 where it turns out inactive
  int64_t total;
};

template <typename Gate>
void launch_decide(const Features& features, const Batch& batch, const Gate& gate, const Candidates& candidates,
                   Failures* failures, cudaStream_t stream);

// coefficients[r * d_sae + j] /= norm[j], 0 where that is 0.
void launch_divide(float* coefficients, int64_t rows, int64_t d_sae, const float* norm, cudaStream_t stream);

// ---- compact.cu

constexpr int kListFeatures = 32;     // features a block lists
constexpr int kSegmentFeatures = 64;  // features a warp places

// counts[j] candidates of feature j; sums[block] becomes the number before the block's features; *total all of them.
void launch_count(Mask mask, int64_t features, uint32_t* counts, uint32_t* sums, uint32_t* total, cudaStream_t stream);

// offsets [features + 1], rows and features of all candidates.
void launch_list(Mask mask, int64_t features, const uint32_t* counts, const uint32_t* sums, uint32_t* offsets,
                 const Candidates& candidates, cudaStream_t stream);

// Active candidates into CSR: row_offsets[first_row + 1 ..] from row_offsets[first_row] on, which the chunk before has written.
//   tally [segments, rows] and row_counts [rows] are scratch.
void launch_place(const uint32_t* offsets, int64_t features, const Candidates& candidates, int rows, int64_t first_row,
                  uint32_t* tally, uint32_t* row_counts, int64_t* row_offsets, int32_t* indices, float* values,
                  cudaStream_t stream);

// row_offsets[first_row + 1 .. first_row + rows] from row_counts and row_offsets[first_row].
void launch_row_offsets(const uint32_t* row_counts, int rows, int64_t first_row, int64_t* row_offsets, cudaStream_t stream);

// ---- select.cu: the k first of each row of a CSR; ties to the lower index, zeros never

struct Csr {
  const int64_t* row_offsets;
  const int32_t* indices;
  const float* values;
};

// The cuts that let everything pass.
void launch_no_cuts(int rows, Order order, Cuts cuts, cudaStream_t stream);

// The k-th on each side; where there are fewer, the cut that lets everything pass.
void launch_cuts(const Csr& csr, int rows, int64_t k, Order order, Cuts cuts, cudaStream_t stream);

// row_counts[r]: how many of row r are kept under these cuts.
void launch_count_kept(const Csr& csr, int rows, int64_t k, Order order, Cuts cuts, uint32_t* row_counts, cudaStream_t stream);

void launch_keep(const Csr& csr, int rows, int64_t first_row, int64_t k, Order order, Cuts cuts, const int64_t* row_offsets,
                 int32_t* indices, float* values, cudaStream_t stream);

// ---- decode.cu

// What comes to the sum, in this order.
struct DecodeEnd {
  const float* bias;   // [d], or null
  bool skip;           // x_hat holds what is added next
  const float* scale;  // of the codes' rows: the sum is multiplied by it, or null
  const float* shift;  // of the codes' rows, by one fma with the scale, or null
};

// x_hat[r * d + i] = sum_k values[k] w_dec[indices[k], i], k ascending by fma from +0, and the end.
void launch_decode(const Csr& csr, int64_t first_row, int64_t rows, const float* w_dec, int64_t pitch, int64_t d,
                   const DecodeEnd& end, float* x_hat, cudaStream_t stream);

}  // namespace sae::cuda

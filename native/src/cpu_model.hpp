#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "int8.hpp"
#include "kernels.hpp"
#include "law/gate.hpp"
#include "memory.hpp"
#include "model.hpp"
#include "screen.hpp"
#include "thread_pool.hpp"
#include "top_k.hpp"

namespace sae {

// The CPU backend: screen, decide, compact. OpenBLAS screens batches; the engine's threads decide by canonical dots.
class CpuModel final : public sae_model {
 public:
  // Throws Error if a weight is not finite, a scale not positive, or the screen or kernel can't serve.
  CpuModel(const Weights& weights, int threads, const char* screen, const char* kernel);
  ~CpuModel() override;

  void encode(const float* x, int64_t n, sae_codes& codes) const override;
  void decode(const sae_codes& codes, const float* x, bool direction, float* x_hat) const override;
  void project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) const override;
  void project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign,
                   sae_codes& codes) const override;
  void pursue(const float* v, int64_t n, const Pursuit& how, sae_codes& codes) const override;
  const char* screen_for(int64_t n) const override { return screen_name(choose_screen(n, encoder_)); }
  int64_t screen_bytes() const override { return screen_bytes_; }

 private:
  // Feature rows [d_sae, d] that vectors are multiplied with, and what the screen's bound needs of them.
  struct Dictionary {
    const float* rows;
    int64_t d;
    const float* centre = nullptr;  // [d] of the int8 screen, if any
    Buffer<double> norm;  // [d_sae] ||row||
    double largest_norm = 0;
    std::optional<Int8Features> int8;
    const float* row(int64_t feature) const { return rows + feature * d; }
  };
  struct Scratch;
  class Lease;
  struct Batch;    // some rows of x, checked and normalised, with what the bound needs of them
  struct Tile;     // the scores of a batch with some features
  struct Ranking;  // which values the k best of a row are chosen by
  struct Score;    // a feature's value as a function of its product

  Gate gate_of(int64_t j) const { return {weights.threshold[j], weights.scale[j], weights.offset[j]}; }
  template <typename Task>
  void for_features(const Task& task) const;
  template <typename Task>
  void measure(Dictionary& dictionary, const char* name, const Task& also);
  void start_int8(Dictionary& dictionary) const;
  void quantise_decoder() const;
  void require_finite_skip() const;
  void require_finite_rows(const float* x, int64_t n, int64_t d, const char* name) const;
  Batch prepare(const float* x, int64_t first_row, int64_t rows, const Dictionary& dictionary, sae_normalization normalization,
                const char* name, Screen screen, Scratch& scratch) const;
  Screen choose_screen(int64_t n, const Dictionary& dictionary) const;
  bool int8_pays(int64_t n, const Dictionary& dictionary) const;
  Screen plain_screen(int64_t rows) const;
  bool is_too_dense(const Batch& batch, Scratch& scratch) const;
  void gate(const Batch& batch, Screen screen, Scratch& scratch, sae_codes& codes) const;
  void gate_tile(const Batch& batch, Screen screen, int64_t first_feature, int64_t features, Scratch& scratch,
                 sae_codes& codes) const;
  int64_t decide(const Batch& batch, const float* scores, int64_t first_feature, int64_t begin, int64_t end, Hit* hits) const;
  static int all_rows(const Batch& batch, int32_t* rows);
  int candidate_rows(const Batch& batch, const float* scores, int64_t j, float cut, int32_t* rows) const;
  template <typename Names>
  int refine(const Batch& batch, const float* scores, int64_t j, int32_t* rows, int count, const Names& names) const;
  void exact_scores(const Batch& batch, const Dictionary& dictionary, int64_t first_feature, int64_t features, float* scores,
                    int64_t feature_stride, int64_t row_stride) const;
  Score score(const Ranking& ranking, int64_t j) const;
  void select_top(const Batch& batch, const Ranking& ranking, Screen screen, int64_t k, Scratch& scratch, sae_codes& codes) const;
  void score_tile(const Batch& batch, const Dictionary& dictionary, Screen screen, const Tile& tile) const;
  int64_t select_exact(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                       TopK& top) const;
  static bool is_out_of_reach(const float* scores, const Bounds& b, const Score& feature, int64_t row_begin, int64_t row_end,
                              const TopK& top);
  template <typename Task>
  int64_t for_named(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                    const TopK& top, const Task& task) const;
  int64_t foresee(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                  TopK& top) const;
  int64_t select_screened(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                          TopK& top) const;
  int64_t most_ranked_rows(Screen screen, int64_t d, int64_t k) const;
  int64_t chunks(int64_t work, int64_t most) const;

  const Kernels& kernels_;
  std::optional<Screen> forced_;
  mutable ThreadPool pool_;
  Dictionary encoder_;
  mutable Dictionary decoder_;  // quantised at the first use
  mutable std::once_flag decoder_quantised_;
  mutable std::atomic<int64_t> screen_bytes_{0};
  Buffer<float> decoder_norm_;  // [d_sae] ||d_j|| = sqrt(Dot(d_j, d_j)), canonical
  Buffer<float> inverse_norm_;  // [d_sae, 2] a little less and a little more than 1 / ||d_j||
  mutable std::mutex scratch_mutex_;
  mutable std::unique_ptr<Scratch> spare_scratch_;  // kept between calls, so that small calls do not allocate
};

}  // namespace sae

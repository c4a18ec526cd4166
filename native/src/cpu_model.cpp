#include "cpu_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "error.hpp"
#include "law/normalize.hpp"
#include "pursuit.hpp"
#include "sums.hpp"

namespace sae {
namespace {

// A tile of scores: 1024 rows x 2048 features is large enough for SGEMM to run at full speed (1.00 to 1.06 of one big call)
// and small enough to stay in the last-level cache until it is decided.
constexpr int64_t kTileRows = 1024;
constexpr int64_t kTileScores = int64_t{1} << 21;
static_assert(kTileRows <= Hit::kMaxRows && kTileScores <= Hit::kMaxFeatures, "a hit must hold its place");
// Up to so many rows SGEMM does not pay: the rows stay in the second-level cache while the features stream past once, and SGEMM
// would read and pack the same weights first. Without a screen larger batches are cut into parts of this size.
constexpr int64_t kCanonicalRows = 16;
// Smaller dictionaries lie in the second-level cache, and take less time than the quantising of a row.
constexpr int64_t kLeastInt8Weights = int64_t{1} << 18;
// Up to this share of candidates the int8 screen is faster than SGEMM: a candidate costs a second digit and half a canonical dot. For a
// few rows the dots read what would be read anyway.
constexpr double kMostCandidates = 0.25, kMostCandidatesOfFew = 0.75;
// Of a tile, while the cuts of the k best still rise: about three times as many as will be left to decide. And the features of a
// dictionary, to one that is wanted, below which there is no use in trying.
constexpr double kMostForeseen = 0.75;
constexpr int64_t kLeastFeaturesPerRank = 10;
// Rows of an int8 screen's batch where the k best are selected: with few rows a tile holds many features, so that fewer are decided by
// cuts that still rise. 0.38 of SGEMM instead of 0.63 for the 20 best (128 rows did no better).
constexpr int64_t kRankedRows = 256;
// Rows whose k best a thread selects: at least so many, and where there are enough, so many or more.
constexpr int64_t kLeastGroupRows = 16, kGroupRows = 64;
// Features of an int8 screen's first look, in groups: about a hundredth of them.
constexpr int64_t kLookedAt = 100, kLookGroup = 6, kMostLooks = 16;
// Multiply-adds that are worth handing to another thread.
constexpr int64_t kWorthAThread = 1 << 16;
// Decoder columns a thread gathers at a time: a slab of the hot features stays in cache from row to row.
constexpr int64_t kSlab = 256;
constexpr int64_t kDecodeRows = 64, kLeastDecodeRows = 4;
// Floats of normalised rows that are held at a time: what bounds the memory.
constexpr int64_t kNormalizedFloats = int64_t{1} << 22;
// Elements of quantised rows, two bytes each, likewise.
constexpr int64_t kDigits = int64_t{1} << 23;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where part p of `parts` begins among n features: at a multiple of what the int8 kernel takes at a time.
int64_t begin_of(int64_t p, int64_t parts, int64_t n) {
  constexpr int64_t kTogether = 6;
  return std::min(n, divide_up(n, kTogether) * p / parts * kTogether);
}

// n rows in equal parts of at most `most`.
int64_t even_part(int64_t n, int64_t most) { return n == 0 ? 1 : divide_up(n, divide_up(n, most)); }

// Rows of a batch: with a screen a tile's, without one as many as the second-level cache holds.
int64_t most_rows(Screen screen, int64_t d) {
  if (screen == Screen::kCanonical) return kCanonicalRows;
  return screen == Screen::kInt8 ? std::clamp<int64_t>(kDigits / d, 1, kTileRows) : kTileRows;
}

// Writes block + the place of each set bit; returns how many.
int unpack(uint64_t mask, int64_t block, int32_t* rows) {
  int count = 0;
  for (; mask != 0; mask &= mask - 1) rows[count++] = static_cast<int32_t>(block + __builtin_ctzll(mask));
  return count;
}

int64_t first_not_finite(const float* row, int64_t d) {
  return std::find_if(row, row + d, [](float value) { return !std::isfinite(value); }) - row;
}

// ||x|| of a row of a call's argument.
double finite_norm(const float* x, int64_t d, int64_t row, const char* name) {
  const double row_norm = norm(x, d);
  if (!std::isfinite(row_norm)) {
    const int64_t i = first_not_finite(x, d);
    fail(SAE_INVALID_ARGUMENT, "%s must be finite, got %g at row %lld, column %lld", name, x[i], static_cast<long long>(row),
         static_cast<long long>(i));
  }
  return row_norm;
}

void require_finite_product(float p, int64_t row, int64_t feature) {
  if (!std::isfinite(p)) {
    fail(SAE_INVALID_ARGUMENT, "the product of row %lld with feature %lld overflows float32: got %g",
         static_cast<long long>(row), static_cast<long long>(feature), p);
  }
}

}  // namespace

struct CpuModel::Scratch {
  Buffer<float> scores;      // [features of a tile, rows of a tile]
  Buffer<Hit> hits;          // as many
  std::vector<sae_codes::HitList> lists;
  Buffer<float> of_norm;     // [rows of a tile]
  Buffer<float> of_loss;     // [rows of a tile] zeros
  Int8Rows int8;
  Buffer<double> norms;      // [rows of a tile]
  Buffer<float> normalized;  // [rows of a tile, d_in]
  Buffer<float> scale;       // [rows of a tile]
  Buffer<float> shift;       // [rows of a tile]
  TopK top;
};

// Scratch for one call: the spare one, or, for callers that run at the same time, a new one.
class CpuModel::Lease {
 public:
  explicit Lease(const CpuModel& model) : model_(model) {
    {
      std::lock_guard<std::mutex> lock(model.scratch_mutex_);
      scratch_ = std::move(model.spare_scratch_);
    }
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
  }
  ~Lease() {
    std::lock_guard<std::mutex> lock(model_.scratch_mutex_);
    if (!model_.spare_scratch_) model_.spare_scratch_ = std::move(scratch_);
  }
  Scratch& operator*() { return *scratch_; }

 private:
  const CpuModel& model_;
  std::unique_ptr<Scratch> scratch_;
};

struct CpuModel::Batch {
  const float* x;  // [rows, d]
  int64_t d;
  int64_t first_row;  // of the call's n: where errors are
  int64_t rows;
  const Dictionary& dictionary;
  const float *of_norm, *of_loss;  // [rows] SGEMM's bounds
  const Int8Rows* int8;            // null under another screen
  float floor;
  bool overflows;  // some row skips the screens

  Bounds bounds(int64_t j) const {
    if (int8 != nullptr) return int8->bounds(j, floor);
    return {of_norm, of_loss, floor, feature_bound(dictionary.norm[j], 0)};
  }
};

struct CpuModel::Tile {
  float* scores;  // [features, rows]
  int64_t first_feature;
  int64_t features;
};

struct CpuModel::Ranking {
  const Dictionary& dictionary;
  Order order;
  bool encodes;  // by v, behind the gate; else by p
  bool unit;     // by p / ||d_j||
};

// The value is the gate's over norm, and counts where p passes. From p in [low, high] it lies between
// fma(lower_scale, low, offset) and fma(upper_scale, high, offset). fma is monotone, its rounding too: so where norm = 1 both
// scales are scale itself. A quotient has no offset; its scales are a little below and above 1 / norm, and hold for its size.
struct CpuModel::Score {
  Gate gate = {-std::numeric_limits<float>::infinity(), 1, 0};
  float norm = 1;
  float lower_scale = 1, upper_scale = 1;
  float value(float p) const { return gate.value(p) / norm; }
};

CpuModel::CpuModel(const Weights& weights, int threads, const char* screen, const char* kernel)
    : sae_model(weights), kernels_(choose_kernels(kernel)), pool_(threads) {
  if (screen != nullptr) forced_ = screen_by_name(screen);
  if (forced_ == Screen::kInt8 && std::max(weights.d_in, weights.d_out) > kMostInt8Elements) {
    fail(SAE_INVALID_ARGUMENT, "the screen int8 serves up to %lld dimensions, got %lld", static_cast<long long>(kMostInt8Elements),
         static_cast<long long>(std::max(weights.d_in, weights.d_out)));
  }
  encoder_.rows = weights.w_enc;
  encoder_.d = weights.d_in;
  if (weights.d_in == weights.d_out) encoder_.centre = weights.b_dec;  // near the mean of what is encoded
  decoder_.rows = weights.w_dec;
  decoder_.d = weights.d_out;
  if (choose_screen(1, encoder_) == Screen::kInt8) start_int8(encoder_);
  measure(encoder_, "w_enc", [&](int64_t j) {
    if (encoder_.int8) encoder_.int8->add(j, encoder_.norm[j]);
  });
  decoder_norm_.reserve(weights.d_sae);
  inverse_norm_.reserve(2 * weights.d_sae);
  measure(decoder_, "w_dec", [&](int64_t j) {
    decoder_norm_[j] = std::sqrt(kernels_.dot(decoder_.row(j), decoder_.row(j), decoder_.d));
    inverse_norm_[2 * j] = static_cast<float>((1 - 0x1p-20) / decoder_norm_[j]);
    inverse_norm_[2 * j + 1] = static_cast<float>((1 + 0x1p-20) / decoder_norm_[j]);
  });
  if (weights.w_skip != nullptr) require_finite_skip();
  description = std::string("cpu, kernel ") + kernels_.name + ", " + std::to_string(threads) +
                (threads == 1 ? " thread" : " threads");
}

CpuModel::~CpuModel() = default;

// task(j) for each feature, on all threads.
template <typename Task>
void CpuModel::for_features(const Task& task) const {
  constexpr int64_t kPart = 256;
  pool_.run(divide_up(weights.d_sae, kPart), [&](int64_t part) {
    for (int64_t j = part * kPart; j < std::min(weights.d_sae, (part + 1) * kPart); ++j) task(j);
  });
}

// also(j): what else is made of feature j, while it lies in the cache.
template <typename Task>
void CpuModel::measure(Dictionary& dictionary, const char* name, const Task& also) {
  dictionary.norm.reserve(weights.d_sae);
  for_features([&](int64_t j) {
    const float* row = dictionary.row(j);
    dictionary.norm[j] = norm(row, dictionary.d);
    if (!std::isfinite(dictionary.norm[j])) {
      const int64_t i = first_not_finite(row, dictionary.d);
      fail(SAE_INVALID_ARGUMENT, "%s of feature %lld must be finite, got %g at %lld", name, static_cast<long long>(j), row[i],
           static_cast<long long>(i));
    }
    also(j);
  });
  dictionary.largest_norm = *std::max_element(dictionary.norm.data(), dictionary.norm.data() + weights.d_sae);
}

// An 8-bit copy to be filled.
void CpuModel::start_int8(Dictionary& dictionary) const {
  dictionary.int8.emplace(int8_kernels(kernels_), dictionary.rows, weights.d_sae, dictionary.d, dictionary.centre);
  screen_bytes_ += dictionary.int8->bytes();
}

// The decoder's 8-bit copy is made by the first who needs it: encode never does.
void CpuModel::quantise_decoder() const {
  std::call_once(decoder_quantised_, [&] {
    start_int8(decoder_);
    for_features([&](int64_t j) { decoder_.int8->add(j, decoder_.norm[j]); });
  });
}

void CpuModel::require_finite_skip() const {
  pool_.run(weights.d_out, [&](int64_t output) {
    const float* row = weights.w_skip + output * weights.d_in;
    const int64_t i = first_not_finite(row, weights.d_in);
    if (i < weights.d_in) {
      fail(SAE_INVALID_ARGUMENT, "w_skip of output %lld must be finite, got %g at %lld", static_cast<long long>(output), row[i],
           static_cast<long long>(i));
    }
  });
}

// Rows of a batch whose k best are selected.
int64_t CpuModel::most_ranked_rows(Screen screen, int64_t d, int64_t k) const {
  int64_t most = most_rows(screen, d);
  if (screen == Screen::kInt8) most = std::min(most, std::max(kRankedRows, kGroupRows * pool_.threads()));
  return std::clamp<int64_t>(TopK::kMostEntries / k, 1, most);
}

// How many parts to cut work of so many multiply-adds into: many for each thread, so that a slow core gets fewer and none waits
// long for the last.
int64_t CpuModel::chunks(int64_t work, int64_t most) const {
  const int64_t wanted = std::min<int64_t>(work / kWorthAThread, 32 * pool_.threads());
  return std::clamp<int64_t>(wanted, 1, most);
}

void CpuModel::require_finite_rows(const float* x, int64_t n, int64_t d, const char* name) const {
  const int64_t parts = chunks(n * d, std::max<int64_t>(n, 1));
  pool_.run(parts, [&](int64_t part) {
    for (int64_t row = part * n / parts; row < (part + 1) * n / parts; ++row) finite_norm(x + row * d, d, row, name);
  });
}

CpuModel::Batch CpuModel::prepare(const float* x, int64_t first_row, int64_t rows, const Dictionary& dictionary,
                                  sae_normalization normalization, const char* name, Screen screen,
                                  Scratch& scratch) const {
  const int64_t d = dictionary.d;
  const bool normalizes = normalization != SAE_NORMALIZE_NONE;
  if (normalizes) {
    scratch.normalized.reserve(rows * d);
    scratch.scale.reserve(rows);
    scratch.shift.reserve(rows);
  }
  scratch.norms.reserve(rows);
  scratch.of_norm.reserve(rows);
  scratch.of_loss.reserve(rows);
  const int64_t parts = chunks(rows * d, rows);
  pool_.run(parts, [&](int64_t part) {
    for (int64_t r = part * rows / parts; r < (part + 1) * rows / parts; ++r) {
      double row_norm = finite_norm(x + r * d, d, first_row + r, name);
      if (normalizes) {
        float* normalized = scratch.normalized.data() + r * d;
        const RowStatistics row = normalize_row(normalization, x + r * d, d, normalized);
        scratch.scale[r] = static_cast<float>(row.deviation);
        scratch.shift[r] = static_cast<float>(row.mean);
        if (!std::isfinite(scratch.scale[r])) {
          fail(SAE_INVALID_ARGUMENT, "the standard deviation of row %lld of %s overflows float32: got %g",
               static_cast<long long>(first_row + r), name, scratch.scale[r]);
        }
        row_norm = norm(normalized, d);
      }
      scratch.norms[r] = row_norm;
      scratch.of_norm[r] = sgemm_row_bound(row_norm, dictionary.largest_norm, d, bound_scale_for_tests);
      scratch.of_loss[r] = 0;
    }
  });
  if (normalizes) x = scratch.normalized.data();
  if (screen == Screen::kInt8) {
    scratch.int8.start(*dictionary.int8, x, rows);
    pool_.run(parts, [&](int64_t part) {
      for (int64_t r = part * rows / parts; r < (part + 1) * rows / parts; ++r) {
        scratch.int8.add(r, scratch.norms[r], dictionary.largest_norm);
      }
    });
  }
  const double largest = *std::max_element(scratch.norms.data(), scratch.norms.data() + rows);
  return {x, d, first_row, rows, dictionary, scratch.of_norm.data(), scratch.of_loss.data(),
          screen == Screen::kInt8 ? &scratch.int8 : nullptr, bound_floor(largest, dictionary.largest_norm, d, bound_scale_for_tests),
          !(largest * dictionary.largest_norm < kLargestProduct)};
}

Screen CpuModel::choose_screen(int64_t n, const Dictionary& dictionary) const {
  if (forced_) return *forced_;
  return int8_pays(n, dictionary) && *screen_reason(Screen::kInt8) == 0 ? Screen::kInt8 : plain_screen(n);
}

bool CpuModel::int8_pays(int64_t n, const Dictionary& dictionary) const {
  const Int8Kernels& int8 = int8_kernels(kernels_);
  return int8.supported() && (int8.scores != nullptr || n <= kFewRows) && dictionary.d <= kMostInt8Elements &&
         dictionary.d * weights.d_sae >= kLeastInt8Weights;
}

// What serves where the int8 screen does not, or would not pay.
Screen CpuModel::plain_screen(int64_t rows) const {
  return rows > kCanonicalRows && *screen_reason(Screen::kSgemm) == 0 ? Screen::kSgemm : Screen::kCanonical;
}

void CpuModel::encode(const float* x, int64_t n, sae_codes& codes) const {
  Lease lease(*this);
  Scratch& scratch = *lease;
  const Screen screen = choose_screen(n, encoder_);
  const bool normalizes = weights.normalization != SAE_NORMALIZE_NONE, selects = weights.selection != SAE_SELECT_GATE;
  int64_t most = selects ? most_ranked_rows(screen, weights.d_in, weights.k) : most_rows(screen, weights.d_in);
  if (normalizes) most = std::clamp<int64_t>(kNormalizedFloats / weights.d_in, 1, most);
  if (normalizes) codes.append_normalization(nullptr, nullptr, 0);  // none of no rows is still some
  const int64_t part = even_part(n, most);
  for (int64_t first_row = 0; first_row < n; first_row += part) {
    const int64_t rows = std::min(part, n - first_row);
    const Batch batch =
        prepare(x + first_row * weights.d_in, first_row, rows, encoder_, weights.normalization, "x", screen, scratch);
    if (selects) {
      select_top(batch, {encoder_, order_of(weights.selection), true, false}, screen, weights.k, scratch, codes);
    } else {
      gate(batch, screen, scratch, codes);
    }
    if (normalizes) codes.append_normalization(scratch.scale.data(), scratch.shift.data(), rows);
  }
}

// Whether the int8 screen would name so many that a plain one is faster, by some features spread over all. (It cannot alter the
// answer, and depends on nothing but the batch.)
bool CpuModel::is_too_dense(const Batch& batch, Scratch& scratch) const {
  const int64_t looks = std::min(kMostLooks, weights.d_sae / (kLookGroup * kLookedAt));
  if (looks == 0 || never_gives_way_for_tests) return false;
  std::vector<int64_t> named(looks);
  scratch.scores.reserve(looks * kLookGroup * batch.rows);
  pool_.run(looks, [&](int64_t look) {
    const int64_t first = (2 * look + 1) * weights.d_sae / (2 * looks);
    float* scores = scratch.scores.data() + look * kLookGroup * batch.rows;
    batch.int8->scores(first, kLookGroup, scores);
    for (int64_t j = first; j < first + kLookGroup; ++j) {
      const float cut = gate_of(j).cut();
      const Bounds bounds = batch.bounds(j);
      const float* row_scores = scores + (j - first) * batch.rows;
      for (int64_t block = 0; block < batch.rows; block += 64) {
        const int count = static_cast<int>(std::min<int64_t>(64, batch.rows - block));
        named[look] += __builtin_popcountll(kernels_.above(row_scores + block, bounds.from(block), count, cut));
      }
    }
  });
  const double share = std::accumulate(named.begin(), named.end(), 0.0) / static_cast<double>(looks * kLookGroup * batch.rows);
  return share > (batch.int8->is_refined() ? kMostCandidatesOfFew : kMostCandidates);
}

void CpuModel::gate(const Batch& batch, Screen screen, Scratch& scratch, sae_codes& codes) const {
  if (screen == Screen::kInt8 && is_too_dense(batch, scratch)) {
    Batch plain = batch;
    plain.int8 = nullptr;
    return gate(plain, plain_screen(batch.rows), scratch, codes);
  }
  codes.append_rows(batch.rows);
  const int64_t features = std::min(weights.d_sae, kTileScores / batch.rows);
  for (int64_t j = 0; j < weights.d_sae; j += features) {
    gate_tile(batch, screen, j, std::min(features, weights.d_sae - j), scratch, codes);
  }
}

// 1. Screen the tile. 2. Decide it, in parts on all threads, each into its own stretch of hits. 3. Compact: merge into CSR.
void CpuModel::gate_tile(const Batch& batch, Screen screen, int64_t first_feature, int64_t features, Scratch& scratch,
                         sae_codes& codes) const {
  const float* scores = nullptr;
  if (screen != Screen::kCanonical) {
    scratch.scores.reserve(features * batch.rows);
    scores = scratch.scores.data();
  }
  if (screen == Screen::kSgemm) {
    sgemm(encoder_.row(first_feature), features, batch.x, batch.rows, batch.d, scratch.scores.data(), batch.rows);
  }
  scratch.hits.reserve(features * batch.rows);
  const int64_t parts = chunks(features * batch.rows * batch.d, features);
  scratch.lists.resize(parts);
  pool_.run(parts, [&](int64_t part) {
    const int64_t begin = begin_of(part, parts, features), end = begin_of(part + 1, parts, features);
    Hit* hits = scratch.hits.data() + begin * batch.rows;
    if (screen == Screen::kInt8) {
      batch.int8->scores(first_feature + begin, end - begin, scratch.scores.data() + begin * batch.rows);
    }
    scratch.lists[part] = {hits, decide(batch, scores, first_feature, begin, end, hits)};
  });
  codes.merge(codes.rows() - batch.rows, first_feature, scratch.lists.data(), parts);
}

// Features begin .. end - 1 of a tile, one after the other, so that w_j stays in the first-level cache. Returns the hits.
int64_t CpuModel::decide(const Batch& batch, const float* scores, int64_t first_feature, int64_t begin, int64_t end,
                         Hit* hits) const {
  int64_t count = 0;
  int32_t candidates[kTileRows];
  float p[kTileRows];
  const int all = all_rows(batch, candidates);
  for (int64_t local = begin; local < end; ++local) {
    const int64_t j = first_feature + local;
    const Gate gate = gate_of(j);
    const int found =
        scores == nullptr ? all : candidate_rows(batch, scores + local * batch.rows, j, gate.cut(), candidates);
    kernels_.dots(batch.x, candidates, found, encoder_.row(j), batch.d, p);
    for (int k = 0; k < found; ++k) {
      require_finite_product(p[k], batch.first_row + candidates[k], j);
      if (!gate.passes(p[k])) continue;
      const float value = gate.value(p[k]);
      if (is_active(value)) hits[count++] = {static_cast<uint32_t>(local << Hit::kRowBits | candidates[k]), value};
    }
  }
  return count;
}

int CpuModel::all_rows(const Batch& batch, int32_t* rows) {
  std::iota(rows, rows + batch.rows, 0);
  return static_cast<int>(batch.rows);
}

// The rows for which the scores [rows] do not rule feature j out.
int CpuModel::candidate_rows(const Batch& batch, const float* scores, int64_t j, float cut, int32_t* rows) const {
  const Bounds bounds = batch.bounds(j);
  int found = 0;
  for (int64_t block = 0; block < batch.rows; block += 64) {
    const int count = static_cast<int>(std::min<int64_t>(64, batch.rows - block));
    found += unpack(kernels_.above(scores + block, bounds.from(block), count, cut), block, rows + found);
  }
  return refine(batch, scores, j, rows, found, [&](float score, const Bounds& b, int32_t) {
    return kernels_.above(&score, b, 1, cut) != 0;
  });
}

// Of the candidates of feature j those that names(score, bound, row) still names after a finer score, where the screen has one.
template <typename Names>
int CpuModel::refine(const Batch& batch, const float* scores, int64_t j, int32_t* rows, int count, const Names& names) const {
  if (batch.int8 == nullptr || batch.int8->is_refined()) return count;
  const Bounds bounds = batch.int8->refined_bounds(j, batch.floor);
  int kept = 0;
  for (int k = 0; k < count; ++k) {
    const int32_t r = rows[k];
    if (names(batch.int8->refined(r, j, scores[r]), bounds.from(r), r)) rows[kept++] = r;
  }
  return kept;
}

// Gather, then skip, then unnormalise: a slab of columns of a block of rows at a time.
void CpuModel::decode(const sae_codes& codes, const float* x, bool direction, float* x_hat) const {
  const int64_t n = codes.rows(), d = weights.d_out, d_skip = x == nullptr ? 0 : weights.d_in;
  if (d_skip > 0) require_finite_rows(x, n, d_skip, "x");
  // Taken once, here: codes on a device are brought by the first who asks.
  const int64_t* offsets = codes.row_offsets();
  const int32_t* indices = codes.indices();
  const float *values = codes.values(), *scale = codes.scale(), *shift = codes.shift();
  const float* bias = direction ? nullptr : weights.b_dec;
  const auto gather = [&](int64_t row, int64_t begin, int64_t end) {
    kernels_.gather(weights.w_dec + begin, d, indices + offsets[row], values + offsets[row], offsets[row + 1] - offsets[row],
                    bias == nullptr ? nullptr : bias + begin, end - begin, x_hat + row * d + begin);
  };
  const auto skip = [&](int64_t first_row, int64_t rows, int64_t begin, int64_t end) {
    int32_t all[kDecodeRows];
    float p[kDecodeRows];
    std::iota(all, all + rows, 0);
    for (int64_t i = begin; i < end; ++i) {
      kernels_.dots(x + first_row * d_skip, all, static_cast<int>(rows), weights.w_skip + i * d_skip, d_skip, p);
      for (int64_t r = 0; r < rows; ++r) x_hat[(first_row + r) * d + i] += p[r];
    }
  };
  const auto unnormalize = [&](int64_t row, int64_t begin, int64_t end) {
    for (float* y = x_hat + row * d + begin; y < x_hat + row * d + end; ++y) {
      *y = direction ? scale[row] * *y : std::fma(scale[row], *y, shift[row]);
    }
  };
  const bool small = (codes.nnz() + n * d_skip) * d < kWorthAThread;  // not worth cutting up
  const int64_t slab = small ? d : kSlab;
  const int64_t block =
      small ? std::max<int64_t>(n, 1) : std::clamp(divide_up(n, 4 * pool_.threads()), kLeastDecodeRows, kDecodeRows);
  const int64_t blocks = divide_up(n, block);
  pool_.run(divide_up(d, slab) * blocks, [&](int64_t part) {
    const int64_t begin = part / blocks * slab, end = std::min(d, begin + slab);
    const int64_t first_row = part % blocks * block, end_row = std::min(n, first_row + block);
    for (int64_t row = first_row; row < end_row; ++row) gather(row, begin, end);
    for (int64_t row = first_row; d_skip > 0 && row < end_row; row += kDecodeRows) {
      skip(row, std::min(kDecodeRows, end_row - row), begin, end);
    }
    for (int64_t row = first_row; scale != nullptr && row < end_row; ++row) unnormalize(row, begin, end);
  });
}

// Canonical dots of a tile, features on all threads: scores[local feature * feature_stride + row * row_stride].
void CpuModel::exact_scores(const Batch& batch, const Dictionary& dictionary, int64_t first_feature, int64_t features,
                            float* scores, int64_t feature_stride, int64_t row_stride) const {
  const int64_t parts = chunks(features * batch.rows * batch.d, features);
  pool_.run(parts, [&](int64_t part) {
    int32_t rows[kTileRows];
    float p[kTileRows];
    const int count = all_rows(batch, rows);
    for (int64_t local = part * features / parts; local < (part + 1) * features / parts; ++local) {
      kernels_.dots(batch.x, rows, count, dictionary.row(first_feature + local), batch.d, p);
      for (int r = 0; r < count; ++r) {
        require_finite_product(p[r], batch.first_row + r, first_feature + local);
        scores[local * feature_stride + r * row_stride] = p[r];
      }
    }
  });
}

void CpuModel::project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) const {
  Lease lease(*this);
  const Dictionary& dictionary = readout == SAE_READOUT_DECODER ? decoder_ : encoder_;
  const int64_t d_sae = weights.d_sae;
  Screen screen = choose_screen(n, dictionary);
  if (screen == Screen::kInt8) screen = n > kCanonicalRows ? Screen::kSgemm : Screen::kCanonical;  // all are wanted: none to screen
  const int64_t part = even_part(n, most_rows(screen, dictionary.d));
  for (int64_t first_row = 0; first_row < n; first_row += part) {
    const int64_t rows = std::min(part, n - first_row);
    const Batch batch = prepare(v + first_row * dictionary.d, first_row, rows, dictionary, SAE_NORMALIZE_NONE, "v", screen, *lease);
    float* out = coefficients + first_row * d_sae;
    if (screen == Screen::kCanonical || batch.overflows) {
      exact_scores(batch, dictionary, 0, d_sae, out, 1, d_sae);
    } else {
      const int64_t features = std::min(d_sae, kTileScores / rows);
      for (int64_t j = 0; j < d_sae; j += features) {
        sgemm(batch.x, rows, dictionary.row(j), std::min(features, d_sae - j), batch.d, out + j, d_sae);
      }
    }
    if (!unit) continue;
    const int64_t parts = chunks(rows * d_sae, rows);
    pool_.run(parts, [&](int64_t p) {
      for (int64_t r = p * rows / parts; r < (p + 1) * rows / parts; ++r) {
        for (int64_t j = 0; j < d_sae; ++j) {
          float& coefficient = out[r * d_sae + j];
          coefficient = decoder_norm_[j] > 0 ? coefficient / decoder_norm_[j] : 0;
        }
      }
    });
  }
}

void CpuModel::project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign,
                           sae_codes& codes) const {
  Lease lease(*this);
  const Dictionary& dictionary = readout == SAE_READOUT_DECODER ? decoder_ : encoder_;
  const Ranking ranking = {dictionary, per_sign ? Order::kPerSign : Order::kAbs, false, unit};
  k = std::min(k, weights.d_sae);
  const Screen screen = choose_screen(n, dictionary);
  if (screen == Screen::kInt8 && readout == SAE_READOUT_DECODER) quantise_decoder();
  const int64_t part = even_part(n, most_ranked_rows(screen, dictionary.d, k));
  for (int64_t first_row = 0; first_row < n; first_row += part) {
    const int64_t rows = std::min(part, n - first_row);
    const Batch batch = prepare(v + first_row * dictionary.d, first_row, rows, dictionary, SAE_NORMALIZE_NONE, "v", screen, *lease);
    select_top(batch, ranking, screen, k, *lease, codes);
  }
}

CpuModel::Score CpuModel::score(const Ranking& ranking, int64_t j) const {
  Score score;
  if (ranking.encodes) {
    score.gate = gate_of(j);
    score.lower_scale = score.upper_scale = score.gate.scale;
  } else if (ranking.unit) {
    score.norm = decoder_norm_[j];
    score.lower_scale = inverse_norm_[2 * j];
    score.upper_scale = inverse_norm_[2 * j + 1];
  }
  return score;
}

// 1. Score a tile of rows x features. 2. Raise the rows' cuts by what the scores bound. 3. Decide what may still enter; rows are
// split among the threads. 4. After the last feature, append.
void CpuModel::select_top(const Batch& batch, const Ranking& ranking, Screen screen, int64_t k, Scratch& scratch,
                          sae_codes& codes) const {
  const int64_t rows = batch.rows, d_sae = weights.d_sae, most_features = std::min(d_sae, kTileScores / rows);
  Batch plain = batch;
  plain.int8 = nullptr;
  if (screen == Screen::kInt8 && k * kLeastFeaturesPerRank > d_sae && !never_gives_way_for_tests) {
    return select_top(plain, ranking, plain_screen(rows), k, scratch, codes);
  }
  scratch.top.start(rows, k, ranking.order);
  scratch.scores.reserve(most_features * rows);
  const int64_t groups = std::min<int64_t>(pool_.threads(), divide_up(rows, kLeastGroupRows));
  const int64_t group_rows = divide_up(divide_up(rows, groups), kLeastGroupRows) * kLeastGroupRows;
  std::vector<int64_t> named(groups);
  const auto on_rows = [&](const auto& task) {
    pool_.run(groups, [&](int64_t group) {
      named[group] = task(std::min(rows, group * group_rows), std::min(rows, (group + 1) * group_rows));
    });
  };
  for (int64_t first = 0; first < d_sae; first += most_features) {
    const Tile tile = {scratch.scores.data(), first, std::min(most_features, d_sae - first)};
    const Batch* scored = &batch;
    Screen by = screen;
    score_tile(batch, ranking.dictionary, by, tile);
    if (by != Screen::kCanonical) {
      on_rows([&](int64_t begin, int64_t end) { return foresee(batch, ranking, tile, begin, end, scratch.top); });
    }
    if (by == Screen::kInt8 && !never_gives_way_for_tests) {
      const double share = std::accumulate(named.begin(), named.end(), 0.0) / static_cast<double>(tile.features * rows);
      if (share > kMostForeseen) {
        scored = &plain;
        by = plain_screen(rows);
        score_tile(plain, ranking.dictionary, by, tile);
      }
    }
    on_rows([&](int64_t begin, int64_t end) {
      return by == Screen::kCanonical ? select_exact(*scored, ranking, tile, begin, end, scratch.top)
                                      : select_screened(*scored, ranking, tile, begin, end, scratch.top);
    });
  }
  scratch.top.append_to(codes);
}

// Fills tile.scores.
void CpuModel::score_tile(const Batch& batch, const Dictionary& dictionary, Screen screen, const Tile& tile) const {
  if (screen == Screen::kCanonical) {
    exact_scores(batch, dictionary, tile.first_feature, tile.features, tile.scores, batch.rows, 1);
  } else if (screen == Screen::kSgemm) {
    sgemm(dictionary.row(tile.first_feature), tile.features, batch.x, batch.rows, batch.d, tile.scores, batch.rows);
  } else {
    const int64_t parts = chunks(tile.features * batch.rows * batch.d, tile.features);
    pool_.run(parts, [&](int64_t part) {
      const int64_t begin = begin_of(part, parts, tile.features), end = begin_of(part + 1, parts, tile.features);
      batch.int8->scores(tile.first_feature + begin, end - begin, tile.scores + begin * batch.rows);
    });
  }
}

// The scores are canonical dots. Returns how many may enter.
int64_t CpuModel::select_exact(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                               TopK& top) const {
  int64_t named = 0;
  for (int64_t local = 0; local < tile.features; ++local) {
    const Score feature = score(ranking, tile.first_feature + local);
    if (!(feature.norm > 0)) continue;
    for (int64_t r = row_begin; r < row_end; ++r) {
      const float p = tile.scores[local * batch.rows + r], value = feature.value(p);
      if (!(feature.gate.passes(p) && top.may_enter(r, value))) continue;
      top.offer(r, tile.first_feature + local, value);
      ++named;
    }
  }
  return named;
}

// Whether a feature is far from what a few rows need: with room for the roundings, and without a call for each of many features.
bool CpuModel::is_out_of_reach(const float* scores, const Bounds& b, const Score& feature, int64_t row_begin, int64_t row_end,
                               const TopK& top) {
  constexpr float kRoom = 1 + 0x1p-19f;
  for (int64_t r = row_begin; r < row_end; ++r) {
    const float bound = b.of_norm[r] * b.feature.norm + b.of_loss[r] * b.feature.loss + b.floor;
    const float reach = ((std::fabs(scores[r]) + bound) * feature.upper_scale + std::fabs(feature.gate.offset)) * kRoom;
    if (!(reach < top.positive_cuts()[r] && reach < top.negative_cuts()[r])) return false;
  }
  return true;
}

// Calls task(feature, its number, its bounds, the rows that may enter their k best with it, how many) for 64 rows at a time where
// there are some. Returns how many there were.
template <typename Task>
int64_t CpuModel::for_named(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                            const TopK& top, const Task& task) const {
  int64_t named = 0;
  for (int64_t local = 0; local < tile.features; ++local) {
    const int64_t j = tile.first_feature + local;
    const Score feature = score(ranking, j);
    if (!(feature.norm > 0)) continue;
    const float* scores = tile.scores + local * batch.rows;
    const Bounds bounds = batch.bounds(j);
    if (batch.rows <= kFewRows && is_out_of_reach(scores, bounds, feature, row_begin, row_end, top)) continue;
    const bool gates = feature.gate.threshold > -std::numeric_limits<float>::infinity();
    for (int64_t block = row_begin; block < row_end; block += 64) {
      const int count = static_cast<int>(std::min<int64_t>(64, row_end - block));
      uint64_t mask = kernels_.beyond(scores + block, bounds.from(block), count, feature.upper_scale, feature.gate.offset,
                                      top.positive_cuts() + block, top.negative_cuts() + block);
      if (gates && mask != 0) mask &= kernels_.above(scores + block, bounds.from(block), count, feature.gate.threshold);
      if (mask == 0) continue;
      int32_t rows[64];
      const int found = unpack(mask, block, rows);
      named += found;
      task(feature, j, scores, bounds, rows, found);
    }
  }
  return named;
}

// Raises each row's cut by lower bounds alone, so that about a third as many are left to decide by canonical dots.
int64_t CpuModel::foresee(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin, int64_t row_end,
                          TopK& top) const {
  return for_named(batch, ranking, tile, row_begin, row_end, top,
                   [&](const Score& feature, int64_t, const float* scores, const Bounds& bounds, int32_t* rows, int found) {
    for (int k = 0; k < found; ++k) {
      const float bound = bounds.at(rows[k]), low = scores[rows[k]] - bound, high = scores[rows[k]] + bound;
      if (!feature.gate.passes(low)) continue;
      top.foresee(rows[k], value_of(low, feature.lower_scale, feature.gate.offset), value_of(high, feature.lower_scale, feature.gate.offset));
    }
  });
}

int64_t CpuModel::select_screened(const Batch& batch, const Ranking& ranking, const Tile& tile, int64_t row_begin,
                                  int64_t row_end, TopK& top) const {
  return for_named(batch, ranking, tile, row_begin, row_end, top,
                   [&](const Score& feature, int64_t j, const float* scores, const Bounds&, int32_t* rows, int found) {
    found = refine(batch, scores, j, rows, found, [&](float score, const Bounds& b, int32_t r) {
      return kernels_.beyond(&score, b, 1, feature.upper_scale, feature.gate.offset, top.positive_cuts() + r, top.negative_cuts() + r) != 0;
    });
    float p[64];
    kernels_.dots(batch.x, rows, found, ranking.dictionary.row(j), batch.d, p);
    for (int k = 0; k < found; ++k) {
      require_finite_product(p[k], batch.first_row + rows[k], j);
      if (feature.gate.passes(p[k])) top.offer(rows[k], j, feature.value(p[k]));
    }
  });
}

void CpuModel::pursue(const float* v, int64_t n, const Pursuit& how, sae_codes& codes) const {
  sae::pursue(*this, pool_, v, n, how, codes);
}

}  // namespace sae

#include "engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "workspace.hpp"

namespace sae::cuda {

double bound_scale_for_tests = 1;
#if defined(SAE_EMULATED)
extern "C" void emu_scale_bounds(double factor) { bound_scale_for_tests = factor; }
#endif

namespace {

// Rows a chunk has at most. More make the weights' pages travel less often; 4096 x 2304 floats still stay in a second-level cache of
// 50 MB while candidates are decided. (The emulation's are few, so that tests meet several chunks.)
#if defined(SAE_EMULATED)
int64_t most_rows = 256;
extern "C" void emu_set_chunk_rows(int64_t rows) { most_rows = rows; }
#else
constexpr int64_t most_rows = 4096;
#endif
// Rows x features of a chunk at most: offsets of candidates are 32 bits, at any density.
constexpr int64_t kMostCells = int64_t{1} << 28;
constexpr int64_t kFewestRows = 32;
constexpr int64_t kMostFeatures = (int64_t{1} << 32) / kFewestRows - 1;
// Scores that cuBLAS computes at a time: they are to stay in the second-level cache until the gate has read them.
constexpr int64_t kScores = int64_t{1} << 22;
// With more of a chunk's features candidates, whole tiles are decided: they load 12 vectors for 32 dots, single ones up to 16 for 8.
constexpr double kDenseShare = 0.125;
// Dense coefficients on their way to the host.
constexpr int64_t kDense = int64_t{1} << 24;

// n rows in equal parts of at most `most`.
int64_t even_part(int64_t n, int64_t most) { return n == 0 ? 1 : divide_up(n, divide_up(n, most)); }

void check_blas(int status, const char* what) {
  if (status != 0) fail(SAE_INTERNAL, "cuBLAS failed (%s): status %d", what, status);
}

const Cublas& blas(Workspace& workspace) {
  std::string reason;
  const Cublas* cublas = load_cublas(&reason);
  if (cublas == nullptr) fail(SAE_UNAVAILABLE, "%s", reason.c_str());
  if (workspace.blas_handle == nullptr) {
    check_blas(cublas->create(&workspace.blas_handle), "creating a handle");
    check_blas(cublas->set_math_mode(workspace.blas_handle, kNoReducedPrecisionReduction), "choosing the arithmetic");
  }
  check_blas(cublas->set_stream(workspace.blas_handle, workspace.stream), "choosing a stream");
  return *cublas;
}

// The row that failed first has its error reported first.
int64_t row_of_product(const Failures& failures) { return static_cast<int64_t>(failures.product >> 31); }
int64_t row_of_input(const Failures& failures) { return static_cast<int64_t>(failures.input >> 24); }

template <typename T>
void to_device(DeviceArray<T>& array, const T* from, int64_t count, const char* what, cudaStream_t stream) {
  array.reserve(count, what);
  check(cudaMemcpyAsync(array.data(), from, static_cast<size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream), what);
}

}  // namespace

// ---- codes

void Codes::start(int64_t rows, cudaStream_t stream, bool are_normalized) {
  n = 0;
  nnz = 0;
  normalized = are_normalized;
  row_offsets.reserve(rows + 1, "row offsets");
  check(cudaMemsetAsync(row_offsets.data(), 0, sizeof(int64_t), stream), "row offsets");
  if (!normalized) return;
  scale.reserve(rows, "scales of rows");
  shift.reserve(rows, "shifts of rows");
}

void Codes::reserve(int64_t count, int64_t keep, cudaStream_t stream) {
  if (count <= indices.capacity() && count <= values.capacity()) return;
  const int64_t wanted = keep == 0 ? count : std::max(count, keep + keep / 2);
  DeviceArray<int32_t> more_indices;
  DeviceArray<float> more_values;
  if (keep == 0) indices.swap(more_indices), values.swap(more_values);  // nothing to keep: no need of both at a time
  more_indices.reserve(wanted, "codes");
  more_values.reserve(wanted, "codes");
  if (keep > 0) {
    check(cudaMemcpyAsync(more_indices.data(), indices.data(), keep * sizeof(int32_t), cudaMemcpyDeviceToDevice, stream), "codes");
    check(cudaMemcpyAsync(more_values.data(), values.data(), keep * sizeof(float), cudaMemcpyDeviceToDevice, stream), "codes");
    check(cudaStreamSynchronize(stream), "codes");  // before the old ones are freed
  }
  indices.swap(more_indices);
  values.swap(more_values);
}

void Codes::download(int64_t* to_row_offsets, int32_t* to_indices, float* to_values, float* to_scale, float* to_shift) const {
  check(cudaSetDevice(device), "choosing the device");
  const Stream stream;
  check(cudaMemcpyAsync(to_row_offsets, row_offsets.data(), (n + 1) * sizeof(int64_t), cudaMemcpyDeviceToHost, stream), "codes");
  if (nnz > 0) {
    check(cudaMemcpyAsync(to_indices, indices.data(), nnz * sizeof(int32_t), cudaMemcpyDeviceToHost, stream), "codes");
    check(cudaMemcpyAsync(to_values, values.data(), nnz * sizeof(float), cudaMemcpyDeviceToHost, stream), "codes");
  }
  if (to_scale != nullptr && n > 0) {
    check(cudaMemcpyAsync(to_scale, scale.data(), n * sizeof(float), cudaMemcpyDeviceToHost, stream), "codes");
    check(cudaMemcpyAsync(to_shift, shift.data(), n * sizeof(float), cudaMemcpyDeviceToHost, stream), "codes");
  }
  stream.wait();
}

// ---- a call's workspace and its input

// The workspace of one call: the spare one, or, for callers that run at the same time, a new one. When it ends, failed or not,
// nothing of the call is running any more.
class Engine::Lease {
 public:
  explicit Lease(Engine& engine) : engine_(engine) {
    check(cudaSetDevice(engine.device_), "choosing the device");
    {
      std::lock_guard<std::mutex> lock(engine.workspace_mutex_);
      workspace_ = std::move(engine.spare_);
    }
    if (!workspace_) workspace_ = std::make_unique<Workspace>(engine.device_, engine.pool_);
    if (engine.callers_stream_ != nullptr) {
      workspace_->callers_work.record(engine.callers_stream_);
      for (cudaStream_t stream : {cudaStream_t(workspace_->stream), cudaStream_t(workspace_->copies)}) {
        check(cudaStreamWaitEvent(stream, workspace_->callers_work, 0), "waiting for the caller's stream");
      }
    }
    check(cudaMemsetAsync(workspace_->status.data(), 0xff, sizeof(Status), workspace_->stream), "clearing the status");
  }
  ~Lease() {
    if (!is_done_) {
      cudaStreamSynchronize(workspace_->copies);
      cudaStreamSynchronize(workspace_->stream);
      workspace_->staging.forget();
      cudaGetLastError();
    }
    std::lock_guard<std::mutex> lock(engine_.workspace_mutex_);
    if (!engine_.spare_) engine_.spare_ = std::move(workspace_);
  }
  Workspace& operator*() { return *workspace_; }
  // The call has waited for all that it started.
  void done() { is_done_ = true; }

 private:
  bool is_done_ = false;
  Engine& engine_;
  std::unique_ptr<Workspace> workspace_;
};

// The rows of a call, chunk by chunk: the next one is on its way while the device works on one.
class Engine::Source {
 public:
  Source(const float* x, int64_t n, int64_t part, const Dictionary& dictionary, Workspace& workspace)
      : x_(x), n_(n), part_(part), d_(dictionary.d), pitch_(dictionary.pitch), workspace_(workspace), place_(place_of(x)) {
    in_place_ = place_ == Place::kDevice && d_ == pitch_ && reinterpret_cast<uintptr_t>(x) % 16 == 0;
    feed(0);
  }

  int rows(int64_t chunk) const { return static_cast<int>(std::min(part_, n_ - chunk * part_)); }

  // Begins to copy a chunk, if there is one.
  void feed(int64_t chunk) {
    if (in_place_ || chunk * part_ >= n_) return;
    DeviceArray<float>& into = workspace_.x[chunk % 2];
    const cudaStream_t copies = workspace_.copies;
    check(cudaStreamWaitEvent(copies, workspace_.used[chunk % 2], 0), "waiting for a buffer");
    into.reserve(part_ * pitch_, "rows of x");
    if (d_ != pitch_) {
      check(cudaMemsetAsync(into.data(), 0, static_cast<size_t>(rows(chunk)) * pitch_ * sizeof(float), copies), "padding rows");
    }
    workspace_.staging.upload(into.data(), pitch_, x_ + chunk * part_ * d_, d_, rows(chunk), place_, copies);
    workspace_.copied[chunk % 2].record(copies);
  }

  // [rows, pitch] on the device, for the work that follows in the stream.
  const float* take(int64_t chunk) {
    if (in_place_) return x_ + chunk * part_ * d_;
    check(cudaStreamWaitEvent(workspace_.stream, workspace_.copied[chunk % 2], 0), "waiting for rows");
    return workspace_.x[chunk % 2].data();
  }

  // The stream's work so far was the last on this chunk.
  void release(int64_t chunk) { workspace_.used[chunk % 2].record(workspace_.stream); }

 private:
  const float* x_;
  int64_t n_, part_, d_, pitch_;
  Workspace& workspace_;
  Place place_;
  bool in_place_;
};

// ---- opening

Engine::Engine(int device, const sae_weights& weights, int threads, const char* screen, cudaStream_t callers_stream,
               bool probing)
    : device_(device), d_sae_(weights.d_sae), selection_(weights.selection), k_(weights.k), normalization_(weights.normalization),
      callers_stream_(callers_stream), pool_(threads) {
  const std::string reason = device_reason(device);
  if (!reason.empty()) fail(SAE_UNAVAILABLE, "CUDA device %d: %s", device, reason.c_str());
  if (d_sae_ > kMostFeatures) {
    fail(SAE_INVALID_ARGUMENT, "d_sae must be at most %lld on CUDA, got %lld", static_cast<long long>(kMostFeatures),
         static_cast<long long>(d_sae_));
  }
  screen_ = default_screen(device);
  if (screen != nullptr) {
    int found = 0;
    while (found < kScreenCount && std::strcmp(screen, screen_name(static_cast<Screen>(found))) != 0) ++found;
    if (found == kScreenCount) {
      fail(SAE_INVALID_ARGUMENT, "screen must be canonical, cublas-bf16, mma-bf16 or wgmma-bf16 on CUDA, got \"%s\"", screen);
    }
    screen_ = static_cast<Screen>(found);
    if (!probing) {
      const std::string dropped = screen_reason(device, screen_);
      if (!dropped.empty()) fail(SAE_UNAVAILABLE, "screen %s: %s", screen, dropped.c_str());
    }
  }
  check(cudaSetDevice(device), "choosing the device");
  require_memory(weights);
  std::vector<float> cuts(static_cast<size_t>(d_sae_));  // before the lease, which waits for its copy even if a later call fails
  const bool keeps_negative = selection_ == SAE_SELECT_TOP_SIGNED || selection_ == SAE_SELECT_TOP_ABS;
  for (int64_t j = 0; j < d_sae_; ++j) {
    const Gate gate = {weights.threshold[j], weights.scale[j], weights.offset[j]};
    cuts[j] = keeps_negative ? gate.signed_cut() : gate.cut();
  }
  Lease lease(*this);
  Workspace& workspace = *lease;
  const bool quantised = screen_ != Screen::kCanonical;
  upload(encoder_, weights.w_enc, d_sae_, weights.d_in, quantised, "w_enc of feature", workspace);
  upload(decoder_, weights.w_dec, d_sae_, weights.d_out, quantised, "w_dec of feature", workspace);
  if (weights.w_skip != nullptr) upload(skip_, weights.w_skip, weights.d_out, weights.d_in, false, "w_skip of output", workspace);
  decoder_norm_.reserve(d_sae_, "decoder norms");
  decoder_above_.reserve(d_sae_, "decoder norms");
  launch_norms(decoder_.rows.data(), decoder_.pitch, d_sae_, decoder_norm_.data(), decoder_above_.data(), workspace.stream);
  to_device(threshold_, weights.threshold, d_sae_, "thresholds", workspace.stream);
  to_device(scale_, weights.scale, d_sae_, "scales", workspace.stream);
  to_device(offset_, weights.offset, d_sae_, "offsets", workspace.stream);
  to_device(cut_, cuts.data(), d_sae_, "cuts", workspace.stream);
  to_device(b_dec_, weights.b_dec, weights.d_out, "b_dec", workspace.stream);
  workspace.stream.wait();
  lease.done();
  description_ = "cuda:" + std::to_string(device) + ", " + describe_device(device) + ", screen " + screen_name(screen_);
}

Engine::~Engine() { cudaSetDevice(device_); }

// All at once, before anything is copied: what the model needs, and the workspace of its smallest calls.
void Engine::require_memory(const sae_weights& weights) const {
  const bool quantised = screen_ != Screen::kCanonical;
  const double per_weight = quantised ? sizeof(float) + sizeof(uint16_t) : sizeof(float);
  const double pitches = static_cast<double>(round_up(weights.d_in, kSlice) + round_up(weights.d_out, kSlice));
  const double per_feature = pitches * per_weight + 8 * sizeof(float) + 2 * sizeof(FeatureBound);
  const double per_output = weights.w_skip == nullptr ? 0 : round_up(weights.d_in, kSlice) * sizeof(float) + sizeof(FeatureBound);
  const double needed = per_feature * static_cast<double>(d_sae_) + per_output * static_cast<double>(weights.d_out) +
                        static_cast<double>(kMaskRows) * static_cast<double>(d_sae_) / 8 + 64.0 * (1 << 20);
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  if (needed > static_cast<double>(free)) {
    fail(SAE_OUT_OF_MEMORY, "out of device memory: the model needs %.0f bytes, %zu of %zu are free", needed, free, total);
  }
}

void Engine::upload(Dictionary& dictionary, const float* rows, int64_t count, int64_t d, bool quantised, const char* name,
                    Workspace& workspace) {
  dictionary.count = count;
  dictionary.d = d;
  dictionary.pitch = round_up(d, kSlice);
  const int64_t floats = count * dictionary.pitch;
  float* to = dictionary.rows.reserve(floats, "weights");
  const cudaStream_t stream = workspace.stream;
  if (d != dictionary.pitch) check(cudaMemsetAsync(to, 0, static_cast<size_t>(floats) * sizeof(float), stream), "weights");
  workspace.staging.upload(to, dictionary.pitch, rows, d, count, place_of(rows), stream);
  if (quantised) dictionary.quantised.reserve(floats, "bf16 weights");
  dictionary.bounds.reserve(count, "norms");
  Status* status = workspace.status.data();
  check(cudaMemsetAsync(&status->largest_norm, 0, sizeof(status->largest_norm), stream), "norms");
  launch_prepare_features(to, dictionary.pitch, count, dictionary.quantised.data(), dictionary.bounds.data(),
                          &status->largest_norm, &status->failures, stream);
  check(cudaMemcpyAsync(workspace.host.data(), status, sizeof(Status), cudaMemcpyDeviceToHost, stream), "norms");
  workspace.stream.wait();
  std::memcpy(&dictionary.largest_norm, &workspace.host->largest_norm, sizeof(double));
  const Failures& failed = workspace.host->failures;
  if (failed.input != ~0ull) {
    const int64_t j = row_of_input(failed), i = static_cast<int64_t>(failed.input & 0xffffff);
    const float value = rows[j * d + i];
    fail(SAE_INVALID_ARGUMENT, "%s %lld must be finite, got %g at %lld", name, static_cast<long long>(j), value,
         static_cast<long long>(i));
  }
}

Features Engine::features(const Dictionary& dictionary) const {
  return {dictionary.rows.data(), dictionary.quantised.data(), dictionary.bounds.data(), dictionary.pitch, dictionary.count};
}

// ---- encode

Screen Engine::choose_screen(int64_t n) const {
  // A few rows are bound by the reading of weights, and bf16 ones would be read beside the others.
  constexpr int64_t kFewRows = 8;
  return n <= kFewRows && screen_ == default_screen(device_) ? Screen::kCanonical : screen_;
}

int64_t Engine::chunk_rows(int64_t n) const {
  return even_part(n, std::clamp(kMostCells / d_sae_, kFewestRows, most_rows));
}

// Measures a chunk's rows, and rounds them where a screen asks for it.
Batch Engine::prepare(const Dictionary& dictionary, const float* x, int64_t first_row, int rows, Screen screen,
                      Workspace& workspace) const {
  uint16_t* quantised = screen == Screen::kCanonical ? nullptr : workspace.quantised.reserve(rows * dictionary.pitch, "bf16 rows");
  TensorRowBound* bounds = workspace.bounds.reserve(rows, "bounds");
  launch_prepare_rows(x, dictionary.pitch, rows, first_row, dictionary.largest_norm, dictionary.d, bound_scale_for_tests, quantised,
                      bounds, &workspace.status.data()->failures, workspace.stream);
  return {x, quantised, bounds, dictionary.pitch, rows, first_row};
}

// Brings a chunk's rows into what the model was trained on, elsewhere: x may be the caller's. What it took out goes to the codes.
const float* Engine::normalize(const float* x, int64_t first_row, int rows, Codes& codes, Workspace& workspace) const {
  float* normalized = workspace.normalized.reserve(rows * encoder_.pitch, "normalised rows");
  launch_normalize(x, encoder_.pitch, rows, first_row, encoder_.d, normalization_, normalized, codes.scale.data() + first_row,
                   codes.shift.data() + first_row, &workspace.status.data()->failures, workspace.stream);
  return normalized;
}

void Engine::encode(const float* x, int64_t n, Codes& codes) {
  const bool normalizes = normalization_ != SAE_NORMALIZE_NONE;
  if (selection_ != SAE_SELECT_GATE) {
    const bool by_size = selection_ == SAE_SELECT_TOP_ABS;
    const TopGate gate = {threshold_.data(), scale_.data(), offset_.data(), cut_.data(), by_size, {}};
    return top(encoder_, x, n, "x", normalizes, gate, order_of(selection_), k_, codes);
  }
  Lease lease(*this);
  Workspace& workspace = *lease;
  codes.start(n, workspace.stream, normalizes);
  const EncodeGate gate = {threshold_.data(), scale_.data(), offset_.data(), cut_.data()};
  const Screen screen = choose_screen(n);
  const int64_t part = chunk_rows(n);
  Source source(x, n, part, encoder_, workspace);
  for (int64_t chunk = 0, row = 0; row < n; ++chunk, row += part) {
    const int rows = source.rows(chunk);
    const float* taken = source.take(chunk);
    if (normalizes) taken = normalize(taken, row, rows, codes, workspace);
    const Batch batch = prepare(encoder_, taken, row, rows, screen, workspace);
    screen_chunk(features(encoder_), batch, gate, screen, workspace);
    source.feed(chunk + 1);
    compact_chunk(features(encoder_), batch, gate, row, codes, codes.row_offsets.data() + row, workspace);
    source.release(chunk);
    check_failures(workspace.host->failures, x, encoder_.d, "x");
  }
  finish(codes, n, lease);
  check_failures(workspace.host->failures, x, encoder_.d, "x");
}

// Waits for a call that wrote codes of n rows; what failed on the way is then in the workspace's status.
void Engine::finish(Codes& codes, int64_t n, Lease& lease) const {
  Workspace& workspace = *lease;
  const cudaStream_t stream = workspace.stream;
  check(cudaMemcpyAsync(workspace.host_nnz.data(), codes.row_offsets.data() + n, sizeof(int64_t), cudaMemcpyDeviceToHost, stream),
        "reading sizes");
  check(cudaMemcpyAsync(workspace.host.data(), workspace.status.data(), sizeof(Status), cudaMemcpyDeviceToHost, stream),
        "reading the status");
  workspace.stream.wait();
  lease.done();
  codes.n = n;
  codes.nnz = *workspace.host_nnz.data();
}

// 1. Screen: a bit for each candidate.
template <typename Gate>
void Engine::screen_chunk(const Features& features, const Batch& batch, const Gate& gate, Screen screen,
                          Workspace& workspace) const {
  const int words = static_cast<int>(round_up(batch.rows, kMaskRows) / 32);
  const Mask mask = {workspace.mask.reserve(features.count * words, "candidate mask"), words};
  switch (screen) {
    case Screen::kCanonical: return launch_screen_canonical(features, batch, gate, mask, workspace.stream);
    case Screen::kCublas: return screen_by_cublas(features, batch, gate, mask, workspace);
    case Screen::kMma: return launch_screen_mma(features, batch, gate, mask, workspace.stream);
    case Screen::kWgmma: return launch_screen_wgmma(features, batch, gate, mask, workspace.stream);
  }
}

// Tiles of scores by cuBLAS, and the gate over each.
template <typename Gate>
void Engine::screen_by_cublas(const Features& features, const Batch& batch, const Gate& gate, Mask mask,
                              Workspace& workspace) const {
  const Cublas& cublas = blas(workspace);
  const float one = 1, zero = 0;
  const int rows = mask.words * 32;
  const int64_t part = std::min(features.count, std::max<int64_t>(1, kScores / rows));
  float* scores = workspace.scores.reserve(part * rows, "scores");
  for (int64_t first = 0; first < features.count; first += part) {
    const int count = static_cast<int>(std::min(part, features.count - first));
    // Column-major, as cuBLAS has it: scores [rows, count] = x'^T [rows, d] w' [d, count].
    check_blas(cublas.gemm_ex(workspace.blas_handle, kTransposed, kNotTransposed, batch.rows, count,
                              static_cast<int>(features.pitch), &one, batch.quantised, kReal16Bf, static_cast<int>(batch.pitch),
                              features.quantised + first * features.pitch, kReal16Bf, static_cast<int>(features.pitch), &zero,
                              scores, kReal32, rows, kCompute32, kDefaultAlgorithm),
               "bf16 product");
    launch_screen_scores(scores, features, first, count, batch, gate, mask, workspace.stream);
  }
}

// 2. List the candidates; the host waits for their number. 3. Decide them. 4. Place the active ones behind what `into` holds.
// *nnz_before, on the device, is how much that is. Returns the number of candidates.
template <typename Gate>
int64_t Engine::compact_chunk(const Features& features, const Batch& batch, const Gate& gate, int64_t first_row, Codes& into,
                              const int64_t* nnz_before, Workspace& workspace) const {
  const cudaStream_t stream = workspace.stream;
  const Mask mask = {workspace.mask.data(), static_cast<int>(round_up(batch.rows, kMaskRows) / 32)};
  uint32_t* counts = workspace.counts.reserve(features.count, "counts");
  uint32_t* sums = workspace.sums.reserve(divide_up(features.count, kListFeatures), "counts");
  Status* status = workspace.status.data();
  launch_count(mask, features.count, counts, sums, &status->total, stream);
  check(cudaMemcpyAsync(workspace.host.data(), status, sizeof(Status), cudaMemcpyDeviceToHost, stream), "reading the status");
  check(cudaMemcpyAsync(workspace.host_nnz.data(), nnz_before, sizeof(int64_t), cudaMemcpyDeviceToHost, stream), "reading sizes");
  workspace.stream.wait();

  const int64_t total = workspace.host->total, before = *workspace.host_nnz.data();
  const Candidates candidates = {workspace.candidate_rows.reserve(total, "candidates"),
                                 workspace.candidate_features.reserve(total, "candidates"),
                                 workspace.candidate_values.reserve(total, "candidates"), total};
  into.reserve(before + total, before, stream);
  uint32_t* offsets = workspace.offsets.reserve(features.count + 1, "offsets");
  launch_list(mask, features.count, counts, sums, offsets, candidates, stream);
  if (total > kDenseShare * static_cast<double>(features.count) * batch.rows) {
    launch_decide_tiles(features, batch, gate, mask, offsets, candidates.values, &status->failures, stream);
  } else {
    launch_decide(features, batch, gate, candidates, &status->failures, stream);
  }
  uint32_t* tally = workspace.tally.reserve(divide_up(features.count, kSegmentFeatures) * batch.rows, "tallies");
  uint32_t* row_counts = workspace.row_counts.reserve(batch.rows, "row counts");
  launch_place(offsets, features.count, candidates, batch.rows, first_row, tally, row_counts, into.row_offsets.data(),
               into.indices.data(), into.values.data(), stream);
  return total;
}

void Engine::check_failures(const Failures& failures, const float* x, int64_t d, const char* name) const {
  if (failures.scale < static_cast<unsigned long long>(std::min(row_of_product(failures), row_of_input(failures)))) {
    fail(SAE_INVALID_ARGUMENT, "the standard deviation of row %llu of %s overflows float32", failures.scale, name);
  }
  if (failures.product != ~0ull && (failures.input == ~0ull || row_of_product(failures) < row_of_input(failures))) {
    fail(SAE_INVALID_ARGUMENT, "the product of row %lld with feature %lld overflows float32",
         static_cast<long long>(row_of_product(failures)), static_cast<long long>(failures.product & 0x7fffffff));
  }
  if (failures.input == ~0ull) return;
  const int64_t row = row_of_input(failures), column = static_cast<int64_t>(failures.input & 0xffffff);
  float value = 0;
  if (place_of(x) == Place::kDevice) {
    Stream stream;
    check(cudaMemcpyAsync(&value, x + row * d + column, sizeof(value), cudaMemcpyDefault, stream), "reading a value");
    stream.wait();
  } else {
    value = x[row * d + column];
  }
  fail(SAE_INVALID_ARGUMENT, "%s must be finite, got %g at row %lld, column %lld", name, value, static_cast<long long>(row),
       static_cast<long long>(column));
}

// The same after all work so far, of rows that a dictionary's were multiplied with.
void Engine::wait_and_check(const float* x, const Dictionary& dictionary, const char* name, Workspace& workspace) const {
  check(cudaMemcpyAsync(workspace.host.data(), workspace.status.data(), sizeof(Status), cudaMemcpyDeviceToHost, workspace.stream),
        "reading the status");
  workspace.stream.wait();
  check_failures(workspace.host->failures, x, dictionary.d, name);
}

// ---- decode

void Engine::decode(const Codes& codes, const float* x, bool direction, float* x_hat) {
  Lease lease(*this);
  Workspace& workspace = *lease;
  const int64_t d = decoder_.d;
  const Place place = place_of(x_hat);
  const bool skips = x != nullptr;
  const DecodeEnd end = {direction ? nullptr : b_dec_.data(), skips, codes.normalized ? codes.scale.data() : nullptr,
                         codes.normalized && !direction ? codes.shift.data() : nullptr};
  const int64_t part = place == Place::kDevice && !skips ? std::max<int64_t>(codes.n, 1) : even_part(codes.n, most_rows);
  std::optional<Source> source;
  if (skips) source.emplace(x, codes.n, part, skip_, workspace);
  for (int64_t chunk = 0, row = 0; row < codes.n; ++chunk, row += part) {
    const int64_t rows = std::min(part, codes.n - row);
    float* out = place == Place::kDevice ? x_hat + row * d : workspace.out.reserve(part * d, "decoded rows");
    if (skips) {
      const Batch batch = prepare(skip_, source->take(chunk), row, source->rows(chunk), Screen::kCanonical, workspace);
      launch_products(features(skip_), batch, out, d, nullptr, workspace.stream);
      source->release(chunk);
      source->feed(chunk + 1);
    }
    launch_decode(codes.csr(), row, rows, decoder_.rows.data(), decoder_.pitch, d, end, out, workspace.stream);
    if (place != Place::kDevice) workspace.staging.download(x_hat + row * d, out, rows * d, place, workspace.stream);
  }
  if (skips) wait_and_check(x, skip_, "x", workspace);
  workspace.staging.finish();
  workspace.stream.wait();
  lease.done();
}

// ---- project

void Engine::project_dense(const float* v, int64_t n, sae_readout readout, bool unit, float* coefficients) {
  Lease lease(*this);
  Workspace& workspace = *lease;
  const Dictionary& dictionary = readout == SAE_READOUT_DECODER ? decoder_ : encoder_;
  const Place place = place_of(coefficients);
  const Cublas* cublas = load_cublas(nullptr);
  const int64_t part = even_part(n, std::clamp(kDense / d_sae_, int64_t{1}, most_rows));
  Source source(v, n, part, dictionary, workspace);
  for (int64_t chunk = 0, row = 0; row < n; ++chunk, row += part) {
    const Batch batch = prepare(dictionary, source.take(chunk), row, source.rows(chunk), Screen::kCanonical, workspace);
    float* out = place == Place::kDevice ? coefficients + row * d_sae_ : workspace.out.reserve(part * d_sae_, "coefficients");
    if (cublas == nullptr) {
      launch_products(features(dictionary), batch, out, d_sae_, &workspace.status.data()->failures, workspace.stream);
    } else {
      const float one = 1, zero = 0;
      // Column-major: coefficients^T [d_sae, rows] = w^T [d_sae, d] v [d, rows].
      check_blas(blas(workspace).sgemm(workspace.blas_handle, kTransposed, kNotTransposed, static_cast<int>(d_sae_), batch.rows,
                                       static_cast<int>(dictionary.pitch), &one, dictionary.rows.data(),
                                       static_cast<int>(dictionary.pitch), batch.x, static_cast<int>(batch.pitch), &zero, out,
                                       static_cast<int>(d_sae_)),
                 "float32 product");
    }
    if (unit) launch_divide(out, batch.rows, d_sae_, decoder_norm_.data(), workspace.stream);
    source.release(chunk);
    source.feed(chunk + 1);
    if (place != Place::kDevice) {
      workspace.staging.download(coefficients + row * d_sae_, out, batch.rows * d_sae_, place, workspace.stream);
    }
  }
  wait_and_check(v, dictionary, "v", workspace);
  workspace.staging.finish();
  lease.done();
}

void Engine::project_top(const float* v, int64_t n, sae_readout readout, bool unit, int64_t k, bool per_sign, Codes& codes) {
  const ProjectGate gate = {unit ? decoder_norm_.data() : nullptr, unit ? decoder_above_.data() : nullptr, {}};
  top(readout == SAE_READOUT_DECODER ? decoder_ : encoder_, v, n, "v", false, gate, per_sign ? Order::kPerSign : Order::kAbs,
      std::min(k, d_sae_), codes);
}

// ---- the k best, of encode and of project

// Two passes over each chunk. The k-th best of a subset of the features is a lower bound of the k-th best of all: the first pass finds
// it for each row, the second is an encode whose gate is that cut, and the k best are selected from what it leaves.
template <typename Gate>
void Engine::top(const Dictionary& dictionary, const float* x, int64_t n, const char* name, bool normalizes, Gate gate, Order order,
                 int64_t k, Codes& codes) {
  Lease lease(*this);
  Workspace& workspace = *lease;
  const cudaStream_t stream = workspace.stream;
  const Features all = features(dictionary);
  // As many more candidates come through as the subset is smaller: this size makes both passes decide about as much.
  Features subset = all;
  subset.count = round_up(std::max<int64_t>(1024, static_cast<int64_t>(std::sqrt(4.0 * k * d_sae_))), kSegmentFeatures);
  const bool worthwhile = 2 * subset.count <= d_sae_ && 2 * k <= subset.count;
  const Screen screen = choose_screen(n);
  const int64_t part = chunk_rows(n);
  codes.start(n, stream, normalizes);
  Source source(x, n, part, dictionary, workspace);
  gate.cuts = {workspace.positive_cut.reserve(part, "cuts"), workspace.negative_cut.reserve(part, "cuts")};
  for (int64_t chunk = 0, row = 0; row < n; ++chunk, row += part) {
    const float* taken = source.take(chunk);
    if (normalizes) taken = normalize(taken, row, source.rows(chunk), codes, workspace);
    const Batch batch = prepare(dictionary, taken, row, source.rows(chunk), screen, workspace);
    launch_no_cuts(batch.rows, order, gate.cuts, stream);
    const int64_t* nnz_before = codes.row_offsets.data() + row;
    Codes& stage = workspace.stage;
    stage.start(batch.rows, stream);
    const int64_t* stage_before = stage.row_offsets.data();  // 0, and stays so
    if (worthwhile) {
      screen_chunk(subset, batch, gate, Screen::kCanonical, workspace);
      compact_chunk(subset, batch, gate, 0, stage, stage_before, workspace);
      launch_cuts(stage.csr(), batch.rows, k, order, gate.cuts, stream);
      check_failures(workspace.host->failures, x, dictionary.d, name);
    }
    screen_chunk(all, batch, gate, screen, workspace);
    source.feed(chunk + 1);
    const int64_t total = compact_chunk(all, batch, gate, 0, stage, stage_before, workspace);
    source.release(chunk);
    check_failures(workspace.host->failures, x, dictionary.d, name);
    launch_cuts(stage.csr(), batch.rows, k, order, gate.cuts, stream);
    launch_count_kept(stage.csr(), batch.rows, k, order, gate.cuts, workspace.row_counts.data(), stream);
    launch_row_offsets(workspace.row_counts.data(), batch.rows, row, codes.row_offsets.data(), stream);
    check(cudaMemcpyAsync(workspace.host_nnz.data(), nnz_before, sizeof(int64_t), cudaMemcpyDeviceToHost, stream), "reading sizes");
    workspace.stream.wait();
    const int64_t before = *workspace.host_nnz.data();
    codes.reserve(before + std::min(total, batch.rows * k * (order == Order::kPerSign ? 2 : 1)), before, stream);
    launch_keep(stage.csr(), batch.rows, row, k, order, gate.cuts, codes.row_offsets.data(), codes.indices.data(),
                codes.values.data(), stream);
  }
  finish(codes, n, lease);
  check_failures(workspace.host->failures, x, dictionary.d, name);
}

// ---- to and from the host

void Engine::to_host(const float* from, int64_t count, float* to) {
  if (place_of(from) != Place::kDevice) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  Lease lease(*this);
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(float), cudaMemcpyDefault, (*lease).stream), "reading values");
  (*lease).stream.wait();
  lease.done();
}

void Engine::upload(Codes& codes, int64_t n, const int64_t* row_offsets, const int32_t* indices, const float* values,
                    const float* scale, const float* shift) {
  Lease lease(*this);
  const cudaStream_t stream = (*lease).stream;
  const bool normalized = scale != nullptr;
  codes.start(n, stream, normalized);
  const int64_t nnz = row_offsets[n];
  codes.reserve(nnz, 0, stream);
  check(cudaMemcpyAsync(codes.row_offsets.data(), row_offsets, (n + 1) * sizeof(int64_t), cudaMemcpyHostToDevice, stream), "codes");
  if (nnz > 0) {
    check(cudaMemcpyAsync(codes.indices.data(), indices, nnz * sizeof(int32_t), cudaMemcpyHostToDevice, stream), "codes");
    check(cudaMemcpyAsync(codes.values.data(), values, nnz * sizeof(float), cudaMemcpyHostToDevice, stream), "codes");
  }
  if (normalized && n > 0) {
    check(cudaMemcpyAsync(codes.scale.data(), scale, n * sizeof(float), cudaMemcpyHostToDevice, stream), "codes");
    check(cudaMemcpyAsync(codes.shift.data(), shift, n * sizeof(float), cudaMemcpyHostToDevice, stream), "codes");
  }
  (*lease).stream.wait();
  lease.done();
  codes.n = n;
  codes.nnz = nnz;
}

}  // namespace sae::cuda

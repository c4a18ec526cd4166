#include "screen.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "error.hpp"
#include "int8.hpp"
#include "kernels.hpp"
#include "law/gate.hpp"
#include "sums.hpp"

namespace sae {

double bound_scale_for_tests = 1;
bool never_gives_way_for_tests = false;
void (*worst_sgemm_for_tests)(const float*, int64_t, const float*, int64_t, int64_t, float*, int64_t) = nullptr;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct NamedScreen {
  const char* name;
  bool (*supported)();
  const char* lacking;
  bool (*probe)();
  const char* dropped;
};

bool always() { return true; }
bool has_int8() { return &int8_kernels(choose_kernels(nullptr)) != &kPortableInt8Kernels; }

// In the order of enum Screen. The one list of them.
const NamedScreen kScreens[kScreenCount] = {
    {"canonical", always, "", always, ""},
    {"sgemm", always, "", probe_sgemm, "SGEMM missed a planted feature: its error exceeds the float32 bound on this machine"},
    {"int8", has_int8, "this CPU has none of AVX-512 VNNI, AVX-VNNI, AVX2 and NEON dot products", probe_int8,
     "the int8 products missed a planted feature"},
};

}  // namespace

const char* screen_name(Screen screen) { return kScreens[static_cast<int>(screen)].name; }

const char* screen_reason(Screen screen) {
  static std::once_flag probed;
  static const char* reasons[kScreenCount];
  std::call_once(probed, [] {
    for (int i = 0; i < kScreenCount; ++i) {
      const NamedScreen& screen = kScreens[i];
      reasons[i] = !screen.supported() ? screen.lacking : screen.probe() ? "" : screen.dropped;
    }
  });
  return reasons[static_cast<int>(screen)];
}

Screen screen_by_name(const char* name) {
  for (int i = 0; i < kScreenCount; ++i) {
    if (std::strcmp(name, kScreens[i].name) != 0) continue;
    const auto screen = static_cast<Screen>(i);
    const char* reason = screen_reason(screen);
    if (*reason != 0) fail(SAE_UNAVAILABLE, "screen %s: %s", name, reason);
    return screen;
  }
  fail(SAE_INVALID_ARGUMENT, "screen must be canonical, sgemm or int8 on the CPU, got \"%s\"", name);
}

namespace {

// OpenBLAS serialises callers by a lock of its own when its thread count is above 1, and the count is the host's. At exit it
// joins its threads, and would wait for ever for one that was given work meanwhile: so exit first waits for the running call,
// and lets no other begin. (This library is unloaded before the one it depends on.)
std::mutex& one_caller = *new std::mutex;  // never destroyed: callers may be waiting when the process ends

struct AtExit {
  ~AtExit() { one_caller.lock(); }
} at_exit;

}  // namespace

void sgemm(const float* a, int64_t m, const float* b, int64_t n, int64_t d, float* c, int64_t stride) {
  std::lock_guard<std::mutex> lock(one_caller);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(m), static_cast<blasint>(n),
              static_cast<blasint>(d), 1.0f, a, static_cast<blasint>(d), b, static_cast<blasint>(d), 0.0f, c,
              static_cast<blasint>(stride));
  if (worst_sgemm_for_tests != nullptr) worst_sgemm_for_tests(a, m, b, n, d, c, stride);
}

namespace {

// Rows and features of its own, the same everywhere, and for each pair the tightest threshold under which it is active: an ulp
// below its product.
struct Planted {
  static constexpr int64_t kD = 333, kRows = 33, kFeatures = 257;
  std::vector<float> x, w, scores;
  std::vector<double> x_norm, w_norm;
  double largest_x = 0, largest_w = 0;

  Planted() : x(kRows * kD), w(kFeatures * kD), scores(kRows * kFeatures) {
    uint32_t state = 1;
    const auto next = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
    };
    for (float& value : x) value = next();
    for (float& value : w) value = next();
    for (int64_t r = 0; r < kRows; ++r) x_norm.push_back(norm(&x[r * kD], kD));
    for (int64_t j = 0; j < kFeatures; ++j) w_norm.push_back(norm(&w[j * kD], kD));
    largest_x = *std::max_element(x_norm.begin(), x_norm.end());
    largest_w = *std::max_element(w_norm.begin(), w_norm.end());
  }

  float floor() const { return bound_floor(largest_x, largest_w, kD, bound_scale_for_tests); }

  // Whether a screen's score and bound name each pair.
  template <typename Score, typename BoundsOf>
  bool all_named(const Score& score, const BoundsOf& bounds) const {
    const Kernels& kernels = choose_kernels(nullptr);
    for (int64_t j = 0; j < kFeatures; ++j) {
      for (int64_t r = 0; r < kRows; ++r) {
        const float p = kernels.dot(&x[r * kD], &w[j * kD], kD), s = score(r, j);
        const float threshold = std::nextafter(p, -kInfinity);
        const float offset = 2 * std::fabs(p) + 1;  // v = p + offset > 0: the threshold decides
        if (kernels.above(&s, bounds(j).from(r), 1, Gate{threshold, 1.0f, offset}.cut()) == 0) return false;
      }
    }
    return true;
  }
};

}  // namespace

bool probe_sgemm() {
  Planted planted;
  std::vector<float> of_norm(Planted::kRows), of_loss(Planted::kRows);
  for (int64_t r = 0; r < Planted::kRows; ++r) of_norm[r] = sgemm_row_bound(planted.x_norm[r], planted.largest_w, Planted::kD, bound_scale_for_tests);
  sgemm(planted.w.data(), Planted::kFeatures, planted.x.data(), Planted::kRows, Planted::kD, planted.scores.data(), Planted::kRows);
  return planted.all_named(
      [&](int64_t r, int64_t j) { return planted.scores[j * Planted::kRows + r]; },
      [&](int64_t j) { return Bounds{of_norm.data(), of_loss.data(), planted.floor(), feature_bound(planted.w_norm[j], 0)}; });
}

bool probe_int8() {
  Planted planted;
  Int8Features features(int8_kernels(choose_kernels(nullptr)), planted.w.data(), Planted::kFeatures, Planted::kD, planted.x.data());
  for (int64_t j = 0; j < Planted::kFeatures; ++j) features.add(j, planted.w_norm[j]);
  Int8Rows rows;
  rows.start(features, planted.x.data(), Planted::kRows);
  for (int64_t r = 0; r < Planted::kRows; ++r) rows.add(r, planted.x_norm[r], planted.largest_w);
  rows.scores(0, Planted::kFeatures, planted.scores.data());
  const auto score = [&](int64_t r, int64_t j) { return planted.scores[j * Planted::kRows + r]; };
  return planted.all_named(score, [&](int64_t j) { return rows.bounds(j, planted.floor()); }) &&
         planted.all_named([&](int64_t r, int64_t j) { return rows.refined(r, j, score(r, j)); },
                           [&](int64_t j) { return rows.refined_bounds(j, planted.floor()); });
}

}  // namespace sae

#include "screen.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "error.hpp"
#include "kernels.hpp"

namespace sae {

double bound_scale_for_tests = 1;
void (*worst_sgemm_for_tests)(const float*, int64_t, const float*, int64_t, int64_t, float*, int64_t) = nullptr;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct NamedScreen {
  const char* name;
  bool (*probe)();
  const char* dropped;
};

bool serves() { return true; }

// In the order of enum Screen. The one list of them.
const NamedScreen kScreens[kScreenCount] = {
    {"canonical", serves, ""},
    {"sgemm", probe_sgemm, "SGEMM missed a planted feature: its error exceeds the float32 bound on this machine"},
};

}  // namespace

const char* screen_name(Screen screen) { return kScreens[static_cast<int>(screen)].name; }

const char* screen_reason(Screen screen) {
  static std::once_flag probed;
  static const char* reasons[kScreenCount];
  std::call_once(probed, [] {
    for (int i = 0; i < kScreenCount; ++i) reasons[i] = kScreens[i].probe() ? "" : kScreens[i].dropped;
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
  fail(SAE_INVALID_ARGUMENT, "screen must be canonical or sgemm on the CPU, got \"%s\"", name);
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

float row_bound(double norm, double largest_feature_norm, int64_t d) {
  if (!(norm * largest_feature_norm < kLargestProduct)) return kInfinity;
  return rounded_up(bound_scale_for_tests * kInflation * (canonical_error(d) + sgemm_error(d)) * norm);
}

float feature_norm(double norm) { return rounded_up(kInflation * norm); }

float bound_floor(double largest_norm, double largest_feature_norm, int64_t d) {
  return rounded_up(bound_scale_for_tests * kInflation * underflow_floor(largest_norm, largest_feature_norm, d));
}

double norm(const float* a, int64_t d) {
  constexpr int kLanes = 8;  // independent sums, so that the compiler may vectorise
  double sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += static_cast<double>(a[i + lane]) * a[i + lane];
  }
  for (; i < d; ++i) sum[0] += static_cast<double>(a[i]) * a[i];
  for (int lane = 1; lane < kLanes; ++lane) sum[0] += sum[lane];
  return std::sqrt(sum[0]);
}

bool probe_sgemm() {
  constexpr int64_t kD = 333, kRows = 33, kFeatures = 257;
  std::vector<float> x(kRows * kD), w(kFeatures * kD), s(kRows * kFeatures);
  uint32_t state = 1;  // a small generator of our own: the same planted data everywhere
  const auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  };
  for (float& value : x) value = next();
  for (float& value : w) value = next();

  double largest_x = 0, largest_w = 0;
  for (int64_t r = 0; r < kRows; ++r) largest_x = std::max(largest_x, norm(&x[r * kD], kD));
  for (int64_t j = 0; j < kFeatures; ++j) largest_w = std::max(largest_w, norm(&w[j * kD], kD));
  const float floor = bound_floor(largest_x, largest_w, kD);
  const Kernels& kernels = choose_kernels(nullptr);

  sgemm(w.data(), kFeatures, x.data(), kRows, kD, s.data(), kRows);
  for (int64_t j = 0; j < kFeatures; ++j) {
    const float feature = feature_norm(norm(&w[j * kD], kD));
    for (int64_t r = 0; r < kRows; ++r) {
      // The tightest threshold under which this row is active: an ulp below its product.
      const float p = kernels.dot(&x[r * kD], &w[j * kD], kD);
      const float threshold = std::nextafter(p, -kInfinity);
      const float bound = row_bound(norm(&x[r * kD], kD), largest_w, kD);
      const float offset = 2 * std::fabs(p) + 1;  // v = p + offset > 0: the threshold decides
      if (kernels.above(&s[j * kRows + r], &bound, 1, feature, floor, cut(threshold, 1.0f, offset)) == 0) return false;
    }
  }
  return true;
}

}  // namespace sae

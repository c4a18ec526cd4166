// Many threads over shared models, pools and codes, on the CPU and on the emulated device: every result has the bits of one thread.
// Built with ThreadSanitizer too, which then looks at the accesses themselves.
#include <atomic>
#include <stdexcept>
#include <thread>

#include "codes.hpp"
#include "sae4j.h"
#include "test.hpp"
#include "test_sae.hpp"
#include "thread_pool.hpp"

using test::Codes;
using test::Guarded;
using test::Random;
using test::Sae;
using test::same_codes;

namespace {

constexpr int64_t kDIn = 24, kDSae = 160, kMostRows = 40;
constexpr int64_t kRows[] = {1, 3, 17, kMostRows};
constexpr int kSizes = 4, kOperations = 4;

// Runs body(t) on so many threads at once.
template <typename Body>
void on_threads(int count, const Body& body) {
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) threads.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : threads) thread.join();
}

// A backend and how to open it: the CPU where `screen` is one of its own, else the emulated device.
struct Subject {
  const char* screen;
  bool is_cuda;

  sae_model* open(const Sae& sae, int threads) const {
    const sae_weights weights = sae.weights();
    sae_model* model = nullptr;
    const sae_status status = is_cuda ? sae_cuda_open(0, &weights, threads, screen, nullptr, &model)
                                      : sae_cpu_open(&weights, threads, screen, nullptr, &model);
    if (status != SAE_OK) std::printf("open: %s\n", sae_last_error()), std::exit(1);
    return model;
  }
};

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (int32_t i = 0; i < sae_cpu_screen_count(); ++i) {
    if (*sae_cpu_screen_reason(i) == 0) all.push_back({sae_cpu_screen_name(i), false});
  }
#if defined(SAE4J_CUDA_EMULATED)
  CHECK(sae_cuda_load(SAE4J_CUDA_EMULATED) == SAE_OK, "%s", sae_last_error());
  for (int32_t i = 0; i < sae_cuda_screen_count(); ++i) all.push_back({sae_cuda_screen_name(i), true});
#endif
  return all;
}

// What one call gives.
struct Result {
  Codes codes;
  std::vector<float> decoded;
};

// An operation over the first rows of x.
void run(const sae_model* model, int operation, const Guarded<float>& x, int64_t n, Result& result) {
  result.decoded.clear();
  sae_status status = SAE_OK;
  switch (operation) {
    case 0: status = sae_encode(model, x.data(), n, result.codes); break;
    case 1: status = sae_project_top(model, x.data(), n, SAE_READOUT_DECODER, 1, 5, 0, result.codes); break;
    case 2: status = sae_pursue(model, x.data(), n, SAE_METHOD_OMP, 0, 3, 0, 0, 0, result.codes); break;
    default:
      status = sae_encode(model, x.data(), n, result.codes);
      result.decoded.resize(static_cast<size_t>(n * kDIn));
      if (status == SAE_OK) status = sae_decode(model, result.codes, nullptr, 0, result.decoded.data());
  }
  if (status == SAE_OK) status = sae_codes_to_host(result.codes);
  CHECK(status == SAE_OK, "operation %d: %s", operation, sae_last_error());
}

bool equal(const Result& a, const Result& b) {
  return same_codes(a.codes.handle, b.codes.handle).empty() && a.decoded.size() == b.decoded.size() &&
         (a.decoded.empty() || std::memcmp(a.decoded.data(), b.decoded.data(), a.decoded.size() * sizeof(float)) == 0);
}

// 1. What one thread computes. 2. Eight threads share a model, while others open and close their own, and one asks for what fails.
void stress(const Subject& subject, sae_selection selection, sae_normalization normalization) {
  Sae sae(kDIn, kDIn, kDSae);
  sae.selection = selection;
  sae.k = selection == SAE_SELECT_GATE ? 0 : 7;
  sae.normalization = normalization;
  Guarded<float> x(kMostRows * kDIn);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  Result expected[kOperations][kSizes];
  sae_model* model = subject.open(sae, 1);
  for (int operation = 0; operation < kOperations; ++operation) {
    for (int size = 0; size < kSizes; ++size) run(model, operation, x, kRows[size], expected[operation][size]);
  }
  sae_close(model);
  model = subject.open(sae, 4);
  std::atomic<int> differences{0}, unnoticed{0};
  const int repeats = subject.is_cuda ? 2 : 20;
  on_threads(11, [&](int t) {
    std::mt19937 choice(t);
    Result got;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      if (t == 10) {
        const std::vector<float> bad(kDIn, NAN);
        unnoticed += sae_encode(model, bad.data(), 1, got.codes) != SAE_INVALID_ARGUMENT ||
                     std::string(sae_last_error()).find("finite") == std::string::npos;
        unnoticed += *sae_describe(model) == 0 || *sae_screen_for(model, 5) == 0 || sae_screen_bytes(model) < 0;
        continue;
      }
      const int operation = static_cast<int>(choice() % kOperations), size = static_cast<int>(choice() % kSizes);
      sae_model* own = t >= 8 ? subject.open(sae, 1 + t % 3) : model;
      run(own, operation, x, kRows[size], got);
      differences += !equal(expected[operation][size], got);
      if (own != model) sae_close(own);
    }
  });
  CHECK(differences == 0 && unnoticed == 0, "%s%s: %d results differ, %d failures went unnoticed", subject.is_cuda ? "cuda " : "",
        subject.screen, differences.load(), unnoticed.load());
  sae_close(model);
}

}  // namespace

TEST(threads_share_models_that_others_open_and_close) {
  for (const Subject& subject : subjects()) {
    stress(subject, SAE_SELECT_GATE, SAE_NORMALIZE_NONE);
    stress(subject, SAE_SELECT_TOP_ABS, SAE_NORMALIZE_LAYER);
  }
}

// A step's rows are solved on threads of their own, which all read what the device chose.
TEST(pursue_shares_what_a_device_chose_among_threads) {
  const int64_t n = 64, d = 64;
  Sae sae(d, d, 256);
  Guarded<float> v(n * d);
  Random random;
  for (int64_t i = 0; i < v.size(); ++i) v[i] = random.normal();
  sae_model* one = sae.open(1);
  Codes expected, got;
  CHECK(sae_pursue(one, v.data(), n, SAE_METHOD_OMP, 0, 6, 0, 0, 0, expected) == SAE_OK, "%s", sae_last_error());
  sae_close(one);
  for (const Subject& subject : subjects()) {
    if (std::strcmp(subject.screen, "canonical") != 0) continue;
    sae_model* model = subject.open(sae, 8);
    CHECK(sae_pursue(model, v.data(), n, SAE_METHOD_OMP, 0, 6, 0, 0, 0, got) == SAE_OK, "%s", sae_last_error());
    CHECK(same_codes(expected, got).empty(), "%s", same_codes(expected, got).c_str());
    sae_close(model);
  }
}

// Codes that are on the host may be read, and decoded, by any number of threads.
TEST(threads_read_the_same_codes) {
  Sae sae(kDIn, kDIn, kDSae);
  Guarded<float> x(kMostRows * kDIn);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  for (const Subject& subject : subjects()) {
    sae_model* model = subject.open(sae, 2);
    Codes codes;
    CHECK(sae_encode(model, x.data(), kMostRows, codes) == SAE_OK && sae_codes_to_host(codes) == SAE_OK, "%s", sae_last_error());
    std::vector<float> expected(x.size());
    CHECK(sae_decode(model, codes, nullptr, 0, expected.data()) == SAE_OK, "%s", sae_last_error());
    std::atomic<int> differences{0};
    on_threads(4, [&](int) {
      std::vector<float> got(x.size());
      const sae_codes* shared = codes.handle;
      const bool decoded = sae_decode(model, codes, nullptr, 0, got.data()) == SAE_OK;
      differences += !decoded || got != expected || sae_codes_row_offsets(shared)[kMostRows] != sae_codes_nnz(shared);
    });
    CHECK(differences == 0, "%s: %d threads differ", subject.screen, differences.load());
    sae_close(model);
  }
}

TEST(callers_share_a_pool) {
  sae::ThreadPool pool(5);
  std::atomic<int64_t> wrong{0};
  on_threads(6, [&](int t) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      const int64_t count = 1 + (t * 37 + repeat * 11) % 90;
      std::vector<int> runs(static_cast<size_t>(count), 0);
      pool.run(count, [&](int64_t i) { ++runs[i]; });
      for (const int times : runs) wrong += times != 1;
      try {
        pool.run(count, [&](int64_t i) {
          if (i % 7 == 3) throw std::runtime_error(std::to_string(i));
        });
        wrong += count > 3;
      } catch (const std::runtime_error& e) {
        wrong += std::string(e.what()) != "3";
      }
    }
  });
  CHECK(wrong == 0, "%lld tasks ran another number of times than once, or lost their exception", static_cast<long long>(wrong));
}

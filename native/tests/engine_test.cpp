// The C API end to end, every array between guard pages, and what only test hooks can show.
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <thread>

#include "codes.hpp"
#include "kernels.hpp"
#include "sae4j.h"
#include "screen.hpp"
#include "test.hpp"
#include "test_sae.hpp"

using test::Codes;
using test::Guarded;
using test::Random;
using test::Sae;
using test::bits;
using test::has_screen;
using test::same_codes;

TEST(every_screen_kernel_and_thread_count_gives_the_same_bits) {
  for (const int64_t d_in : {1, 7, 129, 384}) {
    for (const int64_t d_sae : {1, 63, 500}) {
      Sae sae(d_in, d_in + 1, d_sae);
      for (const int64_t n : {0, 1, 2, 7, 65}) {
        Random random;
        Guarded<float> x(n * d_in), x_hat(n * sae.d_out), other_hat(n * sae.d_out);
        for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
        sae_model* first = sae.open(1, "canonical", "portable");
        Codes expected, top;
        CHECK(sae_encode(first, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
        CHECK(sae_decode(first, expected, nullptr, 0, x_hat.data()) == SAE_OK, "%s", sae_last_error());
        CHECK(sae_project_top(first, x.data(), n, SAE_READOUT_ENCODER, 0, 5, 0, top) == SAE_OK, "%s", sae_last_error());
        for (const int threads : {1, 2, 3}) {
          for (const char* screen : {"canonical", "sgemm", "int8"}) {
            if (!has_screen(screen)) continue;
            for (const sae::Kernels* const* kernels = sae::kAllKernels; *kernels != nullptr; ++kernels) {
              if (!(*kernels)->supported()) continue;
              const char* kernel = (*kernels)->name;
              sae_model* model = sae.open(threads, screen, kernel);
              Codes got, got_top;
              CHECK(sae_encode(model, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
              const std::string difference = same_codes(expected, got);
              CHECK(difference.empty(), "d_in %lld d_sae %lld n %lld threads %d %s %s: %s", (long long)d_in, (long long)d_sae,
                    (long long)n, threads, screen, kernel, difference.c_str());
              CHECK(sae_decode(model, got, nullptr, 0, other_hat.data()) == SAE_OK, "%s", sae_last_error());
              CHECK(n == 0 || std::memcmp(x_hat.data(), other_hat.data(), sizeof(float) * x_hat.size()) == 0, "decode differs");
              CHECK(sae_project_top(model, x.data(), n, SAE_READOUT_ENCODER, 0, 5, 0, got_top) == SAE_OK, "%s", sae_last_error());
              CHECK(same_codes(top, got_top).empty(), "top k: %s", same_codes(top, got_top).c_str());
              sae_close(model);
            }
          }
        }
        sae_close(first);
      }
    }
  }
}

// Thresholds an ulp below the product of one row each: with the bound the screen must name all of them, without it not.
TEST(a_screen_without_its_bound_loses_planted_features) {
  const int64_t d = 777, d_sae = 600, n = 40;
  Sae sae(d, d, d_sae);
  Random random;
  Guarded<float> x(n * d);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  const sae::Kernels& kernels = sae::choose_kernels(nullptr);
  for (int64_t j = 0; j < d_sae; ++j) {
    const float p = kernels.dot(&x[(j % n) * d], &sae.w_enc[j * d], d);
    sae.threshold[j] = std::nextafter(p, -INFINITY);
    sae.scale[j] = 1;
    sae.offset[j] = 2 * std::fabs(p) + 1;
  }
  CHECK(std::string(sae_cpu_screen_reason(1)).empty(), "sgemm was dropped: %s", sae_cpu_screen_reason(1));
  sae_model* exact = sae.open(2, "canonical");
  sae_model* screened = sae.open(2, "sgemm");
  Codes expected, got;
  CHECK(sae_encode(exact, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_encode(screened, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
  CHECK(same_codes(expected, got).empty(), "with the bound: %s", same_codes(expected, got).c_str());

  sae::bound_scale_for_tests = 0;
  CHECK(sae_encode(screened, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
  const bool probe_passes = sae::probe_sgemm();
  sae::bound_scale_for_tests = 1;
  CHECK(sae_codes_nnz(got) < sae_codes_nnz(expected), "without the bound nothing was lost: the test data proves nothing");
  CHECK(!probe_passes, "the probe passes without the bound: it proves nothing");
  CHECK(sae::probe_sgemm(), "the probe fails with the bound");
  sae_close(exact);
  sae_close(screened);
}

TEST(merge_equals_sorting) {
  Random random;
  for (int trial = 0; trial < 50; ++trial) {
    const int64_t rows = 1 + random.below(40), tiles = 1 + random.below(5), features = 1 + random.below(30);
    sae_codes codes;
    codes.clear(tiles * features);
    codes.append_rows(3);  // rows of an earlier batch stay as they are
    const int64_t first = codes.append_rows(rows);
    std::vector<std::vector<std::pair<int32_t, float>>> expected(rows);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      std::vector<sae::Hit> hits;
      const int64_t density = random.below(4);
      for (int64_t j = 0; j < features; ++j) {
        for (int64_t row = 0; row < rows; ++row) {
          if (random.below(4) >= density) continue;
          const float value = random.normal();
          hits.push_back({static_cast<uint32_t>(j << sae::Hit::kRowBits | row), value});
          expected[row].emplace_back(static_cast<int32_t>(tile * features + j), value);
        }
      }
      const int64_t half = static_cast<int64_t>(hits.size()) / 2;
      const sae_codes::HitList lists[2] = {{hits.data(), half}, {hits.data() + half, static_cast<int64_t>(hits.size()) - half}};
      codes.merge(first, tile * features, lists, 2);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t begin = codes.row_offsets()[first + row];
      const int64_t count = codes.row_offsets()[first + row + 1] - begin;
      CHECK(count == static_cast<int64_t>(expected[row].size()), "row %lld: expected %zu, got %lld", (long long)row,
            expected[row].size(), (long long)count);
      for (int64_t k = 0; k < count; ++k) {
        CHECK(codes.indices()[begin + k] == expected[row][k].first && codes.values()[begin + k] == expected[row][k].second,
              "row %lld, entry %lld", (long long)row, (long long)k);
      }
    }
  }
}

// The control register without its flags. Odd: denormals flushed to zero, rounding towards zero.
#if defined(__x86_64__)
constexpr uint64_t kOddEnvironment = 0x1F80 | 0x8040 | 0x6000;
uint64_t float_environment() { return _mm_getcsr() & ~0x3Fu; }
void set_float_environment(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
constexpr uint64_t kOddEnvironment = 1 << 24 | 3 << 22;
uint64_t float_environment() { return __builtin_aarch64_get_fpcr(); }
void set_float_environment(uint64_t value) { __builtin_aarch64_set_fpcr(static_cast<unsigned>(value)); }
#endif

TEST(the_callers_float_environment_neither_matters_nor_changes) {
  Sae sae(200, 200, 300);
  for (int64_t i = 0; i < sae.w_enc.size(); ++i) sae.w_enc[i] *= 1e-25f;  // products are denormal
  for (int64_t j = 0; j < sae.d_sae; ++j) sae.threshold[j] = -1, sae.offset[j] = 0;
  Guarded<float> x(10 * 200);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = 1e-15f * random.normal();
  sae_model* model = sae.open(2);
  Codes expected, got;
  CHECK(sae_encode(model, x.data(), 10, expected) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_codes_nnz(expected) > 0, "denormals were lost");
  const uint64_t saved = float_environment();
  set_float_environment(kOddEnvironment);
  const sae_status status = sae_encode(model, x.data(), 10, got);
  const uint64_t after = float_environment();
  set_float_environment(saved);
  CHECK(status == SAE_OK, "%s", sae_last_error());
  CHECK(after == kOddEnvironment, "the caller's float environment became %llx", (unsigned long long)after);
  CHECK(same_codes(expected, got).empty(), "%s", same_codes(expected, got).c_str());
  sae_close(model);
}

TEST(eight_threads_share_a_model) {
  const int64_t n = 200, d = 96;
  Sae sae(d, d, 700);
  Guarded<float> x(n * d);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  sae_model* model = sae.open(3);
  Codes expected;
  CHECK(sae_encode(model, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  std::vector<std::thread> threads;
  std::vector<std::string> differences(8);
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Codes got;
      for (int repeat = 0; repeat < 20 && differences[t].empty(); ++repeat) {
        differences[t] = sae_encode(model, x.data(), n, got) == SAE_OK ? same_codes(expected, got) : sae_last_error();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& difference : differences) CHECK(difference.empty(), "%s", difference.c_str());
  sae_close(model);
}

// Every method, between guard pages: the same bits for one thread and three, alone and in a batch, screened and not.
TEST(pursuits_agree_and_stay_within_their_arrays) {
  const int64_t d = 37, n = 40;
  Sae sae(5, d, 150);
  Guarded<float> v(n * d);
  Random random;
  for (int64_t i = 0; i < v.size(); ++i) v[i] = random.normal();
  for (int64_t i = 0; i < d; ++i) v[3 * d + i] = 0;
  for (int64_t i = 0; i < d; ++i) sae.w_dec[20 * d + i] = sae.w_dec[5 * d + i], sae.w_dec[7 * d + i] = 0;
  sae_model* one = sae.open(1, "canonical");
  sae_model* three = sae.open(3, "sgemm");
  for (const sae_method method : {SAE_METHOD_OMP, SAE_METHOD_GRADIENT, SAE_METHOD_MATCHING, SAE_METHOD_L1}) {
    for (const int non_negative : {0, 1}) {
      Codes expected, got, single;
      const auto pursue = [&](sae_model* model, const float* from, int64_t rows, sae_codes* codes) {
        return sae_pursue(model, from, rows, method, non_negative, 60, 1e-6, 0, 0.1, codes);
      };
      CHECK(pursue(one, v.data(), n, expected) == SAE_OK, "%s", sae_last_error());
      CHECK(pursue(three, v.data(), n, got) == SAE_OK, "%s", sae_last_error());
      CHECK(same_codes(expected, got).empty(), "method %d: %s", method, same_codes(expected, got).c_str());
      CHECK(sae_codes_stop(got, 3) == SAE_STOP_RESIDUAL, "stop %d of a zero row", sae_codes_stop(got, 3));
      CHECK(sae_codes_stop(got, n) == SAE_STOP_NONE, "a stop beyond the rows");
      CHECK(sae_codes_nnz(got) > n, "nothing was found");
      CHECK(pursue(one, v.data() + (n - 1) * d, 1, single) == SAE_OK, "%s", sae_last_error());
      const int64_t first = sae_codes_row_offsets(got)[n - 1], count = sae_codes_nnz(got) - first;
      CHECK(sae_codes_nnz(single) == count, "%lld atoms alone, %lld in a batch", static_cast<long long>(sae_codes_nnz(single)),
            static_cast<long long>(count));
      for (int64_t k = 0; k < count; ++k) {
        CHECK(sae_codes_indices(single)[k] == sae_codes_indices(got)[first + k], "another atom");
        CHECK(bits(sae_codes_values(single)[k]) == bits(sae_codes_values(got)[first + k]), "another coefficient");
      }
    }
  }
  sae_close(one);
  sae_close(three);
}

TEST(bad_arguments_are_named) {
  Sae sae(5, 6, 7);
  sae_model* model = sae.open(1);
  Codes codes;
  Guarded<float> x(10);
  const auto refuses = [](sae_status status, sae_status expected, const char* message) {
    CHECK(status == expected, "status %d for %s", status, message);
    CHECK(std::string(sae_last_error()).find(message) != std::string::npos, "expected \"%s\", got \"%s\"", message,
          sae_last_error());
  };
  for (int64_t i = 0; i < 10; ++i) x[i] = 1;
  refuses(sae_encode(nullptr, x.data(), 1, codes), SAE_INVALID_ARGUMENT, "model is null");
  refuses(sae_encode(model, x.data(), 1, nullptr), SAE_INVALID_ARGUMENT, "codes is null");
  refuses(sae_encode(model, nullptr, 1, codes), SAE_INVALID_ARGUMENT, "x is null");
  refuses(sae_encode(model, x.data(), -1, codes), SAE_INVALID_ARGUMENT, "got -1");
  x[7] = NAN;
  refuses(sae_encode(model, x.data(), 2, codes), SAE_INVALID_ARGUMENT, "got nan at row 1, column 2");
  CHECK(sae_codes_rows(codes) == 0, "codes of a failed call hold rows");
  x[7] = -INFINITY;
  refuses(sae_encode(model, x.data(), 2, codes), SAE_INVALID_ARGUMENT, "got -inf at row 1, column 2");
  x[7] = 1;
  refuses(sae_project_top(model, x.data(), 1, SAE_READOUT_ENCODER, 1, 3, 0, codes), SAE_INVALID_ARGUMENT, "decoder readout");
  refuses(sae_project_top(model, x.data(), 1, SAE_READOUT_DECODER, 0, 0, 0, codes), SAE_INVALID_ARGUMENT, "k must be");
  const int64_t offsets[2] = {0, 2};
  const float values[2] = {1, 2};
  const int32_t descending[2] = {3, 2}, outside[2] = {3, 7};
  refuses(sae_codes_assign(codes, 1, 7, offsets, descending, values, nullptr, nullptr), SAE_INVALID_ARGUMENT, "ascend strictly");
  refuses(sae_codes_assign(codes, 1, 7, offsets, outside, values, nullptr, nullptr), SAE_INVALID_ARGUMENT, "got 7 after 3");
  const int64_t wild[2] = {0, INT64_MAX};
  refuses(sae_codes_assign(codes, 1, 7, wild, outside, values, nullptr, nullptr), SAE_INVALID_ARGUMENT, "row_offsets[1]");
  const int32_t fine[2] = {0, 6};
  CHECK(sae_codes_assign(codes, 1, 9, offsets, fine, values, nullptr, nullptr) == SAE_OK, "%s", sae_last_error());
  refuses(sae_decode(model, codes, nullptr, 0, x.data()), SAE_INVALID_ARGUMENT, "codes have 9 features, expected d_sae = 7");
  sae_close(model);

  sae_model* none = nullptr;
  const auto open = [&](const char* screen, const char* kernel) {
    const sae_weights weights = sae.weights();
    return sae_cpu_open(&weights, 2, screen, kernel, &none);
  };
  refuses(open("int7", nullptr), SAE_INVALID_ARGUMENT, "got \"int7\"");
  refuses(open(nullptr, "sse"), SAE_INVALID_ARGUMENT, "got \"sse\"");
  sae.w_enc[11] = NAN;
  refuses(open(nullptr, nullptr), SAE_INVALID_ARGUMENT, "w_enc of feature 2 must be finite, got nan at 1");
  sae.w_enc[11] = 0;
  sae.scale[3] = 0;
  refuses(open(nullptr, nullptr), SAE_INVALID_ARGUMENT, "feature 3");
  CHECK(none == nullptr, "a failed open gave a model");
}

// Finite inputs whose products overflow: an error naming row and feature, whatever the screen; large but finite ones agree.
TEST(overflow_is_an_error_and_large_rows_skip_the_screen) {
  Sae sae(64, 64, 90);
  const int64_t n = 20;
  Guarded<float> x(n * 64);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  for (int64_t i = 0; i < 64; ++i) x[3 * 64 + i] *= 1e36f;
  sae_model* exact = sae.open(1, "canonical");
  sae_model* screened = sae.open(2, "sgemm");
  Codes expected, got;
  CHECK(sae_encode(exact, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_encode(screened, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
  CHECK(same_codes(expected, got).empty(), "%s", same_codes(expected, got).c_str());
  for (int64_t i = 0; i < 64; ++i) x[3 * 64 + i] = 3e38f, sae.w_enc[17 * 64 + i] = 1;
  for (sae_model* model : {exact, screened}) {
    CHECK(sae_encode(model, x.data(), n, got) == SAE_INVALID_ARGUMENT, "overflow went unnoticed");
    CHECK(std::string(sae_last_error()).find("row 3 with feature") != std::string::npos, "%s", sae_last_error());
  }
  sae_close(exact);
  sae_close(screened);
}

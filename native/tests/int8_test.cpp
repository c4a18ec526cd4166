// The int8 screen: its kernels against their definition, its bound against exact products, and its answers against no screen's.
#include "int8.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "screen.hpp"
#include "sums.hpp"
#include "test.hpp"
#include "test_sae.hpp"

using namespace test;

namespace {

bool serves() { return has_screen("int8"); }

std::vector<const sae::Int8Kernels*> int8_sets() {
  std::vector<const sae::Int8Kernels*> sets = {&sae::kPortableInt8Kernels};
#if defined(__x86_64__)
  for (const sae::Int8Kernels* each : {&sae::kVnniKernels, &sae::kAvxVnniKernels, &sae::kAvxVnniInEvexKernels, &sae::kAvx2Int8Kernels}) {
    if (each->supported()) sets.push_back(each);
  }
#elif defined(__aarch64__)
  if (sae::kNeonInt8Kernels.supported()) sets.push_back(&sae::kNeonInt8Kernels);
#endif
  return sets;
}

// Whether the codes of the int8 screen are those of no screen; adds the pairs of rows and features to the count.
void check_same(Sae& sae, const float* x, int64_t n, const std::string& what, int64_t* pairs, const char* kernel = nullptr) {
  sae_model* exact = sae.open(2, "canonical");
  sae_model* screened = sae.open(2, "int8", kernel);
  Codes expected, got;
  CHECK(sae_encode(exact, x, n, expected) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_encode(screened, x, n, got) == SAE_OK, "%s", sae_last_error());
  CHECK(same_codes(expected, got).empty(), "%s: %s", what.c_str(), same_codes(expected, got).c_str());
  *pairs += n * sae.d_sae;
  sae_close(exact);
  sae_close(screened);
}

enum Kind { kPlain, kHugeDimension, kMassiveDimensions, kDenormal, kZeros, kEqualRows, kCancelling, kAlongTheCentre, kOneHot, kKinds };

void make(Sae& sae, Kind kind, Guarded<float>& x, int64_t n, Random& random) {
  const int64_t d = sae.d_in;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  for (int64_t i = 0; i < sae.w_enc.size(); ++i) sae.w_enc[i] = random.normal();
  for (int64_t r = 0; r < n; ++r) {
    float* row = &x[r * d];
    if (kind == kHugeDimension) row[5 % d] = 1e6f;
    for (int64_t i = 3; kind == kMassiveDimensions && i < d; i += d / 3) row[i] += 300;
    for (int64_t i = 0; i < d; ++i) {
      if (kind == kDenormal) row[i] *= r % 3 == 0 ? 1e-41f : r % 3 == 1 ? 1e-30f : 1;
      if (kind == kZeros && r % 2 == 0) row[i] = r % 4 == 0 ? 0.0f : -0.0f;
      if (kind == kEqualRows) row[i] = x[i];
      if (kind == kAlongTheCentre) row[i] = 50 * sae.b_dec[i] + 1e-3f * row[i];
      if (kind == kOneHot) row[i] = i == r % d ? 3.0f : 0.0f;
    }
  }
  for (int64_t j = 0; kind == kDenormal && j < sae.d_sae; j += 2) {
    for (int64_t i = 0; i < d; ++i) sae.w_enc[j * d + i] *= j % 4 == 0 ? 1e-40f : 1e-25f;
  }
  for (int64_t j = 0; kind == kCancelling && j < sae.d_sae; ++j) {  // halves of opposite sign on rows of equal halves
    for (int64_t i = 0; i < d / 2; ++i) sae.w_enc[j * d + d / 2 + i] = -sae.w_enc[j * d + i] * (1 + 1e-6f * static_cast<float>(j));
  }
  for (int64_t r = 0; kind == kCancelling && r < n; ++r) std::copy_n(&x[r * d], d / 2, &x[r * d + d / 2]);
}

// An ulp either side of, or on, the product with one row.
void set_thresholds(Sae& sae, const float* x, int64_t n) {
  const sae::Kernels& kernels = sae::choose_kernels(nullptr);
  for (int64_t j = 0; j < sae.d_sae; ++j) {
    const float p = kernels.dot(x + j % n * sae.d_in, &sae.w_enc[j * sae.d_in], sae.d_in);
    sae.threshold[j] = j % 3 == 0 ? p : std::nextafter(p, j % 3 == 1 ? INFINITY : -INFINITY);
    sae.scale[j] = 1;
    sae.offset[j] = 2 * std::fabs(p) + 1;
  }
}

}  // namespace

TEST(int8_kernels_equal_their_definition) {
  Random random;
  for (const int64_t length : {64, 128, 320}) {
    for (const int rows : {1, 15, 16, 17, 48, 63, 64}) {
      for (const int count : {1, 5, 6, 13}) {
        Guarded<uint8_t> x(sae::kPanelRows * length);
        Guarded<int8_t> w(count * length);
        Guarded<float> step(rows), along(rows), scores(count * rows);
        std::vector<Guarded<float>*> apart;
        for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(random.below(7) == 0 ? 255 : random.below(256));
        for (int64_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(random.below(7) == 0 ? -127 : random.below(255) - 127);
        sae::Int8Panel panel = {x.data(), rows, step.data(), along.data(), {}, static_cast<int>(random.below(sae::kMostApart + 1))};
        for (int k = 0; k < panel.apart_count; ++k) {
          apart.push_back(new Guarded<float>(rows));
          for (int r = 0; r < rows; ++r) (*apart.back())[r] = random.normal();
          panel.apart[k] = apart.back()->data();
        }
        for (int r = 0; r < rows; ++r) step[r] = random.uniform(), along[r] = random.normal();
        std::vector<sae::Int8Feature> features(count);
        for (int f = 0; f < count; ++f) {
          const int8_t* digits = &w[f * length];
          features[f] = {digits, random.uniform(), 128 * std::accumulate(digits, digits + length, 0), random.normal(), {}};
          for (float& value : features[f].apart) value = random.normal();
        }
        for (const sae::Int8Kernels* kernels : int8_sets()) {
          if (kernels->scores == nullptr) continue;
          std::fill_n(scores.data(), scores.size(), NAN);
          kernels->scores(panel, features.data(), count, length, scores.data(), rows);
          for (int f = 0; f < count; ++f) {
            for (int r = 0; r < rows; ++r) {
              int32_t product = 0;
              for (int64_t i = 0; i < length; ++i) product += x[i / 4 * 4 * sae::kPanelRows + 4 * r + i % 4] * features[f].digits[i];
              float score = static_cast<float>(product - features[f].offset) * (step[r] * features[f].step);
              score = std::fma(along[r], features[f].along, score);
              for (int k = 0; k < panel.apart_count; ++k) score = std::fma(panel.apart[k][r], features[f].apart[k], score);
              CHECK(bits(scores[f * rows + r]) == bits(score), "%s: length %lld, rows %d, count %d: row %d, feature %d is %g, expected %g",
                    kernels->name, (long long)length, rows, count, r, f, scores[f * rows + r], score);
            }
          }
        }
        for (int f = 0; f < count; ++f) {
          for (int r = 0; r < rows; ++r) {
            std::vector<uint8_t> row(length);
            int32_t product = 0;
            for (int64_t i = 0; i < length; ++i) {
              row[i] = x[i / 4 * 4 * sae::kPanelRows + 4 * r + i % 4];
              product += row[i] * features[f].digits[i];
            }
            for (const sae::Int8Kernels* kernels : int8_sets()) {
              CHECK(kernels->dot(row.data(), features[f].digits, length) == product, "%s: dot of length %lld", kernels->name,
                    (long long)length);
            }
          }
        }
        for (Guarded<float>* each : apart) delete each;
      }
    }
  }
}

TEST(split_equals_its_definition) {
  Random random;
  for (const int64_t d : {1, 15, 16, 17, 100, 333}) {
    for (const float size : {0.0f, 1.0f, 1e20f, 1e-20f}) {
      Guarded<float> y(d);
      Guarded<uint8_t> high(d), low(d);
      float largest = 0;
      for (int64_t i = 0; i < d; ++i) y[i] = size * random.normal(), largest = std::max(largest, std::fabs(y[i]));
      const float unit = largest / 32639;
      for (const sae::Int8Kernels* kernels : int8_sets()) {
        const sae::Digits digits = kernels->split(y.data(), d, unit, high.data(), low.data());
        double norm = 0, loss = 0, full_norm = 0, full_loss = 0;
        for (int64_t i = 0; i < d; ++i) {
          const int h = high[i] - 128, l = low[i] - 128;
          CHECK(std::abs(h) <= 127, "%s: h is %d", kernels->name, h);
          const double q = 256.0 * h * unit, full = (256.0 * h + l) * unit;
          CHECK(std::fabs(full - y[i]) <= 0.502 * unit, "%s: %g is %g in two digits of %g", kernels->name, y[i], full, unit);
          CHECK(std::fabs(q - y[i]) <= 128.502 * unit, "%s: %g is %g in a digit of %g", kernels->name, y[i], q, 256 * unit);
          norm += q * q, loss += (y[i] - q) * (y[i] - q), full_norm += full * full, full_loss += (y[i] - full) * (y[i] - full);
        }
        const double got[] = {digits.norm, digits.loss, digits.full_norm, digits.full_loss};
        const double expected[] = {norm, loss, full_norm, full_loss};
        for (int k = 0; k < 4; ++k) CHECK(std::fabs(got[k] - std::sqrt(expected[k])) <= 1e-12 * std::sqrt(expected[k]), "%s: sum %d", kernels->name, k);
      }
    }
  }
}

// Every score within its bound of the exact product, and not much nearer where the data are made for it.
TEST(int8_scores_are_within_their_bounds) {
  if (!serves()) return;
  for (const int64_t d : {1, 7, 64, 200}) {
    for (const int64_t n : {3, 70}) {
      for (int kind = 0; kind < kKinds; ++kind) {
        Sae sae(d, d, 90);
        Random random;
        Guarded<float> x(n * d);
        make(sae, static_cast<Kind>(kind), x, n, random);
        sae::Int8Features features(sae::int8_kernels(sae::choose_kernels(nullptr)), sae.w_enc.data(), sae.d_sae, d, sae.b_dec.data());
        std::vector<double> x_norm(n), w_norm(sae.d_sae);
        for (int64_t j = 0; j < sae.d_sae; ++j) features.add(j, w_norm[j] = sae::norm(&sae.w_enc[j * d], d));
        for (int64_t r = 0; r < n; ++r) x_norm[r] = sae::norm(&x[r * d], d);
        const double largest_x = *std::max_element(x_norm.begin(), x_norm.end());
        const double largest_w = *std::max_element(w_norm.begin(), w_norm.end());
        const float floor = sae::bound_floor(largest_x, largest_w, d, sae::bound_scale_for_tests);
        sae::Int8Rows rows;
        rows.start(features, x.data(), n);
        for (int64_t r = 0; r < n; ++r) rows.add(r, x_norm[r], largest_w);
        std::vector<float> scores(sae.d_sae * n);
        rows.scores(0, sae.d_sae, scores.data());
        for (int64_t j = 0; j < sae.d_sae; ++j) {
          for (int64_t r = 0; r < n; ++r) {
            long double exact = 0;
            for (int64_t i = 0; i < d; ++i) exact += static_cast<long double>(x[r * d + i]) * sae.w_enc[j * d + i];
            const double error = static_cast<double>(std::fabs(exact - scores[j * n + r]));
            CHECK(error <= rows.bounds(j, floor).at(r), "kind %d, d %lld: row %lld errs by %g, bound %g", kind, (long long)d, (long long)r,
                  error, rows.bounds(j, floor).at(r));
            if (rows.is_refined()) continue;
            const double finer = static_cast<double>(std::fabs(exact - rows.refined(r, j, scores[j * n + r])));
            CHECK(finer <= rows.refined_bounds(j, floor).at(r), "kind %d, d %lld: row %lld errs by %g after refining, bound %g", kind,
                  (long long)d, (long long)r, finer, rows.refined_bounds(j, floor).at(r));
          }
        }
      }
    }
  }
}

#ifdef SAE4J_EMULATED
constexpr int64_t kManyRows = 150;
#else
constexpr int64_t kManyRows = 1500;
#endif

// 10^8 pairs and more (a tenth where the CPU is emulated), most of their thresholds an ulp from a product.
TEST(int8_loses_none_of_a_hundred_million) {
  if (!serves()) return;
  int64_t pairs = 0;
  Random random;
  sae::never_gives_way_for_tests = true;  // half of the features are active
  for (const int64_t d : {31, 64, 150}) {
    for (const int64_t n : {int64_t{4}, kManyRows}) {
      for (int kind = 0; kind < kKinds; ++kind) {
        Sae sae(d, d, n == 4 ? 300 : 2600);
        Guarded<float> x(n * d);
        make(sae, static_cast<Kind>(kind), x, n, random);
        set_thresholds(sae, x.data(), n);
        check_same(sae, x.data(), n, "kind " + std::to_string(kind) + ", d " + std::to_string(d), &pairs);
        if (n == 4) {
          for (const char* kernel : {"portable", "avx2"}) {
            if (std::string(sae_cpu_describe()).find(std::string(" ") + kernel) == std::string::npos) continue;
            check_same(sae, x.data(), n, kernel, &pairs, kernel);
          }
          continue;
        }
        sae.k = 20;
        sae.selection = kind % 2 == 0 ? SAE_SELECT_TOP : SAE_SELECT_TOP_ABS;
        check_same(sae, x.data(), kManyRows / 5, "TopK, kind " + std::to_string(kind) + ", d " + std::to_string(d), &pairs);
      }
    }
  }
  sae::never_gives_way_for_tests = false;
  CHECK(pairs >= kManyRows * 66'667, "only %lld pairs", (long long)pairs);
}

// Rows and features whose digits leave the same half step everywhere, on vectors of nearly equal elements: the error is nearly what the
// bound admits. A fifth less, and features are lost.
TEST(an_int8_bound_a_fifth_too_small_loses_features) {
  if (!serves()) return;
  const int64_t d = 200, d_sae = 400;
  for (const int64_t n : {3, 33}) {
    Sae sae(d, d, d_sae);
    Random random;
    Guarded<float> x(n * d);
    for (int64_t i = 0; i < d; ++i) sae.b_dec[i] = 0;
    for (int64_t r = 0; r < n; ++r) std::fill_n(&x[r * d], d, 50 + 50 * random.uniform());
    for (int64_t j = 0; j < d_sae; ++j) {
      const float size = 0.5f + random.uniform();
      for (int64_t i = 0; i < d; ++i) sae.w_enc[j * d + i] = size * (i == 0 ? 127.498f : 100.499f);
    }
    set_thresholds(sae, x.data(), n);
    for (int64_t j = 0; j < d_sae; ++j) {
      sae.threshold[j] = std::nextafter(sae::choose_kernels(nullptr).dot(&x[j % n * d], &sae.w_enc[j * d], d), -INFINITY);
    }
    int64_t pairs = 0;
    check_same(sae, x.data(), n, "with the bound", &pairs);
    sae_model* model = sae.open(2, "int8");
    Codes all, less;
    CHECK(sae_encode(model, x.data(), n, all) == SAE_OK, "%s", sae_last_error());
    sae::bound_scale_for_tests = 0.8;
    CHECK(sae_encode(model, x.data(), n, less) == SAE_OK, "%s", sae_last_error());
    const bool probe_passes = sae::probe_int8();
    sae::bound_scale_for_tests = 0;
    const bool probe_passes_without = sae::probe_int8();
    sae::bound_scale_for_tests = 1;
    CHECK(sae_codes_nnz(less) < sae_codes_nnz(all), "n %lld: nothing was lost, so this shows nothing", (long long)n);
    CHECK(probe_passes && !probe_passes_without, "the probe's data are random: it needs some of the bound, not all");
    sae_close(model);
  }
}

// All features active, and k half of them: a plain screen serves, with the same answer.
TEST(int8_gives_way_on_dense_batches) {
  if (!serves()) return;
  int64_t pairs = 0;
  for (const int64_t n : {2, 10, 40}) {
    Sae sae(50, 50, 1300);
    Random random;
    Guarded<float> x(n * 50);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
    for (int64_t j = 0; j < sae.d_sae; ++j) sae.threshold[j] = -INFINITY, sae.offset[j] = 100;
    check_same(sae, x.data(), n, "all active", &pairs);
    for (const sae_selection selection : {SAE_SELECT_TOP, SAE_SELECT_TOP_ABS}) {
      sae.selection = selection;
      for (const int64_t k : {150, 650}) {  // by what is named, and at once
        sae.k = k;
        check_same(sae, x.data(), n, "k is " + std::to_string(k) + " of 1300", &pairs);
      }
    }
  }
}

// TopK, normalisation and skip connections against their definition; and what only test hooks show.
#include <string>
#include <vector>

#include "law/bound.hpp"
#include "codes.hpp"
#include "definition.hpp"
#include "kernels.hpp"
#include "sae4j.h"
#include "screen.hpp"
#include "sums.hpp"
#include "test.hpp"
#include "test_sae.hpp"

using namespace test;

namespace {

struct Way {
  int threads;
  const char *screen, *kernel;
};
constexpr Way kWays[] = {{1, "canonical", "portable"}, {2, "sgemm", "portable"}, {3, "sgemm", nullptr}, {2, "int8", nullptr}};

void check_ways(Sae& sae, Kind kind, const Guarded<float>& x, int64_t n) {
  Codes expected;
  expect_codes(sae, x.data(), n, *expected.handle);
  const float* skipped = sae.has_skip ? x.data() : nullptr;
  for (const Way& way : kWays) {
    if (!has_screen(way.screen)) continue;
    sae_model* model = sae.open(way.threads, way.screen, way.kernel);
    Codes got;
    CHECK(sae_encode(model, x.data(), n, got) == SAE_OK, "%s: %s", where(sae, kind, n).c_str(), sae_last_error());
    CHECK(same_codes(expected, got).empty(), "%s, screen %s: %s", where(sae, kind, n).c_str(),
          way.screen == nullptr ? "any" : way.screen, same_codes(expected, got).c_str());
    for (const bool direction : {false, true}) {
      const std::vector<float> x_hat = expect_decoded(sae, *expected.handle, x.data(), direction);
      Guarded<float> decoded(n * sae.d_out);
      CHECK(sae_decode(model, got, skipped, direction, decoded.data()) == SAE_OK, "%s", sae_last_error());
      for (int64_t i = 0; i < decoded.size(); ++i) {
        CHECK(bits(decoded[i]) == bits(x_hat[i]), "%s: x_hat[%lld] is %g, expected %g", where(sae, kind, n).c_str(),
              static_cast<long long>(i), decoded[i], x_hat[i]);
      }
    }
    sae_close(model);
  }
}

}  // namespace

TEST(every_form_equals_its_definition) {
  for (const sae_normalization normalization : kNormalizations) {
    for (const int64_t d : {1, 2, 129}) {
      if (d == 1 && normalization == SAE_NORMALIZE_LAYER) continue;
      for (const int64_t d_sae : {1, 150}) {
        for (const int64_t n : {0, 1, 70}) {
          for (int kind = 0; kind < (d_sae == 1 ? 1 : kKinds); ++kind) {
            Sae sae(d, normalization == SAE_NORMALIZE_NONE ? d + 2 : d, d_sae);
            sae.normalization = normalization;
            sae.has_skip = kind % 2 == 0;
            Guarded<float> x(n * d);
            make_nasty(sae, static_cast<Kind>(kind), x);
            for (const sae_selection selection : kSelections) {
              sae.selection = selection;
              for (const int64_t k : {int64_t{1}, std::min<int64_t>(d_sae, 4), d_sae}) {
                sae.k = k;
                if (k == 1 ? selection != SAE_SELECT_GATE && kind != kRandom : selection == SAE_SELECT_GATE) continue;
                check_ways(sae, static_cast<Kind>(kind), x, n);
              }
            }
          }
        }
      }
    }
  }
}

// Tiles of features and of rows, parts that k makes smaller, and equal values on both sides of a tile's edge.
TEST(top_k_over_many_tiles) {
  const int64_t d = 3, d_sae = 9000, n = 300;
  Sae sae(d, d, d_sae);
  Guarded<float> x(n * d);
  make_nasty(sae, kTies, x);
  for (const sae_selection selection : {SAE_SELECT_TOP, SAE_SELECT_TOP_SIGNED, SAE_SELECT_TOP_ABS}) {
    sae.selection = selection;
    for (const int64_t k : {int64_t{7}, d_sae}) {
      sae.k = k;
      Codes expected;
      expect_codes(sae, x.data(), n, *expected.handle);
      for (const char* screen : {"canonical", "sgemm", "int8"}) {
        if (!has_screen(screen)) continue;
        sae_model* model = sae.open(2, screen);
        Codes got;
        CHECK(sae_encode(model, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
        CHECK(same_codes(expected, got).empty(), "%s, %s: %s", where(sae, kTies, n).c_str(), screen,
              same_codes(expected, got).c_str());
        sae_close(model);
      }
    }
  }
}

// Features that look best to the screen, and are not there in the end: those on their threshold, and those whose value is exactly
// zero. What they seem to reach must not cut off the worse ones. (Small integers, so that products are exact.)
TEST(features_that_may_fall_out_raise_no_cut) {
  const int64_t d = 40, d_sae = 60, n = 20;
  Sae sae(d, d, d_sae);
  sae.k = 10;
  Random random;
  Guarded<float> x(n * d);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = i < d ? static_cast<float>(random.below(9) - 4) : x[i - d];
  for (int64_t i = 0; i < sae.w_enc.size(); ++i) sae.w_enc[i] = static_cast<float>(random.below(9) - 4);
  for (const bool at_zero : {false, true}) {
    for (int64_t j = 0; j < d_sae; ++j) {
      const float p = dot(x.data(), &sae.w_enc[j * d], d);
      sae.scale[j] = 1;
      sae.threshold[j] = j % 2 == 0 && !at_zero ? p : -INFINITY;
      const float best = at_zero ? 0.0f : 1000.0f, worse = static_cast<float>(at_zero ? -1 - j : 1 + j);
      sae.offset[j] = (j % 2 == 0 ? best : worse) - p;
    }
    for (const sae_selection selection : {SAE_SELECT_TOP, SAE_SELECT_TOP_SIGNED, SAE_SELECT_TOP_ABS}) {
      sae.selection = selection;
      Codes expected;
      expect_codes(sae, x.data(), n, *expected.handle);
      CHECK(sae_codes_nnz(expected) == (at_zero && selection == SAE_SELECT_TOP ? 0 : n * sae.k), "the test data is not as meant");
      check_ways(sae, kRandom, x, n);
    }
  }
}

// Features come in pairs of equal ones, and the screen errs by nearly its bound: down for the first of a pair, which the tie is
// owed to, up for the second. With its bound it must lose none; with a fifth less the k-th best, or what the gate just lets in.
TEST(a_bound_a_fifth_too_small_loses_features) {
  const int64_t d = 200, d_sae = 400, n = 33;
  Sae sae(d, d, d_sae);
  Random random;
  Guarded<float> x(n * d);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  for (int64_t j = 1; j < d_sae; j += 2) {
    std::copy(&sae.w_enc[(j - 1) * d], &sae.w_enc[j * d], &sae.w_enc[j * d]);
    sae.scale[j] = sae.scale[j - 1], sae.offset[j] = sae.offset[j - 1];
  }
  sae.k = 15;
  const auto worst = [](const float* a, int64_t m, const float* b, int64_t n, int64_t d, float* c, int64_t stride) {
    for (int64_t j = 0; j < m; ++j) {
      for (int64_t r = 0; r < n; ++r) {
        const double size = sae::norm(a + j * d, d) * sae::norm(b + r * d, d);
        const double error = 0.97 * (sae::sgemm_error(d) + sae::canonical_error(d)) * size;
        c[j * stride + r] = static_cast<float>(dot(b + r * d, a + j * d, d) + (j % 2 == 0 ? -error : error));
      }
    }
  };
  for (const sae_selection selection : kSelections) {
    sae.selection = selection;
    for (int64_t j = 0; j < d_sae; ++j) {
      sae.threshold[j] = -INFINITY;
      if (selection != SAE_SELECT_GATE) continue;
      sae.threshold[j] = std::nextafter(dot(&x[(j % n) * d], &sae.w_enc[j * d], d), -INFINITY);
      sae.offset[j] = 1e3f;
    }
    Codes expected, got, less;
    expect_codes(sae, x.data(), n, *expected.handle);
    sae_model* model = sae.open(2, "sgemm");
    sae::worst_sgemm_for_tests = worst;
    CHECK(sae_encode(model, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
    sae::bound_scale_for_tests = 0.8;
    CHECK(sae_encode(model, x.data(), n, less) == SAE_OK, "%s", sae_last_error());
    sae::bound_scale_for_tests = 1;
    sae::worst_sgemm_for_tests = nullptr;
    CHECK(same_codes(expected, got).empty(), "selection %d: %s", selection, same_codes(expected, got).c_str());
    CHECK(!same_codes(expected, less).empty(), "selection %d: nothing was lost, so this shows nothing", selection);
    sae_close(model);
    for (int64_t j = 0; j < d_sae; ++j) sae.offset[j] = selection == SAE_SELECT_GATE ? 0 : sae.offset[j];
  }
}

TEST(bad_arguments_of_the_forms_are_named) {
  const auto refuses = [](sae_status status, const char* message) {
    CHECK(status == SAE_INVALID_ARGUMENT, "status %d for %s", status, message);
    CHECK(std::string(sae_last_error()).find(message) != std::string::npos, "expected \"%s\", got \"%s\"", message,
          sae_last_error());
  };
  Sae plain(4, 4, 6), normalizing(4, 4, 6), skipping(4, 5, 6);
  normalizing.normalization = SAE_NORMALIZE_LAYER;
  skipping.has_skip = true;
  sae_model *a = plain.open(1), *b = normalizing.open(1), *c = skipping.open(1);
  Guarded<float> x(8), x_hat(10);
  for (int64_t i = 0; i < 8; ++i) x[i] = static_cast<float>(i);
  Codes bare, scaled;
  CHECK(sae_encode(a, x.data(), 2, bare) == SAE_OK && sae_encode(b, x.data(), 2, scaled) == SAE_OK, "%s", sae_last_error());
  refuses(sae_decode(a, scaled, nullptr, 0, x_hat.data()), "this one does not");
  refuses(sae_decode(b, bare, nullptr, 0, x_hat.data()), "it normalises");
  refuses(sae_decode(a, bare, x.data(), 0, x_hat.data()), "no skip connection");
  refuses(sae_decode(c, bare, nullptr, 0, x_hat.data()), "decode needs x");
  x[6] = NAN;
  refuses(sae_decode(c, bare, x.data(), 0, x_hat.data()), "x must be finite, got nan at row 1, column 2");
  refuses(sae_encode(b, x.data(), 2, scaled), "x must be finite, got nan at row 1, column 2");
  CHECK(sae_codes_rows(scaled) == 0 && sae_codes_normalized(scaled) == 0, "codes of a failed call hold rows");
  for (int64_t i = 4; i < 8; ++i) x[i] = i % 2 == 0 ? 3.4e38f : -3.4e38f;
  refuses(sae_encode(b, x.data(), 2, scaled), "the standard deviation of row 1 of x overflows float32");
  for (sae_model* model : {a, b, c}) sae_close(model);

  sae_model* none = nullptr;
  skipping.w_skip[9] = INFINITY;
  sae_weights weights = skipping.weights();
  refuses(sae_cpu_open(&weights, 1, nullptr, nullptr, &none), "w_skip of output 2 must be finite, got inf at 1");
  plain.selection = SAE_SELECT_TOP;
  for (const int64_t k : {0, 7}) {
    plain.k = k;
    weights = plain.weights();
    refuses(sae_cpu_open(&weights, 1, nullptr, nullptr, &none), "k must be 1 to 6");
  }
}

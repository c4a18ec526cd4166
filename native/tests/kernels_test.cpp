// Every form of every kernel against its definition in plain C++, to the bit, between guard pages.
#include "kernels.hpp"

#include "test.hpp"

using sae::Kernels;
using test::Guarded;
using test::Random;
using test::bits;

namespace {

// The definition, written apart from the engine: element i joins sum i mod 128, then seven halvings, then + 0.
float defined_dot(const float* x, const float* w, int64_t d) {
  float s[128] = {};
  for (int64_t i = 0; i < d; ++i) s[i % 128] = std::fma(x[i], w[i], s[i % 128]);
  for (int half = 64; half >= 1; half /= 2) {
    for (int i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
  }
  return s[0] + 0.0f;
}

std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> found;
  for (const Kernels* const* kernels = sae::kAllKernels; *kernels != nullptr; ++kernels) {
    if ((*kernels)->supported()) {
      found.push_back(*kernels);
    } else {
      std::printf("     kernel %s can't run on this CPU\n", (*kernels)->name);
    }
  }
  return found;
}

// Ordinary numbers, and now and then what breaks kernels: zeros of both signs, denormals, huge and tiny magnitudes.
float awkward(Random& random) {
  switch (random.below(12)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return 1e-42f * random.normal();
    case 3: return 1e-30f * random.normal();
    case 4: return 1e15f * random.normal();
    default: return random.normal();
  }
}

}  // namespace

TEST(dot_equals_its_definition_for_every_length) {
  Random random;
  for (int64_t d = 0; d <= 700; ++d) {
    for (const bool at_end : {true, false}) {
      Guarded<float> x(d, at_end), w(d, at_end);
      for (int64_t i = 0; i < d; ++i) x[i] = awkward(random), w[i] = awkward(random);
      const float expected = defined_dot(x.data(), w.data(), d);
      for (const Kernels* kernels : runnable()) {
        const float got = kernels->dot(x.data(), w.data(), d);
        CHECK(bits(got) == bits(expected), "%s, d %lld: expected %a, got %a", kernels->name, (long long)d, expected, got);
      }
    }
  }
}

TEST(dots_of_any_number_of_rows_equal_single_ones) {
  Random random;
  for (const int64_t d : {1, 15, 16, 127, 128, 129, 300}) {
    const int64_t n = 11;
    Guarded<float> x(n * d), w(d);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = awkward(random);
    for (int64_t i = 0; i < d; ++i) w[i] = awkward(random);
    for (int count = 0; count <= n; ++count) {
      Guarded<int32_t> rows(count);
      Guarded<float> out(count);
      for (int k = 0; k < count; ++k) rows[k] = static_cast<int32_t>(n - count + k);  // the last row is used
      for (const Kernels* kernels : runnable()) {
        kernels->dots(x.data(), rows.data(), count, w.data(), d, out.data());
        for (int k = 0; k < count; ++k) {
          const float expected = defined_dot(x.data() + rows[k] * d, w.data(), d);
          CHECK(bits(out[k]) == bits(expected), "%s, d %lld, %d of %d: expected %a, got %a", kernels->name, (long long)d, k, count,
                expected, out[k]);
        }
      }
    }
  }
}

TEST(dot_never_returns_negative_zero) {
  const float x[2] = {-1e-30f, 0.0f}, w[2] = {1e-30f, 1.0f};
  for (const Kernels* kernels : runnable()) {
    for (int64_t d = 0; d <= 2; ++d) CHECK(bits(kernels->dot(x, w, d)) == 0, "%s, d %lld", kernels->name, (long long)d);
  }
}

TEST(above_and_beyond_agree_between_forms) {
  Random random;
  for (int count = 0; count <= 64; ++count) {
    Guarded<float> s(count), of_norm(count), of_loss(count), positive(count), negative(count);
    for (int trial = 0; trial < 20; ++trial) {
      for (int r = 0; r < count; ++r) {
        s[r] = random.normal();
        of_norm[r] = random.below(20) == 0 ? INFINITY : 0.1f * random.uniform();
        of_loss[r] = random.below(3) == 0 ? 0 : random.uniform();
        positive[r] = random.uniform();
        negative[r] = random.below(5) == 0 ? INFINITY : random.uniform();
        if (random.below(10) == 0) s[r] = NAN;
      }
      const sae::Bounds b = {of_norm.data(), of_loss.data(), 1e-6f, {random.uniform(), 0.1f * random.uniform()}};
      const float scale = 1 + random.uniform();
      const float offset = trial % 2 == 0 ? 0 : random.normal();
      const float cut = count > 0 && trial == 0 ? s[0] + b.at(0) : 0.3f;  // equality is a candidate
      uint64_t above = 0, beyond = 0;
      for (int r = 0; r < count; ++r) {
        const float bound = std::fma(of_norm[r], b.feature.norm, std::fma(of_loss[r], b.feature.loss, b.floor));
        above |= static_cast<uint64_t>(!(s[r] + bound < cut)) << r;
        const bool either =
            !(std::fma(scale, s[r] + bound, offset) < positive[r]) || !(std::fma(scale, bound - s[r], -offset) < negative[r]);
        beyond |= static_cast<uint64_t>(either) << r;
      }
      for (const Kernels* k : runnable()) {
        const uint64_t got = k->above(s.data(), b, count, cut);
        CHECK(got == above, "%s, count %d: expected %llx, got %llx", k->name, count, (unsigned long long)above,
              (unsigned long long)got);
        const uint64_t far = k->beyond(s.data(), b, count, scale, offset, positive.data(), negative.data());
        CHECK(far == beyond, "%s, count %d: expected %llx, got %llx", k->name, count, (unsigned long long)beyond,
              (unsigned long long)far);
      }
    }
  }
}

TEST(gather_equals_its_definition_for_every_width) {
  Random random;
  for (const int64_t nnz : {0, 1, 2, 5, 17}) {
    for (int64_t width = 1; width <= 300; width += width < 70 ? 1 : 13) {
      const int64_t features = 20, stride = width;
      Guarded<float> rows(features * stride), values(nnz), bias(width), out(width);
      Guarded<int32_t> indices(nnz);
      for (int64_t i = 0; i < rows.size(); ++i) rows[i] = awkward(random);
      for (int64_t i = 0; i < width; ++i) bias[i] = awkward(random);
      for (int64_t k = 0; k < nnz; ++k) {
        indices[k] = static_cast<int32_t>(features - nnz + k);  // the last row is used: a read past it would crash
        values[k] = awkward(random);
      }
      for (const bool with_bias : {false, true}) {
        for (const Kernels* kernels : runnable()) {
          for (int64_t i = 0; i < width; ++i) out[i] = NAN;
          kernels->gather(rows.data(), stride, indices.data(), values.data(), nnz, with_bias ? bias.data() : nullptr, width,
                          out.data());
          for (int64_t i = 0; i < width; ++i) {
            float expected = 0;
            for (int64_t k = 0; k < nnz; ++k) expected = std::fma(values[k], rows[indices[k] * stride + i], expected);
            if (with_bias) expected += bias[i];
            CHECK(bits(out[i]) == bits(expected), "%s, nnz %lld, width %lld, column %lld: expected %a, got %a", kernels->name,
                  (long long)nnz, (long long)width, (long long)i, expected, out[i]);
          }
        }
      }
    }
  }
}

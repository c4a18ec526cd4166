#pragma once
// The bits of every operation, pinned: a hash for each over inputs that are the same on every machine. The hashes stand in bits.txt. One
// that changes is another result, and a breaking change.
#include <functional>
#include <map>
#include <set>
#include <string>

#include "codes.hpp"
#include "sae4j.h"
#include "test.hpp"
#include "test_sae.hpp"

namespace test {

// FNV-1a.
class Hash {
 public:
  template <typename T>
  void add(const T* values, int64_t count) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values);
    for (size_t i = 0; i < static_cast<size_t>(count) * sizeof(T); ++i) value_ = (value_ ^ bytes[i]) * 0x100000001b3u;
  }
  // Row by row, so that it matters nothing how rows were shared among calls.
  void add(const sae_codes& codes) {
    for (int64_t row = 0; row < codes.rows(); ++row) {
      const int64_t first = codes.row_offsets()[row], count = codes.row_offsets()[row + 1] - first;
      add(&count, 1);
      add(codes.indices() + first, count);
      add(codes.values() + first, count);
      if (codes.normalized()) add(codes.scale() + row, 1), add(codes.shift() + row, 1);
    }
  }
  std::string text() const {
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value_));
    return text;
  }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

// Values of many magnitudes, by integers and powers of two alone: no library's distribution has a part in them.
class Exact {
 public:
  explicit Exact(uint64_t seed) : engine_(seed) {}
  // In [-1, 1), a multiple of 2^-23.
  float uniform() { return static_cast<float>(static_cast<int64_t>(engine_() >> 40) - (int64_t{1} << 23)) * 0x1p-23f; }
  // Most within 1, some as small as 2^-12.
  float value() {
    const float value = uniform();
    return engine_() % 4 == 0 ? std::ldexp(value, -static_cast<int>(engine_() % 12)) : value;
  }
  void fill(Guarded<float>& values) {
    for (int64_t i = 0; i < values.size(); ++i) values[i] = value();
  }

 private:
  std::mt19937_64 engine_;
};

// Compares hashes with those of bits.txt. Where that is empty the lines are printed that would stand in it.
class PinnedBits {
 public:
  PinnedBits() {
#define BITS(name, hash) pinned_[name] = hash;
#include "bits.txt"
#undef BITS
  }

  void check(const std::string& name, const Hash& hash, const std::string& way) {
    if (pinned_.empty()) {
      if (printed_.insert(name).second) std::printf("BITS(\"%s\", \"%s\")\n", name.c_str(), hash.text().c_str());
      return;
    }
    const auto found = pinned_.find(name);
    const std::string expected = found == pinned_.end() ? "none" : found->second;
    CHECK(expected == hash.text(), "%s: %s has %s, pinned is %s", way.c_str(), name.c_str(), hash.text().c_str(), expected.c_str());
    ++checked_;
  }

  // Every line was compared so many times.
  void require_all(int64_t times) const {
    CHECK(!pinned_.empty(), "bits.txt is empty");
    CHECK(checked_ == times * static_cast<int64_t>(pinned_.size()), "%lld comparisons of %zu lines, expected %lld of each",
          static_cast<long long>(checked_), pinned_.size(), static_cast<long long>(times));
  }

 private:
  std::map<std::string, std::string> pinned_;
  std::set<std::string> printed_;
  int64_t checked_ = 0;
};

// The SAE and the rows of a shape. The second has a skip connection, and duplicates among its features.
struct PinnedCase {
  PinnedCase(int64_t d, int64_t d_sae, int64_t n) : name(std::to_string(n) + "x" + std::to_string(d) + "x" + std::to_string(d_sae)), n(n), sae(d, d, d_sae), x(n * d) {
    Exact exact(static_cast<uint64_t>(d * 1000003 + d_sae));
    for (Guarded<float>* values : {&sae.w_enc, &sae.w_dec, &sae.b_dec, &sae.offset, &sae.w_skip, &x}) exact.fill(*values);
    for (int64_t j = 0; j < d_sae; ++j) {
      sae.threshold[j] = 0.25f * std::sqrt(static_cast<float>(d)) * exact.uniform();
      sae.scale[j] = 1 + 0.5f * exact.uniform();
    }
    if (d_sae < 100) return;
    sae.has_skip = true;
    for (int64_t i = 0; i < d; ++i) {
      sae.w_enc[9 * d + i] = sae.w_enc[2 * d + i];
      sae.w_dec[9 * d + i] = sae.w_dec[2 * d + i];
      sae.w_dec[11 * d + i] = 0;
    }
    sae.threshold[9] = sae.threshold[2], sae.scale[9] = sae.scale[2], sae.offset[9] = sae.offset[2];
  }

  const std::string name;
  const int64_t n;
  Sae sae;
  Guarded<float> x;
};

// A way to compute: a model of the SAE as it is now, all rows in one call or the first in a call of its own.
struct Way {
  std::string name;
  std::function<sae_model*(Sae&)> open;
  bool is_split = false;
};

// What a way gives for every selection and normalisation, projection and pursuit.
class WayBits {
 public:
  WayBits(const Way& way, PinnedCase& pinned, PinnedBits& bits) : way_(way), pinned_(pinned), bits_(bits) {}

  void check_forms() {
    static const char* const kSelections[] = {"gate", "top", "top_signed", "top_abs"};
    static const char* const kNormalizations[] = {"none", "layer", "constant"};
    for (int selection = SAE_SELECT_GATE; selection <= SAE_SELECT_TOP_ABS; ++selection) {
      for (int normalization = SAE_NORMALIZE_NONE; normalization <= SAE_NORMALIZE_CONSTANT; ++normalization) {
        set_form(static_cast<sae_selection>(selection), static_cast<sae_normalization>(normalization));
        check_form(std::string(kSelections[selection]) + " " + kNormalizations[normalization]);
      }
    }
    set_form(SAE_SELECT_GATE, SAE_NORMALIZE_NONE);
  }

  void check_directions() {
    static const char* const kMethods[] = {"omp", "gradient", "matching", "l1"};
    sae_model* model = way_.open(pinned_.sae);
    for (const int per_sign : {0, 1}) {
      const auto check_projection = [&](const char* name, sae_readout readout, int unit) {
        check(std::string(per_sign ? "project per sign " : "project ") + name, pinned_.n, [&](const float* v, int64_t n, sae_codes* codes) {
          return sae_project_top(model, v, n, readout, unit, 6, per_sign, codes);
        });
      };
      check_projection("decoder", SAE_READOUT_DECODER, 0);
      check_projection("decoder unit", SAE_READOUT_DECODER, 1);
      check_projection("encoder", SAE_READOUT_ENCODER, 0);
    }
    for (int method = SAE_METHOD_OMP; method <= SAE_METHOD_L1; ++method) {
      for (const int non_negative : {0, 1}) {
        check(std::string("pursue ") + kMethods[method] + (non_negative ? " non-negative" : ""), std::min<int64_t>(pinned_.n, 6),
              [&](const float* v, int64_t n, sae_codes* codes) {
                return sae_pursue(model, v, n, static_cast<sae_method>(method), non_negative, 6, 1e-6, 0, 0.2, codes);
              });
      }
    }
    sae_close(model);
  }

 private:
  void set_form(sae_selection selection, sae_normalization normalization) {
    pinned_.sae.selection = selection;
    pinned_.sae.normalization = normalization;
    pinned_.sae.k = selection == SAE_SELECT_GATE ? 0 : 5;
  }

  // Encode, and decode of its codes as a point and as a direction.
  void check_form(const std::string& form) {
    Sae& sae = pinned_.sae;
    sae_model* model = way_.open(sae);
    Hash decoded[2];
    check("encode " + form, pinned_.n, [&](const float* x, int64_t n, sae_codes* codes) {
      sae_status status = sae_encode(model, x, n, codes);
      std::vector<float> x_hat(static_cast<size_t>(n * sae.d_out));
      for (const int direction : {0, 1}) {
        if (status == SAE_OK) status = sae_decode(model, codes, sae.has_skip ? x : nullptr, direction, x_hat.data());
        decoded[direction].add(x_hat.data(), n * sae.d_out);
      }
      return status;
    });
    sae_close(model);
    bits_.check(pinned_.name + " decode " + form, decoded[0], way_.name);
    bits_.check(pinned_.name + " decode direction " + form, decoded[1], way_.name);
  }

  template <typename Call>
  void check(const std::string& operation, int64_t n, const Call& call) {
    Hash hash;
    for (int64_t first = 0; first < n;) {
      const int64_t count = way_.is_split && first == 0 ? 1 : n - first;
      Codes codes;
      const sae_status status = call(pinned_.x.data() + first * pinned_.sae.d_in, count, codes);
      CHECK(status == SAE_OK && sae_codes_to_host(codes) == SAE_OK, "%s: %s: %s", way_.name.c_str(), operation.c_str(), sae_last_error());
      hash.add(*codes.handle);
      first += count;
    }
    bits_.check(pinned_.name + " " + operation, hash, way_.name);
  }

  const Way& way_;
  PinnedCase& pinned_;
  PinnedBits& bits_;
};

// One row, some, and dimensions and features below, on and above the sizes of blocks.
inline const int64_t kPinnedShapes[][3] = {{5, 16, 1}, {130, 270, 34}, {128, 400, 17}};

inline void check_all_bits(const std::vector<Way>& ways) {
  PinnedBits bits;
  for (const auto& shape : kPinnedShapes) {
    PinnedCase pinned(shape[0], shape[1], shape[2]);
    for (const Way& way : ways) {
      WayBits got(way, pinned, bits);
      got.check_forms();
      got.check_directions();
    }
  }
  bits.require_all(static_cast<int64_t>(ways.size()));
}

}  // namespace test

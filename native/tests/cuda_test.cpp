// The CUDA backend against the CPU's, to the bit: on the host's emulation, which also injects failures, counts what was not freed,
// and runs a block's threads in other orders; or on a GPU, by the library that SAE4J_CUDA_LIBRARY names, for compute-sanitizer.
#include <dlfcn.h>

#include <thread>

#include "bits.hpp"
#include "codes.hpp"
#include "definition.hpp"
#include "sae4j.h"
#include "test.hpp"
#include "test_sae.hpp"

using test::Codes;
using test::Guarded;
using test::Random;
using test::Sae;
using test::same_codes;

namespace {

// Under the sanitizers, which take three times as long, every second call is made to fail, and bits are compared for one screen.
#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kStep = 2;
#else
constexpr int64_t kStep = 1;
#endif

const char* library() {
  const char* given = std::getenv("SAE4J_CUDA_LIBRARY");
  return given == nullptr ? SAE4J_CUDA_EMULATED : given;
}

void* symbol(const char* name) {
  static void* const handle = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
  return handle == nullptr ? nullptr : dlsym(handle, name);
}

// What only the emulation can show is left out on a GPU, and says so.
bool is_emulated() { return symbol("emu_calls") != nullptr; }

#define ONLY_EMULATED                                       \
  if (!is_emulated()) {                                     \
    std::printf("left out, not emulated: ");                \
    return;                                                 \
  }

// A function of the emulation.
template <typename Function>
Function* hook(const char* name) {
  const auto found = reinterpret_cast<Function*>(symbol(name));
  if (found == nullptr) std::printf("the emulation has no %s\n", name), std::exit(1);
  return found;
}

// The screens of this device.
std::vector<const char*> screens() {
  CHECK(sae_cuda_load(library()) == SAE_OK, "%s", sae_last_error());
  if (*sae_cuda_reason(0) != 0) std::printf("no device: %s\n", sae_cuda_reason(0)), std::exit(1);
  std::vector<const char*> serving;
  for (int i = 0; i < sae_cuda_screen_count(); ++i) {
    const std::string reason = sae_cuda_screen_reason(0, i);
    if (reason.find("needs compute capability") != std::string::npos) continue;  // made for other cards than this
    CHECK(reason.empty(), "screen %s was dropped: %s", sae_cuda_screen_name(i), reason.c_str());
    serving.push_back(sae_cuda_screen_name(i));
  }
  CHECK(serving.size() > 1, "no screens");
  return serving;
}

bool is_canonical(const char* screen) { return std::strcmp(screen, "canonical") == 0; }

void fail_call(int64_t call, int error) { hook<void(int64_t, int)>("emu_fail_call")(call, error); }
int64_t live() { return hook<int64_t()>("emu_live_allocations")(); }
int64_t calls() { return hook<int64_t()>("emu_calls")(); }
void set_order(uint64_t order) { hook<void(uint64_t)>("emu_set_order")(order); }
void set_memory(int64_t bytes) { hook<void(int64_t)>("emu_set_memory")(bytes); }

sae_status open(Sae& sae, const char* screen, sae_model** model) {
  CHECK(sae_cuda_load(library()) == SAE_OK, "%s", sae_last_error());
  const sae_weights weights = sae.weights();
  return sae_cuda_open(0, &weights, 2, screen, nullptr, model);
}

sae_model* open(Sae& sae, const char* screen) {
  sae_model* model = nullptr;
  const sae_status status = open(sae, screen, &model);
  CHECK(status == SAE_OK, "open: %s", sae_last_error());
  return model;
}

// Memory of the emulated device, written and read as a caller would, in a stream.
struct DeviceFloats {
  explicit DeviceFloats(int64_t count) { hook<int(void**, size_t)>("cudaMalloc")(&data, count * sizeof(float)); }
  ~DeviceFloats() { hook<int(void*)>("cudaFree")(data); }
  operator float*() { return static_cast<float*>(data); }
  void* data = nullptr;
};

void copy(void* to, const void* from, int64_t floats, void* stream) {
  constexpr int kDefault = 4;
  hook<int(void*, const void*, size_t, int, void*)>("cudaMemcpyAsync")(to, from, floats * sizeof(float), kDefault, stream);
}

// Encode and decode of a model against their definition. The codes are decoded where they are, and as others brought them.
void check_form(const Sae& sae, sae_model* model, test::Kind kind, Guarded<float>& x, int64_t n, const char* what) {
  Codes expected, got;
  test::expect_codes(sae, x.data(), n, *expected.handle);
  const std::string place = where(sae, kind, n) + ", " + what;
  CHECK(sae_encode(model, x.data(), n, got) == SAE_OK, "%s: %s", place.c_str(), sae_last_error());
  const float* skipped = sae.has_skip ? x.data() : nullptr;
  for (sae_codes* codes : {got.handle, expected.handle}) {
    for (const bool direction : {false, true}) {
      Guarded<float> x_hat(n * sae.d_out);
      CHECK(sae_decode(model, codes, skipped, direction, x_hat.data()) == SAE_OK, "%s: %s", place.c_str(), sae_last_error());
      const std::vector<float> exact = test::expect_decoded(sae, *expected.handle, x.data(), direction);
      CHECK(n == 0 || std::memcmp(exact.data(), x_hat.data(), sizeof(float) * exact.size()) == 0, "%s: decode differs", place.c_str());
    }
  }
  CHECK(sae_codes_to_host(got) == SAE_OK, "%s: %s", place.c_str(), sae_last_error());
  const std::string difference = same_codes(expected, got);
  CHECK(difference.empty(), "%s: %s", place.c_str(), difference.c_str());
}

// Every operation of both models.
void compare(Sae& sae, sae_model* cpu, sae_model* cuda, int64_t n, const char* what, bool projects = true) {
  Random random;
  Guarded<float> x(n * sae.d_in), v(n * sae.d_out), x_hat(n * sae.d_out), other_hat(n * sae.d_out);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  for (int64_t i = 0; i < v.size(); ++i) v[i] = random.normal();
  const auto same = [&](const char* operation, sae_status status, sae_codes* expected, sae_codes* got) {
    CHECK(status == SAE_OK, "%s: %s", operation, sae_last_error());
    CHECK(sae_codes_to_host(got) == SAE_OK, "%s: %s", operation, sae_last_error());
    const std::string difference = same_codes(expected, got);
    CHECK(difference.empty(), "%s, %s, n %lld, d_in %lld, d_sae %lld: %s", what, operation, (long long)n, (long long)sae.d_in,
          (long long)sae.d_sae, difference.c_str());
  };
  Codes expected, got;
  CHECK(sae_encode(cpu, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  const sae_status encoded = sae_encode(cuda, x.data(), n, got);
  for (const int direction : {0, 1}) {  // before the codes are brought to the host
    CHECK(sae_decode(cpu, expected, nullptr, direction, x_hat.data()) == SAE_OK, "%s", sae_last_error());
    CHECK(sae_decode(cuda, got, nullptr, direction, other_hat.data()) == SAE_OK, "%s", sae_last_error());
    CHECK(n == 0 || std::memcmp(x_hat.data(), other_hat.data(), sizeof(float) * x_hat.size()) == 0, "%s: decode differs", what);
  }
  same("encode", encoded, expected, got);
  CHECK(sae_decode(cuda, expected, nullptr, 0, other_hat.data()) == SAE_OK, "codes of the host: %s", sae_last_error());
  CHECK(sae_decode(cpu, got, nullptr, 0, x_hat.data()) == SAE_OK, "codes of the device: %s", sae_last_error());
  CHECK(n == 0 || std::memcmp(x_hat.data(), other_hat.data(), sizeof(float) * x_hat.size()) == 0, "%s: decode differs", what);
  if (!projects) return;
  for (const int64_t k : {int64_t{2}, sae.d_sae + 3}) {
    for (const int per_sign : {0, 1}) {
      const int unit = per_sign == (k == 2);
      CHECK(sae_project_top(cpu, v.data(), n, SAE_READOUT_DECODER, unit, k, per_sign, expected) == SAE_OK, "%s",
            sae_last_error());
      same("project", sae_project_top(cuda, v.data(), n, SAE_READOUT_DECODER, unit, k, per_sign, got), expected, got);
      CHECK(sae_project_top(cpu, x.data(), n, SAE_READOUT_ENCODER, 0, k, per_sign, expected) == SAE_OK, "%s", sae_last_error());
      same("project", sae_project_top(cuda, x.data(), n, SAE_READOUT_ENCODER, 0, k, per_sign, got), expected, got);
    }
  }
}

// Each call to the runtime fails once, as out of memory and as a lost device: a status, no leak, and the model serves again.
// Two chunks, small ones: a call is made once for each of its calls to the runtime.
void inject_failures(Sae& sae, const char* screen, int64_t step) {
  const int64_t n = 40;
  Random random;
  Guarded<float> x(n * 20), x_hat(n * 20);
  hook<void(int64_t)>("emu_set_chunk_rows")(33);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  const float* skipped = sae.has_skip ? x.data() : nullptr;
  { sae_model* first = open(sae, screen); sae_close(first); }  // the screen's probe is over
  Codes host;
  test::expect_codes(sae, x.data(), 3, *host.handle);
  for (const int error : {2, 719}) {
    int64_t total = 1;
    for (int64_t call = 1; call <= total; call += step) {
      const int64_t before = live();
      fail_call(call, error);
      sae_model* model = nullptr;
      int failed = 0;
      sae_status status = open(sae, screen, &model);
      if (status == SAE_OK) {
        Codes codes, top;
        for (const sae_status s :
             {sae_encode(model, x.data(), n, codes), sae_decode(model, codes, skipped, 0, x_hat.data()),
              sae_decode(model, host, skipped, 0, x_hat.data()),
              sae_project_top(model, x.data(), n, SAE_READOUT_DECODER, 1, 3, 0, top)}) {
          failed += s != SAE_OK;
          if (s != SAE_OK) status = s;
        }
        failed += sae_codes_to_host(codes) != SAE_OK;
        total = std::max(total, calls());
        CHECK(failed > 0 || calls() < call, "call %lld failed, and nobody said so", (long long)call);
        CHECK(failed == 0 || std::string(sae_last_error()).size() > 10, "no text for the failure of call %lld", (long long)call);
        // Afterwards the device works again, and so does the model.
        fail_call(0, 0);
        CHECK(sae_encode(model, x.data(), 2, codes) == SAE_OK, "after the failure of call %lld: %s", (long long)call,
              sae_last_error());
        CHECK(sae_codes_to_host(codes) == SAE_OK, "%s", sae_last_error());
      } else {
        total = std::max(total, call + step);
        CHECK(model == nullptr, "a failed open gave a model");
        fail_call(0, 0);
      }
      sae_close(model);
      CHECK(live() == before, "call %lld failed, and %lld things were not freed", (long long)call, (long long)(live() - before));
    }
    CHECK(total > 50, "only %lld calls", (long long)total);
  }
  hook<void(int64_t)>("emu_set_chunk_rows")(256);
}

}  // namespace

// Few calls that go through all kernels: for tools under which a kernel takes seconds.
TEST(every_kernel_in_a_small_call) {
  const int64_t n = 34;
  for (const char* screen : screens()) {
    for (const sae_selection selection : {SAE_SELECT_GATE, SAE_SELECT_TOP_ABS}) {
      Sae sae(130, 130, 270);
      sae.selection = selection;
      sae.k = selection == SAE_SELECT_GATE ? 0 : 5;
      sae.normalization = selection == SAE_SELECT_GATE ? SAE_NORMALIZE_NONE : SAE_NORMALIZE_LAYER;
      sae.has_skip = selection != SAE_SELECT_GATE;
      sae_model* model = open(sae, screen);
      Guarded<float> x(n * sae.d_in);
      Random random;
      for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
      check_form(sae, model, test::kRandom, x, n, screen);
      Codes top;
      CHECK(sae_project_top(model, x.data(), n, SAE_READOUT_DECODER, 1, 5, 1, top) == SAE_OK, "%s", sae_last_error());
      sae_close(model);
    }
  }
}

TEST(cuda_equals_the_cpu_on_every_shape_and_screen) {
  const struct {
    int64_t d_in, d_out, d_sae;
  } shapes[] = {{1, 2, 1}, {3, 1, 7}, {7, 129, 63}, {128, 128, 64}, {129, 127, 65}, {255, 3, 257}, {5, 20, 5000}};
  for (const auto& shape : shapes) {
    Sae sae(shape.d_in, shape.d_out, shape.d_sae);
    sae_model* cpu = sae.open(2);
    for (const char* screen : screens()) {
      sae_model* cuda = open(sae, screen);
      for (const int64_t n : {0, 3, 33}) {
        if (n * shape.d_sae < 20000) compare(sae, cpu, cuda, n, screen);
      }
      sae_close(cuda);
    }
    sae_close(cpu);
  }
}

TEST(the_devices_bits_are_those_that_are_pinned) {
  std::vector<test::Way> ways;
  for (const char* screen : screens()) {
    if (kStep > 1 && screen != screens().back()) continue;
    ways.push_back({screen, [screen](Sae& sae) { return open(sae, screen); }, is_canonical(screen)});
  }
  test::check_all_bits(ways);
}

TEST(cuda_takes_several_chunks_no_feature_and_all) {
  Sae sae(40, 30, 100);
  sae_model* cpu = sae.open(2);
  for (const char* screen : screens()) {
    sae_model* cuda = open(sae, screen);
    compare(sae, cpu, cuda, 520, screen, is_canonical(screen));
    sae_close(cuda);
  }
  sae_close(cpu);
  for (const float threshold : {-INFINITY, INFINITY}) {
    for (int64_t j = 0; j < sae.d_sae; ++j) sae.threshold[j] = threshold, sae.offset[j] = 1e4f;
    cpu = sae.open(2);
    for (const char* screen : screens()) {
      sae_model* cuda = open(sae, screen);
      compare(sae, cpu, cuda, 260, screen, false);
      sae_close(cuda);
    }
    sae_close(cpu);
  }
}

// Selection, normalisation and skip connection. Every screen takes the middle k, for the others they take turns.
TEST(cuda_equals_the_definition_of_every_form) {
  const struct {
    int64_t d, d_sae, n;
  } shapes[] = {{2, 5, 3}, {7, 63, 33}, {129, 65, 19}};
  size_t turn = 0;
  for (const auto& shape : shapes) {
    for (int kind = 0; kind < test::kKinds; ++kind) {
      for (const sae_selection selection : test::kSelections) {
        for (const int64_t k : {int64_t{1}, int64_t{4}, shape.d_sae}) {
          if (selection == SAE_SELECT_GATE && k != 1) continue;
          const sae_normalization normalization = test::kNormalizations[turn++ % 3];
          Sae sae(shape.d, normalization == SAE_NORMALIZE_NONE ? shape.d + 1 : shape.d, shape.d_sae);
          sae.selection = selection, sae.k = k, sae.normalization = normalization;
          sae.has_skip = turn % 2 == 0;
          Guarded<float> x(shape.n * shape.d);
          test::make_nasty(sae, static_cast<test::Kind>(kind), x);
          const std::vector<const char*> serving = screens();
          for (size_t s = 0; s < serving.size(); ++s) {
            if (k != 4 && s != turn % serving.size()) continue;
            sae_model* model = open(sae, serving[s]);
            check_form(sae, model, static_cast<test::Kind>(kind), x, shape.n, serving[s]);
            sae_close(model);
          }
        }
      }
    }
  }
}

// So many features that the k-th best of a subset is sought first: where all are equal, and where most of the others are closed.
TEST(a_subset_bounds_the_k_best_of_every_form) {
  for (const test::Kind kind : {test::kTies, test::kPrefix}) {
    for (const sae_selection selection : {SAE_SELECT_TOP, SAE_SELECT_TOP_SIGNED, SAE_SELECT_TOP_ABS}) {
      Sae sae(3, 3, 2055);
      Guarded<float> x(3 * 3);
      test::make_nasty(sae, kind, x);
      sae.selection = selection, sae.k = 40;
      for (const char* screen : screens()) {
        if (kind == test::kPrefix && !is_canonical(screen)) continue;
        sae_model* model = open(sae, screen);
        check_form(sae, model, kind, x, 3, screen);
        sae_close(model);
      }
    }
  }
}

// Chunks of one row and of several, orders of threads, no rows; and the order of the sums over more than a tile of a row.
TEST(every_form_in_chunks_and_orders) {
  ONLY_EMULATED
  const int64_t d = 300, n = 40;
  Sae sae(d, d, 70);
  Guarded<float> x(n * d);
  test::make_nasty(sae, test::kRandom, x);
  sae.has_skip = true;
  sae.k = 9;
  for (const sae_selection selection : test::kSelections) {
    for (const sae_normalization normalization : test::kNormalizations) {
      sae.selection = selection, sae.normalization = normalization;
      sae_model* model = open(sae, selection % 2 == 0 ? "canonical" : "mma-bf16");
      for (const int64_t rows : {1, 33}) {
        hook<void(int64_t)>("emu_set_chunk_rows")(rows);
        set_order(rows % 3);
        check_form(sae, model, test::kRandom, x, rows == 1 ? 3 : n, "chunks");
      }
      check_form(sae, model, test::kRandom, x, 0, "no rows");
      hook<void(int64_t)>("emu_set_chunk_rows")(256);
      set_order(0);
      sae_close(model);
    }
  }
}

// As many rows in a chunk as on a GPU: a feature's words are more than a warp's lanes.
TEST(cuda_takes_thousands_of_rows_at_once) {
  Sae sae(4, 3, 70);
  sae_model* cpu = sae.open(2);
  if (is_emulated()) hook<void(int64_t)>("emu_set_chunk_rows")(4096);
  for (const char* screen : screens()) {
    sae_model* cuda = open(sae, screen);
    compare(sae, cpu, cuda, 1500, screen, is_canonical(screen));
    sae_close(cuda);
  }
  if (is_emulated()) hook<void(int64_t)>("emu_set_chunk_rows")(256);
  sae_close(cpu);
}

TEST(mma_makes_do_with_the_shared_memory_of_consumer_cards) {
  ONLY_EMULATED
  Sae sae(200, 3, 70);
  sae_model* cpu = sae.open(2);
  sae_model* cuda = open(sae, "mma-bf16");
  hook<void(int)>("emu_set_shared_memory")(99 << 10);
  for (const uint64_t order : {0, 1}) {
    set_order(order);
    compare(sae, cpu, cuda, 40, "two stages", false);
  }
  set_order(0);
  hook<void(int)>("emu_set_shared_memory")(227 << 10);
  sae_close(cuda);
  sae_close(cpu);
}

// What a missing barrier would make differ.
TEST(cuda_gives_the_same_bits_in_any_order_of_threads) {
  ONLY_EMULATED
  Sae sae(200, 70, 300);
  sae_model* cpu = sae.open(2);
  for (const uint64_t order : {1, 2}) {
    set_order(order);
    for (const char* screen : screens()) {
      sae_model* cuda = open(sae, screen);
      compare(sae, cpu, cuda, 40, (std::string(screen) + " in order " + std::to_string(order)).c_str());
      sae_close(cuda);
    }
  }
  set_order(0);
  sae_close(cpu);
}

TEST(every_injected_failure_is_a_status_and_leaks_nothing) {
  ONLY_EMULATED
  Sae plain(20, 20, 70), other(20, 20, 70);
  other.selection = SAE_SELECT_TOP_SIGNED, other.k = 5;
  other.normalization = SAE_NORMALIZE_LAYER;
  other.has_skip = true;
  for (const char* screen : screens()) {
    const bool is_first = is_canonical(screen);
    inject_failures(plain, screen, is_first ? kStep : 7 * kStep);
    inject_failures(other, screen, is_first ? kStep : 23 * kStep);
  }
}

// The caller's rows are still on their way in the caller's stream when the call is made.
TEST(callers_device_pointers_and_stream_serve) {
  ONLY_EMULATED
  const int64_t n = 300;
  for (const int64_t d : {128, 130}) {
    Sae sae(d, d, 200);
    Random random;
    Guarded<float> x(n * d), x_hat(n * d), other_hat(n * d), dense(n * 200), other_dense(n * 200);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
    sae_model* cpu = sae.open(2);
    Codes expected, got;
    CHECK(sae_encode(cpu, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
    CHECK(sae_decode(cpu, expected, nullptr, 0, x_hat.data()) == SAE_OK, "%s", sae_last_error());
    CHECK(sae_project_dense(cpu, x.data(), n, SAE_READOUT_DECODER, 1, dense.data()) == SAE_OK, "%s", sae_last_error());

    void* stream = nullptr;
    hook<int(void**, unsigned)>("cudaStreamCreateWithFlags")(&stream, 1);
    sae_model* cuda = nullptr;
    CHECK(sae_cuda_load(library()) == SAE_OK, "%s", sae_last_error());
    const sae_weights weights = sae.weights();
    CHECK(sae_cuda_open(0, &weights, 2, nullptr, stream, &cuda) == SAE_OK, "%s", sae_last_error());
    {
      DeviceFloats device_x(n * d), device_hat(n * d), device_dense(n * 200);
      copy(device_x, x.data(), n * d, stream);
      CHECK(sae_encode(cuda, device_x, n, got) == SAE_OK, "%s", sae_last_error());
      CHECK(sae_decode(cuda, got, nullptr, 0, device_hat) == SAE_OK, "%s", sae_last_error());
      CHECK(sae_project_dense(cuda, device_x, n, SAE_READOUT_DECODER, 1, device_dense) == SAE_OK, "%s", sae_last_error());
      copy(other_hat.data(), device_hat, n * d, stream);
      copy(other_dense.data(), device_dense, n * 200, stream);
      hook<int(void*)>("cudaStreamSynchronize")(stream);
      CHECK(sae_codes_to_host(got) == SAE_OK, "%s", sae_last_error());
      CHECK(same_codes(expected, got).empty(), "d %lld: %s", (long long)d, same_codes(expected, got).c_str());
      CHECK(std::memcmp(x_hat.data(), other_hat.data(), sizeof(float) * n * d) == 0, "decode differs");
      for (int64_t i = 0; i < dense.size(); ++i) {
        CHECK(std::fabs(dense[i] - other_dense[i]) <= 1e-4f, "dense %lld: %g and %g", (long long)i, dense[i], other_dense[i]);
      }
      // The solver of pursue is the host's.
      Codes atoms, device_atoms;
      CHECK(sae_pursue(cpu, x.data(), 3, SAE_METHOD_OMP, 0, 4, 0, 0, 0, atoms) == SAE_OK, "%s", sae_last_error());
      CHECK(sae_pursue(cuda, device_x, 3, SAE_METHOD_OMP, 0, 4, 0, 0, 0, device_atoms) == SAE_OK, "%s", sae_last_error());
      CHECK(same_codes(atoms, device_atoms).empty(), "%s", same_codes(atoms, device_atoms).c_str());
      x[7] = NAN;
      copy(device_x, x.data(), n * d, stream);
      CHECK(sae_encode(cuda, device_x, n, got) == SAE_INVALID_ARGUMENT, "nan went unnoticed");
      CHECK(std::string(sae_last_error()).find("got nan at row 0, column 7") != std::string::npos, "%s", sae_last_error());
    }
    sae_close(cuda);
    hook<int(void*)>("cudaStreamDestroy")(stream);
    sae_close(cpu);
  }
}

// x on the device, in place where it may be, and as it was afterwards.
TEST(every_form_serves_device_pointers) {
  ONLY_EMULATED
  const int64_t n = 300;
  for (const int64_t d : {128, 130}) {
    Sae sae(d, d, 100);
    sae.selection = SAE_SELECT_TOP_ABS, sae.k = 6;
    sae.normalization = SAE_NORMALIZE_LAYER;
    sae.has_skip = true;
    Guarded<float> x(n * d), after(n * d), x_hat(n * d);
    test::make_nasty(sae, test::kRandom, x);
    Codes expected, got;
    test::expect_codes(sae, x.data(), n, *expected.handle);
    const std::vector<float> exact = test::expect_decoded(sae, *expected.handle, x.data(), false);
    sae_model* model = open(sae, nullptr);
    void* stream = nullptr;
    hook<int(void**, unsigned)>("cudaStreamCreateWithFlags")(&stream, 1);
    {
      DeviceFloats device_x(n * d), device_hat(n * d);
      copy(device_x, x.data(), n * d, stream);
      hook<int(void*)>("cudaStreamSynchronize")(stream);
      CHECK(sae_encode(model, device_x, n, got) == SAE_OK, "%s", sae_last_error());
      CHECK(sae_decode(model, got, device_x, 0, device_hat) == SAE_OK, "%s", sae_last_error());
      copy(after.data(), device_x, n * d, stream);
      copy(x_hat.data(), device_hat, n * d, stream);
      hook<int(void*)>("cudaStreamSynchronize")(stream);
      x[280 * d + 9] = INFINITY;
      copy(device_x, x.data(), n * d, stream);
      hook<int(void*)>("cudaStreamSynchronize")(stream);
      for (const sae_status status : {sae_encode(model, device_x, n, expected), sae_decode(model, got, device_x, 0, device_hat)}) {
        CHECK(status == SAE_INVALID_ARGUMENT, "inf went unnoticed");
        CHECK(std::string(sae_last_error()).find("x must be finite, got inf at row 280, column 9") != std::string::npos, "%s",
              sae_last_error());
      }
      x[280 * d + 9] = after[280 * d + 9];
    }
    test::expect_codes(sae, x.data(), n, *expected.handle);
    CHECK(sae_codes_to_host(got) == SAE_OK, "%s", sae_last_error());
    CHECK(same_codes(expected, got).empty(), "d %lld: %s", (long long)d, same_codes(expected, got).c_str());
    CHECK(std::memcmp(exact.data(), x_hat.data(), sizeof(float) * n * d) == 0, "decode differs");
    CHECK(std::memcmp(x.data(), after.data(), sizeof(float) * n * d) == 0, "x was changed");
    sae_close(model);
    hook<int(void*)>("cudaStreamDestroy")(stream);
  }
}

TEST(codes_come_from_the_device_when_they_are_told_to) {
  const int64_t n = 5, d = 30;
  Sae sae(d, d, 70);
  Guarded<float> x(n * d), x_hat(n * d), other_hat(n * d);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  sae_model* model = open(sae, nullptr);
  Codes codes;
  CHECK(sae_encode(model, x.data(), n, codes) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_codes_rows(codes) == n && sae_codes_nnz(codes) > 0, "no sizes");
  CHECK(sae_codes_row_offsets(codes) == nullptr && sae_codes_indices(codes) == nullptr && sae_codes_values(codes) == nullptr,
        "arrays that nobody brought");
  CHECK(std::string(sae_last_error()).find("sae_codes_to_host") != std::string::npos, "%s", sae_last_error());
  CHECK(sae_decode(model, codes, nullptr, 0, x_hat.data()) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_codes_values(codes) == nullptr, "the model's own decode needs no arrays of the host");
  sae_model* cpu = sae.open(1);
  CHECK(sae_decode(cpu, codes, nullptr, 0, other_hat.data()) == SAE_OK, "%s", sae_last_error());
  CHECK(std::memcmp(x_hat.data(), other_hat.data(), sizeof(float) * n * d) == 0, "decode differs");
  CHECK(sae_codes_to_host(codes) == SAE_OK && sae_codes_values(codes) != nullptr, "%s", sae_last_error());
  sae_close(cpu);
  sae_close(model);
}

TEST(threads_share_a_cuda_model) {
  const int64_t n = 40, d = 30;
  Sae sae(d, d, 70);
  Guarded<float> x(n * d);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  sae_model* model = open(sae, nullptr);
  Codes expected;
  CHECK(sae_encode(model, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  CHECK(sae_codes_to_host(expected) == SAE_OK, "%s", sae_last_error());
  std::vector<std::thread> threads;
  std::vector<std::string> differences(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Codes got;
      for (int repeat = 0; repeat < 5 && differences[t].empty(); ++repeat) {
        differences[t] = sae_encode(model, x.data(), n, got) == SAE_OK && sae_codes_to_host(got) == SAE_OK
                             ? same_codes(expected, got)
                             : sae_last_error();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& difference : differences) CHECK(difference.empty(), "%s", difference.c_str());
  sae_close(model);
}

TEST(too_little_device_memory_is_told_in_bytes) {
  ONLY_EMULATED
  Sae sae(512, 512, 3000);
  set_memory(70 << 20);
  sae_model* model = nullptr;
  CHECK(open(sae, nullptr, &model) == SAE_OUT_OF_MEMORY, "it fits");
  const std::string message = sae_last_error();
  CHECK(message.find("the model needs") != std::string::npos && message.find("of 73400320 are free") != std::string::npos, "%s",
        message.c_str());
  set_memory(0);
}

TEST(a_tensor_core_screen_without_its_bound_loses_planted_features) {
  ONLY_EMULATED
  const int64_t d = 777, d_sae = 300, n = 40;
  Sae sae(d, d, d_sae);
  Random random;
  Guarded<float> x(n * d);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  sae_model* cpu = sae.open(2, "canonical");
  Codes all, expected, got;
  CHECK(sae_project_top(cpu, x.data(), n, SAE_READOUT_ENCODER, 0, d_sae, 0, all) == SAE_OK, "%s", sae_last_error());
  sae_close(cpu);
  for (int64_t j = 0; j < d_sae; ++j) {
    const float p = all.handle->values()[j % n * d_sae + j];
    sae.threshold[j] = std::nextafter(p, -INFINITY);
    sae.scale[j] = 1;
    sae.offset[j] = 2 * std::fabs(p) + 1;
  }
  cpu = sae.open(2, "canonical");
  CHECK(sae_encode(cpu, x.data(), n, expected) == SAE_OK, "%s", sae_last_error());
  for (const char* screen : screens()) {
    if (is_canonical(screen)) continue;
    sae_model* cuda = open(sae, screen);
    CHECK(sae_encode(cuda, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
    CHECK(sae_codes_nnz(got) == sae_codes_nnz(expected), "%s lost features with its bound", screen);
    hook<void(double)>("emu_scale_bounds")(0);
    CHECK(sae_encode(cuda, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
    hook<void(double)>("emu_scale_bounds")(1);
    CHECK(sae_codes_nnz(got) < sae_codes_nnz(expected), "%s loses nothing without its bound: the data proves nothing", screen);
    sae_close(cuda);
  }
  sae_close(cpu);
}

// The best features are all in the subset, so that the cut is the k-th best itself; what it leaves out is no edge.
TEST(top_k_without_the_bound_loses_features) {
  ONLY_EMULATED
  const int64_t d = 64, d_sae = 2055, n = 9;
  Sae sae(d, 3, d_sae);
  Guarded<float> x(n * d);
  test::make_nasty(sae, test::kRandom, x);
  for (int64_t j = 0; j < d_sae; ++j) sae.threshold[j] = -INFINITY, sae.offset[j] = 0, sae.scale[j] = j < 1000 ? 1.0f : 1e-3f;
  sae.k = 9;
  for (const sae_selection selection : test::kSelections) {
    if (selection == SAE_SELECT_GATE) continue;
    sae.selection = selection;
    Codes expected, got;
    test::expect_codes(sae, x.data(), n, *expected.handle);
    for (const char* screen : screens()) {
      if (is_canonical(screen)) continue;
      sae_model* cuda = open(sae, screen);
      check_form(sae, cuda, test::kRandom, x, n, screen);
      hook<void(double)>("emu_scale_bounds")(0);
      CHECK(sae_encode(cuda, x.data(), n, got) == SAE_OK, "%s", sae_last_error());
      hook<void(double)>("emu_scale_bounds")(1);
      CHECK(sae_codes_nnz(got) < sae_codes_nnz(expected), "%s loses nothing without its bound: the data proves nothing", screen);
      sae_close(cuda);
    }
  }
}

TEST(cuda_names_what_the_forms_refuse) {
  const int64_t d = 64, n = 300;
  Sae sae(d, d, 90);
  Guarded<float> x(n * d), x_hat(n * d);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  Codes codes;
  const auto refuses = [](sae_status status, const char* message) {
    CHECK(status == SAE_INVALID_ARGUMENT, "status %d for %s", status, message);
    CHECK(std::string(sae_last_error()).find(message) != std::string::npos, "expected \"%s\", got \"%s\"", message,
          sae_last_error());
  };
  sae.has_skip = true;
  sae.k = 7;
  for (const sae_normalization normalization : test::kNormalizations) {
    sae.normalization = normalization;
    sae_model* model = open(sae, nullptr);
    CHECK(sae_encode(model, x.data(), n, codes) == SAE_OK, "%s", sae_last_error());
    x[270 * d + 5] = NAN, x[270 * d + 6] = INFINITY;
    refuses(sae_decode(model, codes, x.data(), 0, x_hat.data()), "x must be finite, got nan at row 270, column 5");
    refuses(sae_encode(model, x.data(), n, codes), "x must be finite, got nan at row 270, column 5");
    CHECK(sae_codes_rows(codes) == 0 && sae_codes_normalized(codes) == 0, "codes of a failed call hold rows");
    x[270 * d + 5] = x[270 * d + 6] = 1;
    sae_close(model);
  }
  // An overflow is one whatever the threshold, and whatever the screen.
  sae.normalization = SAE_NORMALIZE_NONE;
  for (int64_t j = 0; j < sae.d_sae; ++j) sae.threshold[j] = INFINITY;
  for (int64_t i = 0; i < d; ++i) x[3 * d + i] = 3e38f, sae.w_enc[17 * d + i] = i % 2 == 0 ? 1e3f : 1;
  for (const sae_selection selection : test::kSelections) {
    sae.selection = selection;
    for (const char* screen : screens()) {
      sae_model* model = open(sae, screen);
      refuses(sae_encode(model, x.data(), n, codes), "the product of row 3 with feature");
      sae_close(model);
    }
  }
  sae.normalization = SAE_NORMALIZE_LAYER;
  for (int64_t i = 0; i < d; ++i) x[3 * d + i] = i % 2 == 0 ? 3.4e38f : -3.4e38f;
  sae_model* model = open(sae, nullptr);
  refuses(sae_encode(model, x.data(), n, codes), "the standard deviation of row 3 of x overflows float32");
  sae_close(model);
  sae.w_skip[2 * d + 1] = INFINITY;
  model = nullptr;
  refuses(open(sae, nullptr, &model), "w_skip of output 2 must be finite, got inf at 1");
  CHECK(model == nullptr, "a failed open gave a model");
}

TEST(cuda_names_bad_arguments_and_overflow) {
  Sae sae(64, 64, 90);
  const int64_t n = 300;
  Guarded<float> x(n * 64);
  Random random;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = random.normal();
  Codes codes;
  const auto refuses = [](sae_status status, sae_status expected, const char* message) {
    CHECK(status == expected, "status %d for %s", status, message);
    CHECK(std::string(sae_last_error()).find(message) != std::string::npos, "expected \"%s\", got \"%s\"", message,
          sae_last_error());
  };
  for (const char* screen : screens()) {
    sae_model* model = open(sae, screen);
    x[270 * 64 + 5] = NAN;
    refuses(sae_encode(model, x.data(), n, codes), SAE_INVALID_ARGUMENT, "x must be finite, got nan at row 270, column 5");
    CHECK(sae_codes_rows(codes) == 0, "codes of a failed call hold rows");
    x[270 * 64 + 5] = -INFINITY;
    refuses(sae_project_top(model, x.data(), n, SAE_READOUT_DECODER, 0, 3, 0, codes), SAE_INVALID_ARGUMENT,
            "v must be finite, got -inf at row 270, column 5");
    x[270 * 64 + 5] = 1;
    for (int64_t i = 0; i < 64; ++i) x[3 * 64 + i] = 3e38f, sae.w_enc[17 * 64 + i] = 1;
    sae_close(model);
    model = open(sae, screen);
    refuses(sae_encode(model, x.data(), n, codes), SAE_INVALID_ARGUMENT, "the product of row 3 with feature");
    for (int64_t i = 0; i < 64; ++i) x[3 * 64 + i] = 1e35f * random.normal(), sae.w_enc[17 * 64 + i] = random.normal();
    sae_close(model);
    model = open(sae, screen);
    sae_model* cpu = sae.open(1);
    Codes expected;
    CHECK(sae_encode(cpu, x.data(), n, expected) == SAE_OK && sae_encode(model, x.data(), n, codes) == SAE_OK, "%s", sae_last_error());
    CHECK(sae_codes_to_host(codes) == SAE_OK, "%s", sae_last_error());
    CHECK(same_codes(expected, codes).empty(), "large rows: %s", same_codes(expected, codes).c_str());
    sae_close(cpu);
    sae_close(model);
  }
  sae_model* model = nullptr;
  refuses(open(sae, "int7", &model), SAE_INVALID_ARGUMENT, "got \"int7\"");
  sae.w_enc[11] = NAN;
  refuses(open(sae, nullptr, &model), SAE_INVALID_ARGUMENT, "w_enc of feature 0 must be finite, got nan at 11");
  const sae_weights weights = sae.weights();
  refuses(sae_cuda_open(99, &weights, 1, nullptr, nullptr, &model), SAE_UNAVAILABLE, "numbered from 0");
  CHECK(model == nullptr, "a failed open gave a model");
}

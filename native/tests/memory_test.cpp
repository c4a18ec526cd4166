// The memory contract, as resident-size growth: beside weights and results an operation takes at most 32 MiB + 16 MiB a
// thread, for any n. Each operation in a process of its own, because the high-water mark never falls.
#include <sys/resource.h>
#include <sys/wait.h>

#include <thread>

#include "sae4j.h"
#include "test.hpp"

namespace {

double peak_mib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024.0;
}

void in_a_process_of_its_own(void (*body)()) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    body();
    std::fflush(stdout);
    _exit(test::failures() == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0, "the process ended with status %d", status);
}

template <typename Operation>
void check_scratch(const Operation& operation, double least_results, sae_selection selection = SAE_SELECT_GATE, int64_t k = 0,
                   sae_normalization normalization = SAE_NORMALIZE_NONE, const char* screen = "sgemm") {
  const int threads = 2;
  const int64_t d = 64, d_sae = 8192, n = 12000;
  float* weights = sae_alloc(d * d_sae * 2 + d + 3 * d_sae);
  float* x = sae_alloc(n * d);
  test::Random random;
  for (int64_t i = 0; i < d * d_sae * 2; ++i) weights[i] = random.normal();
  for (int64_t i = 0; i < n * d; ++i) x[i] = random.normal();
  float* b_dec = weights + d * d_sae * 2;
  float *threshold = b_dec + d, *scale = threshold + d_sae, *offset = scale + d_sae;
  for (int64_t j = 0; j < d_sae; ++j) scale[j] = 1, threshold[j] = -INFINITY;  // half of all features are active
  sae_model* model = nullptr;
  sae_codes* codes = nullptr;
  const sae_weights sae = {d, d, d_sae, weights, weights + d * d_sae, b_dec, nullptr, threshold, scale, offset,
                           selection, k, normalization};
  CHECK(sae_cpu_open(&sae, threads, screen, nullptr, &model) == SAE_OK, "%s", sae_last_error());
  sae_codes_create(&codes);
  // What OpenBLAS keeps for itself is not ours: let it allocate first.
  CHECK(operation(model, x, 64, codes) == SAE_OK, "%s", sae_last_error());
  const double before = peak_mib();
  CHECK(operation(model, x, n, codes) == SAE_OK, "%s", sae_last_error());
  const double results = (sae_codes_nnz(codes) * 8.0 + n * 8.0) / (1 << 20);
  const double growth = peak_mib() - before - results;
  std::printf("     results %.0f MiB, scratch %.1f MiB\n", results, growth);
  CHECK(results > least_results, "the results are too small to show anything: %.0f MiB", results);
  CHECK(growth < 32 + 16 * threads, "scratch took %.1f MiB", growth);
  sae_codes_destroy(codes);
  sae_close(model);
  sae_free(x);
  sae_free(weights);
}

}  // namespace

TEST(encode_takes_little_scratch_for_any_n_and_density) {
  in_a_process_of_its_own([] { check_scratch(sae_encode, 300); });
  // The screen that serves by default.
  in_a_process_of_its_own([] { check_scratch(sae_encode, 300, SAE_SELECT_GATE, 0, SAE_NORMALIZE_NONE, nullptr); });
}

TEST(top_k_takes_little_scratch_for_any_n_and_k) {
  in_a_process_of_its_own([] { check_scratch(sae_encode, 10, SAE_SELECT_TOP_ABS, 200, SAE_NORMALIZE_LAYER); });
  in_a_process_of_its_own([] { check_scratch(sae_encode, 50, SAE_SELECT_TOP_SIGNED, 1024, SAE_NORMALIZE_CONSTANT); });
  in_a_process_of_its_own([] { check_scratch(sae_encode, 10, SAE_SELECT_TOP, 200, SAE_NORMALIZE_LAYER, nullptr); });
}

TEST(project_takes_little_scratch_for_any_n) {
  in_a_process_of_its_own([] {
    check_scratch(
        [](const sae_model* model, const float* v, int64_t n, sae_codes* codes) {
          return sae_project_top(model, v, n, SAE_READOUT_DECODER, 1, 64, 1, codes);
        },
        10);
  });
}

// Address space for some threads and not for all: both libraries say how many could be had, and serve with as many.
TEST(refused_threads_are_an_error_that_names_how_many_could_be_had) {
  in_a_process_of_its_own([] {
    const int64_t d = 16, d_sae = 32;
    const std::vector<float> ones(d * d_sae, 1);
    const sae_weights sae = {d, d, d_sae, ones.data(), ones.data(), ones.data(), nullptr, ones.data(), ones.data(), ones.data(),
                             SAE_SELECT_GATE, 0, SAE_NORMALIZE_NONE};
    const auto open_cpu = [&](int threads, sae_model** model) { return sae_cpu_open(&sae, threads, "canonical", nullptr, model); };
    const auto open_cuda = [&](int threads, sae_model** model) { return sae_cuda_open(0, &sae, threads, "canonical", nullptr, model); };
    const auto expect_a_number = [](const auto& open) {
      sae_model* model = nullptr;
      CHECK(open(2, &model) == SAE_OK, "%s", sae_last_error());  // what is made once is there before memory becomes scarce
      sae_close(model);
      long pages = 0;
      std::FILE* statm = std::fopen("/proc/self/statm", "r");
      CHECK(statm != nullptr && std::fscanf(statm, "%ld", &pages) == 1, "no size of this process");
      std::fclose(statm);
      rlimit limit = {static_cast<rlim_t>(pages) * sysconf(_SC_PAGESIZE) + (rlim_t{512} << 20), RLIM_INFINITY};
      setrlimit(RLIMIT_AS, &limit);
      for (int repeat = 0; repeat < 2; ++repeat) {
        CHECK(open(1000, &model) == SAE_UNAVAILABLE && model == nullptr, "1000 threads in 512 MiB");
        int had = 0;
        CHECK(std::sscanf(sae_last_error(), "the system allows %d of the 1000 threads", &had) == 1 && had > 1 && had < 1000, "%s",
              sae_last_error());
      }
      limit.rlim_cur = RLIM_INFINITY;
      setrlimit(RLIMIT_AS, &limit);
      CHECK(open(4, &model) == SAE_OK, "afterwards: %s", sae_last_error());
      sae_close(model);
    };
    expect_a_number(open_cpu);
    CHECK(sae_cuda_load(SAE4J_CUDA_EMULATED) == SAE_OK, "%s", sae_last_error());
    expect_a_number(open_cuda);
  });
}

TEST(codes_used_ten_thousand_times_do_not_grow) {
  const int64_t d = 16, d_sae = 128, n = 8;
  std::vector<float> weights(d * d_sae * 2 + d + 3 * d_sae), x(n * d);
  test::Random random;
  for (float& w : weights) w = std::fabs(random.normal());
  for (float& value : x) value = random.normal();
  sae_model* model = nullptr;
  sae_codes* codes = nullptr;
  float* end = weights.data() + d * d_sae * 2;
  const sae_weights sae = {d, d, d_sae, weights.data(), weights.data() + d * d_sae, end, nullptr, end + d, end + d + d_sae,
                           end + d + 2 * d_sae, SAE_SELECT_GATE, 0, SAE_NORMALIZE_NONE};
  CHECK(sae_cpu_open(&sae, 2, nullptr, nullptr, &model) == SAE_OK, "%s", sae_last_error());
  sae_codes_create(&codes);
  for (int i = 0; i < 100; ++i) sae_encode(model, x.data(), n, codes);
  const double before = peak_mib();
  for (int i = 0; i < 10000; ++i) CHECK(sae_encode(model, x.data(), n, codes) == SAE_OK, "%s", sae_last_error());
  CHECK(peak_mib() - before < 1, "grew by %.1f MiB", peak_mib() - before);
  sae_codes_destroy(codes);
  sae_close(model);
}

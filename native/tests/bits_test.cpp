// The pinned bits on the CPU: every kernel, screen and number of threads, in one call and in two.
#include "bits.hpp"

#include "kernels.hpp"

using test::Sae;
using test::Way;

TEST(the_cpus_bits_are_those_that_are_pinned) {
  std::vector<Way> ways;
  for (const char* screen : {"canonical", "sgemm", "int8"}) {
    if (!test::has_screen(screen)) continue;
    for (const sae::Kernels* const* kernels = sae::kAllKernels; *kernels != nullptr; ++kernels) {
      if (!(*kernels)->supported()) continue;
      const char* kernel = (*kernels)->name;
      for (const int threads : {1, 3}) {
        ways.push_back({std::string(screen) + ", " + kernel + ", " + std::to_string(threads) + " threads",
                        [=](Sae& sae) { return sae.open(threads, screen, kernel); }, threads == 3});
      }
    }
  }
  check_all_bits(ways);
}

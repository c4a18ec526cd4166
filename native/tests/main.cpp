// NAME [seed] [tests]: all tests, or those of these names.
#include <algorithm>
#include <chrono>

#include "test.hpp"

int main(int argc, char** argv) {
  char* end = nullptr;
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], &end, 10) : 0;
  const bool has_seed = argc > 1 && end != argv[1] && *end == 0;
  if (has_seed) test::seed() = seed;
  const std::vector<std::string> names(argv + 1 + has_seed, argv + argc);
  std::printf("seed %llu\n", static_cast<unsigned long long>(test::seed()));
  int run = 0, failed = 0;
  for (const auto& [name, body] : test::registry()) {
    if (!names.empty() && std::find(names.begin(), names.end(), name) == names.end()) continue;
    ++run;
    const int before = test::failures();
    const auto begin = std::chrono::steady_clock::now();
    body();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const bool passed = test::failures() == before;
    failed += !passed;
    std::printf("%s %s, %.1f s\n", passed ? "ok  " : "FAIL", name, seconds);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", run - failed, failed);
  return failed == 0 && run >= static_cast<int>(names.size()) ? 0 : 1;
}

#include <chrono>

#include "test.hpp"

int main(int argc, char** argv) {
  if (argc > 1) test::seed() = std::strtoull(argv[1], nullptr, 10);
  std::printf("seed %llu\n", static_cast<unsigned long long>(test::seed()));
  int failed = 0;
  for (const auto& [name, body] : test::registry()) {
    const int before = test::failures();
    const auto begin = std::chrono::steady_clock::now();
    body();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const bool passed = test::failures() == before;
    failed += !passed;
    std::printf("%s %s, %.1f s\n", passed ? "ok  " : "FAIL", name, seconds);
    std::fflush(stdout);
  }
  std::printf("%zu passed, %d failed\n", test::registry().size() - failed, failed);
  return failed == 0 ? 0 : 1;
}

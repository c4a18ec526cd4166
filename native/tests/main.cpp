#include "test.hpp"

int main(int argc, char** argv) {
  if (argc > 1) test::seed() = std::strtoull(argv[1], nullptr, 10);
  std::printf("seed %llu\n", static_cast<unsigned long long>(test::seed()));
  int failed = 0;
  for (const auto& [name, body] : test::registry()) {
    const int before = test::failures();
    body();
    const bool passed = test::failures() == before;
    failed += !passed;
    std::printf("%s %s\n", passed ? "ok  " : "FAIL", name);
    std::fflush(stdout);
  }
  std::printf("%zu passed, %d failed\n", test::registry().size() - failed, failed);
  return failed == 0 ? 0 : 1;
}

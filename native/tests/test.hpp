#pragma once
// A test is TEST(name) { ... CHECK(condition, "what: %d", got); }. A failed check prints where and what, and fails the run.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace test {

inline std::vector<std::pair<const char*, void (*)()>>& registry() {
  static std::vector<std::pair<const char*, void (*)()>> tests;
  return tests;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*body)()) { registry().emplace_back(name, body); }
};

#define TEST(name)                                              \
  static void test_##name();                                    \
  static const test::Registration register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition, ...)                                                  \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::printf("%s:%d: CHECK(%s) failed: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                                \
      std::printf("\n");                                                       \
      if (++test::failures() > 20) std::exit(1);                               \
    }                                                                          \
  } while (0)

// An array between two pages that nobody may touch: it ends exactly at the second (or starts exactly at the first), so that
// reading or writing one element too far is a crash.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t count, bool at_end = true) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    const size_t inner = (bytes + page - 1) / page * page;
    bytes_ = inner + 2 * page;
    base_ = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    char* first = static_cast<char*>(base_) + page;
    if (inner > 0) mprotect(first, inner, PROT_READ | PROT_WRITE);
    data_ = reinterpret_cast<T*>(at_end ? first + inner - bytes : first);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, bytes_); }

  T* data() const { return data_; }
  int64_t size() const { return count_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  int64_t count_;
  size_t bytes_;
  void* base_;
  T* data_;
};

// The seed is printed with the run and can be given back as the first argument.
inline uint64_t& seed() {
  static uint64_t value = 20241217;
  return value;
}

class Random {
 public:
  Random() : engine_(seed()) {}
  float normal() { return normal_(engine_); }
  float uniform() { return uniform_(engine_); }
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<float> normal_;
  std::uniform_real_distribution<float> uniform_;
};

inline uint32_t bits(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

}  // namespace test

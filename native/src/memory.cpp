#include "memory.hpp"

#include <sys/mman.h>

namespace sae {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHeaderBytes = 64;  // keeps the array on a cache line

// Lies just before the array, so that freeing needs nothing but its address.
struct Header {
  void* base;
  size_t bytes;
};

}  // namespace

float* alloc_floats(int64_t count) {
  if (count < 0 || count > INT64_MAX / 8) throw std::bad_alloc();
  const size_t array_bytes = static_cast<size_t>(count) * sizeof(float);
  const bool large = array_bytes >= 2 * kHugePage;
  const size_t bytes = array_bytes + kHeaderBytes + (large ? kHugePage : 0);
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  auto address = reinterpret_cast<uintptr_t>(base);
  if (large) {
    // Gathering decoder rows touches a page per row: with small pages that is a TLB miss each. Only a hint.
    address = (address + kHugePage - 1) & ~(kHugePage - 1);
    madvise(reinterpret_cast<void*>(address), array_bytes + kHeaderBytes, MADV_HUGEPAGE);
  }
  *reinterpret_cast<Header*>(address) = {base, bytes};
  return reinterpret_cast<float*>(address + kHeaderBytes);
}

void free_floats(float* array) {
  if (array == nullptr) return;
  const Header header = *reinterpret_cast<Header*>(reinterpret_cast<uintptr_t>(array) - kHeaderBytes);
  munmap(header.base, header.bytes);
}

}  // namespace sae

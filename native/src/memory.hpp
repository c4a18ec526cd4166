#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>

namespace sae {

// count zeroed floats, aligned to 64 bytes, in large pages where the system has them. Throws std::bad_alloc.
float* alloc_floats(int64_t count);
void free_floats(float* array);

// An uninitialised array that only grows. Growing by realloc lets the C library move the pages of a large block instead of
// copying them, and pages never touched cost no memory: so the resident size follows what is used, not the capacity.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

  // At least count elements; what was there is kept.
  void reserve(int64_t count) {
    if (count <= capacity_) return;
    int64_t wanted = capacity_ + capacity_ / 2;
    if (wanted < count) wanted = count;
    if (wanted < kSmallest) wanted = kSmallest;
    if (wanted > INT64_MAX / static_cast<int64_t>(sizeof(T))) throw std::bad_alloc();
    void* grown = std::realloc(data_, static_cast<size_t>(wanted) * sizeof(T));
    if (grown == nullptr) throw std::bad_alloc();
    data_ = static_cast<T*>(grown);
    capacity_ = wanted;
  }

 private:
  static constexpr int64_t kSmallest = 64;
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace sae

#pragma once
// What one call needs beside weights and results: streams, pinned staging, and scratch on the device. It only grows.
#include <algorithm>
#include <cstring>

#include "cublas.hpp"
#include "engine.hpp"

namespace sae::cuda {

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
  void wait() const { check(cudaEventSynchronize(event_), "waiting for an event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

// Pinned host memory.
template <typename T>
class Pinned {
 public:
  Pinned() = default;
  ~Pinned() { cudaFreeHost(data_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  T* data() const { return data_; }
  T* operator->() const { return data_; }
  void reserve(int64_t count) {
    if (count <= capacity_) return;
    cudaFreeHost(data_);
    data_ = nullptr;
    capacity_ = 0;
    void* memory = nullptr;
    check(cudaMallocHost(&memory, static_cast<size_t>(count) * sizeof(T)), "pinned host memory");
    data_ = static_cast<T*>(memory);
    capacity_ = count;
  }

 private:
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

// Where memory lies, as far as a copy cares.
enum class Place { kPageable, kPinned, kDevice };

inline Place place_of(const void* pointer) {
  cudaPointerAttributes attributes = {};
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return Place::kPageable;
  }
  if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) return Place::kDevice;
  return attributes.type == cudaMemoryTypeHost ? Place::kPinned : Place::kPageable;
}

// A ring of pinned buffers between pageable host memory and the device: while one is copied by the device, the host fills or
// empties others. Memory that is pinned, or the device's, needs none of it.
class Staging {
 public:
  explicit Staging(ThreadPool& pool) : pool_(pool) {}

  // [rows, width] floats, tight, into rows of `pitch` on the device.
  void upload(float* to, int64_t pitch, const float* from, int64_t width, int64_t rows, Place place, cudaStream_t stream) {
    const size_t bytes = static_cast<size_t>(width) * sizeof(float);
    if (place != Place::kPageable) {
      check(cudaMemcpy2DAsync(to, pitch * sizeof(float), from, bytes, bytes, rows, cudaMemcpyDefault, stream), "copying to the device");
      return;
    }
    const int64_t piece = std::max<int64_t>(1, kFloats / width);
    for (int64_t row = 0; row < rows; row += piece) {
      const int64_t count = std::min(piece, rows - row);
      Slot& slot = acquire(std::max<int64_t>(kFloats, width));
      copy(slot.memory.data(), from + row * width, count * width);
      check(cudaMemcpy2DAsync(to + row * pitch, pitch * sizeof(float), slot.memory.data(), bytes, bytes, count,
                              cudaMemcpyHostToDevice, stream),
            "copying to the device");
      slot.done.record(stream);
    }
  }

  // count floats from the device. What goes to pageable memory is there after finish().
  void download(float* to, const float* from, int64_t count, Place place, cudaStream_t stream) {
    if (place != Place::kPageable) {
      check(cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(float), cudaMemcpyDefault, stream),
            "copying from the device");
      return;
    }
    for (int64_t at = 0; at < count; at += kFloats) {
      Slot& slot = acquire(kFloats);
      slot.count = std::min(kFloats, count - at);
      check(cudaMemcpyAsync(slot.memory.data(), from + at, static_cast<size_t>(slot.count) * sizeof(float), cudaMemcpyDeviceToHost,
                            stream),
            "copying from the device");
      slot.done.record(stream);
      slot.to = to + at;
    }
  }

  void finish() {
    for (int i = 0; i < kSlots; ++i) empty(slots_[(next_ + i) % kSlots]);
  }

  // After a failure: what was on its way goes nowhere.
  void forget() {
    for (Slot& slot : slots_) slot.to = nullptr;
  }

 private:
  static constexpr int kSlots = 4;
  static constexpr int64_t kFloats = 1 << 20;

  struct Slot {
    Pinned<float> memory;
    Event done;
    float* to = nullptr;  // where the host shall copy it when it has come from the device
    int64_t count = 0;
  };

  Slot& acquire(int64_t floats) {
    Slot& slot = slots_[next_++ % kSlots];
    empty(slot);
    slot.memory.reserve(floats);
    return slot;
  }

  void empty(Slot& slot) {
    slot.done.wait();
    if (slot.to != nullptr) copy(slot.to, slot.memory.data(), slot.count);
    slot.to = nullptr;
  }

  // One core does not copy as fast as the bus.
  void copy(float* to, const float* from, int64_t count) {
    constexpr int64_t kPart = 1 << 16;
    pool_.run(divide_up(count, kPart), [&](int64_t part) {
      const int64_t begin = part * kPart;
      std::memcpy(to + begin, from + begin, static_cast<size_t>(std::min(kPart, count - begin)) * sizeof(float));
    });
  }

  ThreadPool& pool_;
  Slot slots_[kSlots];
  unsigned next_ = 0;
};

// What the device tells the host in the middle and at the end of a call.
struct Status {
  Failures failures;
  unsigned long long largest_norm;  // of a dictionary's features, as the bits of a double
  uint32_t total;                   // candidates of a chunk
};

struct Workspace {
  explicit Workspace(int device, ThreadPool& pool) : staging(pool), stage(device) {
    host.reserve(1);
    host_nnz.reserve(1);
    status.reserve(1, "scratch");
  }
  ~Workspace() {
    if (blas_handle != nullptr) load_cublas(nullptr)->destroy(blas_handle);
  }

  Stream stream, copies;
  Event copied[2], used[2], callers_work;
  Staging staging;
  Pinned<Status> host;
  Pinned<int64_t> host_nnz;
  DeviceArray<Status> status;
  DeviceArray<float> x[2];             // [rows of a chunk, pitch]
  DeviceArray<float> normalized;       // [rows of a chunk, pitch]
  DeviceArray<uint16_t> quantised;     // [rows of a chunk, pitch]
  DeviceArray<TensorRowBound> bounds;  // [rows of a chunk]
  DeviceArray<uint32_t> mask, counts, sums, offsets, tally, row_counts;
  DeviceArray<uint32_t> candidate_rows, candidate_features;
  DeviceArray<float> candidate_values;
  DeviceArray<float> scores, out;      // cuBLAS's tile; decoded or dense rows on their way to the host
  DeviceArray<float> positive_cut, negative_cut;
  Codes stage;                         // project and TopK: what is selected from
  void* blas_handle = nullptr;
};

}  // namespace sae::cuda

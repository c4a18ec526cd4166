// The emulated runtime, see cuda_runtime.h.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda.h"
#include "cuda_runtime.h"
#include "ptx_emulation.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulation switches fibers on x86-64 only"
#endif

// ---- fibers

// Saves the registers that a call must keep on the running stack, and goes on where the other stack left off.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emu_switch, .-emu_switch
.hidden emu_switch
)");

namespace emu {

const Place* place;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kMostGiven = 128;
constexpr size_t kSharedBytes = 227 << 10;
constexpr int kMultiprocessors = 2;  // so few that persistent blocks get several tiles in small tests

std::atomic<uint64_t> order{0};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

enum class State { kReady, kInWarp, kAtBarrier, kWaiting, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;
  State state = State::kReady;
  int met = 0;  // kInWarp: the warp's generation that it waits to see over
  Place place;
  std::function<bool()> ready;
  std::deque<std::vector<Copy>> groups;  // of asynchronous copies; the last is open
  std::deque<std::vector<std::function<void()>>> products;  // groups of a warpgroup's asynchronous ones; the last is open
  bool may_multiply = false;             // fenced since it last waited for products
};

struct Barrier {
  int arrivals = 0, missing = 0;  // threads a phase needs, and still needs
  int64_t bytes = 0;              // announced and not come
  uint64_t phase = 0;
  bool is_published = false;      // to the copy engine
  std::vector<std::function<void()>> copies;  // under way
};

struct Warp {
  unsigned arrived = 0;
  unsigned mask = 0;
  int generation = 0;
  alignas(16) char given[2][32][kMostGiven];
  const void* pointers[2][32];
};

// Runs one block at a time: the device has one lock, so that its host threads take turns, and shared memory is static.
class Scheduler {
 public:
  void run(const Place& block, size_t shared_bytes, const std::function<void()>& kernel) {
    const int threads = static_cast<int>(block.block_size.x * block.block_size.y * block.block_size.z);
    prepare(threads);
    kernel_ = &kernel;
    remaining_ = threads;
    at_barrier_ = 0;
    std::memset(shared_, 0xA5, shared_bytes);
    for (Warp& warp : warps_) warp.arrived = 0, warp.mask = 0;
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = fibers_[t];
      fiber.place = block;
      fiber.place.thread = dim3(t % block.block_size.x, t / block.block_size.x % block.block_size.y,
                                t / (block.block_size.x * block.block_size.y));
      fiber.state = State::kReady;
      fiber.groups.assign(1, {});
      fiber.products.assign(1, {});
      fiber.may_multiply = false;
      start(fiber);
    }
    main_bottom_ = nullptr;
    shuffle(threads);
    position_ = -1;
    current_ = -1;
    switch_to_next(&main_);
    for (const auto& [address, barrier] : barriers_) {
      if (!barrier.copies.empty()) die("a block ended while a copy was under way to it");
    }
    barriers_.clear();
  }

  Fiber& fiber() { return fibers_[current_]; }
  int lane() const { return current_ & 31; }
  char* shared() { return shared_; }

  void barrier() {
    if (++at_barrier_ == remaining_) {
      release_barrier();
    } else {
      fiber().state = State::kAtBarrier;
      yield();
    }
  }

  void wait(const std::function<bool()>& ready) {
    while (!ready()) {
      fiber().state = State::kWaiting;
      fiber().ready = ready;
      yield();
    }
  }

  const void* const* exchange(unsigned mask, const void* given, size_t bytes) {
    Warp& warp = warps_[current_ / 32];
    const int lane = current_ & 31;
    if (!(mask >> lane & 1) || bytes > kMostGiven) die("a warp function's mask lacks its caller");
    if (warp.arrived != 0 && warp.mask != mask) die("lanes of a warp meet in different functions");
    const int generation = warp.generation & 1;
    warp.mask = mask;
    warp.arrived |= 1u << lane;
    if (bytes == 4) {  // nearly always
      std::memcpy(warp.given[generation][lane], given, 4);
    } else if (bytes > 0) {
      std::memcpy(warp.given[generation][lane], given, bytes);
    }
    warp.pointers[generation][lane] = warp.given[generation][lane];
    if (warp.arrived == mask) {
      warp.arrived = 0;
      ++warp.generation;
    } else {
      fiber().state = State::kInWarp;
      fiber().met = warp.generation;
      yield();
    }
    return warp.pointers[generation];
  }

  // ---- barriers in shared memory

  void init_barrier(void* address, int arrivals) {
    const auto [at, is_new] = barriers_.try_emplace(address);
    if (!is_new) die("a barrier is initialised twice");
    at->second.arrivals = at->second.missing = arrivals;
  }
  void publish_barriers() {
    for (auto& [address, barrier] : barriers_) barrier.is_published = true;
  }
  void arrive(void* address, int64_t bytes) {
    Barrier& at = barrier_at(address);
    if (at.missing == 0) die("more threads arrive at a barrier than it counts");
    at.bytes += bytes;
    --at.missing;
    end_phase(at);
  }
  void wait_barrier(void* address, uint32_t parity) {
    Barrier& at = barrier_at(address);
    wait([this, &at, parity] {
      if ((at.phase & 1) == parity) complete_copies(at);  // as late as allowed: somebody waits
      return (at.phase & 1) != parity;
    });
  }
  void copy_to_barrier(void* address, int64_t bytes, std::function<void()> copy) {
    Barrier& at = barrier_at(address);
    if (!at.is_published) die("the copy engine does not see this barrier yet");
    at.copies.push_back([&at, bytes, copy = std::move(copy)] {
      copy();
      at.bytes -= bytes;
    });
    if (order == 1 || coin()) complete_copies(at);
  }

  // ---- products of a warpgroup

  void begin_products() { fiber().may_multiply = true; }
  void multiply_async(std::function<void()> product) {
    if (!fiber().may_multiply) die("a product's registers were not fenced");
    fiber().products.back().push_back(std::move(product));
    if (coin()) complete_products(0);
  }
  void commit_products() { fiber().products.emplace_back(); }
  void wait_products(int pending) {
    complete_products(pending + 1);
    fiber().may_multiply = false;
  }

  [[noreturn]] static void die(const char* what) {
    std::fprintf(stderr, "emulated CUDA: %s (block %u, thread %u)\n", what, place->block.x, place->thread.x);
    std::abort();
  }

  void finish() {
    if (fiber().products.size() > 1 || !fiber().products.back().empty()) die("a thread ended before its products did");
    fiber().state = State::kDone;
    --remaining_;
    // Threads that have ended count as arrived, as on the device.
    if (remaining_ > 0 && at_barrier_ == remaining_) release_barrier();
    switch_from_done();
  }

  void call_kernel() { (*kernel_)(); }

 private:
  Barrier& barrier_at(void* address) {
    const auto found = barriers_.find(address);
    if (found == barriers_.end()) die("a barrier is used before it is initialised");
    return found->second;
  }
  static void end_phase(Barrier& barrier) {
    if (barrier.missing > 0 || barrier.bytes != 0) return;
    barrier.missing = barrier.arrivals;
    ++barrier.phase;
  }
  static void complete_copies(Barrier& barrier) {
    if (barrier.copies.empty()) return;
    for (const std::function<void()>& copy : barrier.copies) copy();
    barrier.copies.clear();
    end_phase(barrier);
  }

  // All but those of the last `but` groups, in their order.
  void complete_products(size_t but) {
    auto& products = fiber().products;
    for (size_t group = 0; group + but < products.size(); ++group) {
      for (const std::function<void()>& product : products[group]) product();
      products[group].clear();
    }
    while (products.size() > but && products.size() > 1) products.pop_front();
  }

  // When asynchronous work is done, of all the times when it may be: in order 0 as late as possible; in order 1 too, but for copies
  // to barriers, at once, so that one into a stage that is still read is seen; else by chance.
  bool coin() {
    const uint64_t value = order.load();
    if (value < 2) return false;
    coin_ = coin_ * 6364136223846793005u + value;
    return (coin_ >> 40 & 1) != 0;
  }

  void prepare(int threads) {
    if (shared_ == nullptr) shared_ = static_cast<char*>(std::aligned_alloc(1024, kSharedBytes));
    while (static_cast<int>(fibers_.size()) < threads) {
      Fiber fiber;
      void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED) die("no memory for a thread's stack");
      fiber.stack = static_cast<char*>(stack);
      fibers_.push_back(std::move(fiber));
    }
    if (warps_.size() * 32 < fibers_.size()) warps_.resize((fibers_.size() + 31) / 32);
  }

  static void entry();

  static void start(Fiber& fiber) {
    void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes - 64);
    *--top = nullptr;                                // keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(&entry);        // where emu_switch returns to
    for (int i = 0; i < 6; ++i) *--top = nullptr;    // the registers it pops
    fiber.stack_pointer = top;
    fiber.fake_stack = nullptr;
  }

  void shuffle(int threads) {
    sequence_.resize(threads);
    for (int t = 0; t < threads; ++t) sequence_[t] = t;
    uint64_t state = order.load();
    if (state == 1) {
      for (int t = 0; t < threads; ++t) sequence_[t] = threads - 1 - t;
    } else if (state > 1) {
      for (int t = threads - 1; t > 0; --t) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        std::swap(sequence_[t], sequence_[(state >> 33) % (t + 1)]);
      }
    }
  }

  void release_barrier() {
    at_barrier_ = 0;
    for (Fiber& fiber : fibers_) {
      if (fiber.state == State::kAtBarrier) fiber.state = State::kReady;
    }
  }

  // The next thread of the sequence that can go on; -1 if all have ended.
  int next() {
    if (remaining_ == 0) return -1;
    const int threads = static_cast<int>(sequence_.size());
    int at = position_;
    for (int i = 1; i <= threads; ++i) {
      if (++at == threads) at = 0;
      Fiber& fiber = fibers_[sequence_[at]];
      if (fiber.state == State::kWaiting) {
        place = &fiber.place;
        if (fiber.ready()) fiber.state = State::kReady;
      }
      if (fiber.state == State::kInWarp && warps_[sequence_[at] / 32].generation != fiber.met) fiber.state = State::kReady;
      if (fiber.state == State::kReady) {
        position_ = at;
        return sequence_[at];
      }
    }
    place = &fibers_[current_ < 0 ? 0 : current_].place;
    die("deadlock: every thread that is left waits at a barrier, in a warp function or for an event");
  }

  void yield() {
    Fiber& from = fiber();
    const int to = next();
    if (to == current_) return void(place = &from.place);
    switch_stacks(&from.stack_pointer, &from.fake_stack, to);
  }

  void switch_to_next(void** save) {
    const int to = next();
    switch_stacks(save, &main_fake_, to);
  }

  void switch_from_done() {
    Fiber& from = fiber();
    switch_stacks(&from.stack_pointer, nullptr, next());
  }

  // To a fiber, or back to the caller of run for -1. fake: null if the running fiber ends.
  void switch_stacks(void** save, void** fake, int to) {
    void* target = to < 0 ? main_ : fibers_[to].stack_pointer;
    if (to >= 0) place = &fibers_[to].place;
    const int from = current_;
    current_ = to;
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom = to < 0 ? main_bottom_ : fibers_[to].stack;
    const size_t size = to < 0 ? main_size_ : kStackBytes;
    __sanitizer_start_switch_fiber(fake, bottom, size);
#endif
    emu_switch(save, target);
#if defined(__SANITIZE_ADDRESS__)
    // Somebody switched back to the one that left above.
    __sanitizer_finish_switch_fiber(from < 0 ? main_fake_ : fibers_[from].fake_stack, nullptr, nullptr);
#else
    (void)fake, (void)from;
#endif
  }

 public:
  void entered() {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (main_bottom_ == nullptr) main_bottom_ = bottom, main_size_ = size;  // the first fiber is entered from run's caller
#endif
  }

 private:
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<int> sequence_;
  std::map<void*, Barrier> barriers_;  // in shared memory, by their addresses
  uint64_t coin_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  char* shared_ = nullptr;
  int current_ = -1, position_ = -1, remaining_ = 0, at_barrier_ = 0;
  void* main_ = nullptr;
  void* main_fake_ = nullptr;
  const void* main_bottom_ = nullptr;
  size_t main_size_ = 0;
};

Scheduler& scheduler = *new Scheduler;

void Scheduler::entry() {
  scheduler.entered();
  scheduler.call_kernel();
  scheduler.finish();
}

}  // namespace

void* shared_memory() { return scheduler.shared(); }
void barrier() { scheduler.barrier(); }
void named_wait(const std::function<bool()>& ready) { scheduler.wait(ready); }
const void* const* exchange(unsigned mask, const void* given, size_t bytes) { return scheduler.exchange(mask, given, bytes); }
int lane() { return scheduler.lane(); }

void copy_async(void* to, const void* from, size_t bytes) { scheduler.fiber().groups.back().push_back({to, from, bytes}); }
void commit_copies() { scheduler.fiber().groups.emplace_back(); }
void wait_copies(int pending) {
  std::deque<std::vector<Copy>>& groups = scheduler.fiber().groups;
  while (static_cast<int>(groups.size()) - 1 > pending) {
    for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.pop_front();
  }
}

void init_barrier(void* barrier, int arrivals) { scheduler.init_barrier(barrier, arrivals); }
void publish_barriers() { scheduler.publish_barriers(); }
void arrive(void* barrier, int64_t bytes) { scheduler.arrive(barrier, bytes); }
void wait_barrier(void* barrier, uint32_t parity) { scheduler.wait_barrier(barrier, parity); }
void begin_products() { scheduler.begin_products(); }
void multiply_async(std::function<void()> product) { scheduler.multiply_async(std::move(product)); }
void commit_products() { scheduler.commit_products(); }
void wait_products(int pending) { scheduler.wait_products(pending); }
void die(const char* what) { Scheduler::die(what); }

// A line of the box is a line of shared memory; of its address the swizzle permutes bits 4 and up by bits 7 and up.
void copy_tile(char* tile, const CUtensorMap& map, int column, int row, void* barrier) {
  if ((tile - scheduler.shared()) % 128 != 0) die("a tile is not aligned to 128 bytes");
  const int64_t line = map.box_columns * 2;
  scheduler.copy_to_barrier(barrier, line * map.box_rows, [=] {
    for (int64_t r = 0; r < map.box_rows; ++r) {
      for (int64_t c = 0; c < map.box_columns; ++c) {
        const bool is_inside = row >= 0 && row + r < static_cast<int64_t>(map.count) && column >= 0 &&
                               column + c < static_cast<int64_t>(map.columns);
        const uint32_t to = static_cast<uint32_t>(tile - scheduler.shared() + r * line + c * 2);
        uint16_t value = 0;
        if (is_inside) std::memcpy(&value, map.rows + (row + r) * map.pitch_bytes + (column + c) * 2, 2);
        std::memcpy(scheduler.shared() + swizzled(to, map.swizzle), &value, 2);
      }
    }
  });
}

// ---- streams: work waits until somebody needs it

struct Event {
  Stream* stream = nullptr;
  uint64_t ticket = 0;
};

struct Stream {
  std::deque<std::function<void()>> work;
  uint64_t queued = 0, done = 0;
  bool running = false;
};

namespace {

std::recursive_mutex& device = *new std::recursive_mutex;  // one device, whose calls are serialised

int64_t fail_at = 0, call_count = 0;
cudaError_t failure = cudaSuccess, last_error = cudaSuccess;
bool lost = false;
int64_t memory = 0, used = 0, live = 0;
int most_shared_bytes = 227 << 10;
struct Allocation {
  size_t bytes;
  bool is_device;
};
std::map<const char*, Allocation>& allocations = *new std::map<const char*, Allocation>;
std::vector<Stream*>& streams = *new std::vector<Stream*>;

void drain(Stream* stream, uint64_t ticket) {
  while (stream->done < ticket && !stream->work.empty() && !stream->running) {
    std::function<void()> work = std::move(stream->work.front());
    stream->work.pop_front();
    stream->running = true;
    work();
    stream->running = false;
    ++stream->done;
  }
}

void drain_all() {
  for (Stream* stream : streams) drain(stream, stream->queued);
}

// A lost device does nothing any more.
void lose() {
  lost = true;
  for (Stream* stream : streams) {
    stream->work.clear();
    stream->done = stream->queued;
  }
}

// Every call that can fail passes here first.
cudaError_t enter() {
  if (lost) return last_error = cudaErrorLaunchFailure;
  if (++call_count == fail_at) {
    if (failure == cudaErrorLaunchFailure) lose();
    return last_error = failure;
  }
  return cudaSuccess;
}

template <typename Work>
cudaError_t enqueue(Stream* stream, Work&& work) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  stream->work.emplace_back(std::forward<Work>(work));
  ++stream->queued;
  return cudaSuccess;
}

cudaError_t allocate(void** pointer, size_t bytes, bool is_device) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  const int64_t limit = memory > 0 ? memory : INT64_MAX;
  if (is_device && used + static_cast<int64_t>(bytes) > limit) return last_error = cudaErrorMemoryAllocation;
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*pointer == nullptr) return last_error = cudaErrorMemoryAllocation;
  std::memset(*pointer, 0xA5, bytes);  // nobody may count on zeros
  allocations[static_cast<char*>(*pointer)] = {bytes, is_device};
  if (is_device) used += static_cast<int64_t>(bytes);
  ++live;
  return cudaSuccess;
}

cudaError_t release(void* pointer) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (pointer == nullptr) return cudaSuccess;
  drain_all();
  const auto found = allocations.find(static_cast<char*>(pointer));
  if (found == allocations.end()) return last_error = cudaErrorInvalidValue;
  if (found->second.is_device) used -= static_cast<int64_t>(found->second.bytes);
  allocations.erase(found);
  std::free(pointer);
  --live;
  return cudaSuccess;
}

}  // namespace

void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> kernel) {
  if (shared_bytes > static_cast<size_t>(most_shared_bytes) || block.x * block.y * block.z > 1024) {
    last_error = cudaErrorInvalidValue;
    return;
  }
  enqueue(stream, [=, kernel = std::move(kernel)] {
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    for (uint64_t b = 0; b < blocks; ++b) {
      const dim3 at(static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                    static_cast<unsigned>(b / grid.x / grid.y));
      scheduler.run({dim3(0), at, block, grid}, shared_bytes, kernel);
    }
  });
}

}  // namespace emu

using namespace emu;  // NOLINT: the runtime's names below are CUDA's

void emu_fail_call(int64_t call, int error) {
  std::lock_guard<std::recursive_mutex> lock(device);
  fail_at = call;
  failure = static_cast<cudaError_t>(error);
  call_count = 0;
  lost = false;
  last_error = cudaSuccess;
}
int64_t emu_calls() { return call_count; }
int64_t emu_live_allocations() { return live; }
void emu_set_order(uint64_t value) { order = value; }
void emu_set_shared_memory(int bytes) { most_shared_bytes = bytes; }
void emu_set_memory(int64_t bytes) { memory = bytes; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) { return index == 0 ? cudaSuccess : last_error = cudaErrorInvalidDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated on the host");
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  size_t free;
  return cudaMemGetInfo(&free, &properties->totalGlobalMem);
}
cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? kMultiprocessors : most_shared_bytes;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  const bool is_known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *function = is_known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = is_known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint64_t longest_line = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 512 : uint64_t{16} << swizzle;
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || rank != 2 || element_strides[0] != 1 || element_strides[1] != 1 ||
      reinterpret_cast<uintptr_t>(address) % 16 != 0 || strides[0] % 16 != 0 || strides[0] >= uint64_t{1} << 40 ||
      box[0] == 0 || box[0] > 256 || box[1] == 0 || box[1] > 256 || box[0] * 2 % 16 != 0 || box[0] * 2 > longest_line ||
      sizes[0] == 0 || sizes[0] > uint64_t{1} << 32 || sizes[1] == 0 || sizes[1] > uint64_t{1} << 32) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *map = {static_cast<const char*>(address), sizes[0], sizes[1], strides[0], box[0], box[1], swizzle};
  return CUDA_SUCCESS;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const int64_t all = memory > 0 ? memory : sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  *total = static_cast<size_t>(all);
  *free = static_cast<size_t>(std::max<int64_t>(0, all - used));
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, size_t bytes) { return allocate(pointer, bytes, true); }
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return allocate(pointer, bytes, false); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] {
    for (size_t row = 0; row < height; ++row) {
      std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    }
  });
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] { std::memset(pointer, value, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  *stream = new Stream;
  streams.push_back(*stream);
  ++live;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> lock(device);
  drain(stream, stream->queued);
  for (size_t i = 0; i < streams.size(); ++i) {
    if (streams[i] == stream) streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i));
  }
  delete stream;
  --live;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  drain(stream, stream->queued);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Stream* other = event->stream;
  const uint64_t ticket = event->ticket;
  if (other == nullptr) return cudaSuccess;
  return enqueue(stream, [=] { drain(other, ticket); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  *event = new Event;
  ++live;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard<std::recursive_mutex> lock(device);
  delete event;
  --live;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  event->stream = stream;
  event->ticket = stream->queued;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::lock_guard<std::recursive_mutex> lock(device);
  if (const cudaError_t error = enter()) return error;
  if (event->stream != nullptr) drain(event->stream, event->ticket);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  if (!lost) last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
  }
  return "unrecognized error code";
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  std::lock_guard<std::recursive_mutex> lock(device);
  *attributes = {cudaMemoryTypeUnregistered, 0};
  const char* at = static_cast<const char*>(pointer);
  auto found = allocations.upper_bound(at);
  if (found == allocations.begin()) return cudaSuccess;
  --found;
  if (at < found->first + found->second.bytes) {
    attributes->type = found->second.is_device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  }
  return cudaSuccess;
}

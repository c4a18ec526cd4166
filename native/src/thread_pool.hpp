#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sae {

// The engine's own threads. Callers may run jobs at the same time: each works on its own job, idle workers help any.
class ThreadPool {
 public:
  // threads counts the caller, so threads - 1 workers are started. Throws Error, with how many could be had, if the system refuses one.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // task(i) once for each i in [0, count), in no order; returns when all are done. If some throw, the exception of the lowest
  // i is rethrown.
  template <typename Task>
  void run(int64_t count, const Task& task) {
    if (count <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    Job job(count, &task, [](const void* t, int64_t i) { (*static_cast<const Task*>(t))(i); });
    run_job(job);
  }

 private:
  struct Job {
    Job(int64_t count, const void* task, void (*call)(const void*, int64_t)) : count(count), task(task), call(call) {}
    const int64_t count;
    const void* const task;
    void (*const call)(const void*, int64_t);
    std::atomic<int64_t> next{0};
    int helpers = 0;                // guarded by the pool's mutex
    std::exception_ptr failure;     // guarded by the pool's mutex
    int64_t failed_at = INT64_MAX;  // guarded by the pool's mutex
  };

  void stop();
  void run_job(Job& job);
  void work_on(Job& job);
  void worker();

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::vector<Job*> jobs_;  // jobs that may still have tasks to hand out
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace sae

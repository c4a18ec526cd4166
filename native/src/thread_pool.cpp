#include "thread_pool.hpp"

#include <algorithm>
#include <system_error>

#include "error.hpp"
#include "float_environment.hpp"

namespace sae {

ThreadPool::ThreadPool(int threads) {
  workers_.reserve(threads - 1);
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { worker(); });
  } catch (const std::system_error& refused) {
    const int had = this->threads();
    stop();
    fail(SAE_UNAVAILABLE, "the system allows %d of the %d threads asked for (%s): ask for no more than that", had, threads,
         refused.code().message().c_str());
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run_job(Job& job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
  }
  work_.notify_all();
  work_on(job);
  std::unique_lock<std::mutex> lock(mutex_);
  jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  done_.wait(lock, [&job] { return job.helpers == 0; });
  if (job.failure) std::rethrow_exception(job.failure);
}

void ThreadPool::work_on(Job& job) {
  for (;;) {
    const int64_t i = job.next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job.count) return;
    try {
      job.call(job.task, i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (i < job.failed_at) {
        job.failed_at = i;
        job.failure = std::current_exception();
      }
    }
  }
}

void ThreadPool::worker() {
  const DefaultFloatEnvironment environment;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    Job* job = nullptr;
    work_.wait(lock, [&] {
      for (Job* candidate : jobs_) {
        if (candidate->next.load(std::memory_order_relaxed) < candidate->count) job = candidate;
      }
      return stopping_ || job != nullptr;
    });
    if (stopping_) return;
    ++job->helpers;
    lock.unlock();
    work_on(*job);
    lock.lock();
    if (--job->helpers == 0) done_.notify_all();
  }
}

}  // namespace sae

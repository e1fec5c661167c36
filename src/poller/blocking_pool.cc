#include "poller/blocking_pool.h"

#include <algorithm>

#include "base/affinity.h"

namespace leap {

BlockingPool::BlockingPool(Config config) {
  const std::size_t threads = std::max<std::size_t>(config.threads, 1);
  core_->current.resize(threads);
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([core = core_, i, name = config.name] {
      set_thread_name(name);
      core->work(i);
    });
  }
}

BlockingPool::~BlockingPool() { stop(); }

void BlockingPool::stop() {
  {
    const std::lock_guard lock(core_->mutex);
    core_->stopping = true;
  }
  core_->ready.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

bool BlockingPool::Core::submit(Job& job) {
  {
    const std::lock_guard lock(mutex);
    if (!stopping) {
      job.pending = true;
      job.next = nullptr;
      if (tail != nullptr)
        tail->next = &job;
      else
        head = &job;
      tail = &job;
      ready.notify_one();
      return true;
    }
  }
  job.execute(job);
  return false;
}

void BlockingPool::Core::work(std::size_t thread) {
  std::unique_lock lock(mutex);
  for (;;) {
    ready.wait(lock, [this] { return head != nullptr || stopping; });
    if (head == nullptr) return;
    Job* job = std::exchange(head, head->next);
    if (head == nullptr) tail = nullptr;
    current[thread] = job;
    lock.unlock();

    job->execute(*job);
    // The task may go on, and the job be gone, before post() has returned.
    NvmePoller& poller = *job->poller;
    poller.post(&BlockingPool::finish, job);

    lock.lock();
    current[thread] = nullptr;
    released.notify_all();
  }
}

void BlockingPool::Core::abandon(const Job& job) {
  // A poller that stops runs no calls any more when it destroys its tasks: finish() will not come after this.
  LEAP_CHECK(job.poller->stopping(), "a task was destroyed while its blocking work goes on");
  std::unique_lock lock(mutex);
  Job* before = nullptr;
  for (Job* queued = head; queued != nullptr; before = std::exchange(queued, queued->next)) {
    if (queued != &job) continue;
    (before == nullptr ? head : before->next) = job.next;
    if (tail == &job) tail = before;
    return;
  }
  released.wait(lock, [&] { return std::find(current.begin(), current.end(), &job) == current.end(); });
}

void BlockingPool::finish(void* job) {
  auto& done = *static_cast<Job*>(job);
  done.pending = false;
  done.poller->schedule(done.resumer);
}

}  // namespace leap

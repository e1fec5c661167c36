#include "store/commit_queue.h"

#include <utility>

#include "base/affinity.h"
#include "base/log.h"

namespace leap {

CommitQueue::CommitQueue(BdevMetaStore& meta) : meta_(meta) {
  thread_ = std::thread([this] {
    set_thread_name("meta-commit");
    work();
  });
}

CommitQueue::~CommitQueue() { stop(); }

void CommitQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void CommitQueue::submit(Job& job) {
  {
    const std::lock_guard lock(mutex_);
    LEAP_CHECK(!stopping_, "metadata committed after stop()");
    job.next = nullptr;
    if (tail_ != nullptr)
      tail_->next = &job;
    else
      head_ = &job;
    tail_ = &job;
  }
  ready_.notify_one();
}

void CommitQueue::post(MetaBatch batch) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    posted_.push_back(std::move(batch));
  }
  ready_.notify_one();
}

// Detaches what goes into the next write: commits in order of arrival, and everything posted.
CommitQueue::Job* CommitQueue::take_group(std::vector<MetaBatch>& posted) {
  posted = std::exchange(posted_, {});
  Job* const first = head_;
  std::size_t bytes = 0;
  Job* last = nullptr;
  for (Job* job = head_; job != nullptr; job = job->next) {
    if (last != nullptr && bytes + job->batch.bytes() > kMaxGroupBytes) break;
    bytes += job->batch.bytes();
    last = job;
  }
  if (last == nullptr) return nullptr;
  head_ = std::exchange(last->next, nullptr);
  if (head_ == nullptr) tail_ = nullptr;
  return first;
}

void CommitQueue::work() {
  std::vector<MetaBatch> posted;
  std::vector<const MetaBatch*> batches;
  for (;;) {
    Job* group = nullptr;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return head_ != nullptr || !posted_.empty() || stopping_; });
      if (head_ == nullptr && posted_.empty()) return;
      group = take_group(posted);
    }
    batches.clear();
    for (const MetaBatch& batch : posted) batches.push_back(&batch);
    std::uint64_t commits = 0;
    for (const Job* job = group; job != nullptr; job = job->next, ++commits) batches.push_back(&job->batch);
    // That it can be written again is worth knowing for certain.
    const Result<> outcome = meta_.write(batches, commits != 0 || !meta_.writable());
    if (commits != 0) probe_.syncs.add();
    if (outcome) {
      probe_.commits.add(commits);
    } else {
      probe_.failures.add(commits);
      log_error("metadata commit of {} requests failed: {}", commits, outcome.error().to_string());
    }
    while (group != nullptr) {
      Job& job = *std::exchange(group, group->next);
      job.outcome = outcome;
      job.poller->post(&CommitQueue::finish, &job);
    }
  }
}

void CommitQueue::finish(void* job) {
  auto& done = *static_cast<Job*>(job);
  done.poller->schedule(done.resumer);
}

}  // namespace leap

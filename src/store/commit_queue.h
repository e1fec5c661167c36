// CommitQueue: group commit. Tasks on pollers hand in batches, one thread makes all that are waiting durable with one
// sync.
//
//   LEAP_CO_TRY_VOID(co_await queue.commit(poller, std::move(batch)));    // durable
//   queue.post(std::move(garbage));                                       // some time later, not synced, best effort
//
// While one synced write is under way, further commits gather; the next write takes all of them (up to kMaxGroupBytes)
// as one atomic batch. Under load the number of syncs per commit falls; alone, a commit waits for nobody.
//
// Threading: commit() on a poller; post() anywhere. A task waiting in commit() must not be destroyed: stop() the queue,
// which finishes what is in it, before its pollers stop. What waits lives in the waiting tasks; posted batches are the
// queue's own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/metrics.h"
#include "poller/poller.h"
#include "store/meta_store.h"

namespace leap {

class CommitQueue {
 public:
  static constexpr std::size_t kMaxGroupBytes = std::size_t{8} << 20;

  struct Probe {
    SharedCounter commits;
    SharedCounter syncs;
    SharedCounter failures;
  };

  /// `meta` must outlive the queue.
  explicit CommitQueue(BdevMetaStore& meta);
  ~CommitQueue();
  CommitQueue(const CommitQueue&) = delete;
  CommitQueue& operator=(const CommitQueue&) = delete;

  class Awaiter;
  /// An error leaves it open whether the batch is durable.
  [[nodiscard]] Awaiter commit(NvmePoller& poller, MetaBatch batch);
  void post(MetaBatch batch);

  /// Finishes what is queued, joins. Later commits fail a CHECK, later posts are dropped. Idempotent.
  void stop();

  [[nodiscard]] const Probe& probe() const { return probe_; }

 private:
  struct Job {
    MetaBatch batch;
    NvmePoller* poller = nullptr;
    Resumer resumer;
    Result<> outcome;
    Job* next = nullptr;
  };

  void submit(Job& job);
  void work();
  Job* take_group(std::vector<MetaBatch>& posted);
  static void finish(void* job);

  BdevMetaStore& meta_;
  Probe probe_;
  std::mutex mutex_;
  std::condition_variable ready_;
  Job* head_ = nullptr;
  Job* tail_ = nullptr;
  std::vector<MetaBatch> posted_;
  bool stopping_ = false;
  std::thread thread_;

 public:
  class Awaiter : private Job {
   public:
    Awaiter(CommitQueue& queue, NvmePoller& on, MetaBatch what) : queue_(queue) {
      poller = &on;
      batch = std::move(what);
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      resumer.set(handle);
      queue_.submit(*this);
    }
    Result<> await_resume() { return std::move(outcome); }

   private:
    CommitQueue& queue_;
  };
};

inline CommitQueue::Awaiter CommitQueue::commit(NvmePoller& poller, MetaBatch batch) {
  return Awaiter(*this, poller, std::move(batch));
}

}  // namespace leap

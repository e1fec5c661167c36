// BlockingPool: a few threads for work that blocks (RocksDB, fsync, name resolution) and must never run on a poller.
//
//   Result<Record> record = co_await pool.run(poller, [&] { return meta.get(id); });
//
// The function runs on a pool thread; the task goes on, on its own poller, when it is done. A poller that stops
// meanwhile waits for functions that are running, because they use what its tasks own, and forgets those that are still
// queued. Tasks that come after the pool's own stop() run their function themselves: the poller blocks, but nobody is
// left without an answer. So the two may be stopped in either order; a poller must only not be destroyed before either
// of them is stopped.
//
// The queue costs no memory of its own: a call waits in the frame of the task that made it, so it is as bounded as the
// tasks are. The function must not throw.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "poller/poller.h"

namespace leap {

class BlockingPool {
 public:
  struct Config {
    std::string name = "blocking";  ///< of the threads
    std::size_t threads = 2;        ///< at least one is started
  };

  explicit BlockingPool(Config config);
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Finishes everything queued, then joins. Later run() calls run their function on the calling poller. Idempotent.
  /// Not from a poller's thread: its mailbox may be full of what it is waited for.
  void stop();

  template <typename Fn>
  class Awaiter;
  /// Poller thread. co_await gives what `fn()` returns.
  template <typename Fn>
  [[nodiscard]] Awaiter<Fn> run(NvmePoller& poller, Fn fn) {
    return Awaiter<Fn>(*this, poller, std::move(fn));
  }

 private:
  /// One queued call; lives in the awaiting coroutine's frame, linked through next.
  struct Job {
    void (*execute)(Job&) = nullptr;
    NvmePoller* poller = nullptr;
    Resumer resumer;
    Job* next = nullptr;
    bool pending = false;  // poller thread only: submitted, and finish() has not come
  };

  /// What threads and suspended tasks share; outlives the pool if tasks do.
  struct Core {
    std::mutex mutex;
    std::condition_variable ready;     // something is queued, or stopping
    std::condition_variable released;  // a thread has let go of its job
    Job* head = nullptr;
    Job* tail = nullptr;
    bool stopping = false;
    std::vector<const Job*> current;  // per thread: the job it executes or reports

    /// False: the pool has stopped, and the job has been executed by this call.
    bool submit(Job& job);
    /// On return no thread knows the job any more.
    void abandon(const Job& job);
    void work(std::size_t thread);
  };
  static void finish(void* job);

  std::shared_ptr<Core> core_ = std::make_shared<Core>();
  std::vector<std::thread> threads_;

 public:
  template <typename Fn>
  class Awaiter : private Job {
   public:
    using R = std::invoke_result_t<Fn&>;
    Awaiter(BlockingPool& pool, NvmePoller& on, Fn fn) : core_(pool.core_), fn_(std::move(fn)) {
      poller = &on;
      execute = [](Job& job) {
        auto& self = static_cast<Awaiter&>(job);
        if constexpr (std::is_void_v<R>)
          self.fn_();
        else
          self.result_.emplace(self.fn_());
      };
    }
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter() {
      if (pending) core_->abandon(*this);
    }
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) {
      resumer.set(handle);
      return core_->submit(*this);
    }
    R await_resume() {
      if constexpr (!std::is_void_v<R>) return std::move(*result_);
    }

   private:
    struct Nothing {};
    const std::shared_ptr<Core> core_;
    Fn fn_;
    std::conditional_t<std::is_void_v<R>, Nothing, std::optional<std::conditional_t<std::is_void_v<R>, Nothing, R>>>
        result_;
  };
};

}  // namespace leap

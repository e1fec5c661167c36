// FileEngine over io_uring: one ring per poller, submitted once per turn, its completions read from shared memory.

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <liburing.h>

#include "base/sys.h"
#include "bdev/file_engine.h"

namespace leap {
namespace {

constexpr unsigned kDepth = 256;

class UringEngine final : public FileEngine, private Pollable, private TurnEndHook {
 public:
  UringEngine(NvmePoller& poller, int fd, std::string name) : poller_(poller), fd_(fd), name_(std::move(name)) {
    for (auto& slot : slots_) free_.push_back(slot);
  }

  Result<> init() {
    const int failed = io_uring_queue_init(kDepth, &ring_, IORING_SETUP_CLAMP);
    if (failed != 0) return Error::os(-failed, "io_uring_queue_init");
    ring_open_ = true;
    return poller_.watch(ring_.ring_fd, *this);
  }

  ~UringEngine() override {
    if (!ring_open_) return;
    poller_.unwatch(ring_.ring_fd);
    // The tasks that waited are gone; the kernel is not. Their buffers go back as their commands finish.
    while (in_flight_ > 0) {
      io_uring_cqe* cqe = nullptr;
      io_uring_submit(&ring_);  // what the last turn has left, or a submission that the kernel had no memory for
      if (io_uring_wait_cqe(&ring_, &cqe) != 0) continue;
      complete(*cqe);
      io_uring_cqe_seen(&ring_, cqe);
    }
    io_uring_queue_exit(&ring_);
  }

  Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
    const std::size_t size = buffer.size();
    for (std::size_t done = 0; done < size;) {
      Wait wait(*this, Op(Kind::kRead, offset + done), buffer.slice(done, size - done));
      const int got = co_await wait;
      if (got == -EINTR || got == -EAGAIN) continue;
      if (got < 0) co_return Error::os(-got, fmt::format("read {} bytes at {} of {}", size, offset, name_));
      if (got == 0)
        co_return Error(Errc::kIo,
                        fmt::format("read {} bytes at {} of {}: the file ends after {}", size, offset, name_, done));
      done += static_cast<std::size_t>(got);
    }
    co_return std::move(buffer);
  }

  Task<Result<>> write(std::uint64_t offset, DmaBuf data) override {
    const std::size_t size = data.size();
    for (std::size_t done = 0; done < size;) {
      Wait wait(*this, Op(Kind::kWrite, offset + done), data.slice(done, size - done));
      const int put = co_await wait;
      if (put == -EINTR || put == -EAGAIN) continue;
      if (put < 0) co_return Error::os(-put, fmt::format("write {} bytes at {} of {}", size, offset, name_));
      if (put == 0)
        co_return Error(Errc::kNoSpace,
                        fmt::format("write {} bytes at {} of {}: only {} taken", size, offset, name_, done));
      done += static_cast<std::size_t>(put);
    }
    co_return Result<>{};
  }

  Task<Result<>> datasync() override {
    Wait wait(*this, Op(Kind::kSync), DmaBuf());
    const int result = co_await wait;
    if (result < 0) co_return Error::os(-result, fmt::format("flush {}", name_));
    co_return Result<>{};
  }

  Task<Result<>> allocate(int mode, std::uint64_t offset, std::uint64_t length) override {
    Wait wait(*this, Op(Kind::kAllocate, offset, length, mode), DmaBuf());
    const int result = co_await wait;
    if (result < 0) co_return Error::os(-result, fmt::format("fallocate {} bytes at {} of {}", length, offset, name_));
    co_return Result<>{};
  }

  [[nodiscard]] std::string_view which() const override { return "io_uring"; }

 private:
  enum class Kind : std::uint8_t { kRead, kWrite, kSync, kAllocate };
  struct Op {
    explicit Op(Kind what, std::uint64_t at = 0, std::uint64_t bytes = 0, int how = 0)
        : kind(what), offset(at), length(bytes), mode(how) {}
    Kind kind;
    std::uint64_t offset;
    std::uint64_t length;  // of kAllocate; the others move their buffer
    int mode;              // of kAllocate
  };
  class Wait;
  /// One operation the kernel may be working on: it owns the buffer until the kernel is done with it.
  struct Slot : IntrusiveListNode {
    DmaBuf buffer;
    Wait* wait = nullptr;  // null: the task that asked is gone
  };

  /// Queues for a slot, then for the completion. Lives in the awaiting frame.
  class Wait {
   public:
    Wait(UringEngine& engine, Op op, DmaBuf buffer) : engine_(engine), op_(op), buffer_(std::move(buffer)) {}
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;
    ~Wait() {
      if (slot_ != nullptr) slot_->wait = nullptr;
      waiting_.unlink();
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
      resumer_.set(handle);
      if (!engine_.start(*this)) engine_.queue_.push_back(waiting_);
    }
    int await_resume() const noexcept { return result_; }

   private:
    friend class UringEngine;
    struct Queued : IntrusiveListNode {
      explicit Queued(Wait& wait) : owner(wait) {}
      Wait& owner;
    };
    UringEngine& engine_;
    Op op_;
    DmaBuf buffer_;
    Slot* slot_ = nullptr;
    int result_ = 0;
    Resumer resumer_;
    Queued waiting_{*this};
  };

  bool start(Wait& wait) {
    Slot* slot = free_.pop_front();
    if (slot == nullptr) return false;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      // The submission ring is as deep as there are slots; it is full only of what this turn has queued.
      submit();
      sqe = io_uring_get_sqe(&ring_);
      LEAP_CHECK(sqe != nullptr, "io_uring has no entry for a free slot");
    }
    slot->buffer = std::move(wait.buffer_);
    slot->wait = &wait;
    wait.slot_ = slot;
    const auto size = static_cast<unsigned>(slot->buffer.size());
    switch (wait.op_.kind) {
      case Kind::kRead: io_uring_prep_read(sqe, fd_, slot->buffer.data(), size, wait.op_.offset); break;
      case Kind::kWrite: io_uring_prep_write(sqe, fd_, slot->buffer.data(), size, wait.op_.offset); break;
      case Kind::kSync: io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC); break;
      case Kind::kAllocate:
        io_uring_prep_fallocate(sqe, fd_, wait.op_.mode, static_cast<off_t>(wait.op_.offset),
                                static_cast<off_t>(wait.op_.length));
        break;
    }
    io_uring_sqe_set_data(sqe, slot);
    ++in_flight_;
    poller_.at_turn_end(*this);
    return true;
  }

  void submit() {
    if (io_uring_sq_ready(&ring_) == 0) return;
    ++sys::counters().storage;
    io_uring_submit(&ring_);
    // -EAGAIN, -EBUSY, or only some taken: the kernel is short of memory or of room for completions. The rest stays
    // queued for the next turn.
    if (io_uring_sq_ready(&ring_) > 0) poller_.at_turn_end(*this);
  }

  void on_turn_end() override {
    submit();
    poller_.heat(*this);
  }

  std::size_t poll() override {
    std::size_t count = 0;
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      complete(*cqe);
      ++count;
    }
    if (count > 0) io_uring_cq_advance(&ring_, static_cast<unsigned>(count));
    while (!queue_.empty()) {
      Wait& next = queue_.front().owner;
      if (!start(next)) break;
      next.waiting_.unlink();
    }
    return count;
  }

  void complete(const io_uring_cqe& cqe) {
    auto& slot = *static_cast<Slot*>(io_uring_cqe_get_data(&cqe));
    --in_flight_;
    if (slot.wait != nullptr) {
      Wait& wait = *std::exchange(slot.wait, nullptr);
      wait.slot_ = nullptr;
      wait.result_ = cqe.res;
      poller_.schedule(wait.resumer_);
    }
    slot.buffer.reset();
    free_.push_back(slot);
  }

  NvmePoller& poller_;
  const int fd_;
  const std::string name_;
  io_uring ring_{};
  bool ring_open_ = false;
  std::size_t in_flight_ = 0;
  std::array<Slot, kDepth> slots_;
  IntrusiveList<Slot> free_;
  IntrusiveList<Wait::Queued> queue_;
};

}  // namespace

Result<std::unique_ptr<FileEngine>> make_uring_engine(NvmePoller& poller, int fd, std::string name) {
  auto engine = std::make_unique<UringEngine>(poller, fd, std::move(name));
  LEAP_TRY_VOID(engine->init());
  return std::unique_ptr<FileEngine>(std::move(engine));
}

}  // namespace leap

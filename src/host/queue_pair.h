// QueuePair: commands in, completions out, whatever the transport. One poller owns it, everything on that poller shares
// it.
//
//   auto [status, data, dw0] = co_await qp.execute(nvme::make_read(nsid, lba, blocks), std::move(buf),
//                                                  nvme::DataDirection::kControllerToHost);
//   if (!status.ok()) co_return std::move(status).error();
//
// * The data moved is the whole of the buffer; the queue pair sets CID and data pointer. At most max_transfer() bytes.
// * depth() commands are in flight at most; further submitters wait for a slot, first come, first served.
// * Every submission completes exactly once. Errors:
//     kInvalidArgument  longer than max_transfer(), or buffer and direction disagree; not executed, data returned
//     kClosed           the queue pair is not live; not executed, data returned
//     domain kNvme      the controller's status; data returned
//     kTimedOut         the command's deadline passed: may have executed; the queue pair is torn down with it
//     kClosed, kProtocol, kCorrupt, kCancelled, os   domain kTransport or kOs: the queue pair broke while the command
//                       waited or was in flight; see may_have_executed(). kCorrupt with scope kCommand is a data digest
//                       error: the queue pair lives on, data returned.
// * The deadline runs from the moment a command gets its slot.
// * After a failure the queue pair is orphaned (kFailed) until its transport can no longer touch request memory; only then
//   do buffers return to their pool (kClosed). The states: queue_pair_state.h.
//
// Threading: one poller's thread, probes excepted. No allocation, lock or system call per command here; transports
// batch theirs. Lifetime: destroy it when closed, or on its poller (which completes what is pending), or after its
// poller stopped.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "host/queue_pair_state.h"
#include "host/request.h"
#include "nvme/ids.h"
#include "poller/poller.h"
#include "poller/sync.h"

namespace leap {

class CommandAwaiter;

class QueuePair {
 public:
  struct Config {
    nvme::Qid qid;
    std::uint32_t depth = 127;                         ///< commands in flight, 1 .. 4095
    Nanos command_timeout = std::chrono::seconds(30);  ///< from slot to completion
    Nanos abort_timeout{0};  ///< for an expired command to end after its Abort; 0: no Abort, the queue pair goes
    std::uint32_t max_transfer = DmaPool::kMaxBuffer;  ///< bytes per command
    std::string name = "queue pair";                   ///< for messages: "nqn... q1 at 10.0.0.1:4420"
  };
  static constexpr std::uint32_t kMaxDepth = 4095;

  /// Written by the poller, readable from any thread.
  struct Probe {
    Counter submitted;      ///< commands that got a slot
    Counter completed;      ///< answered by the controller, whatever the status
    Counter status_errors;  ///< of these, with an error status
    Counter failed;         ///< ended by us: timeout, broken transport, refusal
    Counter timeouts;       ///< deadlines passed
    Counter slot_waits;     ///< submissions that had to wait for a slot
    Counter digest_errors;  ///< data digests that did not match
    Counter read_bytes;     ///< data received for successful commands
    Counter written_bytes;  ///< data sent for successful commands
    Gauge outstanding;      ///< commands in flight
  };

  /// Told once, from inside the event, when the queue pair leaves service by failure (not by close()). Must not destroy
  /// it.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void on_queue_pair_failed(QueuePair& queue_pair) = 0;
    /// The command's caller has been told kTimedOut; the command keeps its slot and buffer. An Abort is wanted: if the
    /// command has not ended when abort_timeout has passed, the queue pair is torn down. Only with an abort_timeout.
    virtual void on_command_expired(QueuePair& queue_pair, nvme::Cid cid) {
      static_cast<void>(queue_pair);
      static_cast<void>(cid);
    }
  };

  virtual ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  /// Runs `command` with all of `data` (empty for kNone). Awaiting it suspends until the command is over.
  [[nodiscard]] CommandAwaiter execute(const nvme::Command& command, DmaBuf data, nvme::DataDirection direction);
  [[nodiscard]] CommandAwaiter execute(const nvme::Command& command);
  /// The same without a coroutine; `submission` must not be pending.
  void submit(Submission& submission);

  /// Refuses new commands and waits until the accepted ones are over. Past `deadline` the queue pair is torn down:
  /// kTimedOut. Commands without a deadline (AER) are not waited for. `farewell`, if any, is the last command to go
  /// out, once the others are over; its status does not matter.
  Task<Result<>> drain(TimePoint deadline, std::optional<nvme::Command> farewell = std::nullopt);
  /// Tears it down now; what is pending completes with kCancelled. Afterwards nothing of it is left on its poller, so
  /// that it may be destroyed on any thread. Idempotent; also ends what a failure has left behind.
  void close();
  /// Tears it down because of `cause`: every pending command completes with an error of its kind. Idempotent.
  void fail(Error cause);

  [[nodiscard]] QueuePairState state() const { return state_; }
  [[nodiscard]] bool live() const { return state_ == QueuePairState::kLive; }
  [[nodiscard]] std::uint32_t outstanding() const { return outstanding_; }
  /// Of these, the ones that are waited for: all but those without a deadline.
  [[nodiscard]] std::uint32_t expected() const { return outstanding_ - unlimited_; }
  [[nodiscard]] std::uint32_t depth() const { return config_.depth; }
  [[nodiscard]] std::uint32_t max_transfer() const { return config_.max_transfer; }
  void set_max_transfer(std::uint32_t bytes) { config_.max_transfer = bytes; }
  [[nodiscard]] nvme::Qid qid() const { return config_.qid; }
  [[nodiscard]] const std::string& name() const { return config_.name; }
  [[nodiscard]] NvmePoller& poller() const { return poller_; }
  /// Why it failed; nothing while it has not.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
  void set_observer(Observer* observer) { observer_ = observer; }
  [[nodiscard]] const Probe& probe() const { return probe_; }

 protected:
  QueuePair(NvmePoller& poller, Config config);

  // --- what a transport implements ---
  /// Hands a started request to the wire: command.cid is set, the data pointer is the transport's. Cannot fail: a
  /// transport without room queues it.
  virtual void transmit(NvmeRequest& request) = 0;
  /// The queue pair has failed: end the connection. True: request memory is out of reach now. False: the transport will
  /// call quiesced() when it is.
  virtual bool quiesce(const Error& cause) = 0;
  /// Ends whatever quiesce() left for later (a socket that lingers).
  virtual void sever() = 0;
  /// Whether the controller may have seen any of this request's command.
  [[nodiscard]] virtual bool may_have_reached_peer(const NvmeRequest& request) const = 0;

  // --- what a transport reports ---
  void established() { move(QueuePairEvent::kEstablished); }
  void quiesced();
  /// The request whose command carries `cid` now, or nullptr: an id nobody uses, or of an earlier command.
  [[nodiscard]] NvmeRequest* find(nvme::Cid cid) {
    const std::uint32_t index = cid.value() & index_mask_;
    if (index >= config_.depth) return nullptr;
    NvmeRequest& request = requests_[index];
    return request.busy && request.command.cid == cid ? &request : nullptr;
  }
  [[nodiscard]] NvmeRequest& request_at(std::uint32_t index) { return requests_[index]; }
  /// The controller answered and the transport is done with the request's memory.
  void complete(NvmeRequest& request, const nvme::Completion& completion);
  /// As complete(), for a command whose data arrived damaged.
  void complete_corrupt(NvmeRequest& request);
  Probe& counters() { return probe_; }

 private:
  friend class CommandAwaiter;

  void move(QueuePairEvent event) { state_ = next_state(state_, event); }
  [[nodiscard]] std::optional<Error> refusal(const Submission& submission) const;
  void refuse(Submission& submission, Error error);
  void start(Submission& submission);
  void finish(NvmeRequest& request, CommandResult result);
  void release(NvmeRequest& request);
  void tear_down(QueuePairEvent event, Error cause, NvmeRequest* expired);
  void fail_pending(const Error& cause, NvmeRequest* expired);
  void release_orphans();
  [[nodiscard]] Error error_for(const NvmeRequest& request, const Error& cause) const;
  [[nodiscard]] bool drained() const { return expected() == 0 && waiting_.empty(); }
  void arm_deadline();
  void expire(NvmeRequest& request);
  static void on_deadline(void* self);
  static void on_drain_deadline(void* self);

  NvmePoller& poller_;
  Config config_;
  QueuePairState state_ = QueuePairState::kConnecting;
  std::uint32_t index_mask_;
  std::uint32_t generations_;  // values a generation may take
  std::uint32_t outstanding_ = 0;
  std::uint32_t unlimited_ = 0;  // of these, without a deadline
  std::unique_ptr<NvmeRequest[]> requests_;
  std::vector<std::uint16_t> free_;       // slots, last used first
  IntrusiveList<NvmeRequest> in_flight_;  // with a deadline, oldest first
  IntrusiveList<NvmeRequest> expired_;    // told to their callers, being aborted; oldest first
  IntrusiveList<Submission> waiting_;     // for a slot
  Timer deadline_timer_;
  AsyncEvent idle_;  // set while draining and nothing is left, and when failed
  std::optional<Error> failure_;
  bool admit_farewell_ = false;  // the next submission is drain()'s own
  Observer* observer_ = nullptr;
  Probe probe_;
};

/// co_await qp.execute(...). Lives in the awaiting coroutine's frame; destroying it while it waits leaves the command
/// to the queue pair.
class CommandAwaiter final : private Submission {
 public:
  CommandAwaiter(QueuePair& queue_pair, const nvme::Command& cmd, DmaBuf buffer, nvme::DataDirection way)
      : queue_pair_(queue_pair), poller_(queue_pair.poller()) {
    command = cmd;
    data = std::move(buffer);
    direction = way;
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> handle) {
    queue_pair_.submit(*this);
    if (done_) return false;  // refused at once
    resumer_.set(handle);
    return true;
  }
  CommandResult await_resume() { return std::move(result_); }

 private:
  void on_done(CommandResult result) override {
    result_ = std::move(result);
    done_ = true;
    if (resumer_.waiting()) poller_.schedule(resumer_);
  }

  QueuePair& queue_pair_;
  NvmePoller& poller_;
  Resumer resumer_;
  CommandResult result_;
  bool done_ = false;
};

inline CommandAwaiter QueuePair::execute(const nvme::Command& command, DmaBuf data, nvme::DataDirection direction) {
  return CommandAwaiter(*this, command, std::move(data), direction);
}
inline CommandAwaiter QueuePair::execute(const nvme::Command& command) {
  return CommandAwaiter(*this, command, DmaBuf(), nvme::DataDirection::kNone);
}

}  // namespace leap

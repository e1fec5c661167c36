// Session: one NVMe queue as the target sees it, whatever carries it: Connect, then commands, then the end.
//
//   stage       | accepts
//   ------------+-------------------------------------------------------------------------------
//   unconnected | Connect; everything else is a Command Sequence Error
//   admin       | Fabrics and Admin commands (AdminQueue)
//   I/O         | Fabrics and NVM commands (IoQueue)
//
// The transport hands in each command (begin), moves the host's data if asked to, hands it in again (execute), and asks
// for the completion queue entry once the command is over. Commands that need the device or memory that isn't free now
// run as tasks; a session must not be destroyed while pending() is not 0, unless the poller has been stopped.
//
// Memory for data of devices that are not memory comes from the shard's DmaPool, at most share_bytes() per connection,
// so that one peer which doesn't take its answers cannot starve the others.
//
// Threading: the shard's poller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "nvme/completion.h"
#include "nvme/fabrics.h"
#include "poller/sync.h"
#include "poller/task.h"
#include "target/controller.h"
#include "target/request.h"
#include "target/shard.h"
#include "target/transport.h"

namespace leap::target {

/// The commands of one kind of queue.
class CommandQueue {
 public:
  virtual ~CommandQueue() = default;
  virtual Step begin(Request& request) = 0;
  virtual Step execute(Request& request) = 0;
  /// The connection is going away: stops timers and gives held requests back by Transport::complete().
  virtual void closing() {}
  virtual void deliver_event(EventKind /*kind*/, nvme::Nsid /*nsid*/) {}
  /// A Property Set on CC was accepted.
  virtual void on_cc(Controller::CcEffect /*effect*/) {}
};

/// How a command's data length may compare to what the command needs.
enum class LengthRule : std::uint8_t { kExact, kAtLeast };

class Session {
 public:
  Session(Shard& shard, Transport& transport);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // --- for the transport ---
  Step begin(Request& request);
  Step execute(Request& request);
  /// The response of a finished request; notes failures in the controller's error log.
  nvme::Completion completion(const Request& request);
  /// The request's response has been sent, or never will be: gives its memory back.
  void release(Request& request);
  void deliver_event(EventKind kind, nvme::Nsid nsid) {
    if (queue_) queue_->deliver_event(kind, nsid);
  }
  /// No more commands will come: held ones are dropped, and an Admin queue takes its whole controller down. Idempotent.
  void closing(CloseReason reason);
  /// Nothing is pending any more: leaves the controller. Idempotent.
  void end();
  [[nodiscard]] std::size_t pending() const { return pending_; }
  /// Nobody waits for answers any more: long work should end.
  [[nodiscard]] bool is_closing() const { return closing_; }
  [[nodiscard]] bool connected() const { return queue_ != nullptr; }
  [[nodiscard]] bool is_io() const { return connected() && qid_ != nvme::kAdminQid; }
  [[nodiscard]] nvme::Qid qid() const { return qid_; }
  /// Entries of the submission queue: how many commands the host may have outstanding.
  [[nodiscard]] std::uint32_t entries() const { return entries_; }
  [[nodiscard]] bool flow_control_disabled() const { return flow_control_disabled_; }

  // --- for the command layer ---
  [[nodiscard]] Shard& shard() { return shard_; }
  [[nodiscard]] Transport& transport() { return transport_; }
  [[nodiscard]] Subsystem& subsystem();
  [[nodiscard]] const std::shared_ptr<Controller>& controller() const { return controller_; }

  /// Judges the data pointer of a command that moves `bytes` of data, and fills in request.direction, length and where
  /// data in the capsule lies. A status to fail with, or nullopt. NVMe/TCP has two descriptors: data in the capsule (to
  /// the controller only) and data in PDUs (NVMe TCP Transport 1.0, 3.3.2).
  [[nodiscard]] std::optional<NvmeStatusCode> claim_data(Request& request, nvme::DataDirection direction,
                                                         std::uint64_t bytes, LengthRule rule = LengthRule::kExact);
  /// True when the host's data can land in, or leave from, device memory itself.
  [[nodiscard]] bool in_place(const Request& request) const {
    return request.in_capsule || !transport_.stages_payload();
  }
  /// Finds pool memory for the host's data: kReceive, or kAwaitBuffer when there is none now.
  [[nodiscard]] Step receive_into_buffer(Request& request);
  /// Runs `work`, then completes the request with its result.
  [[nodiscard]] Step run(Request& request, Task<NvmeStatusCode> work);
  /// As run(), for work that belongs to no request.
  void run_detached(Task<void> work);
  /// co_await session.acquire_buffer(request, bytes): request.buffer and data, waiting for the share and the pool.
  Task<Result<>> acquire_buffer(Request& request, std::uint32_t bytes);

  [[nodiscard]] CommandQueue* queue() { return queue_.get(); }

  /// Successful Connect.
  struct Established {
    std::shared_ptr<Controller> controller;
    nvme::ConnectFields connect;
  };
  void establish(Established established);

 private:
  void note_failure(const Request& request);
  static Task<void> drive(Session& session, Request& request, Task<NvmeStatusCode> work);
  static Task<void> drive_detached(Session& session, Task<void> work);
  static Task<void> await_buffer(Session& session, Request& request);
  bool try_buffer(Request& request, std::uint32_t bytes);

  Shard& shard_;
  Transport& transport_;
  std::shared_ptr<Controller> controller_;
  std::unique_ptr<CommandQueue> queue_;
  nvme::Qid qid_;
  std::uint32_t entries_ = 0;
  std::uint32_t head_ = 0;  // SQHD: commands taken, modulo entries
  bool flow_control_disabled_ = false;
  bool closing_ = false;
  std::size_t pending_ = 0;
  AsyncSemaphore share_;  // bytes of the pool this connection may hold
};

}  // namespace leap::target

// One NVMe command on its way through a queue pair: Submission (the caller's end), NvmeRequest (the queue pair's end)
// and CommandResult (what comes out).
//
//   caller's frame                      queue pair's slots, sized at start
//  +------------+   submit()            +-------------------------------+
//  | Submission | --------------------> | NvmeRequest: command, DmaBuf, |
//  |            | <-------------------- | deadline, progress            |
//  +------------+   on_done(), once     +-------------------------------+
//
// The buffer changes hands twice: into the request when the command is started, and back with the result when the
// controller has answered. Destroying a Submission detaches it: nobody hears of the outcome any more, but the request
// and its buffer stay with the queue pair until the transport has let go of them. Nothing here allocates.
//
// Threading: all of it on the queue pair's poller. Coroutines use QueuePair::execute() instead of a Submission.
#pragma once

#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "base/intrusive_list.h"
#include "base/result.h"
#include "host/effect_fence.h"
#include "memory/dma_pool.h"
#include "nvme/command.h"
#include "nvme/completion.h"

namespace leap {

class NvmeRequest;

/// What became of a command.
///   * status holds a completion: the controller says success.
///   * status holds an error of domain kNvme: the controller says no; `data` is back (contents undefined after a read).
///   * status holds any other error: the command's fate is what may_have_executed() says. `data` is back only when the
///     command was never handed to the transport; otherwise it returned, or will return, to its pool by itself.
struct CommandResult {
  Result<nvme::Completion> status{nvme::Completion{}};
  DmaBuf data;
  std::uint32_t dw0 = 0;               ///< of the completion whatever its status, 0 when none arrived
  std::shared_ptr<EffectFence> fence;  ///< of a command that is being aborted: passes when it has ended
};

/// A command that somebody waits for. Derive, fill in, pass to QueuePair::submit(); reusable after on_done().
class Submission : public IntrusiveListNode {
 public:
  Submission() = default;
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;
  virtual ~Submission();

  nvme::Command command;  ///< without CID and data pointer: those are the queue pair's
  DmaBuf data;            ///< the whole of it is moved; empty when direction is kNone
  nvme::DataDirection direction = nvme::DataDirection::kNone;
  bool unlimited = false;  ///< no deadline: Asynchronous Event Requests only

  /// Waiting for a slot, or in flight.
  [[nodiscard]] bool pending() const { return request_ != nullptr || linked(); }

 protected:
  /// Called exactly once per submit(), from inside it (refusal) or later on the poller. May submit again.
  virtual void on_done(CommandResult result) = 0;

 private:
  friend class QueuePair;
  NvmeRequest* request_ = nullptr;
};

/// A slot of a queue pair: the command in it, if any, and who waits for it. Linked in the list of commands in flight,
/// oldest deadline first.
class NvmeRequest : public IntrusiveListNode {
 public:
  nvme::Command command;  ///< complete, as sent
  DmaBuf data;
  Submission* submission = nullptr;    ///< nullptr: nobody waits any more
  std::shared_ptr<EffectFence> fence;  ///< while it is being aborted
  TimePoint deadline;
  std::uint32_t length = 0;  ///< bytes of data
  nvme::DataDirection direction = nvme::DataDirection::kNone;
  bool busy = false;
  bool unlimited = false;
  std::uint16_t index = 0;
  std::uint16_t generation = 0;  ///< upper bits of the CID: a late answer to the slot's previous command does not match

  [[nodiscard]] nvme::Cid cid() const { return command.cid; }
};

inline Submission::~Submission() {
  if (request_ != nullptr) request_->submission = nullptr;
}

}  // namespace leap

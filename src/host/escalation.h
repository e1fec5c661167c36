// Escalation: what the pollers of I/O queue pairs have to tell the controller's home poller.
//
// The ladder of a command that is not answered (controller_link.h) begins on the poller of its queue pair and goes on
// where the admin queue lives: an Abort has to be sent, or the association has lost an I/O queue and must be ended.
//
// Threading: abort_wanted() and io_queue_lost() on any poller; the listener is called on home. close() on home: nothing
// is delivered after it. Messages hold the object alive, so it does not matter who goes first. Control plane: allocates.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "base/result.h"
#include "nvme/ids.h"
#include "poller/poller.h"

namespace leap {

class Escalation : public std::enable_shared_from_this<Escalation> {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_abort_wanted(nvme::Qid qid, nvme::Cid cid) = 0;
    virtual void on_io_queue_lost(const Error& cause) = 0;
  };

  Escalation(NvmePoller& home, Listener& listener) : home_(home), listener_(&listener) {}

  void close() { listener_ = nullptr; }
  /// An I/O queue has been lost: known everywhere before home has been told.
  [[nodiscard]] bool io_queue_was_lost() const { return lost_.load(std::memory_order_acquire); }

  void abort_wanted(NvmePoller& here, nvme::Qid qid, nvme::Cid cid) {
    send(here, std::make_unique<Message>(Message{shared_from_this(), qid, cid, std::nullopt}));
  }
  void io_queue_lost(NvmePoller& here, Error cause) {
    lost_.store(true, std::memory_order_release);
    send(here, std::make_unique<Message>(Message{shared_from_this(), {}, {}, std::move(cause)}));
  }

 private:
  struct Message {
    std::shared_ptr<Escalation> to;
    nvme::Qid qid;
    nvme::Cid cid;
    std::optional<Error> lost;
  };

  void send(NvmePoller& here, std::unique_ptr<Message> message) {
    // Also from home to home: whoever reports is in the middle of something.
    if (home_.try_post(&Escalation::deliver, message.get())) {
      static_cast<void>(message.release());
      return;
    }
    here.spawn(send_later(here, home_, std::move(message)));
  }
  static Task<void> send_later(NvmePoller& here, NvmePoller& home, std::unique_ptr<Message> message) {
    constexpr Nanos kPause = std::chrono::microseconds(100);
    while (!home.try_post(&Escalation::deliver, message.get())) co_await here.sleep_for(kPause);
    static_cast<void>(message.release());
  }
  static void deliver(void* context) {
    const std::unique_ptr<Message> message(static_cast<Message*>(context));
    Listener* const listener = message->to->listener_;
    if (listener == nullptr) return;
    if (message->lost)
      listener->on_io_queue_lost(*message->lost);
    else
      listener->on_abort_wanted(message->qid, message->cid);
  }

  NvmePoller& home_;
  Listener* listener_;  // touched on home only
  std::atomic<bool> lost_{false};
};

}  // namespace leap

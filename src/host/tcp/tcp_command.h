// TcpCommand: what NVMe/TCP keeps about one slot of a queue pair while a command is in it.
//
// One per NvmeRequest, same index, made once. It is told when the kernel has taken payload that was sent by reference:
// until then the request's buffer must not go back to anyone, not even when the controller has already answered.
#pragma once

#include <cstdint>

#include "host/request.h"
#include "nvme/completion.h"
#include "poller/tx_queue.h"

namespace leap {

class TcpCommand;

/// Told when an answered command's last referenced bytes have left.
class TcpCommandOwner {
 public:
  virtual void on_held_command_free(TcpCommand& command) = 0;

 protected:
  ~TcpCommandOwner() = default;
};

class TcpCommand final : public TxDone {
 public:
  void bind(TcpCommandOwner& owner, NvmeRequest& request) {
    owner_ = &owner;
    request_ = &request;
  }
  /// A new command is in the slot.
  void begin() {
    tx_start = 0;
    moved = 0;
    references = 0;
    grants = 0;
    queued = in_capsule = last_seen = damaged = answered = false;
  }
  [[nodiscard]] NvmeRequest& request() { return *request_; }

  void on_sent() override {
    --references;
    if (answered && references == 0) owner_->on_held_command_free(*this);
  }

  std::uint64_t tx_start = 0;    ///< position of the capsule in the stream of bytes sent
  std::uint32_t moved = 0;       ///< bytes received (read), or asked for by R2Ts or sent in the capsule (write)
  std::uint32_t references = 0;  ///< pieces of the buffer that the transmit queue still refers to
  std::uint32_t grants = 0;      ///< R2Ts whose data has not all been queued
  bool queued = false;           ///< the capsule is in the transmit queue or beyond
  bool in_capsule = false;       ///< its data travelled in the capsule
  bool last_seen = false;        ///< a C2HData with LAST_PDU has arrived
  bool damaged = false;          ///< a data digest did not match
  bool answered = false;         ///< the response is here and waits for `references`
  nvme::Completion completion;   ///< valid when answered

 private:
  TcpCommandOwner* owner_ = nullptr;
  NvmeRequest* request_ = nullptr;
};

}  // namespace leap

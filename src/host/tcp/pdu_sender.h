// PduSender: the transmitting half of an NVMe/TCP connection, host side: command capsules, H2CData, TermReq.
//
// Everything queued during a turn of the poller leaves in one system call when flush() is called at its end. Heads
// (header, header digest, padding to CPDA) are copied, payload is referenced in the request's buffer. A capsule goes
// out with its data inside when the data fits; other data waits for R2Ts, which are answered in the order they came,
// each cut into H2CData PDUs of at most MAXH2CDATA bytes. Capsules overtake the data of R2Ts that has not been queued
// yet.
//
// Bounded: the transmit queue is sized at construction; what finds no room waits in two rings sized for `depth`
// commands and `depth` x `maxr2t` R2Ts, so nothing ever fails for want of room, and nothing allocates.
//
// Threading: one poller. Source: NVMe TCP Transport 1.0, 3.3.2 (data transfer), 3.6.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "host/tcp/tcp_command.h"
#include "nvme/pdu.h"
#include "nvme/pdu_checker.h"
#include "poller/tx_queue.h"

namespace leap {

class PduSender {
 public:
  /// `params` is the connection's: it changes once, when ICResp arrives, and outlives the sender.
  PduSender(const nvme::ConnectionParams& params, std::uint32_t depth);
  /// Shows every PDU to `checker`, which outlives the sender; nullptr: to nobody.
  void set_checker(nvme::PduChecker* checker) { checker_ = checker; }

  void ic_req(const nvme::ConnectionParams& wanted);
  /// Queues the capsule of command.request(). `in_capsule_limit`: bytes of data it may carry.
  void capsule(TcpCommand& command, std::uint32_t in_capsule_limit);
  /// Queues the data an R2T asks for. Precondition: it was checked, and command.grants <= maxr2t with it counted.
  void grant(TcpCommand& command, std::uint16_t ttag, std::uint32_t offset, std::uint32_t length);
  /// Forgets the R2Ts of a command that has been answered early; what is queued already still leaves.
  void cancel_grants(TcpCommand& command);
  /// Queues a TermReq quoting the start of the offending PDU. Precondition: clear() came before it.
  void term_req(nvme::Fes fes, std::uint32_t fei, std::span<const std::byte> quoted);

  /// Sends until everything is out or the stream would block: 0; otherwise -errno.
  int flush(Stream& stream);
  /// The last flush() left bytes behind: wait until the stream is writable.
  [[nodiscard]] bool blocked() const { return blocked_; }
  [[nodiscard]] std::uint64_t bytes_sent() const { return tx_.bytes_sent(); }
  /// Whether any byte of the command's capsule may be out.
  [[nodiscard]] bool reached_wire(const TcpCommand& command) const {
    return command.queued && std::min(tx_.bytes_sent(), cut_) > command.tx_start;
  }
  /// Forgets everything: no request's memory is referenced afterwards.
  void clear();

 private:
  /// What an R2T asked for and has not been queued.
  struct Grant {
    TcpCommand* command = nullptr;
    std::uint16_t ttag = 0;
    std::uint32_t offset = 0;
    std::uint32_t left = 0;
  };
  /// A bounded FIFO; its room is proven by its users' own bounds.
  template <typename T>
  class Ring {
   public:
    explicit Ring(std::size_t capacity) : items_(capacity) {}
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] T& front() { return items_[first_]; }
    void push(const T& item);
    void pop();
    void clear() { first_ = size_ = 0; }
    template <typename Fn>
    void erase_if(Fn&& doomed);

   private:
    std::vector<T> items_;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
  };
  struct Waiting {
    TcpCommand* command = nullptr;
    std::uint32_t in_capsule_limit = 0;
  };

  void pump();
  void emit_capsule(TcpCommand& command, std::uint32_t in_capsule_limit);
  void emit_data(Grant& grant);
  void emit_payload(TcpCommand& command, std::uint32_t offset, std::uint32_t length);
  template <typename Pdu>
  void emit_head(const Pdu& pdu);
  [[nodiscard]] bool room() const;

  const nvme::ConnectionParams& params_;
  nvme::PduChecker* checker_ = nullptr;
  TxQueue tx_;
  Ring<Waiting> waiting_;
  Ring<Grant> grants_;
  bool blocked_ = false;
  std::uint64_t cut_ = UINT64_MAX;  // where the first clear() ended the stream of commands; a TermReq may follow
};

}  // namespace leap

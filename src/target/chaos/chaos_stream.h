// ChaosStream: a connection of the target that breaks on purpose.
//
//   Connection --writev--> whole PDUs --rules--> changed, delayed, dropped, cut --> Stream --> host
//   Connection <--readv--- (nothing, while stalled or deaf) <---------------------- Stream <-- host
//              --on_command--> rules --> execute it, or fail it with this status
//
// The connection knows nothing of it but on_command(), and its session stays in order: what goes wrong goes wrong
// behind its back, after it has been checked (nvme/pdu_checker.h). Everything the connection sends is taken at once and
// copied; what waits is bounded by the commands a host has outstanding.
//
// Threading: the connection's poller. Owned by the connection, in place of the stream it wraps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "nvme/command.h"
#include "poller/net.h"
#include "poller/timer.h"
#include "target/chaos/pdu_edit.h"
#include "target/chaos/plan.h"

namespace leap::target {

class ChaosStream final : public Stream {
 public:
  ChaosStream(std::unique_ptr<Stream> inner, const ChaosControl& control);
  ~ChaosStream() override { detach(); }

  /// A command has arrived. A status: fail it with that instead of executing it.
  [[nodiscard]] std::optional<NvmeStatusCode> on_command(const nvme::Command& cmd);

  ssize_t readv(const iovec* iov, int count) override;
  ssize_t writev(const iovec* iov, int count) override;
  void shutdown_write() override;
  Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override;
  void set_interest(Interest interest) override;
  void detach() override;
  int connect_error() override { return inner_->connect_error(); }
  [[nodiscard]] std::string peer() const override { return inner_->peer(); }
  [[nodiscard]] SocketAddress local_address() const override { return inner_->local_address(); }

 private:
  enum class Then : std::uint8_t { kNothing, kReset, kEnd };
  /// A PDU, or part of one, on its way out.
  struct Parcel {
    pdu_edit::PduBytes bytes;
    std::size_t sent = 0;
    TimePoint due;
    Then then = Then::kNothing;
  };
  enum class Queue : std::uint8_t { kUnknown, kAdmin, kIo };

  void refresh();
  void take(std::span<const std::byte> bytes);
  void process(pdu_edit::PduBytes pdu);
  /// Lets rule `index` loose on a PDU; false: nothing of the PDU is left to send.
  [[nodiscard]] bool strike(std::size_t index, Parcel& parcel, bool& twice);
  [[nodiscard]] bool concerns(const ChaosRule& rule, std::optional<nvme::Cid> cid) const;
  [[nodiscard]] bool may_hit(ChaosKind kind, const pdu_edit::PduBytes& pdu) const;
  void pump();
  void finish(Then then);
  void apply_interest();
  void note(const ChaosRule& rule) const;
  [[nodiscard]] TimePoint now() const { return poller_->clock().now(); }
  [[nodiscard]] bool deaf() const { return stopped_reading_ || stalled(); }
  [[nodiscard]] bool stalled() const { return poller_ != nullptr && now() < stalled_until_; }
  static void wake_up(void* self);

  std::unique_ptr<Stream> inner_;
  const ChaosControl& control_;
  std::uint64_t version_;
  ChaosDice dice_;
  NvmePoller* poller_ = nullptr;
  Pollable* pollable_ = nullptr;
  Interest interest_;
  std::optional<Timer> timer_;

  Queue queue_ = Queue::kUnknown;
  std::unordered_map<std::uint16_t, ChaosOp> ops_;  // of outstanding commands
  std::unordered_set<std::uint16_t> ended_early_;   // commands of which nothing more may go out
  pdu_edit::PduBytes assembling_;
  std::deque<Parcel> out_;
  TimePoint stalled_until_;
  bool silent_ = false;           // nothing goes out any more
  bool stopped_reading_ = false;  // nothing comes in any more
  bool dead_ = false;             // the connection has been reset
  bool closing_ = false;          // shutdown_write() waits for what is queued
};

}  // namespace leap::target

// Controller: one association between a host and the subsystem, shared by its queues, which may live on different
// pollers.
//
//   CC / CSTS   event                       effect
//   ----------+---------------------------+---------------------------------------------------------------------------
//   disabled    CC.EN := 1                  ready at once; I/O queues may connect
//   enabled     CC.EN := 0 (reset)          I/O queues are closed; CSTS.RDY falls when the last of them has drained
//   enabled     CC.SHN := 01b, 10b          I/O is refused from now on, caches are flushed, then CSTS.SHST says complete
//   any         keep alive expired          CSTS.CFS, every queue is closed
//   any         the Admin queue is gone     every queue is closed; no new ones; the controller dies with the last of them
//
// Lifetime: held by the sessions of its queues (shared_ptr, copied at Connect, never per command); the subsystem only
// knows it weakly. Threading: any poller of the target. The I/O path reads atomics; everything else takes a short
// mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "nvme/ids.h"
#include "nvme/properties.h"
#include "nvme/status.h"
#include "target/error_log.h"
#include "target/transport.h"

namespace leap::target {

class Shard;
class Subsystem;

/// Where a queue lives: enough to send it a message, safe when it is long gone.
struct QueueRef {
  Shard* shard = nullptr;
  ConnectionId connection = 0;
};

class Controller {
 public:
  struct Identity {
    nvme::Cntlid id;
    std::string host_nqn;
    Uuid host_id;
    bool discovery = false;
    /// What the host is told, for as long as it is connected. False: it never flushes, so writes to a cache that a
    /// namespace brings along later are flushed for it.
    bool volatile_write_cache = true;
  };

  Controller(Subsystem& subsystem, Identity identity, std::uint32_t max_io_queues, QueueRef admin);
  ~Controller();
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  [[nodiscard]] const Identity& identity() const { return identity_; }
  [[nodiscard]] ErrorLog& errors() { return errors_; }
  [[nodiscard]] const ErrorLog& errors() const { return errors_; }
  [[nodiscard]] QueueRef admin() const { return admin_; }

  // --- properties ---
  [[nodiscard]] nvme::Cc cc() const;
  [[nodiscard]] nvme::Csts csts() const;
  /// What a write to CC asks the admin queue to do.
  enum class CcEffect : std::uint8_t { kNone, kEnabled, kReset, kShutdown };
  /// Error: the status to answer with; nothing has changed.
  struct CcOutcome {
    std::optional<NvmeStatusCode> error;
    CcEffect effect = CcEffect::kNone;
  };
  CcOutcome write_cc(nvme::Cc value);
  void shutdown_complete();
  void set_fatal();

  // --- I/O path, any poller ---
  [[nodiscard]] bool io_allowed() const { return io_allowed_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool write_cache_enabled() const { return write_cache_.load(std::memory_order_relaxed); }
  void enable_write_cache(bool on) { write_cache_.store(on, std::memory_order_relaxed); }
  /// Tells the keep alive timer that the host is alive. A plain store, and only when it changes something.
  void mark_active(nvme::Qid qid) {
    auto& flag = queues_[qid.value()].active;
    if (!flag.load(std::memory_order_relaxed)) flag.store(true, std::memory_order_relaxed);
  }
  /// Whether any queue was marked since the last call.
  [[nodiscard]] bool take_activity();

  // --- queues ---
  /// Set Features, Number of Queues: what is granted, or nothing when I/O queues exist already.
  [[nodiscard]] std::optional<std::uint32_t> negotiate_queues(std::uint32_t wanted);
  [[nodiscard]] std::uint32_t granted_queues() const;
  enum class Attach : std::uint8_t { kOk, kNotReady, kTaken, kBeyondLimit, kGone };
  [[nodiscard]] Attach attach_queue(nvme::Qid qid, QueueRef where);
  void detach_queue(nvme::Qid qid);
  [[nodiscard]] std::uint32_t io_queues() const;
  [[nodiscard]] bool has_queue(nvme::Qid qid) const;
  /// Closes every I/O queue, wherever it lives. `sender`: the shard of the calling thread, nullptr off the pollers.
  void close_io_queues(CloseReason reason, Shard* sender);
  /// The Admin queue is gone: as close_io_queues(), and no queue attaches any more.
  void end(CloseReason reason, Shard* sender);

 private:
  // One cache line each: queues on different cores mark their own.
  struct alignas(64) QueueSlot {
    std::atomic<bool> active{false};
    bool attached = false;  // under the mutex
    QueueRef where;         // under the mutex
  };
  void update_io_allowed();

  Subsystem& subsystem_;
  const Identity identity_;
  const QueueRef admin_;
  ErrorLog errors_;
  std::atomic<bool> io_allowed_{false};
  std::atomic<bool> write_cache_;

  mutable std::mutex mutex_;
  std::vector<QueueSlot> queues_;  // by qid; [0] is the Admin queue's activity
  nvme::Cc cc_;
  nvme::ShutdownStatus shutdown_ = nvme::ShutdownStatus::kNormalOperation;
  bool fatal_ = false;
  bool gone_ = false;
  std::uint32_t attached_ = 0;
  std::uint32_t granted_;
};

}  // namespace leap::target

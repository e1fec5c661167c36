// IoQueueSet: the I/O queue pairs of one controller: at most one live one per poller, made on that poller when first
// asked for, and made again when asked for after it failed.
//
// A failed queue pair stays in memory until the set goes (callers hold pointers to it), but costs nothing else; its
// queue id is used again only when all others have had their turn, so that the controller has time to notice the broken
// connection.
//
// Threading: open() on the poller it is for; fail_all(), close_all() on any one poller at a time; each queue pair is
// touched on its own poller only, and calls cross pollers by message (remote_call.h). The mutex guards queue ids and
// the list of pollers, never I/O. Destroy it when no call is in flight.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "host/admin_commands.h"
#include "host/escalation.h"
#include "host/tcp/tcp_queue_pair.h"

namespace leap {

class IoQueueSet {
 public:
  struct Config {
    SocketAddress address;
    TcpQueuePair::TcpConfig connection;  ///< of each queue; qid and name are filled in
    FabricsConnect connect;              ///< likewise
    std::uint32_t queues = 1;            ///< granted by the controller: ids 1 .. queues
    Nanos connect_timeout = std::chrono::seconds(10);
    bool disconnect = false;  ///< delete queues by Disconnect before closing them
  };
  /// Failed queue pairs kept per poller, at most: past it the controller is beyond use.
  static constexpr std::size_t kMaxFailedPerPoller = 64;

  /// `escalation` is told of expired commands and lost queues.
  IoQueueSet(Net& net, Config config, std::shared_ptr<Escalation> escalation, SharedCounter& failures, Gauge& live);
  ~IoQueueSet();

  Task<Result<QueuePair*>> open(NvmePoller& poller);
  /// Fails every queue pair; later open() calls are refused with `cause`.
  Task<void> fail_all(NvmePoller& here, Error cause, TimePoint deadline);
  /// Drains, deletes and closes every queue pair; later open() calls are refused. An error says which did not end in
  /// order.
  Task<Result<>> close_all(NvmePoller& here, TimePoint deadline);

  [[nodiscard]] std::vector<std::pair<std::string, const QueuePair::Probe*>> probes() const;

 private:
  class PerPoller;

  Result<PerPoller*> find_or_add(NvmePoller& poller);
  [[nodiscard]] std::optional<Error> refusal() const;
  void refuse_from_now_on(Error cause);
  [[nodiscard]] std::vector<PerPoller*> pollers() const;
  std::optional<nvme::Qid> take_qid();
  void return_qid(nvme::Qid qid);
  Task<Result<QueuePair*>> make(PerPoller& entry);
  Task<Result<std::unique_ptr<TcpQueuePair>>> establish(NvmePoller& poller, DmaPool& pool, nvme::Qid qid);
  static Task<Result<>> close(PerPoller& entry, TimePoint deadline, bool disconnect);
  static Task<Result<>> fail(PerPoller& entry, Error cause);
  static Task<void> close_one(PerPoller& entry, NvmePoller& here, TimePoint deadline, bool disconnect,
                              std::optional<Error>& first_error);
  static Task<void> fail_one(PerPoller& entry, NvmePoller& here, TimePoint deadline, Error cause);

  Net& net_;
  const Config config_;
  const std::shared_ptr<Escalation> escalation_;
  SharedCounter& failures_;
  Gauge& live_;
  mutable std::mutex mutex_;
  std::optional<Error> refused_;                     // guarded; set: no new queue pairs
  std::vector<std::unique_ptr<PerPoller>> entries_;  // guarded; entries themselves belong to their pollers
  std::vector<bool> qid_taken_;                      // guarded; [0] is queue 1
  std::size_t next_qid_ = 0;                         // guarded
  std::vector<std::pair<std::string, const QueuePair::Probe*>> probes_;  // guarded
};

}  // namespace leap

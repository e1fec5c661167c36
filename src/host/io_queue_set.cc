#include "host/io_queue_set.h"

#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/scope_exit.h"
#include "host/control_memory.h"
#include "host/queue_pair_deadline.h"
#include "host/remote_call.h"

namespace leap {

/// What the set keeps for one poller, touched on that poller's thread only.
class IoQueueSet::PerPoller final : public QueuePair::Observer {
 public:
  PerPoller(NvmePoller& owner, Escalation& escalation, SharedCounter& failures, Gauge& live)
      : poller(owner), opening(owner, 1), escalation_(escalation), failures_(failures), live_(live) {}

  NvmePoller& poller;
  AsyncSemaphore opening;  // one task at a time makes a queue pair
  std::uint64_t attempts = 0;
  std::optional<Error> last_failure;  // of the last attempt
  ControlMemory memory;               // before the queue pairs, which use it
  std::unique_ptr<TcpQueuePair> current;
  std::vector<std::unique_ptr<TcpQueuePair>> failed;

  void adopt(std::unique_ptr<TcpQueuePair> queue_pair) {
    current = std::move(queue_pair);
    current->set_observer(this);
    live_.add(1);
  }
  /// After current has left service in order.
  void gone() { live_.add(-1); }

 private:
  void on_queue_pair_failed(QueuePair& queue_pair) override {
    failures_.add();
    live_.add(-1);
    log_warn("{}: queue pair lost: {}", queue_pair.name(), queue_pair.failure()->message());
    escalation_.io_queue_lost(poller, Error(*queue_pair.failure()).context(queue_pair.name()));
  }
  void on_command_expired(QueuePair& queue_pair, nvme::Cid cid) override {
    log_warn("{}: command {} is not answered in time; aborting it", queue_pair.name(), cid.value());
    escalation_.abort_wanted(poller, queue_pair.qid(), cid);
  }
  Escalation& escalation_;
  SharedCounter& failures_;
  Gauge& live_;
};

IoQueueSet::IoQueueSet(Net& net, Config config, std::shared_ptr<Escalation> escalation, SharedCounter& failures,
                       Gauge& live)
    : net_(net),
      config_(std::move(config)),
      escalation_(std::move(escalation)),
      failures_(failures),
      live_(live),
      qid_taken_(config_.queues) {}

IoQueueSet::~IoQueueSet() = default;

std::optional<Error> IoQueueSet::refusal() const {
  const std::lock_guard lock(mutex_);
  return refused_;
}

void IoQueueSet::refuse_from_now_on(Error cause) {
  const std::lock_guard lock(mutex_);
  if (!refused_) refused_ = std::move(cause);
}

Result<IoQueueSet::PerPoller*> IoQueueSet::find_or_add(NvmePoller& poller) {
  const std::lock_guard lock(mutex_);
  if (refused_) return *refused_;
  for (auto& entry : entries_) {
    if (&entry->poller == &poller) return entry.get();
  }
  entries_.push_back(std::make_unique<PerPoller>(poller, *escalation_, failures_, live_));
  return entries_.back().get();
}

std::vector<IoQueueSet::PerPoller*> IoQueueSet::pollers() const {
  const std::lock_guard lock(mutex_);
  std::vector<PerPoller*> all;
  for (const auto& entry : entries_) all.push_back(entry.get());
  return all;
}

std::optional<nvme::Qid> IoQueueSet::take_qid() {
  const std::lock_guard lock(mutex_);
  for (std::size_t tried = 0; tried < qid_taken_.size(); ++tried) {
    const std::size_t index = next_qid_++ % qid_taken_.size();
    if (qid_taken_[index]) continue;
    qid_taken_[index] = true;
    return nvme::Qid{static_cast<std::uint16_t>(index + 1)};
  }
  return std::nullopt;
}

void IoQueueSet::return_qid(nvme::Qid qid) {
  const std::lock_guard lock(mutex_);
  qid_taken_[qid.value() - 1U] = false;
}

Task<Result<QueuePair*>> IoQueueSet::open(NvmePoller& poller) {
  LEAP_CHECK(poller.on_this_thread(), "a queue pair is opened on the poller it is for");
  LEAP_CO_TRY(PerPoller* const entry, find_or_add(poller));
  const std::uint64_t attempts_before = entry->attempts;
  co_await entry->opening.acquire();
  const auto unlock = defer([entry] { entry->opening.release(); });
  if (entry->current != nullptr && entry->current->live()) co_return entry->current.get();
  if (auto refused = refusal(); refused) co_return std::move(*refused);
  // Whoever waited while an attempt failed shares its outcome: one time-out after the other would be no limit.
  if (entry->attempts != attempts_before && entry->last_failure) co_return *entry->last_failure;
  if (entry->current != nullptr) {
    if (entry->failed.size() >= kMaxFailedPerPoller) {
      co_return Error(Errc::kExhausted, fmt::format("{}: its I/O queue on poller {} failed {} times; giving up",
                                                    config_.connect.subnqn, poller.name(), kMaxFailedPerPoller))
          .in(ErrorDomain::kTransport)
          .with_scope(ErrorScope::kController);
    }
    return_qid(entry->current->qid());
    entry->failed.push_back(std::move(entry->current));
  }
  Result<QueuePair*> made = co_await make(*entry);
  ++entry->attempts;
  entry->last_failure = made.ok() ? std::nullopt : std::optional<Error>(made.error());
  co_return std::move(made);
}

Task<Result<QueuePair*>> IoQueueSet::make(PerPoller& entry) {
  const auto qid = take_qid();
  if (!qid) {
    co_return Error(Errc::kExhausted, fmt::format("{}: the controller grants {} I/O queues and all are in use",
                                                  config_.connect.subnqn, config_.queues))
        .in(ErrorDomain::kTransport)
        .with_scope(ErrorScope::kController);
  }
  Result<std::unique_ptr<TcpQueuePair>> established = co_await establish(entry.poller, entry.memory.pool(), *qid);
  // It may have failed after its last answer.
  if (established.ok() && !established.value()->live()) {
    const auto why = established.value()->failure();
    established.value()->close();
    established = why ? *why : Error(Errc::kClosed, "the queue pair was lost while connecting");
  }
  if (established.ok()) {
    // The controller may have failed, or been shut down, while this was under way on another thread.
    if (auto refused = refusal(); refused) {
      established.value()->close();
      return_qid(*qid);
      co_return std::move(*refused);
    }
    entry.adopt(std::move(established).value());
    const std::lock_guard lock(mutex_);
    probes_.emplace_back(entry.current->name(), &entry.current->probe());
    co_return entry.current.get();
  }
  return_qid(*qid);
  co_return std::move(established).error();
}

Task<Result<std::unique_ptr<TcpQueuePair>>> IoQueueSet::establish(NvmePoller& poller, DmaPool& pool, nvme::Qid qid) {
  const TimePoint deadline = poller.clock().now() + config_.connect_timeout;
  TcpQueuePair::TcpConfig connection = config_.connection;
  connection.queue.qid = qid;
  connection.queue.name = fmt::format("{} q{} at {}", config_.connect.subnqn, qid, config_.address.to_string());
  auto connected = co_await TcpQueuePair::connect(poller, net_, config_.address, std::move(connection), deadline);
  if (!connected.ok()) co_return std::move(connected).error();
  std::unique_ptr<TcpQueuePair> queue_pair = std::move(connected).value();
  {
    const QueuePairDeadline limit(*queue_pair, deadline, "Fabrics Connect");
    FabricsConnect connect = config_.connect;
    connect.qid = qid;
    Result<nvme::ConnectResponse> response = co_await fabrics_connect(*queue_pair, pool, std::move(connect));
    if (!response.ok()) {
      queue_pair->close();
      co_return std::move(response).error();
    }
  }
  co_return std::move(queue_pair);
}

// --- the end of all queue pairs ---

Task<Result<>> IoQueueSet::close(PerPoller& entry, TimePoint deadline, bool disconnect) {
  for (auto& queue_pair : entry.failed) queue_pair->close();
  if (entry.current == nullptr) co_return Result<>{};
  if (!entry.current->live()) {
    entry.current->close();
    co_return Result<>{};
  }
  TcpQueuePair& queue_pair = *entry.current;
  std::optional<nvme::Command> farewell;
  if (disconnect) farewell = nvme::make_disconnect();
  Result<> drained = co_await queue_pair.drain(deadline, farewell);
  if (drained.ok()) entry.gone();
  queue_pair.close();
  co_return std::move(drained);
}

Task<Result<>> IoQueueSet::fail(PerPoller& entry, Error cause) {
  if (entry.current != nullptr) entry.current->fail(std::move(cause));
  co_return Result<>{};
}

Task<void> IoQueueSet::close_one(PerPoller& entry, NvmePoller& here, TimePoint deadline, bool disconnect,
                                 std::optional<Error>& first_error) {
  PerPoller* const target = &entry;
  auto call = [target, deadline, disconnect](NvmePoller&) { return close(*target, deadline, disconnect); };
  // The reply of a poller that is merely busy may come a little after the queue pair's own deadline.
  constexpr Nanos kGrace = std::chrono::seconds(1);
  Result<Result<>> replied = co_await call_on(here, entry.poller, call, deadline + kGrace);
  if (!replied.ok()) {
    if (!first_error) first_error = std::move(replied).error();
  } else if (!replied->ok()) {
    if (!first_error) first_error = std::move(replied).value().error();
  }
}

Task<void> IoQueueSet::fail_one(PerPoller& entry, NvmePoller& here, TimePoint deadline, Error cause) {
  PerPoller* const target = &entry;
  auto call = [target, cause](NvmePoller&) { return fail(*target, cause); };
  Result<Result<>> replied = co_await call_on(here, entry.poller, call, deadline);
  if (!replied.ok()) log_warn("{}", replied.error().message());
}

Task<Result<>> IoQueueSet::close_all(NvmePoller& here, TimePoint deadline) {
  refuse_from_now_on(Error(Errc::kClosed, fmt::format("{}: the controller is shut down", config_.connect.subnqn))
                         .in(ErrorDomain::kTransport)
                         .with_scope(ErrorScope::kController));
  std::optional<Error> first_error;
  TaskGroup closing(here);
  for (PerPoller* entry : pollers()) closing.spawn(close_one(*entry, here, deadline, config_.disconnect, first_error));
  co_await closing.wait();
  if (first_error) co_return std::move(*first_error);
  co_return Result<>{};
}

Task<void> IoQueueSet::fail_all(NvmePoller& here, Error cause, TimePoint deadline) {
  refuse_from_now_on(cause);
  TaskGroup failing(here);
  for (PerPoller* entry : pollers()) failing.spawn(fail_one(*entry, here, deadline, cause));
  co_await failing.wait();
}

std::vector<std::pair<std::string, const QueuePair::Probe*>> IoQueueSet::probes() const {
  const std::lock_guard lock(mutex_);
  return probes_;
}

}  // namespace leap

#include "worker/block_server.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "worker/session.h"

namespace leap {

/// The part of the server that lives on one poller.
struct BlockServer::Shard {
  Shard(BlockServer& owner, const PollerContext& place, StoreSet& store)
      : server(owner),
        context(*place.poller, *place.pool, store, owner.config_.session, owner.policy_, owner.headers_,
                owner.writers_) {}

  BlockServer& server;
  SessionContext context;
  IntrusiveList<Session> sessions;
  bool draining = false;
  std::atomic<std::size_t> load{0};  // connections here or on their way here
};

/// A connection on its way from the listener to its poller.
struct BlockServer::Arrival {
  Shard& shard;
  std::unique_ptr<Stream> stream;
};

/// Accepts on the first poller.
class BlockServer::Listener final : public Pollable {
 public:
  Listener(BlockServer& server, NvmePoller& poller, std::unique_ptr<Acceptor> acceptor)
      : server_(server),
        poller_(poller),
        acceptor_(std::move(acceptor)),
        retry_(poller.timers(), &Listener::resume, this) {}
  ~Listener() override { acceptor_->detach(); }

  Result<> attach() { return acceptor_->attach(poller_, *this); }

  std::size_t poll() override {
    // Bounded: a flood of connections must not starve the sessions of this poller.
    constexpr std::size_t kBatch = 64;
    for (std::size_t accepted = 0; accepted < kBatch; ++accepted) {
      Result<std::unique_ptr<Stream>> stream = acceptor_->accept();
      if (!stream.ok()) {
        pause(stream.error());
        return accepted;
      }
      if (*stream == nullptr) return accepted;
      server_.adopt(*std::move(stream));
    }
    return kBatch;
  }

 private:
  /// Out of descriptors or memory: the connections stay in the kernel's queue until some are free again.
  void pause(const Error& error) {
    static RateLimiter limiter(1, std::chrono::seconds(10));
    if (limiter.admit()) log_error("cannot accept connections for now: {}", error.to_string());
    acceptor_->detach();
    retry_.arm(poller_.now() + std::chrono::milliseconds(100));
  }
  static void resume(void* self) {
    auto& listener = *static_cast<Listener*>(self);
    const Result<> attached = listener.attach();
    if (!attached.ok()) listener.pause(attached.error());
  }

  BlockServer& server_;
  NvmePoller& poller_;
  std::unique_ptr<Acceptor> acceptor_;
  Timer retry_;
};

BlockServer::BlockServer(Config config, Net& /*net*/, const std::vector<PollerContext>& pollers, StoreSet& store)
    : config_(std::move(config)), policy_(config_.compatibility), headers_(config_.header_memory) {
  for (const PollerContext& place : pollers) shards_.push_back(std::make_unique<Shard>(*this, place, store));
}

Result<std::unique_ptr<BlockServer>> BlockServer::start(Config config, Net& net,
                                                        const std::vector<PollerContext>& pollers, StoreSet& store) {
  LEAP_CHECK(!pollers.empty(), "a worker needs a poller");
  std::unique_ptr<BlockServer> server(new BlockServer(std::move(config), net, pollers, store));
  LEAP_TRY_VOID(server->listen(net));
  return server;
}

namespace {

/// Runs a plain function on a poller and waits for it.
template <typename Fn>
Task<std::invoke_result_t<Fn&>> call(Fn& fn) {
  co_return fn();
}
template <typename Fn>
auto on_poller(NvmePoller& poller, Fn fn) {
  return poller.run([&](NvmePoller&) { return call(fn); });
}

}  // namespace

Result<> BlockServer::listen(Net& net) {
  LEAP_TRY(auto acceptor, net.listen(config_.listen));
  address_ = acceptor->local_address();
  NvmePoller& poller = shards_.front()->context.poller;
  return on_poller(poller, [&]() -> Result<> {
    listener_ = std::make_unique<Listener>(*this, poller, std::move(acceptor));
    return listener_->attach();
  });
}

BlockServer::~BlockServer() {
  // Sessions refer to this object. What keeps one up is I/O, and every I/O has a deadline.
  for (Result<> stopped = stop(Nanos{0}); !stopped.ok(); stopped = stop(Nanos{0})) {
    log_error("{}; waiting", stopped.error().message());
  }
}

void BlockServer::adopt(std::unique_ptr<Stream> stream) {
  if (sessions_.load(std::memory_order_relaxed) >= config_.max_sessions) {
    static RateLimiter limiter(1, std::chrono::seconds(10));
    if (const auto pass = limiter.admit()) {
      log_warn("connection of {} refused: {} are open (worker.leap.max_sessions); {} more refused", stream->peer(),
               config_.max_sessions, pass->suppressed);
    }
    shards_.front()->context.probe.refused.add();
    return;
  }
  const auto by_load = [](const auto& shard) { return shard->load.load(std::memory_order_relaxed); };
  Shard& shard = **std::ranges::min_element(shards_, {}, by_load);
  shard.load.fetch_add(1, std::memory_order_relaxed);
  sessions_.fetch_add(1, std::memory_order_relaxed);
  if (&shard == shards_.front().get()) {
    begin_session(shard, std::move(stream));
    return;
  }
  auto arrival = std::make_unique<Arrival>(Arrival{shard, std::move(stream)});
  const auto arrive = [](void* context) {
    const std::unique_ptr<Arrival> arrived(static_cast<Arrival*>(context));
    begin_session(arrived->shard, std::move(arrived->stream));
  };
  if (shard.context.poller.try_post(arrive, arrival.get())) {
    static_cast<void>(arrival.release());
    return;
  }
  // That poller's mailbox is full; this one has just shown that it has time.
  shard.load.fetch_sub(1, std::memory_order_relaxed);
  shards_.front()->load.fetch_add(1, std::memory_order_relaxed);
  begin_session(*shards_.front(), std::move(arrival->stream));
}

void BlockServer::begin_session(Shard& shard, std::unique_ptr<Stream> stream) {
  Result<std::unique_ptr<AsyncStream>> opened = AsyncStream::open(shard.context.poller, std::move(stream));
  if (opened.ok() && !shard.draining) {
    shard.context.poller.spawn(run_session(shard, *std::move(opened)));
    return;
  }
  if (!opened.ok()) log_warn("connection dropped: {}", opened.error().to_string());
  shard.load.fetch_sub(1, std::memory_order_relaxed);
  shard.server.sessions_.fetch_sub(1, std::memory_order_relaxed);
}

Task<void> BlockServer::run_session(Shard& shard, std::unique_ptr<AsyncStream> stream) {
  shard.context.probe.opened.add();
  {
    Session session(shard.context, std::move(stream));
    shard.sessions.push_back(session);
    shard.context.probe.open_sessions.add(1);
    co_await session.run();
  }
  shard.context.probe.open_sessions.add(-1);
  shard.load.fetch_sub(1, std::memory_order_relaxed);
  shard.server.sessions_.fetch_sub(1, std::memory_order_relaxed);
}

/// True once no session is left.
Task<bool> BlockServer::drain(Shard& shard, TimePoint deadline, bool abort) {
  shard.draining = true;
  shard.sessions.for_each([abort](Session& session) {
    if (abort)
      session.abort();
    else
      session.drain();
  });
  while (!shard.sessions.empty() && shard.context.poller.clock().now() < deadline) {
    co_await shard.context.poller.sleep_for(std::chrono::milliseconds(1));
  }
  co_return shard.sessions.empty();
}

Result<> BlockServer::stop(Nanos limit) {
  if (listener_ != nullptr) {
    on_poller(shards_.front()->context.poller, [&] { listener_.reset(); });
  }
  const TimePoint deadline = Clock::system().now() + limit;
  const auto drain_all = [&](TimePoint until, bool abort) {
    // The first round tells every poller, so that all of them finish side by side; the second one waits.
    bool drained = true;
    for (const TimePoint wait : {TimePoint{}, until}) {
      drained = true;
      for (const auto& shard : shards_) {
        drained = shard->context.poller.run([&](NvmePoller&) { return drain(*shard, wait, abort); }) && drained;
      }
    }
    return drained;
  };
  bool drained = drain_all(deadline, false);
  if (!drained) drained = drain_all(Clock::system().now() + kAbortLimit, true);
  if (!drained) {
    return Error(Errc::kTimedOut,
                 fmt::format("stop RPC port {}: {} connections are still waiting for the store", address_, sessions()))
        .in(ErrorDomain::kRpc);
  }
  // A session may have asked another poller for a writer just before it ended: those calls must not outlive us.
  for (const auto& shard : shards_) on_poller(shard->context.poller, [] {});
  return {};
}

std::vector<const SessionProbe*> BlockServer::probes() const {
  std::vector<const SessionProbe*> all;
  for (const auto& shard : shards_) all.push_back(&shard->context.probe);
  return all;
}

}  // namespace leap

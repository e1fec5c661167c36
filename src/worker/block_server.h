// BlockServer: the RPC port of a worker. Accepts clients and spreads them over the pollers; each connection then lives
// on one poller, which owns the queue pairs it uses, so that a request crosses no thread between socket and device.
//
//   LEAP_TRY(auto server, BlockServer::start(config, Net::system(), pollers, store));
//   ... server->address() ...
//   LEAP_TRY_VOID(server->stop(10s));
//
// Threading: start, stop and the destructor block and belong to a control thread, while the pollers run; the getters
// are for any thread. The store and the pollers outlive the server.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/address.h"
#include "poller/poller_context.h"
#include "worker/session_context.h"

namespace leap {

class BlockServer {
 public:
  struct Config {
    SocketAddress listen;
    SessionConfig session;
    std::uint32_t max_sessions = 8192;
    std::uint64_t header_memory = 1ULL << 30;  ///< bytes of large request headers, of all connections together
    CompatibilityConfig compatibility;
  };

  /// Listens before it returns. Error kAlreadyExists: the port is in use.
  static Result<std::unique_ptr<BlockServer>> start(Config config, Net& net, const std::vector<PollerContext>& pollers,
                                                    StoreSet& store);
  ~BlockServer();
  BlockServer(const BlockServer&) = delete;
  BlockServer& operator=(const BlockServer&) = delete;

  /// Accepts nobody any more, closes idle connections at once, lets requests in progress finish within `limit` and then
  /// closes those too. Write sessions are handed back to the store. Error kTimedOut: the store still holds sessions up
  /// after a further kAbortLimit; they go on by themselves, and stop() may be called again. Idempotent.
  Result<> stop(Nanos limit);
  static constexpr Nanos kAbortLimit = std::chrono::seconds(5);

  [[nodiscard]] SocketAddress address() const { return address_; }  ///< with the port the system chose, if it was 0
  [[nodiscard]] std::size_t sessions() const { return sessions_.load(std::memory_order_relaxed); }
  /// Bytes of the budget config.header_memory in use.
  [[nodiscard]] std::size_t header_memory_in_use() const { return config_.header_memory - headers_.available(); }
  /// One per poller; read them at any time.
  [[nodiscard]] std::vector<const SessionProbe*> probes() const;

 private:
  class Listener;
  struct Shard;
  struct Arrival;

  BlockServer(Config config, Net& net, const std::vector<PollerContext>& pollers, StoreSet& store);
  Result<> listen(Net& net);
  void adopt(std::unique_ptr<Stream> stream);
  static void begin_session(Shard& shard, std::unique_ptr<Stream> stream);
  static Task<void> run_session(Shard& shard, std::unique_ptr<AsyncStream> stream);
  static Task<bool> drain(Shard& shard, TimePoint deadline, bool abort);

  const Config config_;
  const CompatibilityPolicy policy_;
  rpc::HeaderBudget headers_;
  WriterRegistry writers_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<Listener> listener_;
  SocketAddress address_;
  std::atomic<std::size_t> sessions_{0};
};

}  // namespace leap

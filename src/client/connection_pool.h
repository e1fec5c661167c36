// ConnectionPool: idle connections to workers, kept for the next block.
//
//   LEAP_CO_TRY(ConnectionPool::Lease lease, co_await pool.acquire(address));
//   LEAP_CO_TRY(auto reader, co_await RemoteReader::open(*lease, options));
//
// The last one given back is the first one reused (its socket is the warmest); a connection that idled too long, or
// that the worker has closed, is not. A lease that ends gives its connection back if it is still usable.
//
// Threading: one poller; leases must be gone before the pool.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "client/worker_connection.h"

namespace leap {

class ConnectionPool {
 public:
  struct Config {
    std::size_t max_idle = 128;                     ///< connections kept, to all workers together
    Nanos idle_timeout = std::chrono::seconds(60);  ///< older ones are closed
    WorkerConnection::Config connection;
  };

  class Lease {
   public:
    Lease(Lease&& other) noexcept : pool_(other.pool_), connection_(std::move(other.connection_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (connection_) pool_->give_back(std::move(connection_));
    }
    WorkerConnection& operator*() const { return *connection_; }
    WorkerConnection* operator->() const { return connection_.get(); }

   private:
    friend class ConnectionPool;
    Lease(ConnectionPool& pool, std::unique_ptr<WorkerConnection> connection)
        : pool_(&pool), connection_(std::move(connection)) {}
    ConnectionPool* pool_;
    std::unique_ptr<WorkerConnection> connection_;
  };

  ConnectionPool(NvmePoller& poller, Net& net, Config config)
      : poller_(poller), net_(net), config_(std::move(config)) {}

  /// An idle connection to `address`, or a new one. Errors: as WorkerConnection::connect().
  Task<Result<Lease>> acquire(SocketAddress address);

  [[nodiscard]] std::size_t idle() const { return idle_.size(); }

 private:
  struct Idle {
    std::unique_ptr<WorkerConnection> connection;
    TimePoint since;
  };

  void give_back(std::unique_ptr<WorkerConnection> connection);
  void drop_expired();

  NvmePoller& poller_;
  Net& net_;
  const Config config_;
  std::vector<Idle> idle_;  // oldest first
};

}  // namespace leap

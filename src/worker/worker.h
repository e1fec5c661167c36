// Worker: a worker's network side, started and stopped as one: the RPC port for clients, the HTTP port for operators.
//
//   LEAP_TRY(auto worker, Worker::start(config, {.pollers = env->pollers(), .store = &store}));
//   ... until SIGTERM ...
//   LEAP_TRY_VOID(worker->stop());
//   LEAP_TRY_VOID(store.close());        // and then the environment
//
// Both ports are bound when start() returns, or neither. Stopping: HTTP first, so that nothing new is asked of the
// store; then clients, as BlockServer::stop() says.
//
// Threading: start, stop and the destructor block and belong to a control thread; the getters are for any thread.
// Pollers, pools and the store set outlive the worker, and run until it has stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "poller/net.h"
#include "worker/admin_server.h"
#include "worker/block_server.h"
#include "worker/config.h"

namespace leap {

class Worker {
 public:
  struct Parts {
    std::vector<PollerContext> pollers;
    StoreSet* store = nullptr;
    Net* net = &Net::system();
    std::function<void(MetricsText&)> more_metrics{};  ///< of what lies below (environment, controllers); may be empty
    std::string version{};                             ///< for the status page
    std::string dma_memory{};                          ///< likewise: how much, on which pages
  };

  /// Errors name the key: kAlreadyExists (a port is in use), kNotFound (a host name), kInvalidArgument (configuration).
  static Result<std::unique_ptr<Worker>> start(const WorkerConfig& config, Parts parts);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Within config.leap.stop_timeout, plus BlockServer::kAbortLimit if the store hangs. Idempotent.
  Result<> stop();

  [[nodiscard]] SocketAddress rpc_address() const { return server_->address(); }
  [[nodiscard]] std::uint16_t web_port() const { return admin_->port(); }
  [[nodiscard]] const BlockServer& server() const { return *server_; }

  void write_metrics(MetricsText& page) const;
  /// A JSON object.
  [[nodiscard]] std::string status() const;

 private:
  Worker(const WorkerConfig& config, Parts parts);

  const WorkerConfig config_;
  const Parts parts_;
  const TimePoint started_;
  std::unique_ptr<BlockServer> server_;
  std::unique_ptr<AdminServer> admin_;
};

}  // namespace leap

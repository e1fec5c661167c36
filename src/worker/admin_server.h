// AdminServer: the worker's HTTP port, for operators and tools. Loopback unless configured otherwise: it has no
// authentication, and it deletes.
//
//   GET    /metrics                              Prometheus text
//   GET    /api/v1/status                        JSON: version, uptime, connections, space, directories
//   GET    /api/v1/blocks?cursor=C&limit=N       JSON: {"blocks": [...], "next": "C" or null}
//   GET    /api/v1/blocks/ID                     JSON: one block
//   DELETE /api/v1/blocks/ID                     deletes it durably
//
// Errors are {"error": "text"} with 400 (bad request), 404 (unknown), 409 (busy), 503 (stopping), 500.
//
// Threading: bind, serve and stop block and belong to a control thread. Requests run on threads of the server's own,
// which ask pollers where they have to: the pollers must outlive stop().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "poller/poller_context.h"
#include "store/store_set.h"

namespace leap {

class AdminServer {
 public:
  struct Config {
    std::string hostname = "127.0.0.1";
    std::uint16_t port = 9002;  ///< 0: any free one
    std::uint32_t threads = 2;
  };
  /// What it serves besides blocks. Called on its threads.
  struct Pages {
    std::function<void(MetricsText&)> metrics;
    std::function<std::string()> status;  ///< a JSON object
  };

  /// Takes the port. Errors: kAlreadyExists (it is in use), kNotFound (no such host).
  static Result<std::unique_ptr<AdminServer>> bind(Config config);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  /// Begins to answer. Once.
  void serve(NvmePoller& poller, StoreSet& store, Pages pages);
  /// Finishes requests in progress. Idempotent.
  void stop();
  [[nodiscard]] std::uint16_t port() const;

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace leap

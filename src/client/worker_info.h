// fetch_worker_info: what a Leap worker says about itself over its RPC port, for tools that know only that.
//
// RPC code 120, a one-shot request of Leap's own: Curvine's programs never send it, and its workers answer it with an
// error ("Unsupported request type"), which comes back from here as such.
#pragma once

#include <cstdint>
#include <string>

#include "client/worker_connection.h"

namespace leap {

struct WorkerInfo {
  std::uint16_t web_port = 0;
  std::string release_version;
  std::string cluster_id;
};

/// Errors: see WorkerConnection::call(); kProtocol (no usable port in the reply).
Task<Result<WorkerInfo>> fetch_worker_info(WorkerConnection& connection);

}  // namespace leap

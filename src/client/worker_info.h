// fetch_worker_info: what a Leap worker says about itself over its RPC port, for tools that know only that.
//
// fetch_block_info: the same request about one block: length, generation, state. It may be asked on a connection whose
// read session is open; the session stays.
//
// RPC code 120, a one-shot request of Leap's own: Curvine's programs never send it, and its workers answer it with an
// error ("Unsupported request type"), which comes back from here as such.
#pragma once

#include <cstdint>
#include <string>

#include "client/worker_connection.h"
#include "store/types.h"

namespace leap {

struct WorkerInfo {
  std::uint16_t web_port = 0;
  std::string release_version;
  std::string cluster_id;
};

/// A block as its worker describes it.
struct RemoteBlock {
  BlockInfo info;
  std::string storage_type;  ///< "SPDK_DISK", ...
};

/// Errors: see WorkerConnection::call(); kProtocol (no usable port in the reply).
Task<Result<WorkerInfo>> fetch_worker_info(WorkerConnection& connection);

/// Errors: kNotFound (no such block), kProtocol (the reply is not about this block), see WorkerConnection::call().
Task<Result<RemoteBlock>> fetch_block_info(WorkerConnection& connection, BlockId id);

}  // namespace leap

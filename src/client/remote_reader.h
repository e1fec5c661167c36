// RemoteReader: reads one block from a worker, chunk by chunk.
//
//   LEAP_CO_TRY(auto reader, co_await RemoteReader::open(connection, {.id = BlockId{7}, .length = length}));
//   while (reader->position() < length) {
//     LEAP_CO_TRY(const std::size_t n, co_await reader->read(buffer));      // buffer of at least chunk_size bytes
//   }
//   LEAP_CO_TRY_VOID(co_await reader->close());
//
// The length is what the caller knows about the block; what the worker does not have of it comes back as zeros. A block
// that is rewritten meanwhile is read to its end as it was at open.
//
// Threading: the connection's poller, one call at a time; the connection outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "client/worker_connection.h"
#include "store/types.h"

namespace leap {

struct RemoteReadOptions {
  BlockId id{};
  std::uint64_t length = 0;               ///< bytes
  std::uint64_t offset = 0;               ///< first position, at most length
  std::uint32_t chunk_size = 128 * 1024;  ///< bytes per reply, 1 .. rpc::kMaxData
  bool short_circuit = false;
};

class RemoteReader {
 public:
  /// Errors: kNotFound, kInvalidArgument, see WorkerConnection::call().
  static Task<Result<std::unique_ptr<RemoteReader>>> open(WorkerConnection& connection, RemoteReadOptions options);

  /// The next min(chunk_size, length - position()) bytes, which `out` must have room for (CHECK). 0 at the end.
  Task<Result<std::size_t>> read(std::span<std::byte> out);
  /// The next read() starts at `offset`, at most the length (CHECK). Costs nothing by itself.
  void seek(std::uint64_t offset);
  /// Ends the session; the connection is free for another one.
  Task<Result<>> close();

  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] std::uint64_t length() const { return options_.length; }

 private:
  RemoteReader(WorkerConnection& connection, RemoteReadOptions options);
  [[nodiscard]] WorkerConnection::Call next_call(rpc::RequestStatus status);

  WorkerConnection& connection_;
  const RemoteReadOptions options_;
  const std::int64_t req_id_;
  std::int32_t seq_id_ = 0;
  std::uint64_t position_;
  bool seek_pending_ = false;
};

}  // namespace leap

// RemoteWriter: writes one block on a worker.
//
//   LEAP_CO_TRY(auto writer, co_await RemoteWriter::open(connection, {.id = BlockId{7}, .capacity = 128 << 20}));
//   LEAP_CO_TRY_VOID(co_await writer->write(bytes));
//   LEAP_CO_TRY_VOID(co_await writer->complete(bytes.size()));        // durable and readable from here on
//
// What is not completed is not readable. Dropping the object without complete() or cancel() leaves the session to the
// worker, which keeps what was written for a grace time. After a failed write only cancel() makes sense.
//
// Threading: the connection's poller, one call at a time; the connection outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "client/worker_connection.h"
#include "store/types.h"

namespace leap {

/// FileAllocOptsProto: sets the length of the block at open.
struct RemoteResize {
  std::uint64_t length = 0;
  bool truncate = false;
  std::int32_t mode = 0;  ///< bits of fallocate(2), when not truncating
};

struct RemoteWriteOptions {
  BlockId id{};
  std::uint64_t capacity = 0;  ///< bytes
  std::uint64_t offset = 0;    ///< first position; the committed length to append
  StorageType type = StorageType::kDisk;
  std::uint32_t chunk_size = 128 * 1024;  ///< bytes per Running frame, 1 .. rpc::kMaxData
  bool short_circuit = false;             ///< asks for a local path; a raw-device worker has none to give
  std::optional<RemoteResize> resize{};
};

class RemoteWriter {
 public:
  /// Errors: kInvalidArgument here or from the worker, kNoSpace, kProtocol (the worker changed the capacity), see
  /// call().
  static Task<Result<std::unique_ptr<RemoteWriter>>> open(WorkerConnection& connection, RemoteWriteOptions options);

  /// Cancel without a session (protocol 2.2.4): deletes a finalized block, drops an unfinished one; an unknown one
  /// succeeds.
  static Task<Result<>> cancel_block(WorkerConnection& connection, BlockId id);

  /// Appends at position(), in frames of chunk_size.
  Task<Result<>> write(std::span<const std::byte> data);
  /// The next write() goes to `offset`. Costs nothing by itself.
  void seek(std::uint64_t offset);
  /// Returns when everything written is durable (though not yet readable).
  Task<Result<>> flush();

  /// Commits the block with exactly `length` bytes.
  Task<Result<>> complete(std::uint64_t length);
  /// A new block disappears, a rewritten one keeps its committed content.
  Task<Result<>> cancel();

  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] std::uint32_t chunk_size() const { return options_.chunk_size; }
  [[nodiscard]] StorageType type() const { return type_; }  ///< of the directory that has the block

 private:
  RemoteWriter(WorkerConnection& connection, RemoteWriteOptions options);
  [[nodiscard]] proto::BlockWriteRequest request(std::uint64_t length, std::uint32_t chunk_size) const;
  [[nodiscard]] WorkerConnection::Call next_call(rpc::RequestStatus status);
  Task<Result<>> finish(rpc::RequestStatus status, std::uint64_t length);

  WorkerConnection& connection_;
  const RemoteWriteOptions options_;
  const std::int64_t req_id_;
  std::int32_t seq_id_ = 0;
  std::uint64_t position_;
  bool seek_pending_ = false;
  StorageType type_ = StorageType::kDisk;
};

}  // namespace leap

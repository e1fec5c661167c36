// put_block and get_block: whole blocks from and to a stream of bytes, for tools.
//
//   const auto length = poller->run([&](NvmePoller&) { return put_block(*connection, {.id = id, .capacity = cap}, source); });
//
// Threading: the connection's poller. Sources and sinks are plain functions: one that blocks (standard input) blocks
// that poller, so give a tool's connection a poller of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "client/remote_reader.h"
#include "client/remote_writer.h"

namespace leap {

/// Fills the start of `out` and returns how many bytes; 0: the end. May return less than it could.
using BlockSource = std::function<Result<std::size_t>(std::span<std::byte> out)>;
/// Takes all of `bytes`.
using BlockSink = std::function<Result<>(std::span<const std::byte> bytes)>;

/// Writes everything the source has and commits it. Returns the length. On failure the block is cancelled: it does not
/// exist, or still has its committed content.
Task<Result<std::uint64_t>> put_block(WorkerConnection& connection, RemoteWriteOptions options,
                                      const BlockSource& source);

/// Reads [options.offset, options.length) into the sink.
Task<Result<>> get_block(WorkerConnection& connection, RemoteReadOptions options, const BlockSink& sink);

/// Reads all of one committed generation of the block into the sink and returns its length, which the caller need not
/// know: the worker is asked for length and generation before the block is opened, and for the generation again while it
/// is open. A rewrite in between is noticed before the sink has seen a byte, and opening starts over, three times; what
/// is rewritten later does not matter to an open reader. Errors: kNotFound (also: not committed yet), kBusy (rewritten
/// all the time), see call().
Task<Result<std::uint64_t>> get_whole_block(WorkerConnection& connection, BlockId id, const BlockSink& sink);

}  // namespace leap

#include "client/transfer.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/worker_info.h"

namespace leap {
namespace {

/// Fills `out` unless the source ends first.
Result<std::size_t> fill(const BlockSource& source, std::span<std::byte> out) {
  std::size_t got = 0;
  while (got < out.size()) {
    LEAP_TRY(const std::size_t n, source(out.subspan(got)));
    if (n == 0) break;
    got += n;
  }
  return got;
}

Task<Result<>> write_all(RemoteWriter& writer, std::span<std::byte> buffer, const BlockSource& source) {
  for (;;) {
    LEAP_CO_TRY(const std::size_t got, fill(source, buffer));
    if (got == 0) co_return Result<>{};
    LEAP_CO_TRY_VOID(co_await writer.write(buffer.first(got)));
    if (got < buffer.size()) co_return Result<>{};
  }
}

/// From the reader's position to its end, and the end of its session.
Task<Result<>> read_all(RemoteReader& reader, std::size_t chunk_size, const BlockSink& sink) {
  std::vector<std::byte> buffer(chunk_size);
  while (reader.position() < reader.length()) {
    LEAP_CO_TRY(const std::size_t got, co_await reader.read(buffer));
    LEAP_CO_TRY_VOID(sink(std::span(buffer).first(got)));
  }
  Result<> closed = co_await reader.close();
  co_return closed;
}

}  // namespace

Task<Result<std::uint64_t>> put_block(WorkerConnection& connection, RemoteWriteOptions options,
                                      const BlockSource& source) {
  LEAP_CO_TRY(auto writer, co_await RemoteWriter::open(connection, std::move(options)));
  std::vector<std::byte> buffer(writer->chunk_size());
  Result<> done = co_await write_all(*writer, buffer, source);
  if (done.ok()) done = co_await writer->complete(writer->position());
  if (done.ok()) co_return writer->position();
  if (connection.usable()) {
    const Result<> cancelled = co_await writer->cancel();
    cancelled.ignore("the first error is the one to report; the worker drops the block after its grace time anyway");
  }
  co_return std::move(done).error();
}

Task<Result<>> get_block(WorkerConnection& connection, RemoteReadOptions options, const BlockSink& sink) {
  LEAP_CO_TRY(auto reader, co_await RemoteReader::open(connection, options));
  Result<> done = co_await read_all(*reader, options.chunk_size, sink);
  co_return done;
}

Task<Result<std::uint64_t>> get_whole_block(WorkerConnection& connection, BlockId id, const BlockSink& sink) {
  constexpr int kTries = 3;
  for (int i = 0; i < kTries; ++i) {
    LEAP_CO_TRY(const RemoteBlock wanted, co_await fetch_block_info(connection, id));
    if (wanted.info.state != BlockState::kFinalized) {
      co_return Error(Errc::kNotFound, fmt::format("block {} is being written and not readable yet", id))
          .in(ErrorDomain::kRpc);
    }
    const RemoteReadOptions options{.id = id, .length = wanted.info.length};
    LEAP_CO_TRY(auto reader, co_await RemoteReader::open(connection, options));
    // Generations only grow: the same one before and after the opening is the one that was opened.
    LEAP_CO_TRY(const RemoteBlock opened, co_await fetch_block_info(connection, id));
    if (opened.info.generation == wanted.info.generation) {
      LEAP_CO_TRY_VOID(co_await read_all(*reader, options.chunk_size, sink));
      co_return wanted.info.length;
    }
    LEAP_CO_TRY_VOID(co_await reader->close());
  }
  co_return Error(Errc::kBusy, fmt::format("block {} was rewritten each of {} times it was opened", id, kTries))
      .in(ErrorDomain::kRpc);
}

}  // namespace leap

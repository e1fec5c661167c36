#include "client/transfer.h"

#include <utility>
#include <vector>

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
  std::vector<std::byte> buffer(options.chunk_size);
  while (reader->position() < options.length) {
    LEAP_CO_TRY(const std::size_t got, co_await reader->read(buffer));
    LEAP_CO_TRY_VOID(sink(std::span(buffer).first(got)));
  }
  Result<> closed = co_await reader->close();
  co_return closed;
}

}  // namespace leap

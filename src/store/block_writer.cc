#include "store/block_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "store/writer_core.h"

namespace leap {
namespace {

// Owns the core until its I/O is over and its state is kept or dropped.
Task<void> detach_in_background(std::unique_ptr<WriterCore> core) { co_await core->detach(); }

Task<Result<>> write_all(WriterCore& core, std::span<const std::byte> data) {
  if (data.size() > core.capacity() - std::min(core.capacity(), core.position())) {
    // Let prepare() refuse it as a whole, before a byte is taken.
    LEAP_CO_TRY(const std::span<std::byte> room, co_await core.prepare(data.size()));
    LEAP_CHECK(room.empty(), "a write past the capacity was accepted");
  }
  while (!data.empty()) {
    LEAP_CO_TRY(const std::span<std::byte> room, co_await core.prepare(data.size()));
    std::memcpy(room.data(), data.data(), room.size());
    core.produced(room.size());
    data = data.subspan(room.size());
  }
  co_return core.usable();
}

}  // namespace

BlockWriter::BlockWriter(std::unique_ptr<WriterCore> core) : core_(std::move(core)) {}

BlockWriter::~BlockWriter() {
  if (core_ == nullptr || core_->finished()) return;
  NvmePoller& poller = core_->poller();
  // While its poller stops nothing can be waited for: the core then discards the session by itself.
  if (poller.stopping() || !poller.on_this_thread()) return;
  poller.spawn(detach_in_background(std::move(core_)));
}

BlockId BlockWriter::id() const { return core_->id(); }
std::uint64_t BlockWriter::capacity() const { return core_->capacity(); }
std::uint64_t BlockWriter::position() const { return core_->position(); }
std::uint64_t BlockWriter::length() const { return core_->length(); }
bool BlockWriter::is_rewrite() const { return core_->is_rewrite(); }
Result<> BlockWriter::status() const { return core_->usable(); }
void BlockWriter::fail(Error error) { core_->fail(error); }

Task<Result<std::span<std::byte>>> BlockWriter::prepare(std::size_t want) { return core_->prepare(want); }
std::size_t BlockWriter::prepared_bytes(std::size_t want) const { return core_->prepared_bytes(want); }
void BlockWriter::produced(std::size_t n) { core_->produced(n); }
Task<Result<>> BlockWriter::write(std::span<const std::byte> data) { return write_all(*core_, data); }
Task<Result<>> BlockWriter::seek(std::uint64_t offset) { return core_->seek(offset); }
Task<Result<>> BlockWriter::flush() { return core_->flush(); }
Task<Result<>> BlockWriter::resize(ResizeRequest request) { return core_->resize(request); }
Task<Result<BlockInfo>> BlockWriter::complete(std::uint64_t length) { return core_->complete(length); }
Task<Result<>> BlockWriter::cancel() { return core_->cancel(); }
Task<void> BlockWriter::detach() { return core_->detach(); }

}  // namespace leap

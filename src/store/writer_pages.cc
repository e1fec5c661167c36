// The device side of WriterCore: where pages come from when they are merged, and where they go.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/crc32c.h"
#include "store/writer_core.h"

namespace leap {

// Whether the page holds anything but zeros (as far as the maps know).
bool WriterCore::has_content(std::uint64_t page) const {
  if (p_->cached != nullptr && p_->cached->page == page) return true;
  if (p_->dirty.at(page * kStorePage, kStorePage).device_offset) return true;
  return p_->base != nullptr && page < p_->base_pages &&
         p_->base->map().at(page * kStorePage, kStorePage).device_offset.has_value();
}

// The current content of a page, in a buffer of one page, verified.
Task<Result<DmaBuf>> WriterCore::fetch_page(std::uint64_t page, DmaBuf into) {
  if (p_->cached != nullptr && p_->cached->page == page) {
    std::memcpy(into.data(), p_->cached->bytes.data(), kStorePage);
    co_return std::move(into);
  }
  std::optional<std::uint64_t> from = p_->dirty.at(page * kStorePage, kStorePage).device_offset;
  std::uint32_t expected = p_->crcs.get(page);
  if (from) {
    if (page < in_flight_end_) co_await wait_in_flight(0);
  } else if (p_->base != nullptr && page < p_->base_pages) {
    from = p_->base->map().at(page * kStorePage, kStorePage).device_offset;
    if (from) {
      const auto number = static_cast<std::uint32_t>(page / kPagesPerSegment);
      LEAP_CO_TRY(const auto segment, co_await core_.load_segment(at_, id_, p_->base->crc_runs(), number));
      const std::size_t at = page % kPagesPerSegment;
      expected = at < segment->crcs.size() ? segment->crcs[at] : 0;
    }
  }
  if (!from) {
    std::memset(into.data(), 0, kStorePage);
    co_return std::move(into);
  }
  LEAP_CO_TRY(DmaBuf read, co_await at_.channel->read(*from, std::move(into)));
  at_.bytes_read.add(kStorePage);
  const std::uint32_t found = crc32c(read.bytes());
  if (found != expected) co_return core_.checksum_error(id_, page * kStorePage, *from, expected, found);
  co_return std::move(read);
}

// Makes `page` the cached one.
Task<Result<>> WriterCore::load_page(std::uint64_t page) {
  if (p_->cached != nullptr && p_->cached->page == page) co_return Result<>{};
  LEAP_CO_TRY_VOID(co_await write_cached());
  const bool merged = has_content(page);
  LEAP_CO_TRY(DmaBuf buffer, co_await at_.buffer(kStorePage));
  LEAP_CO_TRY(const DmaBuf content, co_await fetch_page(page, std::move(buffer)));
  keep_page(page, content.bytes(), false);
  if (merged) core_.probe.pages_merged.add();
  co_return Result<>{};
}

Task<Result<>> WriterCore::write_cached() {
  if (p_->cached == nullptr || !p_->cached->dirty) co_return Result<>{};
  if (p_->cached->page < in_flight_end_) co_await wait_in_flight(0);
  LEAP_CO_TRY(DmaBuf buffer, co_await at_.buffer(kStorePage));
  std::memcpy(buffer.data(), p_->cached->bytes.data(), kStorePage);
  p_->cached->dirty = false;
  submit(std::move(buffer), p_->cached->page);
  co_return Result<>{};
}

void WriterCore::own(Extent extent) {
  if (!p_->owned.empty() && p_->owned.back().end() == extent.device_offset)
    p_->owned.back().length += extent.length;
  else
    p_->owned.push_back(extent);
}

// How much more than `bytes` to take at once for a block that grows at its end: as much again as it has, within what it
// has reserved. A small file so gets exactly its size, a large one few extents; commit gives back what is left.
std::uint64_t WriterCore::look_ahead(std::uint64_t page, std::uint64_t bytes) const {
  const std::uint64_t end = page * kStorePage + bytes;
  if (end < p_->length || p_->reserved <= bytes || p_->owned.empty()) return 0;
  std::uint64_t owned = 0;
  for (const Extent& extent : p_->owned) owned += extent.length;
  const std::uint64_t to_capacity = page_round_up(capacity_) - std::min(page_round_up(capacity_), end);
  return std::min({owned, core_.config.allocate_ahead / kStorePage * kStorePage, to_capacity, p_->reserved - bytes});
}

// Space for `bytes` starting at `page`: what was taken ahead, in place behind it, in one piece, or in several.
Result<std::vector<Extent>> WriterCore::place(std::uint64_t page, std::uint64_t bytes) {
  std::vector<Extent> pieces;
  const auto use = [&](std::uint64_t missing) {
    const std::uint64_t part = std::min(missing, p_->ahead.length);
    if (part == 0) return missing;
    pieces.push_back({p_->ahead.device_offset, part});
    p_->ahead = {p_->ahead.device_offset + part, p_->ahead.length - part};
    return missing - part;
  };
  const auto took = [&](Extent extent) {
    own(extent);
    p_->reserved -= std::min(p_->reserved, extent.length);
  };
  std::uint64_t missing = use(bytes);
  if (missing == 0) return pieces;

  const std::uint64_t ahead = look_ahead(page, missing);
  const std::uint64_t hint = p_->owned.empty() ? 0 : p_->owned.back().end();
  BdevOffsetAllocator::Request request{missing + ahead, hint, p_->reserved};
  if (hint != 0) {
    if (const std::uint64_t gained = core_.allocator->extend(hint, request); gained != 0) {
      took({hint, gained});
      p_->ahead = {hint, gained};
      missing = use(missing);
      if (missing == 0) return pieces;
    }
  }
  request = {missing + look_ahead(page, missing), hint, p_->reserved};
  Result<Extent> single = core_.allocator->allocate(request);
  if (single) {
    took(*single);
    p_->ahead = *single;
    use(missing);
    return pieces;
  }
  request.bytes = missing;
  Result<std::vector<Extent>> several = core_.allocator->allocate_many(request);
  if (!several) return std::move(several).error().context(fmt::format("block {}", id_));
  for (const Extent& extent : *several) {
    took(extent);
    pieces.push_back(extent);
  }
  return pieces;
}

// Starts writing whole pages. A failure to place them is the session's error; the buffer is dropped. So is what comes
// here after the device was lost to another worker, by whatever way: its blocks lie there now.
void WriterCore::submit(DmaBuf buffer, std::uint64_t page) {
  if (const Result<> ours = core_.check_owner("write", id_); !ours) {
    fail(ours.error());
    return;
  }
  const std::uint64_t start = page * kStorePage;
  const std::uint64_t bytes = buffer.size();
  for (std::uint64_t at = 0; at < bytes; at += kStorePage) {
    p_->crcs.set(page + at / kStorePage, crc32c(buffer.bytes().subspan(at, kStorePage)));
  }
  for (std::uint64_t at = 0; at < bytes;) {
    const PageMap::Run run = p_->dirty.at(start + at, bytes - at);
    if (run.device_offset) {
      issue(*run.device_offset, buffer.slice(at, run.length), (start + at + run.length) / kStorePage);
      at += run.length;
      continue;
    }
    Result<std::vector<Extent>> pieces = place((start + at) / kStorePage, run.length);
    if (!pieces) {
      fail(pieces.error());
      return;
    }
    for (const Extent& piece : *pieces) {
      p_->dirty.assign({start + at, piece.device_offset, piece.length});
      issue(piece.device_offset, buffer.slice(at, piece.length), (start + at + piece.length) / kStorePage);
      at += piece.length;
    }
  }
}

void WriterCore::issue(std::uint64_t device_offset, DmaBuf part, std::uint64_t end_page) {
  if (!p_->unflushed_since) p_->unflushed_since = core_.flush_epoch.load();
  ++in_flight_;
  in_flight_end_ = std::max(in_flight_end_, end_page);
  at_.bytes_written.add(part.size());
  at_.poller.spawn(write_run(*this, device_offset, std::move(part)));
}

Task<void> WriterCore::write_run(WriterCore& self, std::uint64_t device_offset, DmaBuf part) {
  Result<> written =
      co_await self.at_.channel->write(device_offset, std::move(part), BlockChannel::Sharing::kExclusive);
  if (!written) {
    if (written.error().may_have_executed()) self.p_->uncertain = true;
    self.fail(std::move(written).error().context(fmt::format("write block {}", self.id_)));
  }
  if (--self.in_flight_ == 0) self.in_flight_end_ = 0;
  self.progress_.set();
}

Task<void> WriterCore::wait_in_flight(std::size_t at_most) {
  while (in_flight_ > at_most) {
    progress_.reset();
    co_await progress_.wait();
  }
}

}  // namespace leap

#include "store/writer_core.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

namespace leap {
namespace {

Error store_error(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kStore); }

}  // namespace

WriterCore::WriterCore(StoreCore& core, StorePoller& at, StoreCore::Use use, std::shared_ptr<PendingWrite> pending,
                       std::uint64_t position)
    : core_(core),
      at_(at),
      use_(std::move(use)),
      p_(std::move(pending)),
      id_(p_->id),
      capacity_(p_->capacity),
      is_rewrite_(p_->base != nullptr),
      position_(position),
      progress_(at.poller) {}

WriterCore::~WriterCore() {
  if (p_ == nullptr) return;
  if (in_flight_ != 0) p_->uncertain = true;
  core_.discard(p_);
}

Result<> WriterCore::usable() const {
  if (finished_) return store_error(Errc::kWrongState, fmt::format("block {}: its write session is over", id_));
  if (p_->revoked) {
    return store_error(Errc::kCancelled, fmt::format("block {} was cancelled or removed by another request", id_));
  }
  if (p_->error) return *p_->error;
  return core_.check_owner("write", id_);
}

void WriterCore::fail(const Error& error) {
  if (p_ != nullptr && !p_->error) p_->error = error;
}

std::size_t WriterCore::stage_size(std::size_t needed) const {
  const std::size_t largest = at_.max_buffer();
  const std::size_t size = std::bit_ceil(std::min(std::max(needed, next_chunk_), largest));
  const std::uint64_t room = page_round_up(capacity_) - stage_page_ * kStorePage;
  return static_cast<std::size_t>(std::min<std::uint64_t>(std::max<std::size_t>(size, kStorePage), room));
}

// The staged buffer may be gone by the time prepare() is called, so both count.
std::size_t WriterCore::prepared_bytes(std::size_t want) const {
  const std::size_t largest = at_.max_buffer();
  const std::size_t fresh = std::max({position_ % kStorePage + want, next_chunk_, std::size_t{kStorePage}});
  return std::bit_ceil(std::max(stage_.size(), std::min(fresh, largest)));
}

// Gets a buffer for position_. While it waits for memory it holds none.
Task<Result<>> WriterCore::open_stage(std::size_t want) {
  const std::uint64_t page = position_ / kStorePage;
  const std::size_t before = position_ % kStorePage;
  if (p_->cached != nullptr && p_->cached->dirty && p_->cached->page != page) {
    LEAP_CO_TRY_VOID(co_await write_cached());
  }
  if (before != 0) LEAP_CO_TRY_VOID(co_await load_page(page));
  if (page < in_flight_end_) co_await wait_in_flight(0);
  co_await wait_in_flight(core_.config.writer_window - 1);
  LEAP_CO_TRY_VOID(usable());
  stage_page_ = page;
  const std::size_t size = stage_size(before + want);
  LEAP_CO_TRY(stage_, co_await at_.buffer(size));
  fill_ = before;
  stage_dirty_ = preloaded_ = tail_merged_ = false;
  if (p_->cached != nullptr && p_->cached->page == page) {
    std::memcpy(stage_.data(), p_->cached->bytes.data(), kStorePage);
    stage_dirty_ = p_->cached->dirty;
    preloaded_ = true;
  }
  co_return Result<>{};
}

Task<Result<std::span<std::byte>>> WriterCore::prepare(std::size_t want) {
  LEAP_CO_TRY_VOID(usable());
  if (want == 0 || position_ > capacity_ || want > capacity_ - position_) {
    Error refused = store_error(
        Errc::kInvalidArgument,
        fmt::format("block {}: write of {} bytes at {} exceeds block size {}", id_, want, position_, capacity_));
    fail(refused);
    co_return refused;
  }
  if (!stage_.valid()) {
    Result<> opened = co_await open_stage(want);
    if (!opened) {
      fail(opened.error());
      co_return std::move(opened).error();
    }
  }
  static_cast<IntrusiveListNode&>(*this).unlink();
  exposed_ = true;
  co_return std::span<std::byte>(stage_.data() + fill_, std::min(want, stage_.size() - fill_));
}

// Takes back the room that prepare() gave out. What its caller left there is no data: in a page that was preloaded, the
// bytes behind fill_ are the page's content again. (Elsewhere they are zeroed or overwritten before they are written.)
void WriterCore::withdraw() {
  if (!std::exchange(exposed_, false) || !preloaded_ || fill_ >= kStorePage) return;
  LEAP_CHECK(p_->cached != nullptr && p_->cached->page == stage_page_, "the preloaded page is gone");
  std::memcpy(stage_.data() + fill_, p_->cached->bytes.data() + fill_, kStorePage - fill_);
}

void WriterCore::produced(std::size_t n) {
  LEAP_CHECK(exposed_ && n <= stage_.size() - fill_, fmt::format("produced {} bytes of {}", n, stage_.size() - fill_));
  if (n != 0) {
    fill_ += n;
    position_ += n;
    stage_dirty_ = true;
    p_->changed = true;
    if (position_ > p_->length) p_->set_length(position_);
  }
  withdraw();
  if (fill_ == stage_.size()) {
    next_chunk_ = std::min(DmaPool::kMaxBuffer, stage_.size() * 2);
    finish_stage(Tail::kKeep);
  } else {
    at_.staged.push_back(*this);
  }
}

bool WriterCore::tail_needs_merge() const {
  if (fill_ % kStorePage == 0 || tail_merged_ || stage_end() >= p_->length) return false;
  const std::uint64_t tail = stage_end() / kStorePage;
  return !(preloaded_ && tail == stage_page_) && has_content(tail);
}

// Puts what the last page held before behind the staged bytes.
Task<Result<>> WriterCore::merge_tail() {
  const std::size_t at = fill_ / kStorePage * kStorePage;
  const std::size_t fresh = fill_ - at;
  auto mine = std::make_unique<CachedPage>();
  std::memcpy(mine->bytes.data(), stage_.data() + at, fresh);
  LEAP_CO_TRY(const DmaBuf page, co_await fetch_page(stage_end() / kStorePage, stage_.slice(at, kStorePage)));
  std::memcpy(stage_.data() + at, mine->bytes.data(), fresh);
  tail_merged_ = true;
  core_.probe.pages_merged.add();
  co_return Result<>{};
}

void WriterCore::keep_page(std::uint64_t page, std::span<const std::byte> bytes, bool dirty) {
  if (p_->cached == nullptr) p_->cached = std::make_unique<CachedPage>();
  p_->cached->page = page;
  p_->cached->dirty = dirty;
  std::memcpy(p_->cached->bytes.data(), bytes.data(), kStorePage);
}

// Sends the whole pages on their way. Does not wait: what it needs to know about the last page has been merged before.
void WriterCore::finish_stage(Tail tail) {
  static_cast<IntrusiveListNode&>(*this).unlink();
  const std::size_t whole = fill_ / kStorePage;
  const std::size_t part = fill_ % kStorePage;
  const std::uint64_t tail_page = stage_page_ + whole;
  std::size_t pages = whole;
  if (p_->cached != nullptr && p_->cached->page >= stage_page_ && p_->cached->page < tail_page) p_->cached.reset();
  if (part != 0) {
    const bool known = tail_merged_ || (preloaded_ && whole == 0);
    if (!known) std::memset(stage_.data() + fill_, 0, kStorePage - part);
    const bool write_it = tail == Tail::kWrite && stage_dirty_;
    keep_page(tail_page, stage_.bytes().subspan(whole * kStorePage, kStorePage), stage_dirty_ && !write_it);
    if (write_it) ++pages;
  }
  DmaBuf buffer = std::move(stage_);
  fill_ = 0;
  if (pages == 0) return;
  buffer.truncate(pages * kStorePage);
  submit(std::move(buffer), stage_page_);
}

Task<Result<>> WriterCore::close_stage(Tail tail) {
  if (!stage_.valid()) co_return Result<>{};
  withdraw();
  static_cast<IntrusiveListNode&>(*this).unlink();
  if (tail_needs_merge()) {
    Result<> merged = co_await merge_tail();
    if (!merged) {
      fail(merged.error());
      stage_.reset();
      co_return merged;
    }
  }
  finish_stage(tail);
  co_return Result<>{};
}

void WriterCore::spill() {
  if (!stage_.valid() || exposed_ || tail_needs_merge()) return;
  core_.probe.spills.add();
  finish_stage(Tail::kKeep);
}

// Brings everything to the device (Tail::kWrite) or into ordinary memory and waits for it.
Task<Result<>> WriterCore::settle(Tail tail) {
  LEAP_CO_TRY_VOID(usable());
  LEAP_CO_TRY_VOID(co_await close_stage(tail));
  if (tail == Tail::kWrite) LEAP_CO_TRY_VOID(co_await write_cached());
  co_await wait_in_flight(0);
  co_return usable();
}

Task<Result<>> WriterCore::seek(std::uint64_t offset) {
  LEAP_CO_TRY_VOID(usable());
  if (offset >= capacity_ && offset != position_) {
    Error refused =
        store_error(Errc::kInvalidArgument,
                    fmt::format("block {}: seek to {} in a block of at most {} bytes", id_, offset, capacity_));
    fail(refused);
    co_return refused;
  }
  if (offset == position_) {
    if (exposed_) at_.staged.push_back(*this);
    withdraw();
    co_return Result<>{};
  }
  LEAP_CO_TRY_VOID(co_await close_stage(Tail::kKeep));
  position_ = offset;
  next_chunk_ = 0;
  co_return Result<>{};
}

Task<Result<>> WriterCore::flush() {
  LEAP_CO_TRY_VOID(co_await settle(Tail::kWrite));
  Result<> flushed = co_await at_.flush();
  if (flushed) flushed = core_.check_flushed(*p_);
  if (!flushed) fail(flushed.error());
  co_return flushed;
}

// The bytes past a shorter length are gone for good: unmapped, or zeroed in the page where it ends.
Task<Result<>> WriterCore::set_length(std::uint64_t length) {
  LEAP_CO_TRY_VOID(co_await settle(Tail::kKeep));
  if (length == p_->length) co_return Result<>{};
  p_->changed = true;
  if (length < p_->length) {
    const std::uint64_t end_page = pages_for(length);
    const std::size_t part = length % kStorePage;
    if (part != 0 && has_content(length / kStorePage)) {
      Result<> loaded = co_await load_page(length / kStorePage);
      if (!loaded) {
        fail(loaded.error());
        co_return loaded;
      }
      std::memset(p_->cached->bytes.data() + part, 0, kStorePage - part);
      p_->cached->dirty = true;
    }
    if (p_->cached != nullptr && p_->cached->page >= end_page) p_->cached.reset();
    p_->dirty.truncate(end_page * kStorePage);
    p_->base_pages = std::min(p_->base_pages, end_page);
  }
  p_->set_length(length);
  co_return Result<>{};
}

Task<Result<>> WriterCore::resize(ResizeRequest request) {
  LEAP_CO_TRY_VOID(usable());
  if (request.length > capacity_ || (!request.truncate && !request.zero_range && request.length < p_->length)) {
    Error refused = store_error(Errc::kInvalidArgument,
                                fmt::format("block {}: resize from {} to {} bytes (capacity {}{})", id_, p_->length,
                                            request.length, capacity_, request.truncate ? "" : ", may not shrink"));
    fail(refused);
    co_return refused;
  }
  if (request.zero_range) LEAP_CO_TRY_VOID(co_await set_length(0));
  co_return co_await set_length(request.length);
}

Task<Result<BlockInfo>> WriterCore::complete(std::uint64_t length) {
  if (completed_) {
    if (completed_->length == length) co_return *completed_;
    co_return store_error(Errc::kWrongState, fmt::format("finalized block {} length mismatch: has {}, complete says {}",
                                                         id_, completed_->length, length));
  }
  LEAP_CO_TRY_VOID(usable());
  if (length > capacity_) {
    Result<> cancelled = co_await cancel();
    cancelled.ignore("the block is given up either way");
    co_return store_error(
        Errc::kInvalidArgument,
        fmt::format("Invalid block length: block {} complete with {} of at most {}", id_, length, capacity_));
  }
  if (!is_rewrite_ && length > p_->length) {
    co_return store_error(Errc::kInvalidArgument, fmt::format("block {}: complete with {} bytes, but {} were written",
                                                              id_, length, p_->length));
  }
  if (length != p_->length) LEAP_CO_TRY_VOID(co_await set_length(length));
  LEAP_CO_TRY_VOID(co_await settle(Tail::kWrite));
  if (is_rewrite_ && !p_->changed) {
    core_.discard(p_);
    BlockIndex::Locked block = core_.index.lock(id_);
    const BlockEntry* const entry = block.find();
    if (entry == nullptr) co_return store_error(Errc::kCancelled, fmt::format("block {} was removed", id_));
    completed_ = entry->info();
  } else {
    LEAP_CO_TRY(completed_, co_await core_.commit(at_, p_));
  }
  finish();
  co_return *completed_;
}

void WriterCore::finish() {
  finished_ = true;
  p_.reset();
  core_.tidy(id_);
  use_ = {};
}

Task<void> WriterCore::come_to_rest() {
  static_cast<IntrusiveListNode&>(*this).unlink();
  stage_.reset();
  co_await wait_in_flight(0);
}

void WriterCore::give_up() {
  core_.probe.blocks_cancelled.add();
  core_.discard(p_);
  finish();
}

Task<Result<>> WriterCore::cancel() {
  if (finished_) co_return Result<>{};
  co_await come_to_rest();
  // A commit of it that failed half way may be on the disk: cancelled is what can't come back.
  LEAP_CO_TRY_VOID(co_await core_.settle(at_, id_));
  give_up();
  co_return Result<>{};
}

Task<void> WriterCore::detach() {
  if (finished_) co_return;
  core_.begin_detach(*p_);
  Result<> settled = co_await settle(Tail::kKeep);
  if (settled) {
    core_.park(p_, at_.poller.clock().now());
    finish();
  } else {
    // A session that failed must never be completed, so it is not kept for anybody.
    co_await come_to_rest();
    give_up();
  }
}

}  // namespace leap

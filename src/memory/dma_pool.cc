#include "memory/dma_pool.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

namespace leap {
namespace {

unsigned order_for(std::size_t size) {
  const std::size_t pages = (size + DmaPool::kPageSize - 1) / DmaPool::kPageSize;
  return static_cast<unsigned>(std::bit_width(pages - 1));
}

}  // namespace

DmaBuf DmaBuf::slice(std::size_t offset, std::size_t length) const {
  LEAP_CHECK(valid() && offset <= size_ && length <= size_ - offset,
             fmt::format("slice {}+{} of a buffer of {}", offset, length, size_));
  ++pool_->owners_[page_];
  return DmaBuf(pool_, data_ + offset, length, page_);
}

void DmaBuf::truncate(std::size_t size) {
  LEAP_CHECK(size <= size_, fmt::format("truncate a buffer of {} to {}", size_, size));
  size_ = size;
}

void DmaBuf::reset() {
  if (data_ == nullptr) return;
  data_ = nullptr;
  size_ = 0;
  DmaPool* pool = std::exchange(pool_, nullptr);
  LEAP_DCHECK(pool->owners_[page_] > 0, "buffer released twice");
  if (--pool->owners_[page_] == 0) pool->release(page_);
}

DmaPool::DmaPool(std::span<std::byte> memory) : base_(memory.data()) {
  const auto address = reinterpret_cast<std::uintptr_t>(base_);
  LEAP_CHECK(address % kPageSize == 0, "pool memory must be 4 KiB aligned");
  shift_ = static_cast<std::uint32_t>(address % kMaxBuffer / kPageSize);
  pages_ = static_cast<std::uint32_t>(std::min<std::size_t>(shift_ + memory.size() / kPageSize, kNone - 1));
  state_.assign(pages_, kTail);
  owners_.assign(pages_, 0);
  next_.assign(pages_, kNone);
  prev_.assign(pages_, kNone);
  free_.fill(kNone);
  // Cut the region into the largest aligned blocks, highest addresses first so that low addresses are handed out first.
  std::vector<std::pair<std::uint32_t, unsigned>> blocks;
  for (std::uint32_t page = shift_; page < pages_;) {
    unsigned order = kMaxOrder;
    while ((page & ((1U << order) - 1)) != 0 || pages_ - page < (1U << order)) --order;
    blocks.emplace_back(page, order);
    largest_ = std::max(largest_, kPageSize << order);
    page += 1U << order;
  }
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) push_free(it->first, it->second);
}

DmaPool::~DmaPool() {
  LEAP_CHECK(probe_.bytes_in_use == 0, fmt::format("{} bytes of DMA buffers outlive their pool", probe_.bytes_in_use));
}

DmaPool::Waiter::~Waiter() {
  if (linked()) pool_->withdraw(*this);
}

void DmaPool::push_free(std::uint32_t page, unsigned order) {
  state_[page] = static_cast<std::uint8_t>(kFree | order);
  prev_[page] = kNone;
  next_[page] = free_[order];
  if (free_[order] != kNone) prev_[free_[order]] = page;
  free_[order] = page;
}

void DmaPool::remove_free(std::uint32_t page, unsigned order) {
  if (prev_[page] != kNone)
    next_[prev_[page]] = next_[page];
  else
    free_[order] = next_[page];
  if (next_[page] != kNone) prev_[next_[page]] = prev_[page];
  state_[page] = kTail;
}

std::optional<DmaBuf> DmaPool::take(std::size_t size) {
  const unsigned wanted = order_for(size);
  unsigned order = wanted;
  while (order <= kMaxOrder && free_[order] == kNone) ++order;
  if (order > kMaxOrder) return std::nullopt;
  const std::uint32_t page = free_[order];
  remove_free(page, order);
  while (order > wanted) {
    --order;
    push_free(page + (1U << order), order);
  }
  state_[page] = static_cast<std::uint8_t>(wanted);
  owners_[page] = 1;
  ++probe_.allocations;
  probe_.bytes_in_use += kPageSize << wanted;
  probe_.bytes_in_use_max = std::max(probe_.bytes_in_use_max, probe_.bytes_in_use);
  return DmaBuf(this, base_ + std::size_t{page - shift_} * kPageSize, size, page);
}

std::optional<DmaBuf> DmaPool::try_allocate(std::size_t size) {
  LEAP_CHECK(size > 0 && size <= kMaxBuffer, fmt::format("DMA buffer of {} bytes (1..{})", size, kMaxBuffer));
  if (!waiters_.empty()) return std::nullopt;
  return take(size);
}

Result<> DmaPool::allocate(std::size_t size, Waiter& waiter) {
  LEAP_CHECK(!waiter.linked(), "this waiter is already waiting for a DMA buffer");
  if (size == 0 || size > largest_) {
    return Error(Errc::kInvalidArgument, fmt::format("DMA buffer of {} bytes from a pool of {} bytes (1..{} each)",
                                                     size, capacity(), largest_));
  }
  if (waiters_.empty()) {
    if (auto buffer = take(size)) {
      waiter.on_buffer(std::move(*buffer));
      return {};
    }
  }
  ++probe_.waits;
  waiter.pool_ = this;
  waiter.size_ = size;
  waiters_.push_back(waiter);
  return {};
}

void DmaPool::release(std::uint32_t page) {
  unsigned order = state_[page];
  probe_.bytes_in_use -= kPageSize << order;
  while (order < kMaxOrder) {
    const std::uint32_t buddy = page ^ (1U << order);
    if (buddy >= pages_ || state_[buddy] != (kFree | order)) break;
    remove_free(buddy, order);
    state_[page] = kTail;
    page = std::min(page, buddy);
    ++order;
  }
  push_free(page, order);
  serve_waiters();
}

void DmaPool::serve_waiters() {
  // A waiter may drop its buffer at once, which lands here again: the outer call goes on serving.
  if (serving_) return;
  serving_ = true;
  while (!waiters_.empty()) {
    auto buffer = take(waiters_.front().size_);
    if (!buffer) break;
    waiters_.pop_front()->on_buffer(std::move(*buffer));
  }
  serving_ = false;
}

void DmaPool::withdraw(Waiter& waiter) {
  const bool first = &waiters_.front() == &waiter;
  waiter.unlink();
  if (first) serve_waiters();
}

}  // namespace leap

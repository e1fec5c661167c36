// DmaPool and DmaBuf: bounded, recycled I/O buffers carved out of an arena.
//
// One pool per poller, used by that poller's thread only: no lock, no atomic. Buffers are powers of two from 4 KiB to
// 1 MiB, their addresses aligned to that size, handed out by a buddy allocator whose bookkeeping lives beside the
// memory (a free buffer is never written to). Exhaustion is back-pressure: try_allocate() says no, allocate() through a
// Waiter queues first come, first served, and freed memory goes to the oldest waiter before anyone else.
//
//   if (auto buf = pool.try_allocate(128 * 1024)) channel.write(offset, std::move(*buf));
//
// A DmaBuf is the *ownership* of memory, not a view: whoever submits I/O moves it in, the completion moves it back.
// slice() makes a second owner of part of the same buffer (several commands in flight on one buffer); the memory
// returns to the pool when the last owner is gone, never earlier.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/intrusive_list.h"
#include "base/result.h"

namespace leap {

class DmaPool;

/// Move-only owner of a piece of a pool's memory. Empty (data() == nullptr) after a move.
class DmaBuf {
 public:
  DmaBuf() = default;
  DmaBuf(DmaBuf&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        page_(other.page_) {}
  DmaBuf& operator=(DmaBuf&& other) noexcept {
    if (this != &other) {
      reset();
      pool_ = std::exchange(other.pool_, nullptr);
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
      page_ = other.page_;
    }
    return *this;
  }
  DmaBuf(const DmaBuf&) = delete;
  DmaBuf& operator=(const DmaBuf&) = delete;
  ~DmaBuf() { reset(); }

  [[nodiscard]] bool valid() const { return data_ != nullptr; }
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, size_}; }

  /// A second owner of [offset, offset + length) of this buffer.
  [[nodiscard]] DmaBuf slice(std::size_t offset, std::size_t length) const;
  /// Narrows this owner to its first `size` bytes. The memory behind stays owned.
  void truncate(std::size_t size);
  /// Gives the memory back (if this is its last owner).
  void reset();

 private:
  friend class DmaPool;
  DmaBuf(DmaPool* pool, std::byte* data, std::size_t size, std::uint32_t page)
      : pool_(pool), data_(data), size_(size), page_(page) {}

  DmaPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::uint32_t page_ = 0;  // first page of the allocation this belongs to
};

class DmaPool {
 public:
  static constexpr std::size_t kPageSize = 4096;
  static constexpr unsigned kMaxOrder = 8;
  static constexpr std::size_t kMaxBuffer = kPageSize << kMaxOrder;  ///< 1 MiB

  /// Someone waiting for memory. Destroying it withdraws the request; those behind it are served if they can be now.
  class Waiter : public IntrusiveListNode {
   public:
    Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    virtual ~Waiter();
    /// Called from within the release that made room. Must not re-enter the pool except through the buffer it is given.
    virtual void on_buffer(DmaBuf buffer) = 0;

   private:
    friend class DmaPool;
    DmaPool* pool_ = nullptr;
    std::size_t size_ = 0;
  };

  struct Probe {
    std::uint64_t allocations = 0;
    std::uint64_t waits = 0;       ///< requests that had to queue
    std::size_t bytes_in_use = 0;  ///< as handed out: rounded up to the power of two
    std::size_t bytes_in_use_max = 0;
  };

  /// `memory` must be 4 KiB aligned and outlive the pool; a tail below 4 KiB is not used. Begin it at a multiple of 1
  /// MiB: otherwise less of it can be had in large buffers, because buffers are aligned to their size.
  explicit DmaPool(std::span<std::byte> memory);
  ~DmaPool();
  DmaPool(const DmaPool&) = delete;
  DmaPool& operator=(const DmaPool&) = delete;

  /// A buffer of exactly `size` bytes (backed by the next power of two), or nothing if there is no room now or others
  /// are waiting. `size` must be in 1..kMaxBuffer.
  [[nodiscard]] std::optional<DmaBuf> try_allocate(std::size_t size);

  /// Serves `waiter` as soon as memory is there, in arrival order; possibly at once, before returning.
  /// A size that this pool can never serve (0, above largest()) is an error (kInvalidArgument), not a wait without end.
  Result<> allocate(std::size_t size, Waiter& waiter);

  [[nodiscard]] std::size_t capacity() const { return (pages_ - shift_) * kPageSize; }
  /// The largest buffer that an otherwise unused pool can hand out; 0 for a pool without memory.
  [[nodiscard]] std::size_t largest() const { return largest_; }
  [[nodiscard]] std::size_t bytes_free() const { return capacity() - probe_.bytes_in_use; }
  [[nodiscard]] const Probe& probe() const { return probe_; }

 private:
  friend class DmaBuf;
  static constexpr std::uint32_t kNone = UINT32_MAX;
  enum : std::uint8_t { kTail = 0xff, kFree = 0x80 };  // state_: kFree | order, order (in use), or kTail

  std::optional<DmaBuf> take(std::size_t size);
  void push_free(std::uint32_t page, unsigned order);
  void remove_free(std::uint32_t page, unsigned order);
  void release(std::uint32_t page);
  void serve_waiters();
  void withdraw(Waiter& waiter);

  // Pages are numbered from the 1 MiB boundary at or below the memory, so that a page number is as aligned as its
  // address; the first shift_ numbers stand for memory that is not ours and stay kTail for ever.
  std::byte* base_ = nullptr;  // the page numbered shift_
  std::uint32_t shift_ = 0;
  std::uint32_t pages_ = 0;  // numbers, including the first shift_
  std::size_t largest_ = 0;
  std::vector<std::uint8_t> state_;         // per page
  std::vector<std::uint32_t> owners_;       // per page: owners of the allocation starting here
  std::vector<std::uint32_t> next_, prev_;  // free list links, per page
  std::array<std::uint32_t, kMaxOrder + 1> free_{};
  IntrusiveList<Waiter> waiters_;
  bool serving_ = false;
  Probe probe_;
};

}  // namespace leap

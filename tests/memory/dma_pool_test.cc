#include "memory/dma_pool.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/alloc_counter.h"

namespace leap {
namespace {

constexpr std::size_t kPage = DmaPool::kPageSize;

/// Memory that begins `pages_past` pages behind a boundary of 1 MiB.
class Memory {
 public:
  explicit Memory(std::size_t pages, std::size_t pages_past = 0)
      : block_(
            static_cast<std::byte*>(std::aligned_alloc(DmaPool::kMaxBuffer, round_up((pages + pages_past) * kPage)))),
        span_(block_.get() + pages_past * kPage, pages * kPage) {}
  [[nodiscard]] std::span<std::byte> span() const { return span_; }

 private:
  static std::size_t round_up(std::size_t size) {
    return (size + DmaPool::kMaxBuffer - 1) / DmaPool::kMaxBuffer * DmaPool::kMaxBuffer;
  }
  struct Free {
    void operator()(std::byte* block) const { std::free(block); }
  };
  std::unique_ptr<std::byte, Free> block_;
  std::span<std::byte> span_;
};

class Waiter final : public DmaPool::Waiter {
 public:
  explicit Waiter(std::vector<int>* log = nullptr, int id = 0) : log_(log), id_(id) {}
  void on_buffer(DmaBuf buffer) override {
    if (log_ != nullptr) log_->push_back(id_);
    ++calls;
    if (keep) held = std::move(buffer);
  }
  DmaBuf held;
  int calls = 0;
  bool keep = true;

 private:
  std::vector<int>* log_;
  int id_;
};

std::size_t rounded(std::size_t size) { return std::max(kPage, std::bit_ceil(size)); }

// --- one buffer ---

TEST(DmaPool, HandsOutExactSizesBackedByPowersOfTwoAlignedToThem) {
  const Memory memory(1024);
  DmaPool pool(memory.span());
  for (const std::size_t size : {std::size_t{1}, kPage - 1, kPage, kPage + 1, 3 * kPage, std::size_t{128 * 1024},
                                 DmaPool::kMaxBuffer - 1, DmaPool::kMaxBuffer}) {
    auto buffer = pool.try_allocate(size);
    ASSERT_TRUE(buffer.has_value()) << size;
    EXPECT_EQ(buffer->size(), size);
    EXPECT_EQ(buffer->bytes().size(), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % rounded(size), 0U) << size;
    EXPECT_EQ(pool.probe().bytes_in_use, rounded(size));
    std::memset(buffer->data(), 0xab, size);
  }
  EXPECT_EQ(pool.bytes_free(), pool.capacity());
}

TEST(DmaPool, AlignsAddressesWhereverItsMemoryBegins) {
  for (const std::size_t past : {std::size_t{1}, std::size_t{3}, std::size_t{128}, std::size_t{255}}) {
    const Memory memory(700, past);
    DmaPool pool(memory.span());
    EXPECT_EQ(pool.capacity(), 700 * kPage);
    for (std::size_t size = kPage; size <= DmaPool::kMaxBuffer; size *= 2) {
      auto buffer = pool.try_allocate(size);
      ASSERT_TRUE(buffer.has_value()) << size << " bytes, " << past << " pages past";
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % size, 0U);
      EXPECT_GE(buffer->data(), memory.span().data());
      EXPECT_LE(buffer->data() + size, memory.span().data() + memory.span().size());
    }
  }
}

TEST(DmaPool, AMovedFromOrResetBufferIsEmptyAndGivesBackOnce) {
  const Memory memory(4);
  DmaPool pool(memory.span());
  auto first = std::move(*pool.try_allocate(100));
  DmaBuf second = std::move(first);
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the question
  EXPECT_EQ(first.size(), 0U);
  EXPECT_TRUE(second.valid());
  DmaBuf third = std::move(*pool.try_allocate(kPage));
  third = std::move(second);  // gives its own buffer back
  EXPECT_EQ(pool.probe().bytes_in_use, kPage);
  third.reset();
  third.reset();
  EXPECT_EQ(pool.probe().bytes_in_use, 0U);
}

TEST(DmaPool, AFreeBufferIsNeverWrittenTo) {
  const Memory memory(512);
  std::fill(memory.span().begin(), memory.span().end(), std::byte{0x5a});
  {
    DmaPool pool(memory.span());
    std::vector<DmaBuf> held;
    while (auto buffer = pool.try_allocate(3 * kPage)) held.push_back(std::move(*buffer));
    held.clear();
  }
  EXPECT_TRUE(
      std::all_of(memory.span().begin(), memory.span().end(), [](std::byte b) { return b == std::byte{0x5a}; }));
}

// --- slices ---

TEST(DmaBuf, SlicesKeepTheMemoryUntilTheLastIsGone) {
  const Memory memory(4);
  DmaPool pool(memory.span());
  auto whole = std::move(*pool.try_allocate(4 * kPage));
  std::byte* const begin = whole.data();
  DmaBuf head = whole.slice(0, 100);
  DmaBuf tail = whole.slice(4 * kPage - 10, 10);
  DmaBuf inner = tail.slice(4, 3);
  EXPECT_EQ(head.data(), begin);
  EXPECT_EQ(inner.data(), begin + 4 * kPage - 6);
  EXPECT_EQ(inner.size(), 3U);
  whole.reset();
  tail.reset();
  EXPECT_EQ(pool.bytes_free(), 0U);
  EXPECT_FALSE(pool.try_allocate(1).has_value());
  head.reset();
  EXPECT_EQ(pool.bytes_free(), 0U);
  inner.reset();
  EXPECT_EQ(pool.bytes_free(), pool.capacity());
}

TEST(DmaBuf, TruncatingKeepsTheWholeMemory) {
  const Memory memory(4);
  DmaPool pool(memory.span());
  auto buffer = std::move(*pool.try_allocate(4 * kPage));
  buffer.truncate(10);
  EXPECT_EQ(buffer.size(), 10U);
  EXPECT_EQ(pool.bytes_free(), 0U);
  EXPECT_DEATH(buffer.truncate(11), "truncate");
  EXPECT_DEATH(static_cast<void>(buffer.slice(5, 6)), "slice");
  EXPECT_DEATH(static_cast<void>(buffer.slice(11, 0)), "slice");
  EXPECT_DEATH(static_cast<void>(buffer.slice(1, SIZE_MAX)), "slice");
}

// --- limits ---

TEST(DmaPool, ASizeItCanNeverServeIsAnError) {
  struct Case {
    std::size_t pages, past, largest_pages;
  };
  for (const Case& c : {Case{3, 0, 2}, Case{256, 0, 256}, Case{256, 1, 128}, Case{2, 1, 1}, Case{1024, 0, 256}}) {
    const Memory memory(c.pages, c.past);
    DmaPool pool(memory.span());
    EXPECT_EQ(pool.largest(), c.largest_pages * kPage);
    Waiter waiter;
    for (const std::size_t size : {std::size_t{0}, pool.largest() + 1, DmaPool::kMaxBuffer + 1, SIZE_MAX}) {
      const Result<> outcome = pool.allocate(size, waiter);
      ASSERT_FALSE(outcome.ok()) << size;
      EXPECT_EQ(outcome.error().kind(), Errc::kInvalidArgument);
      EXPECT_FALSE(waiter.linked());
    }
    ASSERT_TRUE(pool.allocate(pool.largest(), waiter).ok());
    EXPECT_EQ(waiter.calls, 1);
  }
}

TEST(DmaPool, WithoutMemoryServesNobodyAndSaysSo) {
  DmaPool pool(std::span<std::byte>{});
  Waiter waiter;
  EXPECT_EQ(pool.capacity(), 0U);
  EXPECT_FALSE(pool.try_allocate(1).has_value());
  EXPECT_FALSE(pool.allocate(1, waiter).ok());
}

TEST(DmaPoolDeathTest, BuffersThatOutliveItAreTold) {
  EXPECT_DEATH(
      {
        const Memory memory(1);
        DmaBuf late;
        DmaPool pool(memory.span());
        late = std::move(*pool.try_allocate(1));
        pool.~DmaPool();
      },
      "outlive");
  const Memory memory(2);
  EXPECT_DEATH(DmaPool(memory.span().subspan(8)), "aligned");
}

// --- waiting ---

TEST(DmaPool, ExhaustionIsBackPressureServedFirstComeFirstServed) {
  const Memory memory(4);
  DmaPool pool(memory.span());
  std::vector<int> log;
  auto all = pool.try_allocate(4 * kPage);
  Waiter small(&log, 1);
  Waiter large(&log, 2);
  Waiter later(&log, 3);
  ASSERT_TRUE(pool.allocate(kPage, small).ok());
  ASSERT_TRUE(pool.allocate(4 * kPage, large).ok());
  ASSERT_TRUE(pool.allocate(kPage, later).ok());
  EXPECT_TRUE(log.empty());
  all->reset();
  EXPECT_EQ(log, std::vector<int>{1});  // 3 would fit as well, but 2 is before it
  EXPECT_FALSE(pool.try_allocate(kPage).has_value()) << "somebody was overtaken";
  small.held.reset();
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
  large.held.reset();
  EXPECT_EQ(log, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(pool.probe().waits, 3U);
}

TEST(DmaPool, AWaiterThatDropsItsBufferAtOnceDoesNotStopTheRest) {
  const Memory memory(1);
  DmaPool pool(memory.span());
  std::vector<int> log;
  auto only = pool.try_allocate(kPage);
  std::vector<std::unique_ptr<Waiter>> waiters;
  for (int i = 0; i < 1000; ++i) {
    waiters.push_back(std::make_unique<Waiter>(&log, i));
    waiters.back()->keep = false;
    ASSERT_TRUE(pool.allocate(kPage, *waiters.back()).ok());
  }
  only->reset();
  EXPECT_EQ(log.size(), 1000U);
  EXPECT_TRUE(std::is_sorted(log.begin(), log.end()));
  EXPECT_EQ(pool.bytes_free(), pool.capacity());
}

TEST(DmaPool, AWaiterThatIsDestroyedWithdrawsAndLetsTheNextGoOn) {
  const Memory memory(4);
  DmaPool pool(memory.span());
  std::vector<int> log;
  auto half = pool.try_allocate(2 * kPage);
  auto large = std::make_unique<Waiter>(&log, 1);
  Waiter small(&log, 2);
  ASSERT_TRUE(pool.allocate(4 * kPage, *large).ok());
  ASSERT_TRUE(pool.allocate(2 * kPage, small).ok());
  EXPECT_TRUE(log.empty());
  large.reset();
  EXPECT_EQ(log, std::vector<int>{2});
  half->reset();
  EXPECT_EQ(log, std::vector<int>{2});
}

TEST(DmaPool, AWaiterMayWaitAgainButNotTwiceAtOnce) {
  const Memory memory(1);
  DmaPool pool(memory.span());
  Waiter waiter;
  auto only = pool.try_allocate(1);
  ASSERT_TRUE(pool.allocate(1, waiter).ok());
  EXPECT_DEATH(static_cast<void>(pool.allocate(1, waiter)), "already waiting");
  only->reset();
  EXPECT_EQ(waiter.calls, 1);
  waiter.held.reset();
  ASSERT_TRUE(pool.allocate(1, waiter).ok());
  EXPECT_EQ(waiter.calls, 2);
}

TEST(DmaPool, AllocatesNothingFromTheHeapInUse) {
  if (!alloc_counting_available()) GTEST_SKIP() << "allocations are not counted in this build (sanitizer)";
  const Memory memory(1024);
  DmaPool pool(memory.span());
  const std::uint64_t before = thread_allocations();
  for (int i = 0; i < 1000; ++i) {
    auto a = pool.try_allocate(4096);
    auto b = pool.try_allocate(100'000);
    auto c = b->slice(10, 10);
    Waiter waiter;
    ASSERT_TRUE(pool.allocate(4096, waiter).ok());
  }
  EXPECT_EQ(thread_allocations() - before, 0U);
}

// --- everything at once, against an oracle ---

/// Knows which bytes are handed out, and in which order waiters have to be served.
class Oracle {
 public:
  explicit Oracle(std::span<std::byte> memory) : memory_(memory) {}

  void add(const DmaBuf& buffer, std::size_t size) {
    const std::size_t begin = static_cast<std::size_t>(buffer.data() - memory_.data());
    const std::size_t room = rounded(size);
    RC_ASSERT(buffer.size() == size);
    RC_ASSERT(reinterpret_cast<std::uintptr_t>(buffer.data()) % room == 0U);
    RC_ASSERT(begin + room <= memory_.size());
    const auto next = blocks_.lower_bound(begin);
    RC_ASSERT(next == blocks_.end() || begin + room <= next->first);
    if (next != blocks_.begin()) RC_ASSERT(std::prev(next)->first + std::prev(next)->second <= begin);
    blocks_[begin] = room;
    in_use_ += room;
  }
  void remove(const DmaBuf& buffer) {
    // A slice lies anywhere inside its block.
    const std::size_t at = static_cast<std::size_t>(buffer.data() - memory_.data());
    const auto block = std::prev(blocks_.upper_bound(at));
    in_use_ -= block->second;
    blocks_.erase(block);
  }
  [[nodiscard]] std::size_t in_use() const { return in_use_; }

 private:
  std::span<std::byte> memory_;
  std::map<std::size_t, std::size_t> blocks_;
  std::size_t in_use_ = 0;
};

std::size_t random_size() {
  const std::size_t order = *rc::gen::inRange<std::size_t>(0, 9);
  const std::size_t top = kPage << order;
  return *rc::gen::element<std::size_t>(top + 0, top - 1, top / 2 + 1);
}

TEST(DmaPoolProperty, BuffersNeverOverlapAndAllMemoryComesBackWhole) {
  const bool held = rc::check("dma pool", [] {
    const Memory memory(*rc::gen::inRange<std::size_t>(1, 1200), *rc::gen::element<std::size_t>(0, 0, 1, 77, 255));
    DmaPool pool(memory.span());
    Oracle oracle(memory.span());
    std::vector<std::vector<DmaBuf>> owners;  // each: all owners of one block
    const int steps = *rc::gen::inRange(1, 150);
    for (int i = 0; i < steps; ++i) {
      const int what = *rc::gen::inRange(0, 10);
      if (what < 6) {
        const std::size_t size = random_size();
        auto buffer = pool.try_allocate(size);
        if (!buffer) {
          // Refused only when there is no room for it in one piece.
          RC_ASSERT(oracle.in_use() + rounded(size) > pool.capacity() || rounded(size) > kPage);
          continue;
        }
        oracle.add(*buffer, size);
        owners.emplace_back();
        owners.back().push_back(std::move(*buffer));
      } else if (!owners.empty()) {
        const std::size_t which = *rc::gen::inRange<std::size_t>(0, owners.size());
        auto& block = owners[which];
        if (what < 8) {
          const std::size_t size = block.front().size();
          const std::size_t offset = *rc::gen::inRange<std::size_t>(0, size);
          block.push_back(block.front().slice(offset, size - offset));
        } else {
          if (block.size() == 1) oracle.remove(block.back());
          std::swap(block.front(), block[block.size() / 2]);  // any owner may be the last
          block.pop_back();
          if (block.empty()) owners.erase(owners.begin() + static_cast<std::ptrdiff_t>(which));
        }
      }
      RC_ASSERT(pool.probe().bytes_in_use == oracle.in_use());
    }
    owners.clear();
    RC_ASSERT(pool.bytes_free() == pool.capacity());
    // Everything has coalesced: the largest buffers can be had again, as many as at the start.
    DmaPool fresh(memory.span());
    std::size_t again = 0;
    std::size_t expected = 0;
    std::vector<DmaBuf> held_back;
    while (auto buffer = pool.try_allocate(pool.largest())) {
      held_back.push_back(std::move(*buffer));
      ++again;
    }
    while (auto buffer = fresh.try_allocate(fresh.largest())) {
      held_back.push_back(std::move(*buffer));
      ++expected;
    }
    RC_ASSERT(again == expected);
    held_back.clear();
  });
  EXPECT_TRUE(held);
}

TEST(DmaPoolProperty, WaitersAreServedInArrivalOrderAndNobodyWaitsForEver) {
  const bool held = rc::check("dma pool waiters", [] {
    const Memory memory(*rc::gen::inRange<std::size_t>(2, 600));
    DmaPool pool(memory.span());
    std::vector<int> log;
    std::deque<std::unique_ptr<Waiter>> waiters;
    std::vector<int> withdrawn;
    const int steps = *rc::gen::inRange(1, 150);
    for (int i = 0; i < steps; ++i) {
      if (*rc::gen::inRange(0, 2) == 0) {
        waiters.push_back(std::make_unique<Waiter>(&log, i));
        const std::size_t size = std::min(random_size(), pool.largest());
        RC_ASSERT(pool.allocate(size, *waiters.back()).ok());
      } else if (!waiters.empty()) {
        // Gives back what it has, or withdraws.
        const std::size_t which = *rc::gen::inRange<std::size_t>(0, waiters.size());
        waiters.erase(waiters.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
    RC_ASSERT(std::is_sorted(log.begin(), log.end()));
    // From the front: whoever holds memory gives it back, until all have been served.
    while (!waiters.empty()) {
      RC_ASSERT(waiters.front()->calls == 1);
      waiters.pop_front();
    }
    RC_ASSERT(std::is_sorted(log.begin(), log.end()));
    RC_ASSERT(pool.bytes_free() == pool.capacity());
  });
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace leap

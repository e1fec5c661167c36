#include "store/allocator.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

using testing::HasSubstr;
using Request = BdevOffsetAllocator::Request;

constexpr std::uint64_t kPage = kStorePage;
constexpr std::uint64_t kBegin = 16 * kPage;

BdevOffsetAllocator::Config area(std::uint64_t pages, std::uint64_t limit = 0) {
  return {.begin = kBegin, .end = kBegin + pages * kPage, .limit = limit};
}

Extent pages(std::uint64_t first, std::uint64_t count) { return {kBegin + first * kPage, count * kPage}; }

TEST(BdevOffsetAllocator, TakesSpaceInOrderAndRoundsUpToPages) {
  BdevOffsetAllocator space(area(10));
  EXPECT_EQ(space.allocate({.bytes = 1}).value(), pages(0, 1));
  EXPECT_EQ(space.allocate({.bytes = kPage + 1}).value(), pages(1, 2));
  EXPECT_EQ(space.stats().allocated, 3 * kPage);
  EXPECT_EQ(space.stats().free, 7 * kPage);
}

TEST(BdevOffsetAllocator, FreedSpaceAtTheCursorGoesBackToTheBumpSpace) {
  BdevOffsetAllocator space(area(4));
  const Extent a = space.allocate({.bytes = kPage}).value();
  const Extent b = space.allocate({.bytes = kPage}).value();
  ASSERT_TRUE(space.free(a).ok());
  EXPECT_EQ(space.snapshot().free.size(), 1u);
  ASSERT_TRUE(space.free(b).ok());
  EXPECT_EQ(space.snapshot(), (BdevOffsetAllocator::Snapshot{kBegin, {}}));
  // 4 KiB freed and 8 KiB never used are one piece again.
  EXPECT_EQ(space.allocate({.bytes = 4 * kPage}).value(), pages(0, 4));
}

TEST(BdevOffsetAllocator, CoalescesWithBothNeighbours) {
  BdevOffsetAllocator space(area(8));
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(space.allocate({.bytes = kPage}).ok());
  ASSERT_TRUE(space.free(pages(1, 1)).ok());
  ASSERT_TRUE(space.free(pages(3, 1)).ok());
  ASSERT_TRUE(space.free(pages(2, 1)).ok());
  EXPECT_EQ(space.snapshot().free, (std::vector<Extent>{pages(1, 3)}));
  EXPECT_TRUE(space.verify().ok());
}

TEST(BdevOffsetAllocator, PrefersTheSpaceBehindTheHintThenTheSmallestFit) {
  BdevOffsetAllocator space(area(32));
  ASSERT_TRUE(space.allocate({.bytes = 32 * kPage}).ok());
  ASSERT_TRUE(space.free(pages(2, 6)).ok());
  ASSERT_TRUE(space.free(pages(10, 2)).ok());
  ASSERT_TRUE(space.free(pages(20, 3)).ok());
  EXPECT_EQ(space.allocate({.bytes = 2 * kPage, .hint = kBegin + 2 * kPage}).value(), pages(2, 2));
  EXPECT_EQ(space.allocate({.bytes = 2 * kPage, .hint = kBegin + 15 * kPage}).value(), pages(10, 2));
  EXPECT_EQ(space.allocate({.bytes = 3 * kPage}).value(), pages(20, 3));
}

TEST(BdevOffsetAllocator, ExtendsInPlaceAsFarAsTheNeighbourIsFree) {
  BdevOffsetAllocator space(area(10));
  ASSERT_TRUE(space.allocate({.bytes = 5 * kPage}).ok());
  ASSERT_TRUE(space.free(pages(1, 2)).ok());
  EXPECT_EQ(space.extend(kBegin + kPage, {.bytes = 4 * kPage}), 2 * kPage);
  EXPECT_EQ(space.extend(kBegin + kPage, {.bytes = kPage}), 0u);
  EXPECT_EQ(space.extend(kBegin + 5 * kPage, {.bytes = 100 * kPage}), 5 * kPage);
  EXPECT_EQ(space.stats().free, 0u);
}

TEST(BdevOffsetAllocator, FallsBackToSeveralExtentsWheneverEnoughIsFree) {
  BdevOffsetAllocator space(area(16));
  ASSERT_TRUE(space.allocate({.bytes = 16 * kPage}).ok());
  for (const std::uint64_t first : {1, 4, 9, 13}) ASSERT_TRUE(space.free(pages(first, 2)).ok());
  Result<Extent> single = space.allocate({.bytes = 3 * kPage});
  ASSERT_FALSE(single.ok());
  EXPECT_EQ(single.error().kind(), Errc::kNoSpace);
  EXPECT_THAT(single.error().message(), HasSubstr("largest free extent 8.0 KiB"));

  const std::vector<Extent> parts = space.allocate_many({.bytes = 7 * kPage}).value();
  std::uint64_t sum = 0;
  for (const Extent& part : parts) sum += part.length;
  EXPECT_EQ(sum, 7 * kPage);
  EXPECT_EQ(parts.size(), 4u);
}

TEST(BdevOffsetAllocator, RefusesMoreExtentsThanAllowedAndChangesNothing) {
  BdevOffsetAllocator space(area(16));
  ASSERT_TRUE(space.allocate({.bytes = 16 * kPage}).ok());
  for (std::uint64_t first = 0; first < 16; first += 2) ASSERT_TRUE(space.free(pages(first, 1)).ok());
  const auto before = space.snapshot();
  Result<std::vector<Extent>> many = space.allocate_many({.bytes = 5 * kPage}, 4);
  ASSERT_FALSE(many.ok());
  EXPECT_THAT(many.error().message(), HasSubstr("too many pieces"));
  EXPECT_EQ(space.snapshot(), before);
}

TEST(BdevOffsetAllocator, ReservedSpaceIsForItsOwnerOnly) {
  BdevOffsetAllocator space(area(10));
  ASSERT_TRUE(space.reserve(8 * kPage).ok());
  EXPECT_EQ(space.reserve(3 * kPage).error().kind(), Errc::kNoSpace);
  EXPECT_EQ(space.allocate({.bytes = 3 * kPage}).error().kind(), Errc::kNoSpace);
  EXPECT_TRUE(space.allocate({.bytes = 2 * kPage}).ok());
  EXPECT_TRUE(space.allocate({.bytes = 5 * kPage, .from_reservation = 8 * kPage}).ok());
  EXPECT_EQ(space.stats().reserved, 3 * kPage);
  space.unreserve(3 * kPage);
  EXPECT_TRUE(space.allocate({.bytes = 3 * kPage}).ok());
  EXPECT_EQ(space.stats().free, 0u);
}

TEST(BdevOffsetAllocator, HoldsItsLimitBelowTheArea) {
  BdevOffsetAllocator space(area(10, 4 * kPage));
  EXPECT_EQ(space.stats().capacity, 4 * kPage);
  const Extent taken = space.allocate({.bytes = 4 * kPage}).value();
  EXPECT_EQ(space.allocate({.bytes = kPage}).error().kind(), Errc::kNoSpace);
  ASSERT_TRUE(space.free(taken).ok());
  EXPECT_EQ(space.stats().free, 4 * kPage);
}

TEST(BdevOffsetAllocator, RefusesToFreeWhatIsNotAllocated) {
  BdevOffsetAllocator space(area(10));
  ASSERT_TRUE(space.allocate({.bytes = 6 * kPage}).ok());
  ASSERT_TRUE(space.free(pages(2, 2)).ok());
  for (const Extent bad :
       {pages(2, 1), pages(3, 2), pages(1, 2), pages(0, 6), pages(5, 2), pages(8, 1), Extent{kBegin - kPage, kPage},
        Extent{kBegin + 1, kPage}, Extent{kBegin, 100}, Extent{kBegin, 0}, Extent{UINT64_MAX - kPage + 1, kPage}}) {
    const auto before = space.snapshot();
    Result<> freed = space.free(bad);
    ASSERT_FALSE(freed.ok()) << bad.device_offset << "+" << bad.length;
    EXPECT_EQ(freed.error().kind(), Errc::kCorrupt);
    EXPECT_EQ(space.snapshot(), before);
  }
}

TEST(BdevOffsetAllocator, RebuildNamesBothExtentsThatOverlap) {
  BdevOffsetAllocator space(area(10));
  const std::vector<Extent> bad = {pages(0, 3), pages(2, 2)};
  Result<> rebuilt = space.rebuild(bad);
  ASSERT_FALSE(rebuilt.ok());
  EXPECT_THAT(rebuilt.error().message(), HasSubstr("[73728, 81920) overlaps [65536, 77824)"));
  const std::vector<Extent> outside = {pages(9, 2)};
  EXPECT_EQ(space.rebuild(outside).error().kind(), Errc::kCorrupt);
  const std::vector<Extent> good = {pages(1, 2), pages(3, 1), pages(6, 1)};
  ASSERT_TRUE(space.rebuild(good).ok());
  EXPECT_EQ(space.snapshot(), (BdevOffsetAllocator::Snapshot{kBegin + 7 * kPage, {pages(0, 1), pages(4, 2)}}));
}

TEST(BdevOffsetAllocator, RefusesABadSnapshot) {
  BdevOffsetAllocator space(area(10));
  using Snapshot = BdevOffsetAllocator::Snapshot;
  for (const Snapshot& bad :
       {Snapshot{kBegin + 11 * kPage, {}}, Snapshot{kBegin + 1, {}}, Snapshot{kBegin + 5 * kPage, {pages(4, 1)}},
        Snapshot{kBegin + 9 * kPage, {pages(4, 1), pages(4, 2)}},
        Snapshot{kBegin + 9 * kPage, {pages(4, 1), pages(5, 1)}}, Snapshot{kBegin + 9 * kPage, {pages(4, 0)}},
        Snapshot{kBegin + 9 * kPage, {{UINT64_MAX - kPage + 1, 2 * kPage}}}}) {
    EXPECT_EQ(space.restore(bad).error().kind(), Errc::kCorrupt);
  }
}

// The oracle: one flag a page.
class Oracle {
 public:
  explicit Oracle(std::size_t n) : taken_(n, false) {}
  void take(Extent e) { set(e, true); }
  void give(Extent e) { set(e, false); }
  [[nodiscard]] std::uint64_t free_bytes() const {
    return static_cast<std::uint64_t>(std::count(taken_.begin(), taken_.end(), false)) * kPage;
  }
  [[nodiscard]] std::uint64_t longest_free() const {
    std::uint64_t best = 0, run = 0;
    for (const bool taken : taken_) {
      run = taken ? 0 : run + 1;
      best = std::max(best, run);
    }
    return best * kPage;
  }

 private:
  void set(Extent e, bool to) {
    for (std::uint64_t p = (e.device_offset - kBegin) / kPage; p < (e.end() - kBegin) / kPage; ++p) {
      RC_ASSERT(p < taken_.size());
      RC_ASSERT(taken_[p] != to);
      taken_[p] = to;
    }
  }
  std::vector<bool> taken_;
};

// One random operation on both; `held` is what is allocated.
void step(BdevOffsetAllocator& space, Oracle& oracle, std::vector<Extent>& held, Rng& rng) {
  const std::uint64_t bytes = (1 + rng.below(24)) * kPage - rng.below(kPage);
  const std::uint64_t hint = held.empty() || rng.chance(0.3) ? 0 : held[rng.below(held.size())].end();
  const auto keep = [&](Extent e) {
    oracle.take(e);
    held.push_back(e);
  };
  switch (rng.below(5)) {
    case 0: {
      Result<Extent> got = space.allocate({.bytes = bytes, .hint = hint});
      RC_ASSERT(got.ok() == (oracle.longest_free() >= page_round_up(bytes)));
      if (got) keep(*got);
      return;
    }
    case 1: {
      Result<std::vector<Extent>> got = space.allocate_many({.bytes = bytes, .hint = hint}, SIZE_MAX);
      RC_ASSERT(got.ok() == (oracle.free_bytes() >= page_round_up(bytes)));
      if (!got) return;
      for (const Extent& e : *got) keep(e);
      return;
    }
    case 2: {
      if (held.empty()) return;
      Extent& grow = held[rng.below(held.size())];
      const std::uint64_t gained = space.extend(grow.end(), {.bytes = bytes});
      if (gained == 0) return;
      oracle.take({grow.end(), gained});
      grow.length += gained;
      return;
    }
    case 3: {  // part of one
      if (held.empty()) return;
      Extent& cut = held[rng.below(held.size())];
      if (cut.length < 2 * kPage) return;
      const std::uint64_t part = (1 + rng.below(cut.length / kPage - 1)) * kPage;
      const Extent tail{cut.end() - part, part};
      RC_ASSERT(space.free(tail).ok());
      oracle.give(tail);
      cut.length -= part;
      return;
    }
    default: {
      if (held.empty()) return;
      const std::size_t index = rng.below(held.size());
      RC_ASSERT(space.free(held[index]).ok());
      oracle.give(held[index]);
      held[index] = held.back();
      held.pop_back();
      return;
    }
  }
}

RC_GTEST_PROP(BdevOffsetAllocatorProperty, BehavesLikeABitmap, ()) {
  const std::size_t size = *rc::gen::inRange<std::size_t>(1, 300);
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  BdevOffsetAllocator space(area(size));
  Oracle oracle(size);
  std::vector<Extent> held;
  for (int i = 0; i < 400; ++i) {
    step(space, oracle, held, rng);
    RC_ASSERT(space.stats().free == oracle.free_bytes());
    RC_ASSERT(space.stats().largest_free == oracle.longest_free());
  }
  RC_ASSERT(space.verify().ok());

  // The state depends on what is allocated only, not on how it came to be.
  std::sort(held.begin(), held.end(), [](Extent a, Extent b) { return a.device_offset < b.device_offset; });
  BdevOffsetAllocator rebuilt(area(size));
  RC_ASSERT(rebuilt.rebuild(held).ok());
  RC_ASSERT(rebuilt.snapshot() == space.snapshot());
  BdevOffsetAllocator restored(area(size));
  RC_ASSERT(restored.restore(space.snapshot()).ok());
  RC_ASSERT(restored.snapshot() == space.snapshot());

  for (const Extent& e : held) RC_ASSERT(space.free(e).ok());
  RC_ASSERT(space.snapshot() == (BdevOffsetAllocator::Snapshot{kBegin, {}}));
}

TEST(BdevOffsetAllocator, HandsNothingOutTwiceToConcurrentThreads) {
  BdevOffsetAllocator space(area(4096));
  std::vector<std::vector<Extent>> held(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < held.size(); ++t) {
    threads.emplace_back([&space, &mine = held[t], t] {
      Rng rng(t);
      for (int i = 0; i < 5000; ++i) {
        if (mine.size() < 40 || rng.chance(0.5)) {
          if (Result<Extent> got = space.allocate({.bytes = (1 + rng.below(10)) * kPage})) mine.push_back(*got);
        } else {
          const std::size_t index = rng.below(mine.size());
          ASSERT_TRUE(space.free(mine[index]).ok());
          mine[index] = mine.back();
          mine.pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<Extent> all;
  for (const auto& mine : held) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end(), [](Extent a, Extent b) { return a.device_offset < b.device_offset; });
  BdevOffsetAllocator rebuilt(area(4096));
  ASSERT_TRUE(rebuilt.rebuild(all).ok());
  EXPECT_EQ(rebuilt.snapshot(), space.snapshot());
}

}  // namespace
}  // namespace leap

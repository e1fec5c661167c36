#include "base/mpsc_ring.h"

#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace leap {
namespace {

TEST(MpscRing, RefusesWhenFullAndAcceptsAgainAfterPop) {
  MpscRing<int> ring(4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.try_push(i));
  EXPECT_FALSE(ring.try_push(99));
  EXPECT_EQ(ring.try_pop(), 0);
  EXPECT_TRUE(ring.try_push(4));
  for (int i = 1; i <= 4; ++i) EXPECT_EQ(ring.try_pop(), i);
  EXPECT_EQ(ring.try_pop(), std::nullopt);
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRing, KeepsEveryProducersOrderUnderContention) {
  constexpr std::uint64_t kProducers = 4;
  constexpr std::uint64_t kPerProducer = 50'000;
  MpscRing<std::uint64_t> ring(64);
  std::vector<std::thread> producers;
  for (std::uint64_t p = 0; p < kProducers; ++p) {
    producers.emplace_back([&ring, p] {
      for (std::uint64_t i = 0; i < kPerProducer; ++i) {
        while (!ring.try_push(p << 32 | i)) std::this_thread::yield();
      }
    });
  }
  std::vector<std::uint64_t> next(kProducers, 0);
  for (std::uint64_t received = 0; received < kProducers * kPerProducer;) {
    const auto value = ring.try_pop();
    if (!value) {
      std::this_thread::yield();
      continue;
    }
    const auto producer = *value >> 32;
    ASSERT_EQ(*value & 0xffffffff, next[producer]);
    ++next[producer];
    ++received;
  }
  for (auto& producer : producers) producer.join();
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace leap

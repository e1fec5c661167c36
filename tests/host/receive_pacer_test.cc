#include "host/tcp/receive_pacer.h"

#include <gtest/gtest.h>

namespace leap::test {
namespace {

using std::chrono::microseconds;

class ReceivePacerTest : public ::testing::Test {
 protected:
  ReceivePacer pacer;
  TimePoint now{1'000'000};

  /// Answers that come `gap` apart; how many reads it takes to get `count` of them when asked every 100 ns.
  std::uint32_t reads_for(std::uint32_t in_flight, Nanos gap, std::uint32_t count);
};

std::uint32_t ReceivePacerTest::reads_for(std::uint32_t in_flight, Nanos gap, std::uint32_t count) {
  TimePoint next_answer = now + gap;
  std::uint32_t reads = 0;
  for (std::uint32_t got = 0; got < count; now = now + Nanos(100)) {
    if (!pacer.due(now, 0)) continue;
    ++reads;
    std::uint32_t answers = 0;
    for (; next_answer <= now; next_answer = next_answer + gap) ++answers;
    got += answers;
    pacer.on_read(now, answers, in_flight - std::min(in_flight, answers), 0);
  }
  return reads;
}

TEST_F(ReceivePacerTest, AsksEveryTimeWhenFewAreInFlight) { EXPECT_GT(reads_for(1, microseconds(10), 100), 9000U); }

TEST_F(ReceivePacerTest, GathersAnswersWhenManyAreInFlight) {
  reads_for(32, microseconds(4), 200);  // learns
  EXPECT_LE(reads_for(32, microseconds(4), 1000), 150U);
}

TEST_F(ReceivePacerTest, NeverWaitsForMoreThanAThirdOfWhatIsInFlight) {
  reads_for(12, microseconds(4), 200);
  EXPECT_GE(reads_for(12, microseconds(4), 1000), 200U);
}

TEST_F(ReceivePacerTest, StandsAsideWhenAnswersComeSlowly) {
  reads_for(32, microseconds(4), 200);
  reads_for(32, microseconds(100), 50);
  EXPECT_GE(reads_for(32, microseconds(100), 10), 5000U);
}

TEST_F(ReceivePacerTest, LetsALargePayloadGatherUnlessItIsAlone) {
  reads_for(32, microseconds(100), 50);
  pacer.on_read(now, 1, 31, 1 << 20);
  EXPECT_FALSE(pacer.due(now + Nanos(ReceivePacer::kPayloadPauseNs - 1), 0));
  EXPECT_TRUE(pacer.due(now + Nanos(ReceivePacer::kPayloadPauseNs), 0));
  pacer.on_read(now, 0, 1, 1 << 20);
  EXPECT_TRUE(pacer.due(now, 0));
}

TEST_F(ReceivePacerTest, IsDueAfterTheLongestPauseWhateverItLearned) {
  reads_for(128, microseconds(4), 1000);
  now = now + microseconds(100);
  pacer.on_read(now, 1, 127, 0);
  EXPECT_TRUE(pacer.due(now + Nanos(ReceivePacer::kLongestPauseNs), 0));
}

TEST_F(ReceivePacerTest, IsDueWhenThePollerHasSlept) {
  reads_for(32, microseconds(4), 1000);
  now = now + microseconds(100);
  pacer.on_read(now, 10, 22, 0);
  pacer.on_read(now + microseconds(40), 10, 22, 0);
  EXPECT_FALSE(pacer.due(now + microseconds(41), 0));
  EXPECT_TRUE(pacer.due(now + microseconds(41), 1));
}

}  // namespace
}  // namespace leap::test

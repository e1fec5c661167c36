// ReceivePacer: how long to leave a busy connection alone, so that one read brings several answers.
//
// A poller that spins asks every hot connection every turn. With many commands in flight most of these reads find one
// answer or none, and each costs a system call that the answers' sender pays for as well (both sides lock the socket).
// The pacer learns how far apart answers come and spaces the reads so that each should bring a third of what is in
// flight, at most kMostAnswers: enough stays with the controller to keep it busy. It stands aside (always due) with few
// commands in flight, where latency counts, when answers come slowly, and after the poller has slept, because then the
// descriptor said that there is something.
//
// Threading: one poller. Pure arithmetic on the times it is given.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace leap {

class ReceivePacer {
 public:
  static constexpr std::uint32_t kMostAnswers = 16;
  /// Answers further apart than this are waited for one by one.
  static constexpr std::int64_t kSlowGapNs = 10'000;
  static constexpr std::int64_t kLongestPauseNs = 30'000;
  /// With at least this much of a data PDU still to come, the socket is given time to fill.
  static constexpr std::size_t kLargePayload = 16 * 1024;
  static constexpr std::int64_t kPayloadPauseNs = 15'000;

  /// Whether to read now. `sleeps`: how often the poller has slept so far.
  [[nodiscard]] bool due(TimePoint now, std::uint64_t sleeps) {
    if (now >= next_read_ || sleeps != sleeps_) {
      sleeps_ = sleeps;
      return true;
    }
    return false;
  }

  /// After a read at `now` that brought `answers`, with `in_flight` commands left unanswered.
  void on_read(TimePoint now, std::uint32_t answers, std::uint32_t in_flight, std::size_t payload_left) {
    if (answers > 0) {
      const std::int64_t gap = (now - last_answer_).count() / answers;
      gap_ns_ += (std::clamp<std::int64_t>(gap, 0, 4 * kSlowGapNs) - gap_ns_) / 8;
      last_answer_ = now;
    }
    const std::uint32_t wanted = std::min((in_flight + answers) / 3, kMostAnswers);
    std::int64_t pause = 0;
    if (wanted >= 2 && payload_left >= kLargePayload)
      pause = kPayloadPauseNs;
    else if (wanted >= 2 && gap_ns_ <= kSlowGapNs)
      pause = std::min(gap_ns_ * wanted, kLongestPauseNs);
    next_read_ = now + Nanos(pause);
  }

 private:
  TimePoint next_read_;
  TimePoint last_answer_;
  std::int64_t gap_ns_ = 4 * kSlowGapNs;
  std::uint64_t sleeps_ = 0;
};

}  // namespace leap

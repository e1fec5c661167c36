// What every queue pair promises: slots, order, exactly one completion, deadlines, draining, buffers.
#include "queue_pair_fixture.h"

namespace leap::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(QueuePairStates, FollowTheirTable) {
  using S = QueuePairState;
  using E = QueuePairEvent;
  EXPECT_EQ(next_state(S::kConnecting, E::kEstablished), S::kLive);
  EXPECT_EQ(next_state(S::kLive, E::kDrain), S::kDraining);
  for (const S state : {S::kConnecting, S::kLive, S::kDraining}) {
    for (const E event : {E::kExpired, E::kFault, E::kClose}) EXPECT_EQ(next_state(state, event), S::kFailed);
  }
  EXPECT_EQ(next_state(S::kFailed, E::kQuiesced), S::kClosed);
  for (const E event : {E::kEstablished, E::kDrain, E::kExpired, E::kFault, E::kClose, E::kQuiesced}) {
    EXPECT_EQ(next_state(S::kClosed, event), S::kClosed) << "a queue pair never comes back";
    EXPECT_NE(next_state(S::kFailed, event), S::kLive);
  }
}

TEST_F(QueuePairTest, SubmittersWaitForSlotsInOrder) {
  config.queue.depth = 2;
  connect();
  for (std::uint64_t lba = 0; lba < 6; ++lba) read(lba, 512);
  // Two are out; each answer lets exactly the oldest waiter go.
  std::vector<nvme::Cid> out{expect_command().command().cid, expect_command().command().cid};
  expect_nothing();
  EXPECT_EQ(qp->outstanding(), 2U);
  for (std::uint64_t next = 2; next < 6; ++next) {
    peer.send_data(out[next % 2], 0, pattern(512, 1), true, true);
    deliver();
    const auto command = expect_command().command();
    EXPECT_EQ(nvme::rw_fields(command).slba, next);
    out[next % 2] = command.cid;
    expect_nothing();
  }
  EXPECT_EQ(qp->probe().slot_waits.value(), 4U);
}

TEST_F(QueuePairTest, ANewcomerDoesNotOvertakeTheWaiting) {
  config.queue.depth = 1;
  connect();
  flush();
  const auto cid = expect_command().command().cid;
  read(1, 512);
  peer.respond(cid);
  deliver();  // the slot goes to the read
  read(2, 512);
  EXPECT_EQ(nvme::rw_fields(expect_command().command()).slba, 1U);
  expect_nothing();
}

TEST_F(QueuePairTest, CommandIdsOfASlotDiffer) {
  config.queue.depth = 1;
  connect();
  std::vector<nvme::Cid> seen;
  for (int i = 0; i < 1000; ++i) {
    flush();
    const auto cid = expect_command().command().cid;
    for (const nvme::Cid earlier : seen) ASSERT_NE(cid, earlier);
    ASSERT_NE(cid, nvme::kNoCid);
    seen.push_back(cid);
    peer.respond(cid);
    deliver();
    forget();
  }
}

TEST_F(QueuePairTest, CommandIdFFFFIsNeverUsed) {
  config.queue.depth = 1;  // no bits of slot: the generation walks through every value
  connect();
  for (int i = 0; i < 65536 + 10; ++i) {
    flush();
    const auto cid = expect_command().command().cid;
    ASSERT_NE(cid, nvme::kNoCid);
    peer.respond(cid);
    deliver();
    forget();
  }
}

TEST_F(QueuePairTest, APassedDeadlineEndsTheCommandAndTheQueuePair) {
  connect();
  Outcome& first = write(0, pattern(512, 1));
  loop.advance(seconds(20));
  Outcome& second = read(8, 512);
  expect_command();
  expect_command();
  loop.advance(seconds(9));
  EXPECT_FALSE(first.done());
  loop.advance(seconds(2));
  ASSERT_TRUE(first.done());
  EXPECT_EQ(first.error().kind(), Errc::kTimedOut);
  EXPECT_EQ(first.error().domain(), ErrorDomain::kTransport);
  EXPECT_TRUE(first.error().may_have_executed());
  EXPECT_FALSE(first.result->data.valid()) << "the buffer stays with the queue pair";
  EXPECT_NE(first.error().message().find("write of LBA 0+1"), std::string::npos);
  ASSERT_TRUE(second.done());
  EXPECT_EQ(second.error().kind(), Errc::kClosed) << "it had time left";
  EXPECT_TRUE(second.error().may_have_executed());
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(qp->probe().timeouts.value(), 1U);
  EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U);
}

TEST_F(QueuePairTest, AnsweredCommandsNeverTimeOut) {
  connect();
  for (int i = 0; i < 10; ++i) {
    Outcome& outcome = flush();
    const auto cid = expect_command().command().cid;
    loop.advance(seconds(29));
    peer.respond(cid);
    deliver();
    EXPECT_TRUE(outcome.ok());
  }
  loop.advance(seconds(100));
  EXPECT_TRUE(qp->live());
}

TEST_F(QueuePairTest, WaitersFailUnexecutedWithTheirBuffer) {
  config.queue.depth = 1;
  connect();
  flush();
  Outcome& waiting = write(0, pattern(4096, 1));
  loop.advance(seconds(31));
  ASSERT_TRUE(waiting.done());
  EXPECT_FALSE(waiting.error().may_have_executed());
  EXPECT_EQ(bytes_of(waiting.result->data), pattern(4096, 1));
}

TEST_F(QueuePairTest, RefusesWhatItCannotDo) {
  config.queue.max_transfer = 8192;
  connect();
  Outcome& too_long = read(0, 16384);
  Outcome& no_buffer = execute(nvme::make_read(kNs1, 0, 1), DmaBuf(), nvme::DataDirection::kControllerToHost);
  Outcome& no_direction = execute(nvme::make_flush(kNs1), buffer(512), nvme::DataDirection::kNone);
  for (Outcome* outcome : {&too_long, &no_buffer, &no_direction}) {
    ASSERT_TRUE(outcome->done());
    EXPECT_EQ(outcome->error().kind(), Errc::kInvalidArgument);
    EXPECT_FALSE(outcome->error().may_have_executed());
  }
  EXPECT_EQ(too_long.result->data.size(), 16384U);
  expect_nothing();
}

TEST_F(QueuePairTest, AClosedOneRefusesWithTheReasonAndTheBuffer) {
  connect();
  wire().reset = ECONNRESET;
  loop.settle();
  Outcome& outcome = write(0, pattern(512, 1));
  ASSERT_TRUE(outcome.done());
  EXPECT_EQ(outcome.error().kind(), Errc::kClosed);
  EXPECT_NE(outcome.error().message().find("closed"), std::string::npos);
  EXPECT_TRUE(outcome.error().retryable());
  EXPECT_FALSE(outcome.error().may_have_executed());
  EXPECT_EQ(outcome.result->data.size(), 512U);
}

TEST_F(QueuePairTest, ClosingCancelsWhatIsPending) {
  config.queue.depth = 2;
  connect();
  Outcome& sent = write(0, pattern(4096, 1));
  expect_command();
  Outcome& unsent = write(8, pattern(4096, 2));
  Outcome& waiting = write(16, pattern(4096, 3));
  qp->close();
  loop.settle();
  for (Outcome* outcome : {&sent, &unsent, &waiting}) {
    ASSERT_TRUE(outcome->done());
    EXPECT_EQ(outcome->error().kind(), Errc::kCancelled);
  }
  EXPECT_TRUE(sent.error().may_have_executed());
  EXPECT_FALSE(unsent.error().may_have_executed());
  EXPECT_FALSE(waiting.error().may_have_executed());
  EXPECT_TRUE(wire().host_closed);
  EXPECT_FALSE(qp->failure().has_value()) << "closing is no failure";
}

struct CountingObserver final : QueuePair::Observer {
  int failures = 0;
  void on_queue_pair_failed(QueuePair& failed) override {
    ++failures;
    EXPECT_TRUE(failed.failure().has_value());
  }
};

TEST_F(QueuePairTest, TellsItsObserverOnceAndOnlyOfFailures) {
  CountingObserver observer;
  connect();
  qp->set_observer(&observer);
  wire().peer_closed = true;
  loop.settle();
  qp->fail(Error(Errc::kInternal, "again"));
  EXPECT_EQ(observer.failures, 1);
  restart();
  connect();
  qp->set_observer(&observer);
  qp->close();
  EXPECT_EQ(observer.failures, 1);
}

Task<void> read_once(QueuePair& qp, DmaBuf data, bool& finished) {
  CommandResult result =
      co_await qp.execute(nvme::make_read(kNs1, 0, 8), std::move(data), nvme::DataDirection::kControllerToHost);
  finished = true;
}

TEST_F(QueuePairTest, AbandonedCommandsKeepTheirBufferUntilAnswered) {
  // The awaiting tasks are destroyed with their poller, one in flight and one waiting for a slot.
  bool finished = false;
  config.queue.depth = 1;
  connect();
  loop.spawn(read_once(*qp, buffer(4096), finished));
  const auto cid = expect_command().command().cid;
  loop.spawn(read_once(*qp, buffer(4096), finished));
  EXPECT_EQ(loop.pool.probe().bytes_in_use, 8192U);
  loop.poller.stop();
  EXPECT_EQ(loop.pool.probe().bytes_in_use, 4096U) << "the one in flight belongs to the queue pair";
  peer.send_data(cid, 0, pattern(4096, 1), true, true);
  deliver();
  EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U);
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(qp->outstanding(), 0U);
  EXPECT_FALSE(finished);
}

/// A submission without a coroutine, which submits again from its own completion.
struct Resubmitter final : Submission {
  QueuePair& queue;
  int left;
  int failed = 0;
  Resubmitter(QueuePair& qp, int times) : queue(qp), left(times) {
    command = nvme::make_flush(kNs1);
    queue.submit(*this);
  }
  void on_done(CommandResult result) override {
    if (!result.status.ok()) ++failed;
    if (--left > 0) queue.submit(*this);
  }
};

TEST_F(QueuePairTest, ACompletionMaySubmitAgain) {
  config.queue.depth = 1;
  connect();
  Resubmitter again(*qp, 3);
  for (int i = 0; i < 3; ++i) {
    peer.respond(expect_command().command().cid);
    deliver();
  }
  EXPECT_EQ(again.left, 0);
  EXPECT_FALSE(again.pending());
  EXPECT_EQ(again.failed, 0);
}

TEST_F(QueuePairTest, ACompletionMaySubmitToTheQueuePairThatJustFailed) {
  connect();
  Resubmitter again(*qp, 5);
  expect_command();
  wire().peer_closed = true;
  loop.settle();
  EXPECT_EQ(again.left, 0);
  EXPECT_EQ(again.failed, 5);
}

struct Closer final : Submission {
  QueuePair& queue;
  explicit Closer(QueuePair& qp) : queue(qp) {
    command = nvme::make_flush(kNs1);
    queue.submit(*this);
  }
  void on_done(CommandResult /*result*/) override { queue.close(); }
};

TEST_F(QueuePairTest, ACompletionMayCloseTheQueuePair) {
  connect();
  const Closer closer(*qp);
  Outcome& other = read(0, 4096);
  const auto cid = expect_command().command().cid;
  const auto read_cid = expect_command().command().cid;
  peer.respond(cid);
  peer.send_data(read_cid, 0, pattern(4096, 1), true, true);  // in the same read
  deliver();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(other.error().kind(), Errc::kCancelled);
}

TEST_F(QueuePairTest, DrainsWhatWasAcceptedAndRefusesTheRest) {
  config.queue.depth = 1;
  connect();
  Outcome& in_flight = flush();
  Outcome& waiting = flush();
  std::optional<Result<>> drained;
  const auto drain = [](QueuePair& queue, TimePoint deadline, std::optional<Result<>>& result) -> Task<void> {
    Result<> outcome = co_await queue.drain(deadline);
    result.emplace(std::move(outcome));
  };
  loop.spawn(drain(*qp, loop.clock.now() + seconds(5), drained));
  Outcome& late = flush();
  EXPECT_EQ(late.error().kind(), Errc::kClosed);
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(drained.has_value());
    peer.respond(expect_command().command().cid);
    deliver();
  }
  EXPECT_TRUE(in_flight.ok() && waiting.ok());
  ASSERT_TRUE(drained.has_value());
  EXPECT_TRUE(drained->ok());
  EXPECT_EQ(qp->state(), QueuePairState::kDraining);
}

TEST_F(QueuePairTest, DrainingAHungPeerEndsAtTheDeadline) {
  connect();
  Outcome& hung = write(0, pattern(4096, 1));
  std::optional<Result<>> drained;
  const auto drain = [](QueuePair& queue, TimePoint deadline, std::optional<Result<>>& result) -> Task<void> {
    Result<> outcome = co_await queue.drain(deadline);
    result.emplace(std::move(outcome));
  };
  loop.spawn(drain(*qp, loop.clock.now() + seconds(3), drained));
  loop.advance(milliseconds(2900));
  EXPECT_FALSE(drained.has_value());
  loop.advance(milliseconds(200));
  ASSERT_TRUE(drained.has_value() && !drained->ok());
  EXPECT_EQ(drained->error().kind(), Errc::kTimedOut);
  EXPECT_EQ(hung.error().kind(), Errc::kTimedOut);
  EXPECT_TRUE(hung.error().may_have_executed());
}

TEST_F(QueuePairTest, CountsWhatItDoes) {
  connect();
  read(0, 4096);
  write(0, pattern(512, 1));
  peer.send_data(expect_command().command().cid, 0, pattern(4096, 1), true, true);
  peer.respond(expect_command().command().cid);
  deliver();
  const QueuePair::Probe& probe = qp->probe();
  EXPECT_EQ(probe.submitted.value(), 2U);
  EXPECT_EQ(probe.completed.value(), 2U);
  EXPECT_EQ(probe.read_bytes.value(), 4096U);
  EXPECT_EQ(probe.written_bytes.value(), 512U);
  EXPECT_EQ(probe.outstanding.value(), 0);
  EXPECT_EQ(probe.status_errors.value() + probe.failed.value() + probe.timeouts.value(), 0U);
}

}  // namespace
}  // namespace leap::test

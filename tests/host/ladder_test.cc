// The first rungs of the ladder: a command that is not answered is aborted, and its queue pair goes only if that does not
// help. Its buffer never comes back before the command has ended.
#include "nvme/status.h"
#include "queue_pair_fixture.h"

namespace leap::test {
namespace {

using std::chrono::seconds;

struct Aborter final : QueuePair::Observer {
  void on_queue_pair_failed(QueuePair& /*queue_pair*/) override { ++failures; }
  void on_command_expired(QueuePair& /*queue_pair*/, nvme::Cid cid) override { wanted.push_back(cid); }
  std::vector<nvme::Cid> wanted;
  int failures = 0;
};

class LadderTest : public QueuePairTest {
 protected:
  LadderTest() { config.queue.abort_timeout = seconds(5); }
  void connect_watched() {
    connect();
    qp->set_observer(&aborter);
  }
  /// All memory that is left, marked.
  std::vector<DmaBuf> take_the_rest() {
    std::vector<DmaBuf> rest;
    while (auto more = loop.pool.try_allocate(4096)) {
      std::memset(more->data(), 0x5A, more->size());
      rest.push_back(std::move(*more));
    }
    return rest;
  }
  Aborter aborter;
};

TEST_F(LadderTest, AnExpiredCommandFailsAloneAndAsksForItsAbort) {
  connect_watched();
  Outcome& slow = write(0, pattern(512, 1));
  const auto slow_cid = expect_command().command().cid;
  loop.advance(seconds(20));
  Outcome& other = read(8, 512);
  const auto other_cid = expect_command().command().cid;
  loop.advance(seconds(11));
  ASSERT_TRUE(slow.done());
  EXPECT_EQ(slow.error().kind(), Errc::kTimedOut);
  EXPECT_EQ(slow.error().scope(), ErrorScope::kCommand);
  EXPECT_TRUE(slow.error().may_have_executed());
  EXPECT_FALSE(slow.error().retryable());
  EXPECT_FALSE(slow.result->data.valid()) << "the buffer is quarantined with the command";
  ASSERT_EQ(aborter.wanted.size(), 1U);
  EXPECT_EQ(aborter.wanted[0], slow_cid);
  EXPECT_FALSE(other.done());
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(qp->outstanding(), 2U);
  EXPECT_GT(loop.pool.probe().bytes_in_use, 512U);

  // The Abort works: both commands are answered, and everything is back.
  peer.send_data(other_cid, 0, pattern(512, 9), true, false);
  peer.respond(other_cid);
  peer.respond(slow_cid, nvme::status(nvme::GenericStatus::kAbortRequested));
  deliver();
  EXPECT_TRUE(other.ok());
  EXPECT_EQ(qp->outstanding(), 0U);
  loop.advance(seconds(60));
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(aborter.failures, 0);
  ASSERT_TRUE(slow.result->fence != nullptr);
  EXPECT_TRUE(slow.result->fence->passed(loop.clock.now()));
}

TEST_F(LadderTest, WithoutAnAnswerToTheAbortTheQueuePairGoes) {
  connect_watched();
  Outcome& slow = read(0, 4096);
  expect_command();
  loop.advance(seconds(31));
  ASSERT_TRUE(slow.done());
  Outcome& other = flush();
  expect_command();
  EXPECT_TRUE(qp->live());
  loop.advance(seconds(5));
  ASSERT_TRUE(other.done());
  EXPECT_EQ(other.error().kind(), Errc::kClosed);
  EXPECT_TRUE(other.error().retryable());
  EXPECT_EQ(aborter.failures, 1);
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U);
  EXPECT_FALSE(slow.result->fence->passed(loop.clock.now())) << "only the association's end proves anything now";
}

TEST_F(LadderTest, ALateReadLandsInItsOwnBufferAndNowhereElse) {
  connect_watched();
  Outcome& slow = read(0, 512);
  const auto slow_cid = expect_command().command().cid;
  loop.advance(seconds(31));
  ASSERT_TRUE(slow.done());
  // Whoever allocates now gets other memory.
  const std::vector<DmaBuf> rest = take_the_rest();
  peer.send_data(slow_cid, 0, pattern(512, 3), true, false);
  peer.respond(slow_cid);
  deliver();
  for (const DmaBuf& buffer : rest) {
    EXPECT_TRUE(std::ranges::all_of(buffer.bytes(), [](std::byte b) { return b == std::byte{0x5A}; }));
  }
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(qp->outstanding(), 0U);
}

TEST_F(LadderTest, ALateWriteIsStillSentFromItsOwnBuffer) {
  connect_watched();
  const auto content = pattern(16384, 4);  // too large for the capsule: waits for an R2T
  Outcome& slow = write(0, content);
  const auto slow_cid = expect_command().command().cid;
  loop.advance(seconds(31));
  ASSERT_TRUE(slow.done());
  const std::vector<DmaBuf> rest = take_the_rest();
  peer.send_r2t(slow_cid, 7, 0, 16384);
  deliver();
  const HostPdu data = expect(nvme::PduType::kH2CData);
  EXPECT_EQ(data.data, content);
  peer.respond(slow_cid);
  deliver();
  EXPECT_EQ(qp->outstanding(), 0U);
  EXPECT_TRUE(qp->live());
}

TEST_F(LadderTest, SeveralExpireOneAfterTheOther) {
  connect_watched();
  std::vector<Outcome*> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(&flush());
    expect_command();
  }
  loop.advance(seconds(31));
  for (Outcome* outcome : all) EXPECT_TRUE(outcome->done());
  EXPECT_EQ(aborter.wanted.size(), 5U);
  EXPECT_EQ(qp->probe().timeouts.value(), 5U);
}

}  // namespace
}  // namespace leap::test

// AsyncStream against a scripted peer in virtual time.
#include "poller/async_stream.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "scripted_stream.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::Peer;
using test::PeerStep;
using test::ScriptedNet;
using test::ScriptedStream;
using test::stamped;
using test::VirtualPoller;

/// What a task came to, in words: "3 bytes", "end", or the kind of its error.
using Outcome = std::optional<std::string>;

std::string describe(const Error& error) { return std::string(to_string(error.kind())); }

Task<void> read_exactly(AsyncStream& stream, std::vector<std::byte>& out, TimePoint deadline, Outcome& outcome) {
  const Result<bool> more = co_await stream.read_exact(out, deadline);
  outcome = more.ok() ? (*more ? "full" : "end") : describe(more.error());
}

Task<void> read_some(AsyncStream& stream, std::vector<std::byte>& out, std::size_t min, Outcome& outcome) {
  const Result<std::size_t> got = co_await stream.read_some(out, min);
  if (got.ok()) out.resize(*got);
  outcome = got.ok() ? std::to_string(*got) : describe(got.error());
}

Task<void> write_pieces(AsyncStream& stream, std::vector<std::vector<std::byte>>& data, TimePoint deadline,
                        Outcome& outcome) {
  std::vector<iovec> pieces;
  for (auto& piece : data) pieces.push_back({piece.data(), piece.size()});
  const Result<> written = co_await stream.write_all(pieces, deadline);
  outcome = written.ok() ? "written" : describe(written.error());
}

class AsyncStreamTest : public ::testing::Test {
 protected:
  AsyncStream& open() {
    stream_ = AsyncStream::open(sim_.poller(), std::make_unique<ScriptedStream>(sim_, peer_)).value();
    return *stream_;
  }
  Outcome read(std::size_t count, TimePoint deadline = TimePoint::max()) {
    out_.assign(count, std::byte{0});
    Outcome outcome;
    sim_.poller().spawn(read_exactly(*stream_, out_, deadline, outcome));
    EXPECT_TRUE(sim_.run_until([&] { return outcome.has_value(); })) << "the reader hangs";
    return outcome;
  }
  Outcome write(std::vector<std::vector<std::byte>> data, TimePoint deadline = TimePoint::max()) {
    Outcome outcome;
    sim_.poller().spawn(write_pieces(*stream_, data, deadline, outcome));
    EXPECT_TRUE(sim_.run_until([&] { return outcome.has_value(); })) << "the writer hangs";
    return outcome;
  }
  VirtualPoller sim_;
  Peer peer_;
  std::unique_ptr<AsyncStream> stream_;
  std::vector<std::byte> out_;
};

// --- reading ---

TEST_F(AsyncStreamTest, ReadsWhatComesInPiecesWithDelaysAndSpuriousWakeUps) {
  peer_.incoming = {PeerStep::data(stamped(0, 3)), PeerStep::again(),  PeerStep::wait(5ms),
                    PeerStep::data(stamped(3, 1)), PeerStep::wait(1s), PeerStep::again(),
                    PeerStep::data(stamped(4, 6))};
  open();
  const TimePoint start = sim_.clock().now();
  EXPECT_EQ(read(8), "full");
  EXPECT_EQ(out_, stamped(0, 8));
  EXPECT_EQ(sim_.clock().now() - start, Nanos{1s + 5ms});
  EXPECT_EQ(read(2), "full");  // was received together with the others
  EXPECT_EQ(out_, stamped(8, 2));
}

TEST_F(AsyncStreamTest, TheEndIsCleanOnlyBeforeTheFirstByte) {
  for (std::size_t position = 0; position <= 5; ++position) {
    VirtualPoller sim;
    Peer peer;
    if (position > 0) peer.incoming.push_back(PeerStep::data(stamped(0, position)));
    peer.incoming.push_back(PeerStep::wait(1ms));
    peer.incoming.push_back(PeerStep::end());
    auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
    std::vector<std::byte> out(4);
    Outcome outcome;
    sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), outcome));
    ASSERT_TRUE(sim.run_until([&] { return outcome.has_value(); })) << position;
    EXPECT_EQ(outcome, position == 0 ? "end" : position < 4 ? "closed" : "full") << position;
  }
}

TEST_F(AsyncStreamTest, AResetIsAnErrorAndNotTheEndOfTheStream) {
  for (const bool seen_while_idle : {false, true}) {
    VirtualPoller sim;
    Peer peer;
    peer.incoming = {PeerStep::data(stamped(0, 2)), PeerStep::fail(ECONNRESET)};
    auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
    if (seen_while_idle) {
      ASSERT_TRUE(sim.settle());  // nobody reads: the reset is met by reading ahead
      EXPECT_TRUE(stream->end_seen());
    }
    std::vector<std::byte> out(2);
    Outcome outcome;
    sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), outcome));
    ASSERT_TRUE(sim.run_until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome, "full") << "what came before is still there";
    outcome.reset();
    sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), outcome));
    ASSERT_TRUE(sim.run_until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome, "closed");
    Outcome again;
    sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), again));
    ASSERT_TRUE(sim.run_until([&] { return again.has_value(); }));
    EXPECT_EQ(again, "closed") << "and stays one";
  }
}

TEST_F(AsyncStreamTest, ReadSomeReturnsWithWhatItHas) {
  peer_.incoming = {PeerStep::data(stamped(0, 3)), PeerStep::wait(1ms), PeerStep::data(stamped(3, 2)), PeerStep::end()};
  open();
  const auto read_at_least = [&](std::size_t min) {
    out_.assign(100, std::byte{0});
    Outcome outcome;
    sim_.poller().spawn(read_some(*stream_, out_, min, outcome));
    EXPECT_TRUE(sim_.run_until([&] { return outcome.has_value(); }));
    return outcome;
  };
  EXPECT_EQ(read_at_least(1), "3");
  EXPECT_EQ(read_at_least(2), "2");
  EXPECT_EQ(out_, stamped(3, 2));
  EXPECT_EQ(read_at_least(1), "0");
  EXPECT_EQ(read_at_least(1), "0");
}

TEST_F(AsyncStreamTest, ReadDeadlinesPassInVirtualTime) {
  peer_.incoming = {PeerStep::data(stamped(0, 3)), PeerStep::wait(10ms), PeerStep::data(stamped(3, 1))};
  open();
  const TimePoint start = sim_.clock().now();
  EXPECT_EQ(read(4, start + 4ms), "timed out");
  EXPECT_EQ(sim_.clock().now() - start, Nanos{4ms});
  EXPECT_EQ(sim_.poller().timers().next_deadline(), TimePoint::max());
}

TEST_F(AsyncStreamTest, ADeadlineThatIsMetLeavesNoTimerBehind) {
  peer_.incoming = {PeerStep::wait(1ms), PeerStep::data(stamped(0, 4))};
  open();
  EXPECT_EQ(read(4, sim_.clock().now() + 1h), "full");
  EXPECT_EQ(sim_.poller().timers().next_deadline(), TimePoint::max());
}

TEST_F(AsyncStreamTest, ReadingNothingIsDoneAtOnce) {
  open();
  EXPECT_EQ(read(0), "full");
}

TEST_F(AsyncStreamTest, WithNobodyReadingTheEndIsNoticedAndABrokenConnectionDoesNotKeepThePollerAwake) {
  peer_.incoming = {PeerStep::data(stamped(0, 10)), PeerStep::end()};
  open();
  ASSERT_TRUE(sim_.settle());
  EXPECT_TRUE(stream_->end_seen());
  peer_.hung_up = true;  // the kernel tells this in every wait, asked for or not
  const std::uint64_t turns = sim_.turns();
  ASSERT_TRUE(sim_.settle());
  EXPECT_LT(sim_.turns() - turns, 20U);
  EXPECT_EQ(read(10), "full");
  EXPECT_EQ(out_, stamped(0, 10));
  EXPECT_EQ(read(1), "end");
}

TEST_F(AsyncStreamTest, APeerThatSendsWhatNobodyReadsIsHeldBack) {
  const std::size_t capacity = AsyncStream::kDefaultReceiveBuffer;
  for (std::size_t i = 0; i < 3 * capacity; i += 1000) peer_.incoming.push_back(PeerStep::data(stamped(i, 1000)));
  open();
  ASSERT_TRUE(sim_.settle()) << "busy loop";
  std::size_t left = 0;
  for (const PeerStep& step : peer_.incoming) left += step.bytes.size();
  EXPECT_GE(left, 2 * capacity - 2000);
  const std::size_t calls = peer_.readv_calls;
  ASSERT_TRUE(sim_.settle());
  EXPECT_EQ(peer_.readv_calls, calls);
  EXPECT_EQ(read(2 * capacity), "full");  // and goes on when somebody does
  EXPECT_EQ(out_, stamped(0, 2 * capacity));
}

// --- spinning and fairness ---

TEST_F(AsyncStreamTest, AReaderThatWaitsLetsThePollerSleep) {
  open();
  Outcome outcome;
  out_.assign(1, std::byte{0});
  sim_.poller().spawn(read_exactly(*stream_, out_, sim_.clock().now() + 1h, outcome));
  ASSERT_TRUE(sim_.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome, "timed out");
  EXPECT_LT(sim_.turns(), 10U);
  EXPECT_LT(peer_.readv_calls, 10U);
}

TEST_F(AsyncStreamTest, APeerThatNeverReadsHoldsTheWriterBackWithoutABusyLoop) {
  peer_.reads_on = false;
  peer_.outgoing = {PeerStep::take(5)};
  for (int i = 0; i < 50; ++i) {  // replies of an earlier request keep coming in meanwhile
    peer_.incoming.push_back(PeerStep::wait(1ms));
    peer_.incoming.push_back(PeerStep::data(stamped(static_cast<std::size_t>(i), 1)));
  }
  open();
  EXPECT_EQ(write({stamped(0, 100)}, sim_.clock().now() + 1s), "timed out");
  EXPECT_EQ(peer_.received, stamped(0, 5));
  EXPECT_LT(sim_.turns(), 300U);
  EXPECT_LT(peer_.writev_calls, 110U);
}

Task<void> serve_requests(AsyncStream& stream, int& served, const int limit) {
  std::vector<std::byte> request(16);
  while (served < limit) {
    const Result<bool> more = co_await stream.read_exact(request, TimePoint::max());
    if (!more.ok() || !*more) co_return;
    iovec reply{request.data(), request.size()};
    const Result<> written = co_await stream.write_all({&reply, 1}, TimePoint::max());
    if (!written.ok()) co_return;
    ++served;
  }
}

TEST_F(AsyncStreamTest, APeerThatAlwaysHasAnotherRequestDoesNotGetThePollerForItself) {
  for (int i = 0; i < 40; ++i) peer_.incoming.push_back(PeerStep::data(stamped(0, 16 * 1000)));
  open();
  int served = 0;
  constexpr int kRequests = 40'000;
  sim_.poller().spawn(serve_requests(*stream_, served, kRequests));
  EXPECT_LT(served, 100) << "all of them in one go";
  int most = 0;
  while (served < kRequests) {
    const int before = served;
    ASSERT_GT(sim_.poller().run_once(), 0U) << "stuck after " << served;
    most = std::max(most, served - before);
  }
  EXPECT_LT(most, 100);
}

TEST_F(AsyncStreamTest, HugeTransfersAreCutIntoTurnsInBothDirections) {
  constexpr std::size_t kSize = 20 << 20;
  for (std::size_t i = 0; i < kSize; i += 1 << 16) peer_.incoming.push_back(PeerStep::data(stamped(i, 1 << 16)));
  open();
  Outcome read_outcome;
  out_.assign(kSize, std::byte{0});
  sim_.poller().spawn(read_exactly(*stream_, out_, TimePoint::max(), read_outcome));
  const std::uint64_t turns = sim_.turns();
  ASSERT_TRUE(sim_.run_until([&] { return read_outcome.has_value(); }));
  EXPECT_EQ(read_outcome, "full");
  EXPECT_GE(sim_.turns() - turns, 15U);
  EXPECT_TRUE(out_ == stamped(0, kSize));

  for (int i = 0; i < 400; ++i) peer_.outgoing.push_back(PeerStep::take(1 << 16));
  const std::uint64_t before = sim_.turns();
  EXPECT_EQ(write({stamped(0, kSize)}), "written");
  EXPECT_GE(sim_.turns() - before, 15U);
  EXPECT_TRUE(peer_.received == stamped(0, kSize));
}

// --- writing ---

TEST_F(AsyncStreamTest, WritesAllPiecesInOrderHoweverLittleIsTaken) {
  peer_.outgoing = {PeerStep::take(1), PeerStep::again(), PeerStep::take(4), PeerStep::wait(3ms), PeerStep::take(2)};
  open();
  EXPECT_EQ(write({stamped(0, 3), {}, stamped(3, 1), stamped(4, 10), {}}), "written");
  EXPECT_EQ(peer_.received, stamped(0, 14));
  EXPECT_EQ(write({}), "written");
  EXPECT_EQ(write({{}, {}}), "written");
}

TEST_F(AsyncStreamTest, WritesMoreThanTheKernelTakesPiecesAtOnce) {
  open();
  std::vector<std::vector<std::byte>> pieces;
  for (std::size_t i = 0; i < 3000; ++i) pieces.push_back(stamped(i * 3, 3));
  EXPECT_EQ(write(std::move(pieces)), "written");
  EXPECT_EQ(peer_.received, stamped(0, 9000));
}

TEST_F(AsyncStreamTest, AWriteToAPeerThatIsGoneIsAnError) {
  for (const int error : {EPIPE, ECONNRESET}) {
    VirtualPoller sim;
    Peer peer;
    peer.outgoing = {PeerStep::take(2), PeerStep::again(), PeerStep::fail(error)};
    auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
    std::vector<std::vector<std::byte>> data{stamped(0, 5)};
    Outcome outcome;
    sim.poller().spawn(write_pieces(*stream, data, TimePoint::max(), outcome));
    ASSERT_TRUE(sim.run_until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome, "closed");
  }
}

// --- closing ---

TEST_F(AsyncStreamTest, ClosingLetsSuspendedTasksGoOnWithAnError) {
  peer_.reads_on = false;
  open();
  Outcome reader;
  Outcome writer;
  out_.assign(4, std::byte{0});
  std::vector<std::vector<std::byte>> data{stamped(0, 5)};
  sim_.poller().spawn(read_exactly(*stream_, out_, sim_.clock().now() + 1h, reader));
  sim_.poller().spawn(write_pieces(*stream_, data, sim_.clock().now() + 1h, writer));
  while (sim_.poller().run_once() > 0) {
  }
  ASSERT_FALSE(reader.has_value() || writer.has_value());
  stream_->close();
  EXPECT_TRUE(peer_.closed);
  EXPECT_TRUE(stream_->closed());
  EXPECT_FALSE(reader.has_value()) << "resumed from inside close()";
  sim_.poller().run_once();
  EXPECT_EQ(reader, "closed");
  EXPECT_EQ(writer, "closed");
  stream_->close();
  EXPECT_EQ(read(1), "closed");
  EXPECT_EQ(write({stamped(0, 1)}), "closed");
  EXPECT_EQ(stream_->peer(), "script");
}

TEST_F(AsyncStreamTest, WhatArrivedBeforeClosingCanStillBeRead) {
  peer_.incoming = {PeerStep::data(stamped(0, 6))};
  open();
  EXPECT_EQ(read(2), "full");
  stream_->close();
  EXPECT_EQ(read(4), "full");
  EXPECT_EQ(out_, stamped(2, 4));
  EXPECT_EQ(read(1), "closed");
}

TEST(AsyncStreamDeathTest, TwoReadersAreAMistakeThatIsTold) {
  VirtualPoller sim;
  Peer peer;
  auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
  std::vector<std::byte> out(1);
  Outcome first;
  Outcome second;
  sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), first));
  EXPECT_DEATH(sim.poller().spawn(read_exactly(*stream, out, TimePoint::max(), second)), "two tasks wait");
}

// --- watching fails ---

TEST(AsyncStreamWatch, AnUnwatchableStreamIsAnErrorAndNotAHang) {
  VirtualPoller sim;
  Peer peer;
  sim.backend().fail_watch = ENOSPC;
  const auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer));
  ASSERT_FALSE(stream.ok());
  EXPECT_EQ(stream.error().os_errno(), ENOSPC);

  // Later, when it has to be watched again: it was not while the buffer was full.
  sim.backend().fail_watch = 0;
  const std::size_t capacity = AsyncStream::kDefaultReceiveBuffer;
  for (std::size_t i = 0; i < 2 * capacity; i += 4096) peer.incoming.push_back(PeerStep::data(stamped(i, 4096)));
  auto full = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
  ASSERT_TRUE(sim.settle());
  sim.backend().fail_watch = ENOSPC;
  peer.incoming.clear();
  std::vector<std::byte> out(capacity + 1);
  Outcome outcome;
  sim.poller().spawn(read_exactly(*full, out, TimePoint::max(), outcome));
  ASSERT_TRUE(sim.run_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome, "no space");
}

// --- connecting ---

Task<void> connect(NvmePoller& poller, Net& net, TimePoint deadline, std::unique_ptr<AsyncStream>& stream,
                   Outcome& outcome) {
  auto connected = co_await AsyncStream::connect(poller, net, SocketAddress(), deadline);
  outcome = connected.ok() ? "connected" : describe(connected.error());
  if (connected.ok()) stream = std::move(connected).value();
}

class ConnectTest : public AsyncStreamTest {
 protected:
  Outcome attempt(TimePoint deadline) {
    Outcome outcome;
    sim_.poller().spawn(connect(sim_.poller(), net_, deadline, stream_, outcome));
    EXPECT_FALSE(outcome.has_value()) << "decided before the attempt could be over";
    EXPECT_TRUE(sim_.run_until([&] { return outcome.has_value(); }));
    return outcome;
  }
  ScriptedNet net_{sim_, peer_};
};

TEST_F(ConnectTest, IsThereWhenTheAttemptIsOverAndNotBefore) {
  peer_.outgoing = {PeerStep::wait(30ms)};
  peer_.incoming = {PeerStep::wait(31ms), PeerStep::data(stamped(0, 2))};
  const TimePoint start = sim_.clock().now();
  EXPECT_EQ(attempt(start + 1s), "connected");
  EXPECT_EQ(sim_.clock().now() - start, Nanos{30ms});
  EXPECT_EQ(read(2), "full");
  EXPECT_EQ(write({stamped(0, 2)}), "written");
}

TEST_F(ConnectTest, ARefusalIsUnreachable) {
  peer_.outgoing = {PeerStep::wait(1ms)};
  peer_.connect_result = ECONNREFUSED;
  EXPECT_EQ(attempt(TimePoint::max()), "unreachable");
  EXPECT_TRUE(peer_.closed);
}

TEST_F(ConnectTest, AnAttemptWithoutAnAnswerTimesOut) {
  peer_.reads_on = false;
  const TimePoint start = sim_.clock().now();
  EXPECT_EQ(attempt(start + 5s), "timed out");
  EXPECT_EQ(sim_.clock().now() - start, Nanos{5s});
  EXPECT_LT(sim_.turns(), 10U);
  EXPECT_TRUE(peer_.closed);
}

TEST_F(ConnectTest, AStreamThatCannotBeWatchedIsAnError) {
  sim_.backend().fail_watch = ENOSPC;
  EXPECT_EQ(attempt(TimePoint::max()), "no space");
}

// --- any script at all ---

PeerStep random_pause() {
  switch (*rc::gen::inRange(0, 3)) {
    case 0: return PeerStep::again();
    case 1: return PeerStep::wait(Nanos{*rc::gen::inRange(1, 1'000'000)});
    default: return PeerStep::wait(Nanos{1});
  }
}

Task<void> read_in_chunks(AsyncStream& stream, std::vector<std::size_t> chunks, std::vector<std::byte>& got,
                          Outcome& outcome) {
  for (const std::size_t chunk : chunks) {
    std::vector<std::byte> out(chunk);
    const Result<bool> more = co_await stream.read_exact(out, TimePoint::max());
    if (!more.ok() || !*more) {
      outcome = more.ok() ? "end" : describe(more.error());
      co_return;
    }
    got.insert(got.end(), out.begin(), out.end());
  }
  outcome = "full";
}

TEST(AsyncStreamProperty, AnySplitOfTheStreamReadsAndWritesTheSameBytes) {
  const bool held = rc::check("async stream", [] {
    VirtualPoller sim;
    Peer peer;
    const auto total = *rc::gen::inRange<std::size_t>(1, 300'000);
    for (std::size_t at = 0; at < total;) {
      const std::size_t piece = std::min(total - at, *rc::gen::element<std::size_t>(1, 7, 100, 4096, 70'000));
      peer.incoming.push_back(PeerStep::data(stamped(at, piece)));
      if (*rc::gen::inRange(0, 3) == 0) peer.incoming.push_back(random_pause());
      at += piece;
      if (peer.incoming.size() > 400) break;
    }
    std::size_t sent = 0;
    for (const PeerStep& step : peer.incoming) sent += step.bytes.size();
    peer.incoming.push_back(PeerStep::end());
    std::vector<std::size_t> chunks;
    std::size_t wanted = 0;
    while (wanted < sent) {
      chunks.push_back(std::min(sent - wanted, *rc::gen::element<std::size_t>(1, 16, 4095, 4096, 65'536, 200'000)));
      wanted += chunks.back();
      if (chunks.size() > 500) break;
    }
    for (int i = 0; i < 50; ++i) {
      peer.outgoing.push_back(PeerStep::take(*rc::gen::inRange<std::size_t>(1, 3000)));
      if (*rc::gen::inRange(0, 3) == 0) peer.outgoing.push_back(random_pause());
    }
    auto stream = AsyncStream::open(sim.poller(), std::make_unique<ScriptedStream>(sim, peer)).value();
    std::vector<std::byte> got;
    std::vector<std::vector<std::byte>> data{stamped(0, 9), stamped(9, 20'000), stamped(20'009, 1)};
    Outcome reading;
    Outcome writing;
    sim.poller().spawn(read_in_chunks(*stream, chunks, got, reading));
    sim.poller().spawn(write_pieces(*stream, data, TimePoint::max(), writing));
    RC_ASSERT(sim.run_until([&] { return reading.has_value() && writing.has_value(); }));
    RC_ASSERT(*reading == "full");
    RC_ASSERT(got == stamped(0, wanted));
    RC_ASSERT(*writing == "written");
    RC_ASSERT(peer.received == stamped(0, 20'010));
  });
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace leap

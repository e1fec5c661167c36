// RxBuffer and TxQueue against a scripted stream: whatever is split however, the bytes are the same.
#include <cerrno>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/alloc_counter.h"
#include "poller/rx_buffer.h"
#include "poller/tx_queue.h"
#include "scripted_stream.h"

namespace leap {
namespace {

using test::Peer;
using test::PeerStep;
using test::ScriptedStream;
using test::stamped;
using test::VirtualPoller;

// --- RxBuffer ---

class RxBufferTest : public ::testing::Test {
 protected:
  VirtualPoller sim_;
  Peer peer_;
  ScriptedStream stream_{sim_, peer_};
};

TEST_F(RxBufferTest, PutsPayloadWhereItBelongsAndTheRestIntoTheBuffer) {
  peer_.incoming = {PeerStep::data(stamped(0, 100))};
  RxBuffer rx(256);
  std::vector<std::byte> direct(60);
  const auto filled = rx.fill(stream_, direct);
  EXPECT_EQ(filled.total, 100);
  EXPECT_EQ(filled.direct, 60U);
  EXPECT_TRUE(filled.drained);
  EXPECT_EQ(direct, stamped(0, 60));
  EXPECT_EQ(std::vector(rx.data().begin(), rx.data().end()), stamped(60, 40));
}

TEST_F(RxBufferTest, SaysWhetherTheStreamMayHaveMore) {
  peer_.incoming = {PeerStep::data(stamped(0, 10)), PeerStep::data(stamped(10, 3)), PeerStep::end()};
  RxBuffer rx(4);
  std::vector<std::byte> direct(6);
  auto filled = rx.fill(stream_, direct);  // exactly as much as there was room for
  EXPECT_EQ(filled.total, 10);
  EXPECT_FALSE(filled.drained);
  rx.consume(4);
  filled = rx.fill(stream_, direct);
  EXPECT_EQ(filled.direct, 3U);
  EXPECT_TRUE(filled.drained);
  EXPECT_EQ(rx.fill(stream_).total, 0);
}

TEST_F(RxBufferTest, KeepsWhatIsNotConsumedContiguousWhileItMakesRoom) {
  for (std::size_t i = 0; i < 100; ++i) peer_.incoming.push_back(PeerStep::data(stamped(i * 7, 7)));
  RxBuffer rx(16);
  std::vector<std::byte> got;
  while (got.size() < 700) {
    if (rx.data().size() < 16) rx.fill(stream_);
    const std::size_t take = std::min<std::size_t>(rx.data().size(), 5);
    got.insert(got.end(), rx.data().begin(), rx.data().begin() + static_cast<std::ptrdiff_t>(take));
    rx.consume(take);
  }
  EXPECT_EQ(got, stamped(0, 700));
}

TEST_F(RxBufferTest, BuffersLittleWhenAskedTo) {
  peer_.incoming = {PeerStep::data(stamped(0, 100))};
  RxBuffer rx(64);
  std::vector<std::byte> direct(10);
  const auto filled = rx.fill(stream_, direct, 8);
  EXPECT_EQ(filled.total, 18);
  EXPECT_EQ(filled.asked, 18U);
  EXPECT_FALSE(filled.drained);
  EXPECT_EQ(rx.data().size(), 8U);
}

TEST_F(RxBufferTest, RefusesMisuseThatWouldReorderOrLoseBytes) {
  peer_.incoming = {PeerStep::data(stamped(0, 4))};
  RxBuffer rx(4);
  rx.fill(stream_);
  std::vector<std::byte> direct(1);
  EXPECT_DEATH(rx.fill(stream_, direct), "direct receive");
  EXPECT_DEATH(rx.fill(stream_), "full");
  EXPECT_DEATH(rx.consume(5), "consume");
}

TEST(RxBufferProperty, AnyMixOfDirectAndBufferedReceivesTheSameBytes) {
  const bool held = rc::check("rx buffer", [] {
    VirtualPoller sim;
    Peer peer;
    std::size_t total = 0;
    const int pieces = *rc::gen::inRange(1, 60);
    for (int i = 0; i < pieces; ++i) {
      const auto size = *rc::gen::inRange<std::size_t>(1, 300);
      peer.incoming.push_back(PeerStep::data(stamped(total, size)));
      total += size;
    }
    ScriptedStream stream(sim, peer);
    RxBuffer rx(*rc::gen::inRange<std::size_t>(1, 400));
    std::vector<std::byte> got;
    while (got.size() < total) {
      if (rx.data().empty() && *rc::gen::arbitrary<bool>()) {
        std::vector<std::byte> direct(*rc::gen::inRange<std::size_t>(1, 200));
        const auto filled = rx.fill(stream, direct);
        RC_ASSERT(filled.total > 0);
        RC_ASSERT(filled.direct + rx.data().size() == static_cast<std::size_t>(filled.total));
        got.insert(got.end(), direct.begin(), direct.begin() + static_cast<std::ptrdiff_t>(filled.direct));
      } else if (rx.data().size() < rx.capacity() && !peer.incoming.empty()) {
        const std::size_t before = rx.data().size();
        const auto filled = rx.fill(stream);
        RC_ASSERT(rx.data().size() == before + static_cast<std::size_t>(filled.total));
      }
      std::vector<std::byte> out(*rc::gen::inRange<std::size_t>(1, 150));
      out.resize(rx.copy_out(out));
      got.insert(got.end(), out.begin(), out.end());
    }
    RC_ASSERT(got == stamped(0, total));
  });
  EXPECT_TRUE(held);
}

// --- TxQueue ---

/// Notes that its payload is free, and queues more if asked to.
class Payload : public TxDone {
 public:
  Payload(std::vector<std::byte> bytes, std::vector<const Payload*>& order) : data(std::move(bytes)), order_(order) {}
  void on_sent() override {
    order_.push_back(this);
    ++calls;
    if (then) then();
  }
  std::vector<std::byte> data;
  int calls = 0;
  std::function<void()> then;

 private:
  std::vector<const Payload*>& order_;
};

class TxQueueTest : public RxBufferTest {
 protected:
  std::vector<const Payload*> order_;
};

TEST_F(TxQueueTest, SendsCopiesAndReferencesInOneCallInOrder) {
  TxQueue tx(16, 64);
  Payload payload(stamped(4, 100), order_);
  tx.copy(stamped(0, 4));
  tx.reference(payload.data, &payload);
  tx.copy(stamped(104, 3));
  EXPECT_EQ(tx.bytes_queued(), 107U);
  EXPECT_EQ(tx.flush(stream_), 0);
  EXPECT_EQ(peer_.received, stamped(0, 107));
  EXPECT_EQ(peer_.writev_calls, 1U);
  EXPECT_EQ(payload.calls, 1);
  EXPECT_TRUE(tx.empty());
  EXPECT_EQ(tx.bytes_sent(), 107U);
}

TEST_F(TxQueueTest, TellsAReferenceOnlyWhenItsLastByteIsOut) {
  peer_.outgoing = {PeerStep::take(5), PeerStep::take(94), PeerStep::take(1)};
  TxQueue tx(16, 64);
  Payload payload(stamped(0, 100), order_);
  tx.reference(payload.data, &payload);
  for (const int expected : {0, 0, 1}) {
    EXPECT_EQ(tx.flush(stream_), 0);
    EXPECT_EQ(payload.calls, expected);
  }
}

TEST_F(TxQueueTest, RefusesMoreThanItsBounds) {
  TxQueue tx(4, 16);
  EXPECT_TRUE(tx.can_take(4, 16));
  EXPECT_FALSE(tx.can_take(5, 0));
  EXPECT_FALSE(tx.can_take(0, 17));
  tx.copy(stamped(0, 10));
  EXPECT_FALSE(tx.can_take(1, 7));
  EXPECT_TRUE(tx.can_take(3, 6));
  EXPECT_DEATH(tx.copy(stamped(0, 7)), "can_take");
  const auto more = stamped(0, 1);
  for (int i = 0; i < 3; ++i) tx.reference(more, nullptr);
  EXPECT_FALSE(tx.can_take(1, 0));
  EXPECT_DEATH(tx.reference(more, nullptr), "can_take");
}

TEST_F(TxQueueTest, KeepsWhatCouldNotBeSentWhenTheStreamFails) {
  peer_.outgoing = {PeerStep::take(3), PeerStep::fail(EPIPE)};
  TxQueue tx(4, 16);
  Payload payload(stamped(0, 8), order_);
  tx.reference(payload.data, &payload);
  EXPECT_EQ(tx.flush(stream_), 0);
  EXPECT_EQ(tx.flush(stream_), -EPIPE);
  EXPECT_EQ(tx.bytes_queued(), 5U);
  tx.clear();
  EXPECT_TRUE(tx.empty());
  EXPECT_EQ(payload.calls, 0) << "cleared, not sent";
  EXPECT_TRUE(tx.can_take(4, 16));
}

TEST_F(TxQueueTest, MayBeFilledAndFlushedFromWithinDone) {
  TxQueue tx(8, 64);
  Payload first(stamped(0, 10), order_);
  Payload second(stamped(14, 10), order_);
  first.then = [&] {
    tx.copy(stamped(24, 2));
    EXPECT_EQ(tx.flush(stream_), 0);  // must not send again what the outer flush is just retiring
  };
  tx.reference(first.data, &first);
  tx.copy(stamped(10, 4));
  tx.reference(second.data, &second);
  EXPECT_EQ(tx.flush(stream_), 0);
  EXPECT_EQ(peer_.received, stamped(0, 26));
  EXPECT_EQ(order_, (std::vector<const Payload*>{&first, &second}));
}

TEST_F(TxQueueTest, ReferencesToNothingAreToldWithoutASystemCall) {
  TxQueue tx(4, 16);
  Payload nothing({}, order_);
  tx.reference({}, &nothing);
  EXPECT_EQ(tx.flush(stream_), 0);
  EXPECT_EQ(nothing.calls, 1);
  EXPECT_EQ(peer_.writev_calls, 0U);
  EXPECT_TRUE(tx.empty());
}

TEST_F(TxQueueTest, AllocatesNothingInUse) {
  if (!alloc_counting_available()) GTEST_SKIP() << "allocations are not counted in this build (sanitizer)";
  TxQueue tx(64, 256);
  const auto header = stamped(0, 48);
  const auto body = stamped(0, 4096);
  peer_.received.reserve(1 << 20);
  const std::uint64_t before = thread_allocations();
  for (int i = 0; i < 200; ++i) {
    tx.copy(header);
    tx.reference(body, nullptr);
    ASSERT_EQ(tx.flush(stream_), 0);
  }
  EXPECT_EQ(thread_allocations() - before, 0U);
}

TEST(TxQueueProperty, WhatArrivesIsWhatWasQueuedAndEveryReferenceIsToldOnceInOrder) {
  const bool held = rc::check("tx queue", [] {
    VirtualPoller sim;
    Peer peer;
    ScriptedStream stream(sim, peer);
    const auto max_pieces = *rc::gen::inRange<std::size_t>(2, 40);
    TxQueue tx(max_pieces, *rc::gen::element<std::size_t>(16, 64, 100, 512));
    std::vector<const Payload*> order;
    std::deque<std::unique_ptr<Payload>> payloads;
    std::vector<std::byte> queued;
    std::vector<std::size_t> ends;  // position in the stream behind each payload
    const auto next_bytes = [&](std::size_t size) {
      auto bytes = stamped(queued.size(), size);
      queued.insert(queued.end(), bytes.begin(), bytes.end());
      return bytes;
    };
    const int steps = *rc::gen::inRange(1, 250);
    for (int i = 0; i < steps; ++i) {
      switch (*rc::gen::inRange(0, 4)) {
        case 0:
        case 1: {
          const auto size = *rc::gen::inRange<std::size_t>(0, 60);
          if (tx.can_take(2, size)) tx.copy(next_bytes(size));
          break;
        }
        case 2: {
          if (!tx.can_take(1, 0)) break;
          const auto size = *rc::gen::element<std::size_t>(0, 1, 13, 200, 5000);
          payloads.push_back(std::make_unique<Payload>(next_bytes(size), order));
          ends.push_back(queued.size());
          tx.reference(payloads.back()->data, payloads.back().get());
          break;
        }
        default: {
          peer.outgoing.clear();
          const int writes = *rc::gen::inRange(0, 3);
          for (int w = 0; w < writes; ++w) {
            peer.outgoing.push_back(PeerStep::take(*rc::gen::element<std::size_t>(1, 5, 59, 64, 700, 6000)));
          }
          peer.outgoing.push_back(PeerStep::again());
          RC_ASSERT(tx.flush(stream) == 0);
        }
      }
      RC_ASSERT(peer.received.size() + tx.bytes_queued() == queued.size());
      RC_ASSERT(tx.bytes_sent() == peer.received.size());
      // Told exactly those whose last byte is out; one without bytes may still wait for the next flush.
      for (std::size_t p = 0; p < payloads.size(); ++p) {
        RC_ASSERT(payloads[p]->calls <= 1);
        if (payloads[p]->calls == 1)
          RC_ASSERT(ends[p] <= peer.received.size());
        else
          RC_ASSERT(ends[p] > peer.received.size() || payloads[p]->data.empty());
      }
    }
    peer.outgoing.clear();
    RC_ASSERT(tx.flush(stream) == 0);
    RC_ASSERT(tx.empty());
    RC_ASSERT(peer.received == queued);
    RC_ASSERT(order.size() == payloads.size());
    for (std::size_t p = 0; p < payloads.size(); ++p) RC_ASSERT(order[p] == payloads[p].get());
  });
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace leap

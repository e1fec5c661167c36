// A live TcpQueuePair facing a PeerConnection that the test plays by hand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "../support/check_protocol.h"
#include "fake_net.h"
#include "host/tcp/tcp_queue_pair.h"
#include "nvme/nvm_command.h"
#include "peer_connection.h"

namespace leap::test {

inline constexpr nvme::Nsid kNs1{1};

/// Bytes that say where they belong: a copy from the wrong offset or command shows.
inline std::vector<std::byte> pattern(std::size_t bytes, std::uint32_t seed) {
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    const std::uint32_t word = (static_cast<std::uint32_t>(i / 4) * 2654435761U) ^ (seed * 40503U);
    data[i] = static_cast<std::byte>((word >> (8 * (i % 4))) & 0xFF);
  }
  return data;
}

/// A command under way, and what became of it.
struct Outcome {
  std::optional<CommandResult> result;
  [[nodiscard]] bool done() const { return result.has_value(); }
  [[nodiscard]] bool ok() const { return done() && result->status.ok(); }
  [[nodiscard]] const Error& error() const { return result->status.error(); }
};

class QueuePairTest : public ::testing::Test {
 protected:
  ~QueuePairTest() override {
    if (qp != nullptr) qp->close();
    loop.settle();
    outcomes_.clear();
    connected_.reset();
    qp.reset();
    EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U) << "a buffer was not given back";
    connect_is_left_out = false;
  }

  TcpQueuePair::TcpConfig config;  // as connect() will use it
  nvme::ConnectionParams offered{  // what the peer grants
                                 .hdgst = true,
                                 .ddgst = true,
                                 .hpda = 0,
                                 .cpda = 0,
                                 .maxr2t = 1,
                                 .maxh2cdata = 131072,
                                 .in_capsule_bytes = 1 << 20};
  FakeLoop loop;
  PeerConnection peer;
  std::unique_ptr<TcpQueuePair> qp;

  QueuePairTest() {
    connect_is_left_out = true;
    config.queue.qid = nvme::Qid{1};
    config.queue.depth = 8;
    config.queue.name = "q1";
    config.in_capsule_bytes = 4096;
  }

  [[nodiscard]] Wire& wire() { return loop.net.wire(0); }

  /// Starts connecting; the test plays the peer.
  void begin_connect() {
    loop.spawn(connect_into(loop, config, connected_));
    loop.settle();
  }
  void connect() {
    begin_connect();
    pump();
    const auto icreq = peer.next();
    ASSERT_TRUE(icreq.has_value());
    peer.answer_icreq(*icreq, offered);
    deliver();
    ASSERT_TRUE(connected_.has_value());
    ASSERT_TRUE(connected_->ok()) << connected_->error().to_string();
    qp = std::move(*connected_).value();
  }
  /// The outcome of begin_connect().
  std::optional<Result<std::unique_ptr<TcpQueuePair>>>& connected() { return connected_; }

  /// Ends the connection; connect() makes a new one, as wire().
  void restart() {
    qp->close();
    loop.settle();
    forget();
    qp.reset();
    connected_.reset();
    peer = PeerConnection();
    loop.net.wires.clear();
  }

  /// Moves what the host has sent to the peer.
  void pump() {
    loop.settle();
    auto& sent = wire().to_peer;
    peer.in.insert(peer.in.end(), sent.begin(), sent.end());
    sent.clear();
  }
  /// Moves what the peer has sent to the host, and lets the host react.
  void deliver() {
    wire().to_host.insert(wire().to_host.end(), peer.out.begin(), peer.out.end());
    peer.out.clear();
    pump();
  }
  HostPdu expect(nvme::PduType type) {
    pump();
    auto pdu = peer.next();
    EXPECT_TRUE(pdu.has_value()) << "the host sent nothing";
    if (!pdu) return {};
    EXPECT_EQ(pdu->header.type, type);
    return std::move(*pdu);
  }
  HostPdu expect_command() { return expect(nvme::PduType::kCapsuleCmd); }
  void expect_nothing() {
    pump();
    EXPECT_TRUE(peer.in.empty()) << peer.in.size() << " unexpected bytes from the host";
  }

  Outcome& execute(const nvme::Command& command, DmaBuf data, nvme::DataDirection direction) {
    outcomes_.push_back(std::make_unique<Outcome>());
    loop.poller.spawn(drive(*qp, command, std::move(data), direction, *outcomes_.back()));
    return *outcomes_.back();
  }
  Outcome& read(std::uint64_t lba, std::size_t bytes) {
    DmaBuf data = buffer(bytes);
    std::memset(data.data(), 0xEE, bytes);
    return execute(nvme::make_read(kNs1, lba, static_cast<std::uint32_t>((bytes + 511) / 512)), std::move(data),
                   nvme::DataDirection::kControllerToHost);
  }
  Outcome& write(std::uint64_t lba, std::span<const std::byte> content) {
    DmaBuf data = buffer(content.size());
    std::memcpy(data.data(), content.data(), content.size());
    return execute(nvme::make_write(kNs1, lba, static_cast<std::uint32_t>((content.size() + 511) / 512)),
                   std::move(data), nvme::DataDirection::kHostToController);
  }
  Outcome& flush() { return execute(nvme::make_flush(kNs1), DmaBuf(), nvme::DataDirection::kNone); }

  /// Drops the outcomes so far, and the buffers in them. All must be over.
  void forget() { outcomes_.clear(); }
  DmaBuf buffer(std::size_t bytes) {
    auto allocated = loop.pool.try_allocate(bytes);
    LEAP_CHECK(allocated.has_value(), "the test uses more buffers than its pool has");
    return std::move(*allocated);
  }

  static std::vector<std::byte> bytes_of(const DmaBuf& buffer) {
    return {buffer.bytes().begin(), buffer.bytes().end()};
  }

  /// The connection is over because the peer broke the protocol: an H2CTermReq with `fes` went out, and whoever waited
  /// knows.
  void expect_protocol_failure(nvme::Fes fes) {
    pump();
    std::optional<HostPdu> last;
    while (auto pdu = peer.next()) last = std::move(pdu);
    ASSERT_TRUE(last.has_value()) << "no H2CTermReq";
    ASSERT_EQ(last->header.type, nvme::PduType::kH2CTermReq);
    EXPECT_EQ(last->as<nvme::TermReqPdu>().fes, static_cast<std::uint16_t>(fes));
    EXPECT_FALSE(last->data.empty()) << "a TermReq quotes the offending PDU";
    EXPECT_TRUE(wire().host_shut_down);
    EXPECT_EQ(qp->state(), QueuePairState::kClosed);
    ASSERT_TRUE(qp->failure().has_value());
    EXPECT_EQ(qp->failure()->kind(), Errc::kProtocol);
    EXPECT_EQ(qp->failure()->domain(), ErrorDomain::kTransport);
    for (const auto& outcome : outcomes_) EXPECT_TRUE(outcome->done());
    EXPECT_EQ(qp->outstanding(), 0U);
  }

 private:
  static Task<void> connect_into(FakeLoop& loop, TcpQueuePair::TcpConfig config,
                                 std::optional<Result<std::unique_ptr<TcpQueuePair>>>& result) {
    const TimePoint deadline = loop.clock.now() + std::chrono::seconds(10);
    auto connected =
        co_await TcpQueuePair::connect(loop.poller, loop.net, SocketAddress(), std::move(config), deadline);
    result.emplace(std::move(connected));
  }
  static Task<void> drive(TcpQueuePair& qp, nvme::Command command, DmaBuf data, nvme::DataDirection direction,
                          Outcome& outcome) {
    CommandResult result = co_await qp.execute(command, std::move(data), direction);
    EXPECT_FALSE(outcome.done()) << "completed twice";
    outcome.result.emplace(std::move(result));
  }

  std::optional<Result<std::unique_ptr<TcpQueuePair>>> connected_;
  std::vector<std::unique_ptr<Outcome>> outcomes_;
};

}  // namespace leap::test

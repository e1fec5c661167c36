// A connected controller: I/O queues, events, keep-alive, loss, shutdown.
#include "controller_fixture.h"
#include "nvme/features.h"

namespace leap::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<std::byte> stamped(std::size_t bytes, std::uint64_t seed) {
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>((i / 512 * 31 + i + seed * 97) & 0xFF);
  return data;
}

class LiveController : public ControllerTest {
 protected:
  bool write(QueuePair& qp, std::uint64_t lba, std::span<const std::byte> content) {
    DmaBuf data = *loop.pool.try_allocate(content.size());
    std::memcpy(data.data(), content.data(), content.size());
    const auto command = nvme::make_write(nvme::Nsid{1}, lba, static_cast<std::uint32_t>(content.size() / 512));
    return loop.run(run_command(qp, command, std::move(data), nvme::DataDirection::kHostToController)).status.ok();
  }
  std::vector<std::byte> read(QueuePair& qp, std::uint64_t lba, std::size_t bytes) {
    const auto command = nvme::make_read(nvme::Nsid{1}, lba, static_cast<std::uint32_t>(bytes / 512));
    const CommandResult result =
        loop.run(run_command(qp, command, *loop.pool.try_allocate(bytes), nvme::DataDirection::kControllerToHost));
    EXPECT_TRUE(result.status.ok());
    return {result.data.bytes().begin(), result.data.bytes().end()};
  }
};

TEST_F(LiveController, MovesDataThroughAnIoQueue) {
  for (const bool digests : {false, true}) {
    for (const std::uint32_t c2h_bytes : {1U << 20, 4096U, 512U}) {
      for (const bool success_flag : {true, false}) {
        SCOPED_TRACE(fmt::format("digests {} c2h {} success {}", digests, c2h_bytes, success_flag));
        config.header_digest = config.data_digest = digests;
        target.options.c2h_bytes = c2h_bytes;
        target.options.success_flag = success_flag;
        connect();
        QueuePair* qp = open();
        ASSERT_NE(qp, nullptr);
        for (const std::size_t bytes : {512UL, 4096UL, 8192UL, 131072UL}) {
          ASSERT_TRUE(write(*qp, 16, stamped(bytes, bytes)));
          EXPECT_EQ(read(*qp, 16, bytes), stamped(bytes, bytes));
        }
        ASSERT_TRUE(loop.run(controller->shutdown(seconds(1))).ok());
        controller.reset();
      }
    }
  }
}

TEST_F(LiveController, OneIoQueuePerPollerIsShared) {
  connect();
  QueuePair* first = open();
  EXPECT_EQ(open(), first);
  EXPECT_EQ(first->depth(), 127U);
  EXPECT_EQ(first->max_transfer(), 128U * 1024);
  EXPECT_EQ(target.connected.size(), 2U) << "the admin queue and one I/O queue";
  EXPECT_TRUE(target.flow_control_disabled);
  EXPECT_EQ(controller->probe().io_queues.value(), 1);
  EXPECT_EQ(controller->queue_probes().size(), 2U);
}

Task<void> open_into(NvmeController& controller, FakeLoop& loop, std::optional<Result<QueuePair*>>& result) {
  Result<QueuePair*> opened = co_await controller.open_io_queue(loop.poller, loop.pool);
  result.emplace(std::move(opened));
}

TEST_F(LiveController, ConcurrentOpensMakeOneQueue) {
  connect();
  std::optional<Result<QueuePair*>> results[3];
  for (auto& result : results) loop.spawn(open_into(*controller, loop, result));
  loop.settle();
  for (auto& result : results) ASSERT_TRUE(result.has_value() && result->ok());
  EXPECT_EQ(results[0]->value(), results[2]->value());
  EXPECT_EQ(target.connected.size(), 2U);
}

TEST_F(LiveController, QueueDepthIsWhatBothSidesCanDo) {
  target.options.mqes = 31;
  connect();
  EXPECT_EQ(open()->depth(), 31U);
}

TEST_F(LiveController, AFailedQueuePairIsMadeAgainOnDemand) {
  connect();
  QueuePair* first = open();
  loop.net.wires.back()->peer_closed = true;
  loop.settle();
  EXPECT_EQ(first->state(), QueuePairState::kClosed);
  EXPECT_EQ(controller->probe().queue_failures.value(), 1U);
  EXPECT_EQ(controller->probe().io_queues.value(), 0);
  EXPECT_TRUE(controller->live()) << "the association is the admin queue's";
  QueuePair* second = open();
  ASSERT_NE(second, nullptr);
  EXPECT_NE(second, first);
  EXPECT_NE(second->qid(), first->qid()) << "the target may not have noticed yet that the old one is gone";
  EXPECT_TRUE(write(*second, 0, stamped(4096, 1)));
}

TEST_F(LiveController, AQueueThatIsRefusedIsAnErrorAndNotALeak) {
  connect();
  target.options.queues = 0;
  Result<QueuePair*> refused = loop.run(controller->open_io_queue(loop.poller, loop.pool));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().domain(), ErrorDomain::kNvme);
  target.options.queues = 4;
  EXPECT_NE(open(), nullptr);
}

TEST_F(LiveController, OpeningAgainstASilentTargetEndsInTime) {
  config.connect_timeout = seconds(2);
  connect();
  target.intercept = [](FakeTarget::Connection& connection, const HostPdu&) { return connection.qid == nvme::Qid{0}; };
  std::optional<Result<QueuePair*>> result;
  // Connect on the new connection is swallowed: its qid is still 0 there, as the admin queue's is.
  loop.spawn(open_into(*controller, loop, result));
  loop.advance(seconds(3), 30);
  ASSERT_TRUE(result.has_value() && !result->ok());
  EXPECT_EQ(result->error().kind(), Errc::kTimedOut);
  target.intercept = nullptr;
}

TEST_F(LiveController, SendsKeepAlivesWhileIdle) {
  config.keep_alive_timeout = seconds(10);
  connect();
  loop.advance(seconds(61), 610);
  EXPECT_EQ(target.keep_alives, 12U) << "two per timeout";
  EXPECT_EQ(controller->probe().keep_alives.value(), 12U);
  EXPECT_TRUE(controller->live());
}

TEST_F(LiveController, SendsNoneWhenToldOrWhenTheControllerCannot) {
  config.keep_alive_timeout = Nanos{0};
  connect();
  EXPECT_EQ(target.kato_ms, 0U);
  loop.advance(seconds(60), 60);
  EXPECT_EQ(target.keep_alives, 0U);
  ASSERT_TRUE(loop.run(controller->shutdown(seconds(1))).ok());
  controller.reset();
  config.keep_alive_timeout = seconds(10);
  target.options.kas = 0;
  connect();
  loop.advance(seconds(60), 60);
  EXPECT_EQ(target.keep_alives, 0U);
}

TEST_F(LiveController, AnUnansweredKeepAliveEndsTheAssociation) {
  config.keep_alive_timeout = seconds(10);
  connect();
  QueuePair* qp = open();
  deaf = true;
  loop.advance(seconds(14), 140);
  EXPECT_TRUE(controller->live());
  loop.advance(seconds(2), 20);
  EXPECT_EQ(controller->state(), ControllerState::kFailed);
  ASSERT_TRUE(controller->failure().has_value());
  EXPECT_EQ(controller->failure()->kind(), Errc::kTimedOut);
  EXPECT_EQ(qp->state(), QueuePairState::kClosed) << "without its admin queue the controller is gone";
}

TEST_F(LiveController, LosingTheAdminQueueFailsIoInFlight) {
  connect();
  QueuePair* qp = open();
  target.intercept = [](FakeTarget::Connection&, const HostPdu&) { return true; };
  std::optional<CommandResult> result;
  const auto drive = [](QueuePair& queue, DmaBuf data, std::optional<CommandResult>& out) -> Task<void> {
    CommandResult done = co_await queue.execute(nvme::make_read(nvme::Nsid{1}, 0, 8), std::move(data),
                                                nvme::DataDirection::kControllerToHost);
    out.emplace(std::move(done));
  };
  loop.spawn(drive(*qp, *loop.pool.try_allocate(4096), result));
  loop.settle();
  loop.net.wire(0).reset = ECONNRESET;
  loop.settle();
  ASSERT_TRUE(result.has_value() && !result->status.ok());
  EXPECT_EQ(result->status.error().kind(), Errc::kClosed);
  EXPECT_TRUE(result->status.error().may_have_executed());
  EXPECT_NE(result->status.error().message().find("association is lost"), std::string::npos);
  const Result<QueuePair*> again = loop.run(controller->open_io_queue(loop.poller, loop.pool));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), Errc::kClosed);
}

TEST_F(LiveController, ReadsNamespacesAgainWhenTheyChange) {
  connect();
  int told = 0;
  controller->set_namespaces_changed([&told](NvmeController&) { ++told; });
  for (std::uint32_t round = 1; round <= 10; ++round) {
    target.namespaces.emplace_back();
    target.namespaces.back().nsid = nvme::Nsid{round + 10};
    ASSERT_TRUE(target.notify(nvme::kNamespaceChangedEvent)) << "round " << round << ": no event request outstanding";
    loop.settle();
    EXPECT_EQ(controller->namespaces().size(), round + 1);
  }
  EXPECT_EQ(told, 10);
  EXPECT_EQ(target.log_reads, 10U) << "reading the log page re-arms the event";
  EXPECT_EQ(controller->probe().async_events.value(), 10U);
}

TEST_F(LiveController, DealsWithEventsOfEveryKind) {
  connect();
  for (int round = 0; round < 3; ++round) {
    for (unsigned type = 0; type < 8; ++type) {
      nvme::AsyncEvent event;
      event.type = static_cast<nvme::AsyncEventType>(type);
      event.info = 0x7F;
      event.log_page = static_cast<std::uint8_t>(type);
      ASSERT_TRUE(target.notify(event));
      loop.settle();
    }
  }
  EXPECT_EQ(controller->probe().async_events.value(), 24U);
  EXPECT_TRUE(controller->live());
}

TEST_F(LiveController, AsksForHealthAndNamespaceEvents) {
  connect();
  EXPECT_TRUE(target.event_config.namespace_attribute);
  EXPECT_NE(target.event_config.smart_critical, 0);
}

TEST_F(LiveController, AsksForNamespaceEventsAloneWhereHealthIsRefused) {
  target.options.health_events = false;
  connect();
  EXPECT_TRUE(target.event_config.namespace_attribute);
  EXPECT_EQ(target.event_config.smart_critical, 0);
}

TEST_F(LiveController, KeepsNoMoreEventRequestsThanTheControllerTakes) {
  target.options.aerl = 0;
  connect();
  loop.settle();
  EXPECT_EQ(connections[0]->events.size(), 1U);
  EXPECT_TRUE(target.notify(nvme::kNamespaceChangedEvent));
  loop.settle();
  EXPECT_EQ(connections[0]->events.size(), 1U);
}

TEST_F(LiveController, ShutsDownInOrder) {
  target.options.disconnect = true;
  connect();
  QueuePair* qp = open();
  ASSERT_TRUE(loop.run(controller->shutdown(seconds(5))).ok());
  EXPECT_TRUE(target.shutdown_requested);
  EXPECT_EQ(target.disconnects, 1U);
  EXPECT_EQ(controller->state(), ControllerState::kStopped);
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  for (const auto& wire : loop.net.wires) EXPECT_TRUE(wire->host_closed);
  EXPECT_TRUE(loop.run(controller->shutdown(seconds(5))).ok()) << "again is fine";
  EXPECT_FALSE(loop.run(controller->open_io_queue(loop.poller, loop.pool)).ok());
}

TEST_F(LiveController, ShutsDownWithoutDisconnectWhereItIsNotSupported) {
  connect();
  open();
  ASSERT_TRUE(loop.run(controller->shutdown(seconds(5))).ok());
  EXPECT_EQ(target.disconnects, 0U);
  EXPECT_TRUE(target.shutdown_requested);
}

Task<void> shutdown_into(NvmeController& controller, Nanos limit, std::optional<Result<>>& result) {
  Result<> ended = co_await controller.shutdown(limit);
  result.emplace(std::move(ended));
}

TEST_F(LiveController, ShutdownOfAHungTargetEndsAtItsDeadline) {
  connect();
  QueuePair* qp = open();
  deaf = true;
  std::optional<CommandResult> io;
  const auto drive = [](QueuePair& queue, std::optional<CommandResult>& out) -> Task<void> {
    CommandResult done = co_await queue.execute(nvme::make_flush(nvme::Nsid{1}));
    out.emplace(std::move(done));
  };
  loop.spawn(drive(*qp, io));
  std::optional<Result<>> ended;
  loop.spawn(shutdown_into(*controller, seconds(3), ended));
  loop.advance(milliseconds(2900), 29);
  EXPECT_FALSE(ended.has_value());
  loop.advance(milliseconds(300), 3);
  ASSERT_TRUE(ended.has_value() && !ended->ok());
  EXPECT_EQ(ended->error().kind(), Errc::kTimedOut);
  ASSERT_TRUE(io.has_value());
  EXPECT_EQ(io->status.error().kind(), Errc::kTimedOut);
  EXPECT_EQ(controller->state(), ControllerState::kStopped);
  for (const auto& wire : loop.net.wires) EXPECT_TRUE(wire->host_closed);
}

TEST_F(LiveController, ShutdownDoesNotWaitForEverForTheController) {
  target.options.completes_shutdown = false;
  connect();
  std::optional<Result<>> ended;
  loop.spawn(shutdown_into(*controller, seconds(30), ended));
  loop.advance(seconds(6), 60);
  ASSERT_TRUE(ended.has_value() && !ended->ok());
  EXPECT_NE(ended->error().message().find("CSTS.SHST"), std::string::npos);
}

TEST_F(LiveController, ShutsDownWhenTheAssociationIsLostAlready) {
  connect();
  open();
  for (const auto& wire : loop.net.wires) wire->reset = ECONNRESET;
  loop.settle();
  EXPECT_EQ(controller->state(), ControllerState::kFailed);
  EXPECT_TRUE(loop.run(controller->shutdown(seconds(5))).ok());
  EXPECT_EQ(controller->state(), ControllerState::kStopped);
}

TEST_F(LiveController, ADiscoveryControllerHasNoQueuesToOpen) {
  target.options.discovery = true;
  target.options.subnqn = nvme::kDiscoveryNqn;
  config.address.subnqn = nvme::kDiscoveryNqn;
  connect();
  EXPECT_TRUE(controller->info().discovery);
  EXPECT_TRUE(controller->namespaces().empty());
  const Result<QueuePair*> opened = loop.run(controller->open_io_queue(loop.poller, loop.pool));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind(), Errc::kUnsupported);
}

}  // namespace
}  // namespace leap::test

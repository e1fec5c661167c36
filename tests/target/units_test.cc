// The parts that need no connection: state tables, events, error log, configuration, identity, status mapping.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rig.h"
#include "target/device_status.h"
#include "target/error_log.h"
#include "target/events.h"
#include "target/request.h"
#include "target/subsystem.h"
#include "target/tcp/connection_state.h"

namespace leap::target::testing {
namespace {

using nvme::GenericStatus;

TEST(ConnectionStateTable, EveryEndingGoesThroughDrainingAndNothingComesBack) {
  using S = ConnectionState;
  using E = ConnectionEvent;
  EXPECT_EQ(next_state(S::kHandshake, E::kIcDone), S::kReady);
  EXPECT_EQ(next_state(S::kHandshake, E::kFinish), S::kDraining);
  EXPECT_EQ(next_state(S::kReady, E::kFault), S::kLingering);
  EXPECT_EQ(next_state(S::kReady, E::kFinish), S::kLingering);
  EXPECT_EQ(next_state(S::kLingering, E::kFault), S::kLingering);
  for (const S state : {S::kHandshake, S::kReady, S::kLingering}) {
    EXPECT_EQ(next_state(state, E::kAbort), S::kDraining);
    EXPECT_EQ(next_state(state, E::kQuiet), state);
  }
  for (const E event : {E::kIcDone, E::kFault, E::kFinish, E::kAbort})
    EXPECT_EQ(next_state(S::kDraining, event), S::kDraining);
  EXPECT_EQ(next_state(S::kDraining, E::kQuiet), S::kClosed);
  for (const E event : {E::kIcDone, E::kFault, E::kFinish, E::kAbort, E::kQuiet})
    EXPECT_EQ(next_state(S::kClosed, event), S::kClosed);
}

TEST(RequestStateTable, EveryStateCanBeGivenUpAndNothingFollowsSending) {
  using S = RequestState;
  for (int i = 1; i < int(kRequestStates); ++i) EXPECT_TRUE(may_follow(static_cast<S>(i), S::kFree));
  EXPECT_FALSE(may_follow(S::kFree, S::kFree));
  EXPECT_TRUE(may_follow(S::kFree, S::kStarted));
  EXPECT_FALSE(may_follow(S::kFree, S::kSending));
  EXPECT_TRUE(may_follow(S::kAwaitBuffer, S::kReceiving));
  EXPECT_FALSE(may_follow(S::kReceiving, S::kAwaitBuffer));
  EXPECT_FALSE(may_follow(S::kHeld, S::kExecuting));
  for (int i = 1; i < int(kRequestStates); ++i) EXPECT_FALSE(may_follow(S::kSending, static_cast<S>(i)));
}

TEST(RequestSlots, HandsOutEachSlotOnceAndTakesItBackClean) {
  RequestSlots slots(3);
  Request* a = slots.take();
  Request* b = slots.take();
  Request* c = slots.take();
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(slots.take(), nullptr);
  EXPECT_NE(a->slot, b->slot);
  EXPECT_NE(b->slot, c->slot);
  EXPECT_EQ(slots.at(b->slot), b);
  EXPECT_EQ(slots.at(3), nullptr);
  b->dw0 = 7;
  b->make_page(16);
  slots.give_back(*b);
  EXPECT_EQ(slots.used(), 2U);
  Request* again = slots.take();
  EXPECT_EQ(again, b);
  EXPECT_EQ(again->dw0, 0U);
  EXPECT_TRUE(again->data.empty());
  EXPECT_EQ(again->direction, nvme::DataDirection::kNone);
}

TEST(AsyncEvents, AnEventIsReportedOnceUntilItsLogPageWasRead) {
  AsyncEvents events;
  events.raise(EventKind::kNamespaceChanged);
  EXPECT_FALSE(events.next()) << "the host has not asked for this kind";
  events.configure({.namespace_attribute = true});
  EXPECT_EQ(events.next(), nvme::kNamespaceChangedEvent);
  EXPECT_FALSE(events.next());
  events.raise(EventKind::kNamespaceChanged);
  EXPECT_FALSE(events.next()) << "masked";
  events.acknowledge(EventKind::kNamespaceChanged);
  EXPECT_FALSE(events.next()) << "the page the host has read already showed it";
  events.raise(EventKind::kNamespaceChanged);
  EXPECT_TRUE(events.next());
}

TEST(AsyncEvents, ChangedNamespacesAreSortedUniqueAndOverflowToTheMarker) {
  AsyncEvents events;
  for (const std::uint32_t id : {7U, 3U, 7U, 5U}) events.add_changed(nvme::Nsid{id});
  const auto list = events.changed();
  ASSERT_EQ(list.entries().size(), 3U);
  EXPECT_EQ(list.ids[0].value(), 3U);
  EXPECT_EQ(list.ids[2].value(), 7U);
  for (std::uint32_t id = 1; id <= 1025; ++id) events.add_changed(nvme::Nsid{id});
  EXPECT_EQ(events.changed().ids[0], nvme::kTooManyChanged);
  EXPECT_EQ(events.changed().ids[1], nvme::kNoNamespace);
}

TEST(ErrorLog, KeepsTheNewestEntriesNewestFirst) {
  ErrorLog log;
  for (std::uint16_t i = 1; i <= 70; ++i) log.add({.cid = nvme::Cid{i}});
  std::vector<nvme::ErrorLogEntry> entries(ErrorLog::kEntries);
  log.copy_to(std::span<nvme::ErrorLogEntry, ErrorLog::kEntries>(entries));
  EXPECT_EQ(entries.front().error_count, 70U);
  EXPECT_EQ(entries.front().cid.value(), 70);
  EXPECT_EQ(entries.back().error_count, 7U);
}

TEST(DeviceStatus, PassesNvmeStatusesThroughAndMapsTheRest) {
  const auto exact = NvmeStatusCode{.sct = 2, .sc = 0x86, .crd = 0, .more = false, .dnr = true};
  EXPECT_EQ(device_status(Error(Errc::kIo, "x").with_nvme(exact), nvme::NvmOpcode::kRead), exact);
  const auto map = [](Errc kind, nvme::NvmOpcode opcode) { return device_status(Error(kind, "x"), opcode); };
  EXPECT_EQ(map(Errc::kIo, nvme::NvmOpcode::kRead), nvme::status(nvme::MediaStatus::kUnrecoveredReadError));
  EXPECT_EQ(map(Errc::kIo, nvme::NvmOpcode::kWrite), nvme::status(nvme::MediaStatus::kWriteFault));
  EXPECT_EQ(map(Errc::kNoSpace, nvme::NvmOpcode::kWrite), nvme::status(GenericStatus::kCapacityExceeded));
  EXPECT_EQ(map(Errc::kUnreachable, nvme::NvmOpcode::kFlush), nvme::status(GenericStatus::kNamespaceNotReady));
  for (int kind = 0; kind <= int(Errc::kIo); ++kind) {
    EXPECT_FALSE(map(static_cast<Errc>(kind), nvme::NvmOpcode::kRead).ok()) << "an error must never become a success";
  }
}

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    device_ = MemBdev::create({.size = 1 << 20, .block_size = 512, .name = "d"}).value();
    config_.listen = {SocketAddress::parse("127.0.0.1:0").value()};
    config_.nqn = "nqn.2024-01.io.leap:test";
    config_.namespaces.push_back(Rig::namespace_on(*device_));
  }
  /// The error after `change`, empty when it is accepted.
  template <typename Change>
  std::string error_after(Change change) {
    TargetConfig config = config_;
    change(config);
    const Result<> valid = config.validate();
    return valid.ok() ? "" : valid.error().message();
  }

  std::unique_ptr<MemBdev> device_;
  TargetConfig config_;
};

TEST_F(ConfigTest, AcceptsTheDefaultsAndNamesWhatIsWrong) {
  EXPECT_EQ(error_after([](TargetConfig&) {}), "");
  using ::testing::HasSubstr;
  EXPECT_THAT(error_after([](auto& c) { c.listen.clear(); }), HasSubstr("listen"));
  EXPECT_THAT(error_after([](auto& c) { c.nqn = "disk"; }), HasSubstr("nqn"));
  EXPECT_THAT(error_after([](auto& c) { c.nqn = nvme::kDiscoveryNqn; }), HasSubstr("discovery"));
  EXPECT_THAT(error_after([](auto& c) { c.allowed_hosts = {"nobody"}; }), HasSubstr("allowed_hosts"));
  EXPECT_THAT(error_after([](auto& c) { c.serial = "123456789012345678901"; }), HasSubstr("serial"));
  EXPECT_THAT(error_after([](auto& c) { c.firmware = "123456789"; }), HasSubstr("firmware"));
  EXPECT_THAT(error_after([](auto& c) { c.queue_depth = 1; }), HasSubstr("queue_depth"));
  EXPECT_THAT(error_after([](auto& c) { c.queue_depth = 1025; }), HasSubstr("queue_depth"));
  EXPECT_THAT(error_after([](auto& c) { c.max_io_queues = 0; }), HasSubstr("max_io_queues"));
  EXPECT_THAT(error_after([](auto& c) { c.max_controllers = 0; }), HasSubstr("max_controllers"));
  EXPECT_THAT(error_after([](auto& c) { c.max_connections = 0; }), HasSubstr("max_connections"));
  EXPECT_THAT(error_after([](auto& c) { c.in_capsule_data_size = 100; }), HasSubstr("in_capsule_data_size"));
  EXPECT_THAT(error_after([](auto& c) { c.in_capsule_data_size = 65552; }), HasSubstr("in_capsule_data_size"));
  EXPECT_THAT(error_after([](auto& c) { c.max_io_size = 12288; }), HasSubstr("max_io_size"));
  EXPECT_THAT(error_after([](auto& c) { c.max_io_size = 2U << 20; }), HasSubstr("max_io_size"));
  EXPECT_THAT(error_after([](auto& c) { c.max_h2c_data = 4098; }), HasSubstr("max_h2c_data"));
  EXPECT_THAT(error_after([](auto& c) { c.max_c2h_data = 4096; }), HasSubstr("max_c2h_data"));
  EXPECT_THAT(error_after([](auto& c) { c.max_r2t_bytes = 2048; }), HasSubstr("max_r2t_bytes"));
  EXPECT_THAT(error_after([](auto& c) { c.max_r2ts = 17; }), HasSubstr("max_r2ts"));
  EXPECT_THAT(error_after([](auto& c) { c.stall_timeout = Nanos{0}; }), HasSubstr("stall_timeout"));
  EXPECT_THAT(error_after([](auto& c) { c.handshake_timeout = Nanos{-1}; }), HasSubstr("handshake_timeout"));
  EXPECT_THAT(error_after([](auto& c) { c.linger_timeout = Nanos{0}; }), HasSubstr("linger_timeout"));
  EXPECT_THAT(error_after([](auto& c) { c.max_keep_alive = Nanos{0}; }), HasSubstr("max_keep_alive"));
  EXPECT_THAT(error_after([](auto& c) { c.namespaces[0].device = nullptr; }), HasSubstr("device"));
  EXPECT_THAT(error_after([](auto& c) { c.namespaces[0].nsid = 1025; }), HasSubstr("nsid"));
  EXPECT_THAT(error_after([](auto& c) { c.namespaces.push_back(c.namespaces[0]); }), HasSubstr("named"));
}

TEST_F(ConfigTest, FillsInTheLowestFreeNamespaceIds) {
  NamespaceConfig two = config_.namespaces[0];
  two.nsid = 2;
  two.name = "two";
  NamespaceConfig free = config_.namespaces[0];
  free.name = "free";
  config_.namespaces = {free, two, config_.namespaces[0]};
  ASSERT_TRUE(config_.validate().ok());
  EXPECT_EQ(config_.namespaces[0].nsid, 1U);
  EXPECT_EQ(config_.namespaces[1].nsid, 2U);
  EXPECT_EQ(config_.namespaces[2].nsid, 3U);
}

TEST_F(ConfigTest, RefusesPoolsThatCannotHoldTwoCommands) {
  PoolMemory memory(1 << 20);
  auto poller = NvmePoller::create({}).value();
  const auto created = NvmeTarget::create(config_, {{*poller, memory.pool}});
  ASSERT_FALSE(created.ok());
  EXPECT_THAT(created.error().message(), ::testing::HasSubstr("pool"));
  EXPECT_FALSE(NvmeTarget::create(config_, {}).ok());
}

TEST_F(ConfigTest, ReportsAnAddressInUse) {
  PoolMemory memory(4 << 20);
  auto poller = NvmePoller::create({}).value();
  MemoryNet net;
  net.refuse_listen = true;
  auto target = NvmeTarget::create(config_, {{*poller, memory.pool}}, net).value();
  const Result<> started = target->start();
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().kind(), Errc::kAlreadyExists);
}

TEST_F(ConfigTest, RefusesDevicesNvmeCannotExpress) {
  TestDevice odd({.size = 1 << 20, .block_size = 520});
  TestDevice tiny({.size = 100, .block_size = 512});
  for (BlockDevice* device : {static_cast<BlockDevice*>(&odd), static_cast<BlockDevice*>(&tiny)}) {
    NamespaceConfig config = Rig::namespace_on(*device, 1);
    config.name = "x";
    EXPECT_FALSE(Namespace::create(config, "nqn.2024-01.io.leap:test").ok());
  }
}

TEST_F(ConfigTest, IdentityDependsOnNqnAndNameOnly) {
  NamespaceConfig config = config_.namespaces[0];
  config.nsid = 1;
  config.name = "data";
  const auto first = Namespace::create(config, "nqn.2024-01.io.leap:a").value();
  auto other_device = MemBdev::create({.size = 4 << 20, .block_size = 4096, .name = "elsewhere"}).value();
  config.device = other_device.get();
  config.nsid = 9;
  const auto same = Namespace::create(config, "nqn.2024-01.io.leap:a").value();
  EXPECT_EQ(first.uuid(), same.uuid());
  EXPECT_EQ(first.nguid(), same.nguid());
  EXPECT_NE(first.uuid().bytes, first.nguid());
  const auto other = Namespace::create(config, "nqn.2024-01.io.leap:b").value();
  EXPECT_NE(first.uuid(), other.uuid());
  config.uuid = Uuid::parse("00000000-0000-4000-8000-000000000001").value();
  config.nguid.emplace();
  config.nguid->fill(std::byte{7});
  const auto given = Namespace::create(config, "nqn.2024-01.io.leap:a").value();
  EXPECT_EQ(given.uuid(), config.uuid);
  EXPECT_EQ(given.nguid(), *config.nguid);
}

}  // namespace
}  // namespace leap::target::testing

// Namespaces that come, go and change their size while hosts use them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/temp_dir.h"
#include "bdev/file_bdev.h"
#include "nvme/identify_namespace.h"
#include "rig.h"
#include "target/shard.h"

namespace leap::target::testing {
namespace {

using nvme::Cns;
using nvme::GenericStatus;
using nvme::Nsid;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NamespaceChangeTest : public ::testing::Test {
 protected:
  NamespaceChangeTest() : hosts(rig.io_host()) {
    const auto config = nvme::AsyncEventConfig{.namespace_attribute = true}.to_dword();
    const auto command = nvme::make_set_features(nvme::FeatureId::kAsyncEventConfiguration, config);
    EXPECT_TRUE(hosts.admin->execute(command).ok());
    event_ = hosts.admin->submit(nvme::make_async_event_request());
  }
  /// The namespaces that the host is told have changed since it last looked.
  std::vector<std::uint32_t> told() {
    rig.settle();
    while (hosts.admin->pump()) {
    }
    if (!hosts.admin->take_reply(event_)) return {};
    const nvme::GetLogPageFields fields{.lid = nvme::LogPage::kChangedNamespaces, .bytes = 4096};
    const Reply page = hosts.admin->execute(nvme::make_get_log_page(fields), {}, Via::kR2T, 4096);
    event_ = hosts.admin->submit(nvme::make_async_event_request());
    return ids_in(page.data);
  }
  std::vector<std::uint32_t> active() {
    const nvme::Command list = nvme::make_identify_active_namespaces(nvme::kNoNamespace);
    return ids_in(hosts.admin->execute(list, {}, Via::kR2T, 4096).data);
  }
  nvme::IdentifyNamespace identify(std::uint32_t nsid) {
    const nvme::Command command = nvme::make_identify({.cns = Cns::kNamespace, .nsid = Nsid{nsid}});
    const Reply reply = hosts.admin->execute(command, {}, Via::kR2T, 4096);
    EXPECT_TRUE(reply.ok());
    return nvme::wire::load<nvme::IdentifyNamespace>(reply.data).value();
  }
  static std::vector<std::uint32_t> ids_in(const Bytes& page) {
    std::vector<std::uint32_t> ids;
    const auto list = nvme::wire::load<nvme::NamespaceList>(page).value();
    for (const Nsid id : list.entries()) ids.push_back(id.value());
    return ids;
  }

  TestDevice device{{.size = 1 << 20, .block_size = 512, .name = "later"}};
  Rig rig;
  Rig::Hosts hosts;

 private:
  nvme::Cid event_;
};

TEST_F(NamespaceChangeTest, ANewOneIsServedOnTheQueuesThereAre) {
  EXPECT_STATUS(hosts.io->read(2, 0, 1), GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_EQ(rig.target().add_namespace({.device = &device}).value(), 2U);
  EXPECT_THAT(told(), ElementsAre(2));
  EXPECT_THAT(active(), ElementsAre(1, 2));
  EXPECT_EQ(identify(2).nsze, 2048U);
  const Bytes data = pattern(4096, 5);
  ASSERT_TRUE(hosts.io->write(2, 8, data).ok());
  EXPECT_TRUE(same(hosts.io->read(2, 8, 8).data, data));
  EXPECT_TRUE(hosts.io->read(1, 0, 1).ok());
}

TEST_F(NamespaceChangeTest, ARemovedOneIsGone) {
  ASSERT_TRUE(rig.target().add_namespace({.device = &device, .nsid = 7}).ok());
  EXPECT_THAT(told(), ElementsAre(7));
  EXPECT_EQ(device.channels, 1U);
  ASSERT_TRUE(rig.target().remove_namespace(7).ok());
  EXPECT_THAT(told(), ElementsAre(7));
  EXPECT_THAT(active(), ElementsAre(1));
  EXPECT_EQ(identify(7).nsze, 0U);
  EXPECT_STATUS(hosts.io->read(7, 0, 1), GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_STATUS(hosts.io->execute(nvme::make_flush(Nsid{7})), GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_EQ(device.channels, 0U);
}

TEST_F(NamespaceChangeTest, WhatWasAcceptedBeforeTheRemovalIsFinished) {
  ASSERT_TRUE(rig.target().add_namespace({.device = &device}).ok());
  rig.settle();
  device.hold();
  const Bytes data = pattern(512, 9);
  const auto held = hosts.io->submit(nvme::make_write(Nsid{2}, 3, 1), data);
  const auto all = hosts.io->submit(nvme::make_flush(nvme::kAllNamespaces));
  rig.settle();
  ASSERT_TRUE(rig.target().remove_namespace(2).ok());
  rig.settle();
  EXPECT_STATUS(hosts.io->read(2, 0, 1), GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_EQ(device.channels, 1U) << "still in use";
  device.let_go();
  EXPECT_TRUE(hosts.io->wait(held).ok());
  EXPECT_TRUE(hosts.io->wait(all).ok());
  rig.settle();
  EXPECT_EQ(device.channels, 0U);
  EXPECT_TRUE(same(device.contents().subspan(3 * 512, 512), data));
}

TEST_F(NamespaceChangeTest, AnotherDeviceUnderTheSameNumberIsAnotherNamespace) {
  TestDevice other({.size = 1 << 20, .block_size = 512, .name = "other"});
  ASSERT_TRUE(rig.target().add_namespace({.device = &device}).ok());
  rig.settle();
  ASSERT_TRUE(hosts.io->write(2, 0, pattern(512, 1)).ok());
  // Both changes before any poller has seen the first.
  ASSERT_TRUE(rig.target().remove_namespace(2).ok());
  ASSERT_TRUE(rig.target().add_namespace({.device = &other}).ok());
  rig.settle();
  ASSERT_TRUE(hosts.io->write(2, 0, pattern(512, 2)).ok());
  EXPECT_TRUE(same(other.contents().first(512), pattern(512, 2)));
  EXPECT_TRUE(same(device.contents().first(512), pattern(512, 1)));
  EXPECT_EQ(device.channels, 0U);
  rig.stop();
}

TEST_F(NamespaceChangeTest, GrowsIntoWhatItsDeviceHas) {
  ASSERT_TRUE(rig.target().add_namespace({.device = &device, .size = 64 << 10}).ok());
  EXPECT_THAT(told(), ElementsAre(2));
  EXPECT_EQ(identify(2).nsze, 128U);
  ASSERT_TRUE(hosts.io->write(2, 127, pattern(512, 1)).ok());
  EXPECT_STATUS(hosts.io->read(2, 128, 1), GenericStatus::kLbaOutOfRange);
  ASSERT_TRUE(rig.target().resize_namespace(2, 128 << 10).ok());
  EXPECT_THAT(told(), ElementsAre(2));
  EXPECT_EQ(identify(2).nsze, 256U);
  EXPECT_TRUE(hosts.io->read(2, 128, 1).ok());
  EXPECT_TRUE(same(hosts.io->read(2, 127, 1).data, pattern(512, 1)));
  EXPECT_EQ(device.channels, 1U) << "the same channel as before";
  ASSERT_TRUE(rig.target().resize_namespace(2, 4096).ok());
  rig.settle();
  EXPECT_STATUS(hosts.io->read(2, 8, 1), GenericStatus::kLbaOutOfRange);
}

TEST_F(NamespaceChangeTest, SaysWhyItIsRefused) {
  NvmeTarget& target = rig.target();
  EXPECT_EQ(target.remove_namespace(2).error().kind(), Errc::kNotFound);
  EXPECT_EQ(target.resize_namespace(0, 4096).error().kind(), Errc::kNotFound);
  EXPECT_EQ(target.add_namespace({}).error().kind(), Errc::kInvalidArgument);
  EXPECT_EQ(target.add_namespace({.device = &device, .nsid = 1}).error().kind(), Errc::kAlreadyExists);
  EXPECT_EQ(target.add_namespace({.device = &device, .nsid = 1025}).error().kind(), Errc::kInvalidArgument);
  EXPECT_EQ(target.add_namespace({.device = &device, .name = "mem0"}).error().kind(), Errc::kAlreadyExists);
  EXPECT_THAT(target.add_namespace({.device = &device, .size = 2 << 20}).error().message(),
              HasSubstr("the device has"));
  EXPECT_THAT(target.resize_namespace(1, 2 << 20).error().message(), HasSubstr("the device has"));
  EXPECT_THAT(target.resize_namespace(1, 1000).error().message(), HasSubstr("no whole blocks"));
  EXPECT_THAT(told(), IsEmpty());
  EXPECT_THAT(active(), ElementsAre(1));
}

TEST_F(NamespaceChangeTest, ACacheTheHostWasNotToldOfIsFlushedForIt) {
  // The only namespace so far is memory: this host believes that it never has to flush.
  ASSERT_TRUE(rig.target().add_namespace({.device = &device}).ok());
  rig.settle();
  ASSERT_TRUE(hosts.io->write(2, 0, pattern(512, 4)).ok());
  EXPECT_EQ(device.flushes, 1U);
  EXPECT_TRUE(same(device.durable().first(512), pattern(512, 4)));
  auto later = rig.io_host();
  ASSERT_TRUE(later.io->write(2, 0, pattern(512, 5)).ok());
  EXPECT_EQ(device.flushes, 1U) << "a host that knows flushes by itself";
  ASSERT_TRUE(later.io->execute(nvme::make_flush(nvme::kAllNamespaces)).ok());
  EXPECT_EQ(device.flushes, 2U);
}

TEST_F(NamespaceChangeTest, ComeAndGoWithoutLeavingAnythingBehind) {
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(rig.target().add_namespace({.device = &device}).ok());
    rig.settle();
    ASSERT_TRUE(hosts.io->write(2, 0, pattern(512, 4)).ok());
    ASSERT_TRUE(rig.target().remove_namespace(2).ok());
    rig.settle();
    ASSERT_EQ(device.channels, 0U);
  }
  EXPECT_THAT(told(), ElementsAre(2));
  EXPECT_EQ(rig.pool().probe().bytes_in_use, Shard::kScratchBytes);
}

TEST_F(NamespaceChangeTest, DiscardedBlocksAreSaidToReadAsZerosWhereTheyDo) {
  const test::TempDir dir;
  auto file = FileBdev::open({.path = dir.path() / "disk", .size = 1 << 20}).value();
  ASSERT_TRUE(rig.target().add_namespace({.device = &device}).ok());
  ASSERT_TRUE(rig.target().add_namespace({.device = file.get()}).ok());
  rig.settle();
  EXPECT_EQ(identify(1).dlfeat, nvme::kDlfeatReadsZeros) << "memory";
  EXPECT_EQ(identify(2).dlfeat, 0) << "a device that promises nothing";
  EXPECT_EQ(identify(3).dlfeat, file->info().discard_zeroes ? nvme::kDlfeatReadsZeros : 0);
  rig.stop();
}

}  // namespace
}  // namespace leap::target::testing

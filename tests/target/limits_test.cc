// What a host cannot do to the target or to other hosts: too many commands, reading nothing, promising data and not
// sending it, taking all the memory.
#include <cstring>

#include <gtest/gtest.h>

#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Fes;
using nvme::Nsid;

TEST(Slots, AsManyCommandsAsTheQueueHasEntriesAndNotOneMore) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  TargetConfig config;
  config.namespaces = {Rig::namespace_on(device)};
  Rig rig(config);
  auto hosts = rig.io_host({}, 8);
  device.hold();
  std::vector<nvme::Cid> cids;
  for (std::uint32_t i = 0; i < 8; ++i)
    cids.push_back(hosts.io->submit(nvme::make_read(Nsid{1}, i, 1), {}, Via::kR2T, 512));
  rig.settle();
  EXPECT_EQ(device.in_flight, 8U);
  EXPECT_FALSE(hosts.io->closed());
  hosts.io->submit(nvme::make_read(Nsid{1}, 0, 1), {}, Via::kR2T, 512);
  while (hosts.io->pump()) {
  }
  ASSERT_TRUE(hosts.io->term_req);
  EXPECT_EQ(hosts.io->term_req->fes, static_cast<std::uint16_t>(Fes::kPduSequenceError));
  hosts.io->close();
  EXPECT_EQ(rig.target().probe().connections_now, 2U) << "the device still works on eight commands";
  device.let_go();
  rig.settle();
  EXPECT_EQ(rig.target().probe().connections_now, 1U);
}

TEST(Slots, AreFreeAgainOnceTheAnswerIsOut) {
  Rig rig;
  auto hosts = rig.io_host({}, 2);
  for (std::uint32_t i = 0; i < 50; ++i) {
    const auto a = hosts.io->submit(nvme::make_read(Nsid{1}, i, 1), {}, Via::kR2T, 512);
    const auto b = hosts.io->submit(nvme::make_flush(Nsid{1}));
    EXPECT_TRUE(hosts.io->wait(a).ok());
    EXPECT_TRUE(hosts.io->wait(b).ok());
  }
}

TEST(SilentReader, GetsNoMoreThanItsSlotsAndIsClosedWhenItStaysSilent) {
  Rig rig;
  auto hosts = rig.io_host({}, 16);
  auto& cable = *rig.cables.back();
  auto other = rig.ready();
  ASSERT_TRUE(other->connect(2, hosts.admin->cntlid).ok());
  cable.write_room = 0;
  for (int i = 0; i < 16; ++i) hosts.io->submit(nvme::make_read(Nsid{1}, 0, 256), {}, Via::kR2T, 256 * 512);
  rig.settle();
  EXPECT_TRUE(cable.interest.write) << "waits for room instead of spinning";
  EXPECT_TRUE(other->read(1, 0, 8).ok()) << "others are served";
  rig.advance(std::chrono::seconds(20));
  EXPECT_FALSE(cable.target_closed);
  cable.give_room(1);
  rig.settle();
  rig.advance(std::chrono::seconds(15));
  EXPECT_FALSE(cable.target_closed) << "one byte is progress";
  rig.advance(std::chrono::seconds(31));
  rig.advance(std::chrono::seconds(31));
  EXPECT_TRUE(cable.target_closed);
  EXPECT_EQ(rig.target().probe().stalled, 1U);
  EXPECT_TRUE(other->read(1, 0, 8).ok());
}

TEST(SilentReader, GetsEverythingInOrderOnceItReadsAgain) {
  Rig rig;
  auto hosts = rig.io_host({}, 16);
  auto& cable = *rig.cables.back();
  const Bytes data = pattern(128 * 1024, 5);
  ASSERT_TRUE(hosts.io->write(1, 0, data, Via::kR2T).ok());
  cable.write_room = 1000;
  std::vector<nvme::Cid> cids;
  for (int i = 0; i < 15; ++i)
    cids.push_back(hosts.io->submit(nvme::make_read(Nsid{1}, 0, 256), {}, Via::kR2T, 256 * 512));
  rig.settle();
  for (int i = 0; i < 40; ++i) {
    cable.give_room(50'000 + static_cast<std::size_t>(i));
    rig.settle();
  }
  cable.give_room(SIZE_MAX);
  for (const auto cid : cids) {
    const Reply reply = hosts.io->wait(cid);
    ASSERT_TRUE(reply.ok());
    EXPECT_TRUE(same(reply.data, data));
  }
}

TEST(SilentReader, CommandsWithoutDataAreBoundedBySlotsToo) {
  Rig rig;
  auto hosts = rig.io_host({}, 4);
  rig.cables.back()->write_room = 0;
  for (int i = 0; i < 4; ++i) hosts.io->submit(nvme::make_flush(Nsid{1}));
  rig.settle();
  EXPECT_EQ(rig.target().probe().protocol_errors, 0U);
  // The answers have not left: a fifth command cannot be from a host that keeps its queue's rules.
  hosts.io->submit(nvme::make_flush(Nsid{1}));
  rig.settle();
  rig.cables.back()->give_room(SIZE_MAX);
  while (hosts.io->pump()) {
  }
  ASSERT_TRUE(hosts.io->term_req);
}

TEST(SilentWriter, IsClosedWhenTheDataItOwesDoesNotCome) {
  Rig rig;
  auto hosts = rig.io_host();
  hosts.io->answer_r2ts = false;
  hosts.io->submit(nvme::make_write(Nsid{1}, 0, 16), pattern(8192, 1), Via::kR2T);
  while (hosts.io->pump()) {
  }
  rig.advance(std::chrono::seconds(29));
  EXPECT_FALSE(hosts.io->closed());
  rig.advance(std::chrono::seconds(31));
  rig.advance(std::chrono::seconds(31));
  EXPECT_TRUE(hosts.io->closed());
  EXPECT_FALSE(hosts.admin->closed());
}

TEST(IdleConnection, StaysForEver) {
  Rig rig;
  auto hosts = rig.io_host();
  for (int i = 0; i < 10; ++i) rig.advance(std::chrono::hours(1));
  EXPECT_TRUE(hosts.io->read(1, 0, 1).ok());
  EXPECT_EQ(rig.poller().timers().next_deadline(), TimePoint::max()) << "an idle target ticks not at all";
}

/// A small pool (4 MiB, so each connection's share is 1 MiB) under a device with channels.
class BufferTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kScratch = 128 * 1024;
  BufferTest() {
    TargetConfig config;
    config.namespaces = {Rig::namespace_on(device)};
    rig = std::make_unique<Rig>(config, 4 << 20);
    hosts = rig->io_host();
    io = hosts.io.get();
  }
  TestDevice device{{.size = 4 << 20, .block_size = 512}};
  std::unique_ptr<Rig> rig;
  Rig::Hosts hosts;
  TestHost* io = nullptr;
};

TEST_F(BufferTest, OneConnectionTakesItsShareAndTheOthersGoOn) {
  auto other = rig->ready();
  ASSERT_TRUE(other->connect(2, hosts.admin->cntlid).ok());
  io->answer_r2ts = false;
  std::vector<nvme::Cid> cids;
  // Sixteen writes of 256 KiB: four fit the share.
  const Bytes data = pattern(256 * 1024, 1);
  for (std::uint32_t i = 0; i < 16; ++i)
    cids.push_back(io->submit(nvme::make_write(Nsid{1}, i * 512, 512), data, Via::kR2T));
  while (io->pump()) {
  }
  EXPECT_EQ(io->r2ts.size(), 4U);
  EXPECT_EQ(rig->pool().probe().bytes_in_use, (1U << 20) + kScratch);
  EXPECT_EQ(rig->target().probe().buffer_waits, 12U);
  EXPECT_TRUE(other->write(1, 8000, pattern(65536, 2), Via::kR2T).ok()) << "not delayed by the first";
  EXPECT_TRUE(other->read(1, 8000, 128).ok());
  // The host comes round: everything completes, in memory of the same size.
  for (std::size_t i = 0; i < 16; ++i) {
    ASSERT_GT(io->r2ts.size(), i);
    const auto r2t = io->r2ts[i];
    io->send_pdu(nvme::make_h2c_data(r2t.cccid, r2t.ttag, 0, r2t.r2tl, true, io->params()), data);
    while (io->pump()) {
    }
  }
  for (const auto cid : cids) EXPECT_TRUE(io->wait(cid).ok());
  EXPECT_EQ(rig->pool().probe().bytes_in_use, kScratch);
  EXPECT_LE(rig->pool().probe().bytes_in_use_max, (2U << 20));
}

TEST_F(BufferTest, ReadsThatWaitForMemoryAreAnsweredWhenThereIsSome) {
  auto& cable = *rig->cables.back();
  cable.write_room = 0;
  std::vector<nvme::Cid> cids;
  for (std::uint32_t i = 0; i < 20; ++i)
    cids.push_back(io->submit(nvme::make_read(Nsid{1}, 0, 512), {}, Via::kR2T, 512 * 512));
  rig->settle();
  EXPECT_EQ(rig->pool().probe().bytes_in_use, (1U << 20) + kScratch);
  cable.give_room(SIZE_MAX);
  for (const auto cid : cids) EXPECT_TRUE(io->wait(cid).ok());
  EXPECT_EQ(rig->pool().probe().bytes_in_use, kScratch);
}

TEST_F(BufferTest, CapsulesWithDataDoNotBlockTheDataThatWouldFreeMemory) {
  io->answer_r2ts = false;
  std::vector<nvme::Cid> cids;
  const Bytes data = pattern(256 * 1024, 1);
  for (std::uint32_t i = 0; i < 4; ++i)
    cids.push_back(io->submit(nvme::make_write(Nsid{1}, 1000 + i * 512, 512), data, Via::kR2T));
  while (io->pump()) {
  }
  ASSERT_EQ(io->r2ts.size(), 4U) << "the share is used up";
  // The small writes are ahead of the large ones' data in the stream.
  for (std::uint32_t i = 0; i < 8; ++i)
    cids.push_back(io->submit(nvme::make_write(Nsid{1}, i * 8, 8), pattern(4096, 100 + i)));
  rig->settle();
  EXPECT_EQ(device.writes, 0U);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto r2t = io->r2ts[i];
    io->send_pdu(nvme::make_h2c_data(r2t.cccid, r2t.ttag, 0, r2t.r2tl, true, io->params()), data);
  }
  for (const auto cid : cids) EXPECT_TRUE(io->wait(cid).ok());
  for (std::uint32_t i = 0; i < 8; ++i) EXPECT_TRUE(same(io->read(1, i * 8, 8).data, pattern(4096, 100 + i)));
  EXPECT_EQ(rig->pool().probe().bytes_in_use, kScratch);
}

TEST_F(BufferTest, EverythingComesBackWhenTheConnectionIsLostInAnyState) {
  for (int stage = 0; stage < 4; ++stage) {
    auto lost = rig->ready();
    ASSERT_TRUE(lost->connect(static_cast<std::uint16_t>(10 + stage), hosts.admin->cntlid).ok());
    lost->answer_r2ts = false;
    for (std::uint32_t i = 0; i < 12; ++i)
      lost->submit(nvme::make_write(Nsid{1}, i * 512, 512), pattern(256 * 1024, 1), Via::kR2T);
    while (lost->pump()) {
    }
    if (stage >= 1) {  // half a PDU
      const auto r2t = lost->r2ts[0];
      lost->send_bytes(
          lost->build(nvme::make_h2c_data(r2t.cccid, r2t.ttag, 0, r2t.r2tl, true, lost->params()), Bytes(1000)));
    }
    if (stage >= 2) {  // with the device
      device.hold();
      const auto r2t = lost->r2ts[0];
      lost->send_bytes(Bytes(r2t.r2tl - 1000));
      rig->settle();
      EXPECT_EQ(device.in_flight, 1U);
    }
    if (stage == 3) device.fail_with = Error(Errc::kIo, "broken");
    lost->close();
    if (stage >= 2) {
      EXPECT_EQ(rig->target().probe().connections_now, 3U) << "the device still has the buffer";
      device.let_go();
      rig->settle();
    }
    EXPECT_EQ(rig->target().probe().connections_now, 2U);
    EXPECT_EQ(rig->pool().probe().bytes_in_use, kScratch);
  }
}

TEST(AnsweringUnseenR2Ts, CannotOverrunTheTransmitQueue) {
  TargetConfig config;
  config.max_r2t_bytes = 4096;
  config.queue_depth = 32;
  Rig rig(config);
  nvme::ConnectionParams wanted;
  wanted.hdgst = true;
  auto hosts = rig.io_host(wanted);
  hosts.io->answer_r2ts = false;
  const Bytes data = pattern(1 << 20, 1);
  std::vector<nvme::Cid> cids;
  for (int i = 0; i < 8; ++i) cids.push_back(hosts.io->submit(nvme::make_write(Nsid{1}, 0, 2048), data, Via::kR2T));
  while (hosts.io->pump()) {
  }
  ASSERT_EQ(hosts.io->r2ts.size(), 8U);
  rig.cables.back()->write_room = 0;
  // A host that reads nothing, but knows what the R2Ts will say.
  for (std::size_t i = 0; i < cids.size(); ++i) {
    for (std::uint32_t at = 0; at < data.size() && !rig.cables.back()->target_closed; at += 4096) {
      hosts.io->send_pdu(nvme::make_h2c_data(cids[i], hosts.io->r2ts[i].ttag, at, 4096, true, hosts.io->params()),
                         std::span(data).subspan(at, 4096));
      rig.settle();
    }
  }
  EXPECT_TRUE(rig.cables.back()->target_closed);
  EXPECT_FALSE(hosts.admin->closed());
}

}  // namespace
}  // namespace leap::target::testing

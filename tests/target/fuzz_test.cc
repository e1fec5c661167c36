// Random commands and random streams: every command ends exactly once, or the connection ends with a reason; nothing
// crashes, hangs or leaks. Seeds are fixed; a failure prints the one it happened with.
#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "base/random.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Nsid;

constexpr std::array<std::uint64_t, 12> kEdges{0,      1,       2,          7,          8,          0xFF,
                                               0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};

std::uint32_t edge(Rng& rng) {
  return rng.chance(0.5) ? static_cast<std::uint32_t>(kEdges[rng.below(kEdges.size())])
                         : static_cast<std::uint32_t>(rng.next());
}

/// 64 bytes that look enough like a command to get past the first checks.
nvme::Command random_command(Rng& rng, bool admin) {
  constexpr std::array<std::uint8_t, 10> kAdmin{0x02, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x18, 0x7F, 0x7F, 0x00};
  constexpr std::array<std::uint8_t, 10> kIo{0x00, 0x01, 0x01, 0x02, 0x02, 0x05, 0x08, 0x09, 0x0C, 0x7F};
  nvme::Command cmd;
  auto bytes = nvme::wire::writable_bytes_of(cmd);
  if (rng.chance(0.1)) {
    rng.fill(bytes);
  } else {
    cmd.opcode = admin ? kAdmin[rng.below(kAdmin.size())] : kIo[rng.below(kIo.size())];
    cmd.nsid = Nsid{rng.chance(0.7) ? static_cast<std::uint32_t>(rng.below(4)) : edge(rng)};
    if (cmd.is_fabrics()) cmd.nsid = Nsid{static_cast<std::uint32_t>(rng.chance(0.8) ? rng.below(10) : rng.below(256))};
    cmd.cdw10 = edge(rng);
    cmd.cdw11 = rng.chance(0.6) ? 0 : edge(rng);
    cmd.cdw12 = rng.chance(0.6) ? static_cast<std::uint32_t>(rng.below(64)) : edge(rng);
    cmd.cdw13 = edge(rng);
    cmd.cdw14 = rng.chance(0.8) ? 0 : edge(rng);
    cmd.cdw15 = edge(rng);
    if (!admin && rng.chance(0.7)) cmd.cdw10 = static_cast<std::uint32_t>(rng.below(2200));
  }
  if (rng.chance(0.95)) cmd.set_psdt(nvme::Psdt::kSgl);
  if (rng.chance(0.95)) cmd.set_fuse(nvme::Fuse::kNormal);
  return cmd;
}

/// A data pointer: mostly one that fits.
void random_sgl(Rng& rng, nvme::Command& cmd, std::uint32_t capsule, bool admin) {
  std::uint32_t length = capsule;
  if (rng.chance(0.7)) {
    length = admin ? 4096 : (nvme::rw_fields(cmd).blocks & 0xFFFF) * 512;
  } else if (rng.chance(0.5)) {
    length = edge(rng);
  }
  if (rng.chance(0.45))
    cmd.dptr = nvme::SglDescriptor::transport(length);
  else if (rng.chance(0.9))
    cmd.dptr = nvme::SglDescriptor::in_capsule(rng.chance(0.8) ? capsule : length, rng.chance(0.9) ? 0 : edge(rng));
  else
    cmd.dptr.identifier = static_cast<std::uint8_t>(rng.next());
}

/// Counts how often each command ends; serves R2Ts with whatever bytes.
class FuzzHost {
 public:
  explicit FuzzHost(TestHost& host) : host_(host) {}

  void send(nvme::Command cmd, std::span<const std::byte> capsule) {
    cmd.cid = nvme::Cid{next_cid_};
    open_[next_cid_] = 0;
    if (++next_cid_ == 0xFFFF) next_cid_ = 1;
    host_.submit_raw(cmd, capsule);
  }
  /// False: the connection has ended.
  bool drain() {
    while (const auto pdu = host_.next()) {
      switch (pdu->type()) {
        case nvme::PduType::kR2T: {
          const auto r2t = pdu->as<nvme::R2TPdu>();
          EXPECT_TRUE(open_.contains(r2t.cccid.value()));
          for (std::uint32_t at = 0; at < r2t.r2tl;) {
            const std::uint32_t part = std::min<std::uint32_t>(r2t.r2tl - at, 65536);
            host_.send_pdu(
                nvme::make_h2c_data(r2t.cccid, r2t.ttag, r2t.r2to + at, part, at + part == r2t.r2tl, host_.params()),
                Bytes(part));
            at += part;
          }
          break;
        }
        case nvme::PduType::kC2HData:
          if (pdu->header.success()) end(pdu->as<nvme::C2HDataPdu>().cccid);
          break;
        case nvme::PduType::kCapsuleResp: end(pdu->as<nvme::CapsuleRespPdu>().cqe.cid); break;
        case nvme::PduType::kC2HTermReq: terminated = true; break;
        default: ADD_FAILURE() << "unexpected PDU";
      }
    }
    return !terminated && !host_.closed();
  }
  [[nodiscard]] std::size_t open() const { return open_.size(); }
  bool terminated = false;

 private:
  void end(nvme::Cid cid) {
    EXPECT_EQ(open_.erase(cid.value()), 1U) << "a completion nobody waits for: cid " << cid.value();
  }
  TestHost& host_;
  std::map<std::uint16_t, int> open_;
  std::uint16_t next_cid_ = 1;
};

class FuzzTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  FuzzTest() {
    memory = MemBdev::create({.size = Rig::kSize, .block_size = 512, .name = "m"}).value();
    TargetConfig config;
    config.max_r2t_bytes = 65536;
    config.namespaces = {Rig::namespace_on(*memory), Rig::namespace_on(device)};
    rig = std::make_unique<Rig>(config);
  }
  TestDevice device{{.size = Rig::kSize, .block_size = 512}};
  std::unique_ptr<MemBdev> memory;
  std::unique_ptr<Rig> rig;
};
INSTANTIATE_TEST_SUITE_P(Seeds, FuzzTest, ::testing::Range<std::uint64_t>(1, 5));

TEST_P(FuzzTest, RandomIoCommandsEndExactlyOnce) {
  Rng rng(GetParam());
  nvme::ConnectionParams wanted;
  wanted.ddgst = GetParam() % 2 == 0;
  std::unique_ptr<TestHost> admin = rig->admin();
  std::uint16_t qid = 0;
  std::unique_ptr<TestHost> io;
  std::unique_ptr<FuzzHost> fuzz;
  for (int i = 0; i < 2000; ++i) {
    if (!io) {
      io = rig->ready(wanted);
      qid = static_cast<std::uint16_t>(qid % 60 + 1);
      ASSERT_TRUE(io->connect(qid, admin->cntlid, 32).ok()) << i;
      fuzz = std::make_unique<FuzzHost>(*io);
    }
    for (std::uint64_t burst = rng.below(8); burst > 0 && fuzz->open() < 30; --burst) {
      Bytes capsule(rng.chance(0.5) ? rng.below(17) * 512 : rng.below(64) * 4);
      auto cmd = random_command(rng, false);
      random_sgl(rng, cmd, static_cast<std::uint32_t>(capsule.size()), false);
      fuzz->send(cmd, capsule);
    }
    if (!fuzz->drain()) {
      io->close();  // Disconnect was among them
      io.reset();
      rig->settle();
      continue;
    }
    EXPECT_EQ(fuzz->open(), 0U) << "seed " << GetParam() << " round " << i;
  }
  EXPECT_EQ(rig->target().probe().protocol_errors, 0U) << "commands alone are no protocol error";
  EXPECT_EQ(rig->pool().probe().bytes_in_use, 128U * 1024);
}

TEST_P(FuzzTest, RandomAdminCommandsEndExactlyOnceOrAreEventRequests) {
  Rng rng(GetParam() * 77);
  std::unique_ptr<TestHost> admin;
  std::unique_ptr<FuzzHost> fuzz;
  for (int i = 0; i < 2000; ++i) {
    if (!admin) {
      admin = rig->admin();
      fuzz = std::make_unique<FuzzHost>(*admin);
    }
    Bytes capsule(rng.chance(0.8) ? 0 : rng.below(65) * 128);
    auto cmd = random_command(rng, true);
    random_sgl(rng, cmd, static_cast<std::uint32_t>(capsule.size()), true);
    // A long keep alive, or the host would have to send some.
    if (cmd.admin_opcode() == nvme::AdminOpcode::kSetFeatures && (cmd.cdw10 & 0xFF) == 0x0F) cmd.cdw11 = 0;
    fuzz->send(cmd, capsule);
    ASSERT_TRUE(fuzz->drain()) << "seed " << GetParam() << " round " << i;
    EXPECT_LE(fuzz->open(), 4U) << "at most the held event requests";
    if (i % 64 == 63) {
      admin->close();
      admin.reset();
    }
  }
}

TEST_P(FuzzTest, DamagedStreamsEndWithAReasonAndHarmNobodyElse) {
  Rng rng(GetParam() * 1001);
  auto watcher = rig->io_host();
  // Kept small, so that most damage hits headers.
  for (int i = 0; i < 400; ++i) {
    nvme::ConnectionParams wanted;
    wanted.hdgst = rng.chance(0.3);
    wanted.ddgst = rng.chance(0.3);
    auto admin = rig->admin(wanted);
    auto io = rig->ready(wanted);
    ASSERT_TRUE(io->connect(1, admin->cntlid, 32).ok());
    Bytes stream;
    for (std::uint16_t cid = 1; cid <= 6; ++cid) {
      auto cmd = random_command(rng, false);
      Bytes capsule(rng.below(3) * 512);
      random_sgl(rng, cmd, static_cast<std::uint32_t>(capsule.size()), false);
      cmd.cid = nvme::Cid{cid};
      const Bytes pdu =
          io->build(nvme::make_capsule_cmd(cmd, static_cast<std::uint32_t>(capsule.size()), io->params()), capsule);
      stream.insert(stream.end(), pdu.begin(), pdu.end());
      if (rng.chance(0.2)) {
        const Bytes data(rng.below(4) * 128 + 4);
        const Bytes h2c =
            io->build(nvme::make_h2c_data(nvme::Cid{cid}, static_cast<std::uint16_t>(rng.below(40)), edge(rng),
                                          static_cast<std::uint32_t>(data.size()), rng.chance(0.5), io->params()),
                      data);
        stream.insert(stream.end(), h2c.begin(), h2c.end());
      }
    }
    for (std::uint64_t damage = rng.below(4); damage > 0; --damage) {
      const std::size_t at = rng.chance(0.5) ? rng.below(stream.size()) : rng.below(16);
      stream[at] = static_cast<std::byte>(rng.next());
    }
    if (rng.chance(0.3)) stream.resize(rng.below(stream.size()) + 1);
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t part = std::min<std::size_t>(rng.below(2000) + 1, stream.size() - at);
      io->send_bytes(std::span(stream).subspan(at, part));
      rig->settle();
      at += part;
    }
    while (io->next()) {
    }
    if (rng.chance(0.5)) io->close();
    admin->close();
  }
  EXPECT_TRUE(watcher.io->read(1, 0, 8).ok());
  rig->advance(std::chrono::seconds(40));
  rig->advance(std::chrono::seconds(40));
  EXPECT_EQ(rig->target().probe().connections_now, 2U) << "seed " << GetParam();
  EXPECT_EQ(rig->pool().probe().bytes_in_use, 128U * 1024);
}

TEST_P(FuzzTest, NoiseInsteadOfAHandshakeIsTurnedAway) {
  Rng rng(GetParam() * 31);
  for (int i = 0; i < 500; ++i) {
    auto host = rig->dial();
    Bytes noise(rng.below(400) + 1);
    rng.fill(noise);
    if (rng.chance(0.5)) noise[0] = std::byte{static_cast<std::uint8_t>(rng.below(10))};
    host->send_bytes(noise);
    rig->settle();
    host->close();
  }
  EXPECT_EQ(rig->target().probe().connections_now, 0U);
}

}  // namespace
}  // namespace leap::target::testing

// Chaos as the wire shows it: the grammar, when rules strike, what each does to which bytes, and that one seed gives
// one sequence of faults. What a real host makes of it: tests/host/chaos_test.cc.
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/fd.h"
#include "rig.h"
#include "target/admin_socket.h"
#include "target/chaos/chaos_stream.h"

namespace leap::target::testing {
namespace {

using nvme::Nsid;
using nvme::PduType;
using std::chrono::milliseconds;

// --- the grammar ---

TEST(ChaosSpec, IsReadAsItIsWritten) {
  const auto spec =
      ChaosSpec::parse("seed=7;delay=2ms:p=0.01;reset:every=1000;status=0.6:nth=50:dnr:crd=2:op=write;silence:times=3")
          .value();
  EXPECT_EQ(spec.seed, 7U);
  ASSERT_EQ(spec.rules.size(), 4U);
  EXPECT_EQ(spec.rules[0].kind, ChaosKind::kDelay);
  EXPECT_EQ(spec.rules[0].duration, milliseconds(2));
  EXPECT_DOUBLE_EQ(spec.rules[0].probability, 0.01);
  EXPECT_EQ(spec.rules[0].queue, ChaosQueue::kIo);
  EXPECT_EQ(spec.rules[1].kind, ChaosKind::kReset);
  EXPECT_EQ(spec.rules[1].every, 1000U);
  EXPECT_EQ(spec.rules[2].kind, ChaosKind::kStatus);
  EXPECT_EQ(spec.rules[2].nth, 50U);
  EXPECT_EQ(spec.rules[2].op, ChaosOp::kWrite);
  EXPECT_EQ(spec.rules[2].status, (NvmeStatusCode{.sct = 0, .sc = 6, .crd = 2, .more = false, .dnr = true}));
  EXPECT_EQ(spec.rules[3].kind, ChaosKind::kSilence);
  EXPECT_EQ(spec.rules[3].times, 3U);
  EXPECT_TRUE(ChaosSpec::parse("").value().rules.empty());
}

TEST(ChaosSpec, EveryFaultHasANameThatIsReadAndIsInTheHelp) {
  for (std::size_t i = 0; i < kChaosKinds; ++i) {
    const auto kind = static_cast<ChaosKind>(i);
    std::string text(to_string(kind));
    if (kind == ChaosKind::kDelay || kind == ChaosKind::kStall) text += "=1ms";
    if (kind == ChaosKind::kStatus) text += "=0x2.0x81";
    const auto spec = ChaosSpec::parse(text);
    ASSERT_TRUE(spec.ok()) << spec.error().to_string();
    EXPECT_EQ(spec.value().rules.at(0).kind, kind) << text;
    EXPECT_NE(chaos_help().find(to_string(kind)), std::string_view::npos) << text;
  }
}

TEST(ChaosSpec, WhatIsWrongIsNamedWithItsRule) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"seed=1;dely=2ms", "chaos rule 2 'dely=2ms': unknown fault 'dely'"},
      {"delay", "chaos rule 1 'delay'"},
      {"delay=0ms", "chaos rule 1 'delay=0ms': delay for no time"},
      {"drop=3", "chaos rule 1 'drop=3': drop takes no value"},
      {"corrupt=everything", "chaos rule 1 'corrupt=everything': 'everything' is no kind of corrupt"},
      {"status=8.1", "chaos rule 1 'status=8.1': a status is SCT.SC"},
      {"status=0.0", "chaos rule 1 'status=0.0': a status is SCT.SC"},
      {"status=6", "chaos rule 1 'status=6': a status is SCT.SC"},
      {"drop:p=1.5", "chaos rule 1 'drop:p=1.5': p is a probability"},
      {"drop:p=0", "chaos rule 1 'drop:p=0': p is a probability"},
      {"drop:every=0", "chaos rule 1 'drop:every=0': every needs a number"},
      {"drop:nth=x", "chaos rule 1 'drop:nth=x': nth needs a number"},
      {"drop:nth=2:nth=3", "chaos rule 1 'drop:nth=2:nth=3': nth is there twice"},
      {"drop:nth=2:every=3", "chaos rule 1 'drop:nth=2:every=3': only one of p, every and nth"},
      {"drop:dnr", "chaos rule 1 'drop:dnr': unknown key 'dnr'"},
      {"status=0.6:crd=4", "chaos rule 1 'status=0.6:crd=4': crd is 1 to 3"},
      {"drop:queue=both", "chaos rule 1 'drop:queue=both': queue is io, admin or any"},
      {"drop:op=erase", "chaos rule 1 'drop:op=erase': op is read"},
      {"silence:op=read", "chaos rule 1 'silence:op=read': a connection has no op"},
      {"drop:", "chaos rule 1 'drop:': nothing follows ':'"},
      {"drop;;drop", "chaos rule 2 '': is empty"},
      {"seed=many", "chaos rule 1 'seed=many': a seed is a number"},
  };
  for (const auto& [text, problem] : cases) {
    const auto spec = ChaosSpec::parse(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_EQ(spec.error().kind(), Errc::kInvalidArgument);
    EXPECT_TRUE(spec.error().message().starts_with(problem)) << spec.error().message();
  }
  TargetConfig config;
  config.listen = {SocketAddress::parse("127.0.0.1:0").value()};
  config.nqn = "nqn.2024-01.io.leap:test";
  config.chaos = "dely=2ms";
  const Result<> valid = config.validate();
  ASSERT_FALSE(valid.ok());
  EXPECT_NE(valid.error().message().find("unknown fault 'dely'"), std::string::npos) << valid.error().message();
}

// --- when ---

std::vector<int> strikes(ChaosDice& dice, std::size_t rule, int events) {
  std::vector<int> hits;
  for (int i = 1; i <= events; ++i) {
    if (dice.roll(rule)) hits.push_back(i);
  }
  return hits;
}

TEST(ChaosDice, CountsPerConnectionAndLimitsForAll) {
  auto plan = std::make_shared<ChaosPlan>(ChaosSpec::parse("drop:every=3;drop:nth=2;drop:times=3").value());
  ChaosDice first(plan);
  ChaosDice second(plan);
  EXPECT_EQ(strikes(first, 0, 10), (std::vector<int>{3, 6, 9}));
  EXPECT_EQ(strikes(second, 0, 4), (std::vector<int>{3}));
  EXPECT_EQ(strikes(first, 1, 10), (std::vector<int>{2}));
  EXPECT_EQ(strikes(first, 2, 2), (std::vector<int>{1, 2}));
  EXPECT_EQ(strikes(second, 2, 2), (std::vector<int>{1}));
  EXPECT_EQ(plan->hits(0), 4U);
}

TEST(ChaosDice, OneSeedOneSequence) {
  const auto run = [](const char* spec, std::size_t rule) {
    auto plan = std::make_shared<ChaosPlan>(ChaosSpec::parse(spec).value());
    ChaosDice first(plan);
    ChaosDice second(plan);
    std::vector<int> hits = strikes(first, rule, 200);
    const std::vector<int> other = strikes(second, rule, 200);
    EXPECT_NE(hits, other) << "connections differ";
    hits.insert(hits.end(), other.begin(), other.end());
    return hits;
  };
  EXPECT_EQ(run("seed=5;drop:p=0.1", 0), run("seed=5;drop:p=0.1", 0));
  EXPECT_NE(run("seed=5;drop:p=0.1", 0), run("seed=6;drop:p=0.1", 0));
  EXPECT_EQ(run("seed=5;drop:p=0.1", 0), run("seed=5;drop:p=0.1;reset:p=0.5", 0)) << "other rules change nothing";
}

TEST(ChaosDice, SilenceCountsConnections) {
  auto plan = std::make_shared<ChaosPlan>(ChaosSpec::parse("silence:nth=2").value());
  ChaosDice first(plan);
  ChaosDice second(plan);
  ChaosDice third(plan);
  EXPECT_FALSE(first.roll(0));
  EXPECT_TRUE(second.roll(0));
  EXPECT_FALSE(third.roll(0));
}

// --- what ---

TargetConfig chaotic(const std::string& spec) {
  TargetConfig config;
  config.chaos = spec;
  config.in_capsule_data_size = 0;
  config.max_r2t_bytes = 4096;
  return config;
}

constexpr nvme::ConnectionParams kDigests{.hdgst = true, .ddgst = true};

/// The next PDU's whole bytes for a read of 4 KiB at LBA 0.
std::optional<Pdu> read_and_look(TestHost& host) {
  (void)host.submit(nvme::make_read(Nsid{1}, 0, 8), {}, Via::kR2T, 4096);
  return host.next();
}
std::optional<Pdu> write_and_look(TestHost& host) {
  (void)host.submit(nvme::make_write(Nsid{1}, 0, 16), pattern(8192, 1), Via::kR2T);
  return host.next();
}

TEST(ChaosStream, DelayHoldsAnAnswerAndWhatFollows) {
  Rig rig(chaotic("delay=2ms:nth=2"));
  auto hosts = rig.io_host();
  const auto flush = hosts.io->submit(nvme::make_flush(Nsid{1}));
  const auto next = hosts.io->submit(nvme::make_flush(Nsid{1}));
  EXPECT_FALSE(hosts.io->pump());
  rig.advance(milliseconds(1));
  EXPECT_FALSE(hosts.io->pump());
  rig.advance(milliseconds(1));
  EXPECT_TRUE(hosts.io->wait(flush).ok());
  EXPECT_TRUE(hosts.io->wait(next).ok());
}

TEST(ChaosStream, StallHoldsBothWays) {
  Rig rig(chaotic("stall=5ms:nth=2"));
  auto hosts = rig.io_host();
  const auto flush = hosts.io->submit(nvme::make_flush(Nsid{1}));
  EXPECT_FALSE(hosts.io->pump());
  const auto taken = rig.target().probe().other_commands;
  const auto next = hosts.io->submit(nvme::make_flush(Nsid{1}));
  EXPECT_FALSE(hosts.io->pump());
  EXPECT_EQ(rig.target().probe().other_commands, taken) << "nothing is received";
  rig.advance(milliseconds(5));
  EXPECT_TRUE(hosts.io->wait(flush).ok());
  EXPECT_TRUE(hosts.io->wait(next).ok());
}

TEST(ChaosStream, DropLeavesOutTheResponseAlone) {
  Rig rig(chaotic("drop:nth=2"));
  auto hosts = rig.io_host();
  const auto lost = hosts.io->submit(nvme::make_flush(Nsid{1}));
  EXPECT_TRUE(hosts.io->execute(nvme::make_flush(Nsid{1})).ok());
  rig.advance(std::chrono::seconds(1));
  EXPECT_FALSE(hosts.io->pump());
  EXPECT_FALSE(hosts.io->take_reply(lost).has_value());
}

TEST(ChaosStream, ResetEndsInTheMiddleOfAPdu) {
  Rig rig(chaotic("reset:nth=2"));
  auto hosts = rig.io_host();
  (void)hosts.io->submit(nvme::make_flush(Nsid{1}));
  Bytes got;
  while (hosts.io->wire().receive(got)) {
  }
  EXPECT_EQ(got.size(), 12U) << "half of a response capsule";
  EXPECT_TRUE(rig.cables[1]->target_closed);
  EXPECT_FALSE(hosts.admin->closed());
}

TEST(ChaosStream, TruncateEndsOneDirectionOnly) {
  Rig rig(chaotic("truncate:nth=2"));
  auto hosts = rig.io_host();
  (void)hosts.io->submit(nvme::make_flush(Nsid{1}));
  Bytes got;
  while (hosts.io->wire().receive(got)) {
  }
  EXPECT_EQ(got.size(), 12U);
  EXPECT_TRUE(rig.cables[1]->target_half_closed);
  EXPECT_FALSE(rig.cables[1]->target_closed);
  (void)hosts.io->submit(nvme::make_flush(Nsid{1}));
  rig.settle();
  EXPECT_TRUE(rig.cables[1]->to_target.empty()) << "it still receives";
}

TEST(ChaosStream, CorruptHeaderFlipsOneBitAndKeepsTheDigest) {
  Rig rig(chaotic("seed=9;corrupt=header:nth=2"));
  auto hosts = rig.io_host(kDigests);
  const nvme::Cid cid = hosts.io->submit(nvme::make_flush(Nsid{1}));
  Bytes got;
  ASSERT_TRUE(hosts.io->wire().receive(got));
  ASSERT_EQ(got.size(), sizeof(nvme::CapsuleRespPdu) + nvme::kDigestBytes);
  nvme::Completion cqe;
  cqe.cid = cid;
  cqe.sqid = nvme::Qid{1};
  cqe.sqhd = 2;
  const auto sent = nvme::make_capsule_resp(cqe, hosts.io->params());
  const auto good = nvme::wire::bytes_of(sent);
  int flipped = 0;
  for (std::size_t i = 0; i < good.size(); ++i) flipped += std::popcount(std::to_integer<unsigned>(got[i] ^ good[i]));
  EXPECT_EQ(flipped, 1);
  EXPECT_EQ(load_le32(got.data() + good.size()), nvme::header_digest(good));
}

TEST(ChaosStream, CorruptDataFlipsOneBitAndKeepsTheDigest) {
  Rig rig(chaotic("seed=9;corrupt=data"));
  auto hosts = rig.io_host(kDigests);
  (void)hosts.io->submit(nvme::make_read(Nsid{1}, 0, 8), {}, Via::kR2T, 4096);
  Bytes got;
  ASSERT_TRUE(hosts.io->wire().receive(got));
  const auto at = nvme::layout_of(nvme::wire::load<nvme::PduHeader>(got).value());
  const auto data = std::span<const std::byte>(got).subspan(at.data_offset, at.data_bytes);
  int flipped = 0;
  for (const std::byte byte : data) flipped += std::popcount(std::to_integer<unsigned>(byte));
  EXPECT_EQ(flipped, 1) << "of zeros";
  EXPECT_EQ(load_le32(data.data() + data.size()), nvme::data_digest(Bytes(4096)));
}

TEST(ChaosStream, R2TsAreDuplicatedOversizedAndMislabelled) {
  for (const auto& params : {nvme::ConnectionParams{}, kDigests}) {
    {
      Rig rig(chaotic("duplicate-r2t"));
      auto hosts = rig.io_host(params);
      const auto first = write_and_look(*hosts.io);
      const auto second = hosts.io->next();
      ASSERT_TRUE(first && second);
      EXPECT_EQ(first->type(), PduType::kR2T);
      EXPECT_EQ(first->bytes, second->bytes);
    }
    {
      Rig rig(chaotic("oversized-r2t"));
      auto hosts = rig.io_host(params);
      const auto pdu = write_and_look(*hosts.io);
      ASSERT_TRUE(pdu.has_value());
      EXPECT_EQ(pdu->as<nvme::R2TPdu>().r2tl, 4096U + 4096);
    }
    {
      Rig rig(chaotic("wrong-ttag"));
      auto hosts = rig.io_host(params);
      const auto pdu = write_and_look(*hosts.io);
      ASSERT_TRUE(pdu.has_value());
      const auto r2t = pdu->as<nvme::R2TPdu>();
      EXPECT_GT(r2t.ttag, 1024);
      hosts.io->send_pdu(nvme::make_h2c_data(r2t.cccid, r2t.ttag, 0, 4096, true, hosts.io->params()), Bytes(4096));
      while (hosts.io->pump()) {
      }
      EXPECT_TRUE(hosts.io->term_req.has_value()) << "and the target itself sticks to its own tag";
    }
  }
}

TEST(ChaosStream, WrongCccidNamesACommandThatIsNotThere) {
  Rig rig(chaotic("wrong-cccid:every=2"));
  auto hosts = rig.io_host(kDigests);
  const auto data = read_and_look(*hosts.io);
  ASSERT_TRUE(data.has_value());
  EXPECT_GT(data->as<nvme::C2HDataPdu>().cccid.value(), 0x5A00);
}

TEST(ChaosStream, SuccessIsMisused) {
  for (const auto& params : {nvme::ConnectionParams{}, kDigests}) {
    {
      Rig rig(chaotic("success=early"));
      auto hosts = rig.io_host(params);
      const auto pdu = read_and_look(*hosts.io);
      ASSERT_TRUE(pdu.has_value());
      EXPECT_EQ(pdu->as<nvme::C2HDataPdu>().datal, 2048U);
      EXPECT_TRUE(pdu->header.last_pdu() && pdu->header.success());
      EXPECT_FALSE(hosts.io->next().has_value()) << "nothing of that command follows";
    }
    {
      Rig rig(chaotic("success=no-last"));
      auto hosts = rig.io_host(params);
      (void)hosts.io->submit(nvme::make_read(Nsid{1}, 0, 8), {}, Via::kR2T, 4096);
      Bytes got;
      ASSERT_TRUE(hosts.io->wire().receive(got));
      const auto header = nvme::wire::load<nvme::PduHeader>(got).value();
      EXPECT_TRUE(header.success());
      EXPECT_FALSE(header.last_pdu());
    }
  }
}

TEST(ChaosStream, SilenceIsComplete) {
  Rig rig(chaotic("silence:nth=2"));
  auto good = rig.ready();
  auto silent = rig.dial();
  EXPECT_FALSE(silent->handshake().has_value());
  EXPECT_FALSE(silent->closed());
  EXPECT_TRUE(rig.cables[1]->to_target.empty()) << "what comes is taken";
  auto third = rig.ready();
}

TEST(ChaosStream, StopReadingLeavesTheRestWhereItIs) {
  Rig rig(chaotic("stop-reading:nth=2"));
  auto hosts = rig.io_host();
  EXPECT_TRUE(hosts.io->execute(nvme::make_flush(Nsid{1})).ok()) << "that command is still served";
  (void)hosts.io->submit(nvme::make_flush(Nsid{1}));
  EXPECT_FALSE(hosts.io->pump());
  EXPECT_FALSE(rig.cables[1]->to_target.empty());
}

TEST(ChaosStream, StatusFailsTheCommandInsteadOfExecutingIt) {
  Rig rig(chaotic("status=2.0x80:nth=2:op=write:dnr"));
  auto hosts = rig.io_host();
  const Bytes first = pattern(4096, 1);
  ASSERT_TRUE(hosts.io->write(1, 0, first, Via::kR2T).ok());
  const Reply refused = hosts.io->write(1, 0, pattern(4096, 2), Via::kR2T);
  EXPECT_EQ(refused.status().sct, 2);
  EXPECT_EQ(refused.status().sc, 0x80);
  EXPECT_TRUE(refused.status().dnr);
  EXPECT_EQ(refused.r2ts, 0U);
  EXPECT_TRUE(same(hosts.io->read(1, 0, 8).data, first));
  EXPECT_TRUE(hosts.io->write(1, 0, pattern(4096, 3), Via::kR2T).ok()) << "the third is not the second";
}

TEST(ChaosStream, RulesStayOnTheirQueue) {
  Rig rig(chaotic("drop:queue=admin:op=keep-alive"));
  auto hosts = rig.io_host();
  EXPECT_TRUE(hosts.io->execute(nvme::make_flush(Nsid{1})).ok());
  EXPECT_TRUE(hosts.admin->property_get(nvme::PropertyOffset::kCsts).ok());
  (void)hosts.admin->submit(nvme::make_keep_alive());
  EXPECT_FALSE(hosts.admin->pump());
}

TEST(ChaosStream, OneSeedOneStreamOfBytes) {
  const auto run = [](std::uint64_t seed) {
    Rig rig(chaotic(fmt::format("seed={};corrupt=data:p=0.3;drop:p=0.2:op=read;delay=1ms:p=0.2:op=read", seed)));
    auto hosts = rig.io_host();
    hosts.io->answer_r2ts = false;
    Bytes all;
    for (int i = 0; i < 60; ++i) {
      (void)hosts.io->submit(nvme::make_read(Nsid{1}, 0, 1), {}, Via::kR2T, 512);
      rig.advance(milliseconds(2));
      hosts.io->wire().receive(all);
      if (i % 20 == 19) {
        hosts.io->close();
        hosts.io = rig.ready();
        EXPECT_TRUE(hosts.io->connect(1, hosts.admin->cntlid, 32).ok());
      }
    }
    return all;
  };
  const Bytes once = run(11);
  EXPECT_EQ(once, run(11));
  EXPECT_NE(once, run(12));
}

// --- while it runs ---

TEST(ChaosControl, RulesAreReplacedWhileConnectionsLive) {
  TargetConfig config = chaotic("");
  config.chaos_control = true;
  Rig rig(config);
  auto hosts = rig.io_host();
  EXPECT_TRUE(hosts.io->execute(nvme::make_flush(Nsid{1})).ok());
  ASSERT_TRUE(rig.target().set_chaos("status=0.6").ok());
  EXPECT_EQ(hosts.io->execute(nvme::make_flush(Nsid{1})).status().sc, 6);
  EXPECT_EQ(rig.target().chaos_report(), "1 status=0.6\n");
  EXPECT_FALSE(rig.target().set_chaos("nonsense").ok());
  EXPECT_EQ(hosts.io->execute(nvme::make_flush(Nsid{1})).status().sc, 6) << "a bad one changes nothing";
  ASSERT_TRUE(rig.target().set_chaos("").ok());
  EXPECT_TRUE(hosts.io->execute(nvme::make_flush(Nsid{1})).ok());
}

TEST(ChaosControl, MustBeAskedForAtTheStart) {
  Rig rig;
  const Result<> set = rig.target().set_chaos("drop");
  ASSERT_FALSE(set.ok());
  EXPECT_EQ(set.error().kind(), Errc::kWrongState);
}

/// A client of the admin socket: one line out, everything up to "ok" or "error" back.
class AdminClient {
 public:
  explicit AdminClient(int fd) : fd_(fd) {}
  static AdminClient on_port(const std::string& where) {
    const auto address = SocketAddress::parse(where).value();
    AdminClient client(::socket(address.os_family(), SOCK_STREAM, 0));
    EXPECT_EQ(::connect(client.fd_.get(), address.data(), address.size()), 0);
    return client;
  }
  static AdminClient on_path(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    AdminClient client(::socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_EQ(::connect(client.fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return client;
  }
  std::string ask(const std::string& line) {
    const std::string text = line + "\n";
    EXPECT_EQ(::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    std::string answer;
    for (char byte = 0; ::recv(fd_.get(), &byte, 1, 0) == 1;) {
      answer += byte;
      const std::size_t last = answer.rfind('\n', answer.size() - 2);
      const std::string_view tail = std::string_view(answer).substr(last == std::string::npos ? 0 : last + 1);
      if (byte == '\n' && (tail == "ok\n" || tail.starts_with("error: "))) return answer;
    }
    return answer;
  }

 private:
  UniqueFd fd_;
};

TEST(AdminSocket, AnswersInLines) {
  TargetConfig config = chaotic("drop:nth=9");
  config.chaos_control = true;
  Rig rig(config);
  auto admin = AdminSocket::open("127.0.0.1:0", rig.target()).value();
  AdminClient client = AdminClient::on_port(admin->address());
  EXPECT_EQ(client.ask("chaos"), "0 drop:nth=9\nok\n");
  EXPECT_EQ(client.ask("chaos reset:nth=3;status=0.6"), "ok\n");
  EXPECT_EQ(client.ask("chaos"), "0 reset:nth=3\n0 status=0.6\nok\n");
  EXPECT_EQ(client.ask("chaos rset"), "error: chaos rule 1 'rset': unknown fault 'rset'\n");
  EXPECT_EQ(client.ask("chaos off"), "ok\n");
  EXPECT_EQ(client.ask("chaos"), "ok\n");
  EXPECT_EQ(client.ask("chaos drop:nth=9"), "ok\n");
  const std::string page = client.ask("metrics");
  EXPECT_NE(page.find("leap_target_connections"), std::string::npos);
  EXPECT_NE(page.find("leap_target_chaos_faults_total{rule=\"drop:nth=9\"} 0"), std::string::npos);
  EXPECT_TRUE(client.ask("help").find("stop-reading") != std::string::npos);
  EXPECT_TRUE(client.ask("reboot").starts_with("error: unknown command 'reboot'"));
}

TEST(AdminSocket, LivesOnUnixSocketsAndLoopbackOnly) {
  TargetConfig config = chaotic("");
  config.chaos_control = true;
  Rig rig(config);
  const std::string path = fmt::format("/tmp/leap-admin-{}.sock", ::getpid());
  {
    auto admin = AdminSocket::open(path, rig.target()).value();
    EXPECT_EQ(AdminClient::on_path(path).ask("chaos"), "ok\n");
    const auto again = AdminSocket::open(path, rig.target());
    ASSERT_FALSE(again.ok());
    EXPECT_EQ(again.error().kind(), Errc::kAlreadyExists);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "it takes its socket with it";
  const auto open_to_all = AdminSocket::open("0.0.0.0:0", rig.target());
  ASSERT_FALSE(open_to_all.ok());
  EXPECT_EQ(open_to_all.error().kind(), Errc::kInvalidArgument);
}

}  // namespace
}  // namespace leap::target::testing

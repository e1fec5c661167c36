// Reading a discovery log from a controller that may lie about everything, and watching one.
#include "host/discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller_fixture.h"
#include "host/discovery_watch.h"
#include "nvme/log_page.h"

namespace leap::test {
namespace {

using nvme::DiscoveryEntry;
using nvme::DiscoverySubtype;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

DiscoveryEntry make_entry(const std::string& address, const std::string& nqn = "nqn.2024-01.io.example:disk",
                          DiscoverySubtype subtype = DiscoverySubtype::kNvm) {
  DiscoveryEntry entry;
  entry.trtype = nvme::DiscoveryTrtype::kTcp;
  entry.adrfam = nvme::DiscoveryAdrfam::kIpv4;
  entry.subtype = subtype;
  entry.treq = nvme::kTreqDisableSqFlowControl;
  entry.portid = 1;
  entry.asqsz = 32;
  nvme::fill_nul(entry.subnqn, nqn);
  nvme::fill_spaces(entry.traddr, address);
  nvme::fill_spaces(entry.trsvcid, "4420");
  return entry;
}
DiscoveryEntry make_referral(const std::string& address) {
  return make_entry(address, std::string(nvme::kDiscoveryNqn), DiscoverySubtype::kReferral);
}

class DiscoveryTest : public ControllerTest {
 protected:
  DiscoveryTest() {
    target.options.discovery = true;
    target.options.subnqn = nvme::kDiscoveryNqn;
    config.address.subnqn = nvme::kDiscoveryNqn;
    target.intercept = [this](FakeTarget::Connection& connection, const HostPdu& pdu) {
      const nvme::Command command = pdu.command();
      if (command.is_fabrics() || command.admin_opcode() != nvme::AdminOpcode::kGetLogPage) return false;
      answer(connection, command);
      return true;
    };
  }
  ~DiscoveryTest() override { target.intercept = nullptr; }

  /// The log as a target would serve it.
  [[nodiscard]] std::vector<std::byte> page() const {
    nvme::DiscoveryHeader head;
    head.genctr = genctr;
    head.numrec = claimed.value_or(entries.size());
    head.recfmt = recfmt;
    std::vector<std::byte> bytes(1024 * (entries.size() + 1));
    std::memcpy(bytes.data(), &head, sizeof head);
    for (std::size_t i = 0; i < entries.size(); ++i)
      std::memcpy(bytes.data() + 1024 * (i + 1), &entries[i], sizeof entries[i]);
    return bytes;
  }
  void answer(FakeTarget::Connection& connection, const nvme::Command& command) {
    const auto fields = nvme::get_log_page_fields(command);
    reads.push_back(fields);
    if (before_read) before_read(fields);
    std::vector<std::byte> out(fields.bytes);
    const auto whole = page();
    if (fields.offset < whole.size()) {
      std::memcpy(out.data(), whole.data() + fields.offset,
                  std::min<std::size_t>(out.size(), whole.size() - fields.offset));
    }
    connection.wire.send_data(command.cid, 0, out, true, true);
  }
  Result<DiscoveryLog> read() {
    if (controller == nullptr) connect();
    std::optional<Result<DiscoveryLog>> result;
    loop.spawn(read_into(*controller, loop.pool, result));
    for (int i = 0; i < 1000 && !result; ++i) loop.advance(milliseconds(10));
    LEAP_CHECK(result.has_value(), "still reading");
    return *result;
  }
  static Task<void> read_into(NvmeController& controller, DmaPool& pool, std::optional<Result<DiscoveryLog>>& into) {
    Result<DiscoveryLog> log = co_await read_discovery_log(controller.admin(), pool);
    into.emplace(std::move(log));
  }
  Result<DiscoveryReport> find(DiscoveryOptions options = {}) {
    std::optional<Result<DiscoveryReport>> result;
    loop.spawn(discover_into(loop, config, options, result));
    for (int i = 0; i < 3000 && !result; ++i) loop.advance(milliseconds(10));
    LEAP_CHECK(result.has_value(), "still discovering");
    return *result;
  }
  static Task<void> discover_into(FakeLoop& loop, ControllerConfig config, DiscoveryOptions options,
                                  std::optional<Result<DiscoveryReport>>& into) {
    Result<DiscoveryReport> found = co_await discover(loop.poller, loop.pool, loop.net, std::move(config), options);
    into.emplace(std::move(found));
  }

  std::uint64_t genctr = 5;
  std::optional<std::uint64_t> claimed;  // NUMREC, when it is not the truth
  std::uint16_t recfmt = 0;
  std::vector<DiscoveryEntry> entries{make_entry("10.0.0.1"), make_entry("10.0.0.2")};
  std::function<void(const nvme::GetLogPageFields&)> before_read;
  std::vector<nvme::GetLogPageFields> reads;
};

std::string problem_of(const DiscoveryEntry& entry) { return check_discovery_entry(entry).problem; }

// --- entries ---

TEST(DiscoveryEntryCheck, GivesAnAddressToConnectTo) {
  DiscoveryEntry entry = make_entry("10.0.0.1");
  const DiscoveredEntry checked = check_discovery_entry(entry);
  EXPECT_EQ(checked.problem, "");
  EXPECT_EQ(checked.address().value(),
            nvme::TransportAddress::parse("trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4420 "
                                          "subnqn:nqn.2024-01.io.example:disk")
                .value());
  entry.adrfam = nvme::DiscoveryAdrfam::kIpv6;
  nvme::fill_spaces(entry.traddr, "2001:db8::1");
  EXPECT_EQ(check_discovery_entry(entry).address()->endpoint(), "[2001:db8::1]:4420");
}

TEST(DiscoveryEntryCheck, KeepsWhatItCannotUseAndSaysWhy) {
  const DiscoveryEntry good = make_entry("10.0.0.1");
  DiscoveryEntry entry = good;
  entry.trtype = nvme::DiscoveryTrtype::kRdma;
  EXPECT_THAT(problem_of(entry), HasSubstr("not TCP"));
  entry.trtype = static_cast<nvme::DiscoveryTrtype>(77);
  EXPECT_THAT(problem_of(entry), HasSubstr("not TCP"));
  EXPECT_EQ(static_cast<int>(check_discovery_entry(entry).trtype), 77);
  EXPECT_EQ(check_discovery_entry(entry).address().error().kind(), Errc::kUnsupported);
  entry = good;
  entry.adrfam = static_cast<nvme::DiscoveryAdrfam>(9);
  EXPECT_THAT(problem_of(entry), HasSubstr("address family 9"));
  entry.adrfam = nvme::DiscoveryAdrfam::kIpv6;
  EXPECT_THAT(problem_of(entry), HasSubstr("no IPv6 address"));
  entry = good;
  entry.subtype = static_cast<DiscoverySubtype>(4);
  EXPECT_THAT(problem_of(entry), HasSubstr("subsystem type 4"));
  entry = good;
  entry.treq = nvme::kTreqSecureChannelRequired;
  EXPECT_THAT(problem_of(entry), HasSubstr("secure channel"));
  for (const char* port : {"", "0", "65536", "http", "44 20", "-1", "4420x"}) {
    entry = good;
    nvme::fill_spaces(entry.trsvcid, port);
    EXPECT_THAT(problem_of(entry), HasSubstr("no TCP port")) << port;
  }
  for (const char* address : {"", "target.example", "10.0.0", "10.0.0.1.5", "::1"}) {
    entry = good;
    nvme::fill_spaces(entry.traddr, address);
    EXPECT_THAT(problem_of(entry), HasSubstr("no IPv4 address")) << address;
  }
}

TEST(DiscoveryEntryCheck, SurvivesTextThatNeverEnds) {
  DiscoveryEntry entry = make_entry("10.0.0.1");
  entry.subnqn.fill('n');
  EXPECT_THAT(problem_of(entry), HasSubstr("does not end"));
  EXPECT_EQ(check_discovery_entry(entry).subnqn.size(), 256U);
  entry = make_entry("10.0.0.1");
  entry.traddr.fill('1');
  entry.trsvcid.fill('2');
  const DiscoveredEntry checked = check_discovery_entry(entry);
  EXPECT_FALSE(checked.usable());
  EXPECT_EQ(checked.traddr.size(), 256U);
  EXPECT_EQ(checked.trsvcid.size(), 32U);
}

TEST(DiscoveryEntryCheck, LeavesNothingInItsTextThatATerminalWouldObey) {
  DiscoveryEntry entry = make_entry("10.0.0.1", "nqn.2024-01.io.example:\x1b[2J\x07");
  nvme::fill_spaces(entry.traddr, "\x1b]0;owned\x07");
  const DiscoveredEntry checked = check_discovery_entry(entry);
  EXPECT_FALSE(checked.usable());
  for (const std::string& text : {checked.subnqn, checked.traddr, checked.problem}) {
    for (const char c : text) EXPECT_TRUE(c >= 0x20 && c <= 0x7E) << text;
  }
}

TEST(DiscoveryEntryCheck, TakesAnyBytes) {
  Rng rng(7);
  for (int round = 0; round < 2000; ++round) {
    DiscoveryEntry entry = make_entry("10.0.0.1");
    const auto bytes = nvme::wire::writable_bytes_of(entry);
    const std::uint64_t changes = round % 2 == 0 ? 1 + rng.below(4) : bytes.size();
    for (std::uint64_t i = 0; i < changes; ++i) bytes[rng.below(bytes.size())] = static_cast<std::byte>(rng.below(256));
    const DiscoveredEntry checked = check_discovery_entry(entry);
    EXPECT_EQ(checked.usable(), checked.address().ok());
  }
}

// --- the log ---

TEST_F(DiscoveryTest, ReadsEveryEntry) {
  const auto log = read();
  ASSERT_TRUE(log.ok()) << log.error().to_string();
  EXPECT_EQ(log->genctr, 5U);
  EXPECT_EQ(log->left_out, 0U);
  ASSERT_THAT(log->entries, SizeIs(2));
  EXPECT_EQ(log->entries[1].traddr, "10.0.0.2");
  EXPECT_EQ(log->entries[1].trsvcid, "4420");
  EXPECT_FALSE(reads.back().retain_event) << "the last look settles the event";
  reads.pop_back();
  for (const auto& fields : reads) EXPECT_TRUE(fields.retain_event);
}

TEST_F(DiscoveryTest, ReadsALongLogInPiecesNoLargerThanTheControllerTakes) {
  target.options.mdts = 1;  // 8 KiB
  entries.clear();
  for (int i = 0; i < 100; ++i) entries.push_back(make_entry(fmt::format("10.0.1.{}", i)));
  const auto log = read();
  ASSERT_TRUE(log.ok()) << log.error().to_string();
  ASSERT_THAT(log->entries, SizeIs(100));
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(log->entries[static_cast<std::size_t>(i)].traddr, fmt::format("10.0.1.{}", i));
  for (const auto& fields : reads) EXPECT_LE(fields.bytes, 8192U);
}

TEST_F(DiscoveryTest, AnEmptyLogIsALog) {
  entries.clear();
  const auto log = read();
  ASSERT_TRUE(log.ok()) << log.error().to_string();
  EXPECT_THAT(log->entries, IsEmpty());
}

TEST_F(DiscoveryTest, StartsOverWhenTheLogChangesUnderneath) {
  int left = 3;
  before_read = [&](const nvme::GetLogPageFields& fields) {
    if (fields.offset == 0 || left == 0) return;
    --left;
    ++genctr;
    entries.push_back(make_entry(fmt::format("10.0.2.{}", left)));
  };
  const auto log = read();
  ASSERT_TRUE(log.ok()) << log.error().to_string();
  EXPECT_EQ(log->genctr, 8U);
  EXPECT_THAT(log->entries, SizeIs(5));
}

TEST_F(DiscoveryTest, GivesUpOnALogThatNeverSettles) {
  before_read = [&](const nvme::GetLogPageFields&) { ++genctr; };
  const auto log = read();
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.error().kind(), Errc::kBusy);
  EXPECT_TRUE(log.error().retryable());
  EXPECT_LE(reads.size(), kMaxDiscoveryReads * 3);
}

TEST_F(DiscoveryTest, TakesNoMemoryForTheRecordsItIsPromised) {
  claimed = UINT64_MAX;
  const auto log = read();
  ASSERT_TRUE(log.ok()) << log.error().to_string();
  EXPECT_THAT(log->entries, SizeIs(kMaxDiscoveryEntries));
  EXPECT_EQ(log->left_out, UINT64_MAX - kMaxDiscoveryEntries);
  EXPECT_TRUE(log->entries[1].usable());
  EXPECT_FALSE(log->entries[2].usable()) << "there was nothing behind the claim";
}

TEST_F(DiscoveryTest, RefusesARecordFormatItDoesNotKnow) {
  recfmt = 1;
  EXPECT_EQ(read().error().kind(), Errc::kUnsupported);
}

// --- referrals ---

TEST_F(DiscoveryTest, LeavesReferralsAloneUnlessAsked) {
  entries.push_back(make_referral("10.0.0.9"));
  const auto found = find();
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  EXPECT_THAT(found->answers, SizeIs(1));
  EXPECT_EQ(found->not_followed, 0U);
}

TEST_F(DiscoveryTest, AsksEachReferralOnceEvenInALoop) {
  // Everybody refers to everybody, and to where we came from.
  entries.push_back(make_referral("10.0.0.9"));
  entries.push_back(make_referral("10.0.0.8"));
  entries.push_back(make_referral("10.0.0.9"));
  entries.push_back(make_referral("127.0.0.1"));
  const auto found = find({.follow_referrals = true});
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  std::vector<std::string> asked;
  for (const DiscoveryAnswer& answer : found->answers) asked.push_back(answer.address.endpoint());
  EXPECT_THAT(asked, ElementsAre("127.0.0.1:4420", "10.0.0.9:4420", "10.0.0.8:4420"));
  EXPECT_EQ(found->answers[2].depth, 1U);
  EXPECT_EQ(found->not_followed, 0U);
}

TEST_F(DiscoveryTest, AChainOfReferralsEndsSomewhere) {
  int next = 0;
  before_read = [&](const nvme::GetLogPageFields& fields) {
    if (fields.offset == 0 && fields.retain_event) entries = {make_referral(fmt::format("10.0.3.{}", ++next))};
  };
  const auto found = find({.follow_referrals = true, .max_depth = 3, .max_controllers = 16});
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  EXPECT_THAT(found->answers, SizeIs(4));
  EXPECT_EQ(found->not_followed, 1U);
}

TEST_F(DiscoveryTest, AFloodOfReferralsIsCutShort) {
  entries.clear();
  for (int i = 0; i < 200; ++i) entries.push_back(make_referral(fmt::format("10.0.4.{}", i)));
  const auto found = find({.follow_referrals = true, .max_depth = 4, .max_controllers = 5});
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  EXPECT_THAT(found->answers, SizeIs(5));
  EXPECT_GE(found->not_followed, 195U);
}

TEST_F(DiscoveryTest, AReferralThatLeadsNowhereFailsAlone) {
  entries.push_back(make_referral("10.0.0.9"));
  loop.net.prepare = [this](Wire& wire) {
    if (loop.net.wires.size() > 1) wire.connect_error = ECONNREFUSED;
  };
  const auto found = find({.follow_referrals = true});
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  ASSERT_THAT(found->answers, SizeIs(2));
  EXPECT_FALSE(found->answers[0].error.has_value());
  ASSERT_TRUE(found->answers[1].error.has_value());
}

TEST_F(DiscoveryTest, ADiskIsNoDiscoveryController) {
  target.options.discovery = false;
  target.options.subnqn = config.address.subnqn = "nqn.2024-01.io.example:fake";
  const auto found = find();
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind(), Errc::kUnsupported);
  EXPECT_THAT(found.error().message(), HasSubstr("no discovery controller"));
}

// --- the watch ---

class DiscoveryWatchTest : public DiscoveryTest {
 protected:
  void start() {
    watch.emplace(loop.poller, loop.pool, loop.net, DiscoveryWatch::Config{.controller = config},
                  [this](const Result<DiscoveryLog>& log) { told.push_back(log); });
    watch->start().value();
    loop.settle();
    loop.advance(milliseconds(100), 10);
  }
  void TearDown() override {
    if (!watch) return;
    bool stopped = false;
    loop.spawn(stop(*watch, stopped));
    for (int i = 0; i < 3000 && !stopped; ++i) loop.advance(milliseconds(10));
    EXPECT_TRUE(stopped);
    watch.reset();
  }
  static Task<void> stop(DiscoveryWatch& watch, bool& stopped) {
    co_await watch.stop();
    stopped = true;
  }
  void change(std::vector<DiscoveryEntry> to) {
    entries = std::move(to);
    ++genctr;
    EXPECT_TRUE(target.notify(nvme::kDiscoveryChangedEvent));
    loop.settle();
    loop.advance(milliseconds(10));
  }

  std::optional<DiscoveryWatch> watch;
  std::vector<Result<DiscoveryLog>> told;
};

TEST_F(DiscoveryWatchTest, TellsTheFirstLogAndEveryChange) {
  start();
  ASSERT_THAT(told, SizeIs(1));
  ASSERT_TRUE(told[0].ok()) << told[0].error().to_string();
  EXPECT_THAT(told[0]->entries, SizeIs(2));
  EXPECT_TRUE(target.event_config.discovery_log_change);
  EXPECT_GT(target.kato_ms, 0U) << "a connection without keep-alive does not persist";
  change({make_entry("10.0.5.5")});
  ASSERT_THAT(told, SizeIs(2));
  EXPECT_THAT(told[1]->entries, SizeIs(1));
  change({});
  ASSERT_THAT(told, SizeIs(3));
}

TEST_F(DiscoveryWatchTest, SaysNothingWhenNothingHasChanged) {
  start();
  EXPECT_TRUE(target.notify(nvme::kDiscoveryChangedEvent));
  loop.advance(seconds(2), 20);
  EXPECT_THAT(told, SizeIs(1));
  EXPECT_EQ(watch->probe().reads.value(), 2U);
}

TEST_F(DiscoveryWatchTest, StaysAliveForDays) {
  start();
  loop.advance(std::chrono::minutes(2), 600);
  EXPECT_GE(target.keep_alives, 10U);
  EXPECT_EQ(watch->probe().connections.value(), 1U);
  EXPECT_EQ(watch->probe().reads.value(), 1U) << "nothing is read unless something happened";
}

TEST_F(DiscoveryWatchTest, ConnectsAgainAndFindsWhatItMissed) {
  start();
  loop.net.wire(0).peer_closed = true;
  loop.settle();
  entries = {make_entry("10.0.6.6")};
  ++genctr;
  loop.advance(seconds(4), 80);
  ASSERT_THAT(told, SizeIs(3));
  EXPECT_FALSE(told[1].ok());
  ASSERT_TRUE(told[2].ok()) << told[2].error().to_string();
  EXPECT_EQ(told[2]->entries.at(0).traddr, "10.0.6.6");
  EXPECT_EQ(watch->probe().connections.value(), 2U);
}

TEST_F(DiscoveryWatchTest, ReportsAnOutageOnceAndKeepsTrying) {
  bool down = true;
  loop.net.prepare = [&](Wire& wire) { wire.connect_error = down ? ECONNREFUSED : 0; };
  start();
  loop.advance(seconds(20), 200);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_FALSE(told[0].ok());
  EXPECT_GE(watch->probe().failures.value(), 3U);
  down = false;
  loop.advance(seconds(40), 400);
  ASSERT_THAT(told, SizeIs(2));
  EXPECT_TRUE(told[1].ok());
}

TEST_F(DiscoveryWatchTest, ALogThatNeverSettlesIsAnOutageNotALoop) {
  before_read = [&](const nvme::GetLogPageFields&) { ++genctr; };
  start();
  loop.advance(seconds(20), 2000);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].error().kind(), Errc::kBusy);
  EXPECT_LE(watch->probe().reads.value(), 8U);
  before_read = nullptr;
  loop.advance(seconds(40), 400);
  ASSERT_THAT(told, SizeIs(2));
  EXPECT_TRUE(told[1].ok());
}

TEST_F(DiscoveryWatchTest, NeedsAKeepAlive) {
  config.keep_alive_timeout = Nanos{0};
  DiscoveryWatch none(loop.poller, loop.pool, loop.net, {.controller = config}, [](const Result<DiscoveryLog>&) {});
  EXPECT_EQ(none.start().error().kind(), Errc::kInvalidArgument);
}

}  // namespace
}  // namespace leap::test

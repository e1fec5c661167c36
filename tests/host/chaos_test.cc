// Our host against a target that breaks on purpose: whatever it does, each command ends once, in time, with success or
// an error that says what happened; data that was acknowledged is right; the other queue of the controller lives on.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>

#include <gtest/gtest.h>

#include "../support/check_protocol.h"
#include "../support/poller_thread.h"
#include "../support/stamped.h"
#include "host/controller.h"
#include "nvme/nvm_command.h"
#include "nvme/pdu_checker.h"
#include "nvme/status.h"
#include "poller/dma_await.h"
#include "target/target_runner.h"

namespace leap::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kNqn = "nqn.2024-01.io.example:chaos";
constexpr Nanos kIoTimeout = milliseconds(250);
constexpr Nanos kConnectTimeout = milliseconds(400);
/// What a loaded machine may add to a deadline.
constexpr Nanos kSlack = seconds(3);

struct Scenario {
  const char* name;
  const char* spec;
  bool digests;
  std::set<Errc> allowed;  // kinds of errors that may be seen
  bool must_fail;          // and at least one must
};
void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.spec; }

struct Outcome {
  std::uint64_t good = 0;
  std::uint64_t wrong = 0;
  std::uint64_t late = 0;
  std::vector<Error> errors;
};

class Watch {
 public:
  explicit Watch(Outcome& outcome, Nanos limit) : outcome_(outcome), limit_(limit) {}
  ~Watch() {
    if (std::chrono::steady_clock::now() - begin_ > limit_) ++outcome_.late;
  }

 private:
  Outcome& outcome_;
  Nanos limit_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// Writes and reads its own 16 KiB again and again, on whatever queue pair there is.
Task<void> worker(NvmeController& controller, NvmePoller& poller, DmaPool& pool, std::uint64_t lba, int rounds,
                  Outcome& outcome) {
  constexpr std::uint32_t kBytes = 16 * 1024;
  constexpr std::uint32_t kBlocks = kBytes / 512;
  const nvme::Nsid ns{1};
  for (int round = 0; round < rounds; ++round) {
    Result<QueuePair*> opened(nullptr);
    {
      const Watch watch(outcome, kConnectTimeout + kSlack);
      opened = co_await controller.open_io_queue(poller, pool);
    }
    if (!opened.ok()) {
      outcome.errors.push_back(std::move(opened).error());
      continue;
    }
    QueuePair& qp = *opened.value();
    Result<DmaBuf> buffer = co_await allocate(poller, pool, kBytes);
    stamp(buffer.value(), lba, static_cast<std::uint32_t>(round));
    CommandResult written;
    {
      const Watch watch(outcome, kIoTimeout + kSlack);
      written = co_await qp.execute(nvme::make_write(ns, lba, kBlocks), std::move(buffer).value(),
                                    nvme::DataDirection::kHostToController);
    }
    if (!written.status.ok()) {
      outcome.errors.push_back(written.status.error());
      continue;
    }
    ++outcome.good;
    std::memset(written.data.data(), 0, kBytes);
    CommandResult read;
    {
      const Watch watch(outcome, kIoTimeout + kSlack);
      read = co_await qp.execute(nvme::make_read(ns, lba, kBlocks), std::move(written.data),
                                 nvme::DataDirection::kControllerToHost);
    }
    if (!read.status.ok()) {
      outcome.errors.push_back(read.status.error());
      continue;
    }
    ++outcome.good;
    if (!stamped(read.data, lba, static_cast<std::uint32_t>(round))) ++outcome.wrong;
  }
}

Task<Outcome> work(NvmeController& controller, NvmePoller& poller, DmaPool& pool, int workers, int rounds) {
  Outcome outcome;
  TaskGroup group(poller);
  for (int i = 0; i < workers; ++i) {
    group.spawn(worker(controller, poller, pool, static_cast<std::uint64_t>(i) * 64, rounds, outcome));
  }
  co_await group.wait();
  co_return outcome;
}

class ChaosTarget {
 public:
  explicit ChaosTarget(const std::string& spec) {
    TargetRunner::Options options;
    options.target.nqn = kNqn;
    options.target.listen = {SocketAddress::parse("127.0.0.1:0").value()};
    options.target.in_capsule_data_size = 0;  // writes go by R2T
    options.target.max_r2t_bytes = 8192;
    options.target.max_c2h_data = 16384;
    options.target.chaos = spec;
    options.target.chaos_control = true;
    options.namespaces = {"mem:?size=1MiB&block=512"};
    runner = TargetRunner::create(std::move(options)).value();
    runner->start().value();
  }
  ~ChaosTarget() { EXPECT_TRUE(runner->stop(seconds(5)).ok()); }

  [[nodiscard]] ControllerConfig config(bool digests) const {
    ControllerConfig config;
    const auto port = runner->target().addresses().front().port();
    config.address = nvme::TransportAddress::parse(fmt::format("nvme+tcp://127.0.0.1:{}/{}", port, kNqn)).value();
    config.hostnqn = "nqn.2024-01.io.example:host";
    config.hostid = Uuid::from_name("host");
    config.header_digest = config.data_digest = digests;
    config.io_timeout = kIoTimeout;
    config.abort_timeout = Nanos{0};  // the first rung has its own tests; here the queue pair goes at once
    config.connect_timeout = kConnectTimeout;
    return config;
  }

  std::unique_ptr<TargetRunner> runner;
};

class Chaos : public ::testing::TestWithParam<Scenario> {};

TEST_P(Chaos, EachCommandEndsInTimeWithTheTruth) {
  const Scenario& scenario = GetParam();
  ChaosTarget target("");
  PollerThread home;
  const ControllerConfig config = target.config(scenario.digests);
  auto connected =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
  ASSERT_TRUE(connected.ok()) << connected.error().to_string();
  auto controller = std::move(connected).value();
  ASSERT_TRUE(target.runner->target().set_chaos(scenario.spec).ok());

  const Outcome outcome = home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 3, 8); });
  EXPECT_EQ(outcome.wrong, 0U) << "data that was never written";
  EXPECT_EQ(outcome.late, 0U) << "a deadline was missed";
  EXPECT_TRUE(!scenario.must_fail || !outcome.errors.empty()) << target.runner->target().chaos_report();
  for (const Error& error : outcome.errors) {
    EXPECT_TRUE(scenario.allowed.contains(error.kind())) << error.to_string();
  }
  EXPECT_TRUE(controller->live()) << "faults of an I/O queue have cost the controller";

  // Without chaos everything works again.
  ASSERT_TRUE(target.runner->target().set_chaos("").ok());
  home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 1, 1); });
  const Outcome after = home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 3, 2); });
  EXPECT_EQ(after.good, 3U * 2 * 2);
  EXPECT_TRUE(after.errors.empty()) << after.errors.front().to_string();
  const Result<> ended = home.run([&](NvmePoller&) { return controller->shutdown(seconds(2)); });
  EXPECT_TRUE(ended.ok()) << ended.error().to_string();
  controller.reset();
  EXPECT_EQ(home.pool().probe().bytes_in_use, 0U) << "a buffer was not given back";
}

const std::set<Errc> kProtocolErrors{Errc::kProtocol, Errc::kClosed};
const std::set<Errc> kLostErrors{Errc::kClosed, Errc::kIo};
const std::set<Errc> kTimeouts{Errc::kTimedOut, Errc::kClosed};

INSTANTIATE_TEST_SUITE_P(
    Faults, Chaos,
    ::testing::Values(
        Scenario{"short_delays", "seed=1;delay=1ms:p=0.2", false, {}, false},
        Scenario{"long_delays", "delay=600ms:every=9", false, kTimeouts, true},
        Scenario{"stalls", "stall=600ms:every=9", false, kTimeouts, true},
        Scenario{"drops", "drop:every=7", false, kTimeouts, true},
        Scenario{"resets", "reset:every=7", false, kLostErrors, true},
        Scenario{"truncation", "truncate:every=7", true, kLostErrors, true},
        Scenario{"corrupt_headers",
                 "seed=3;corrupt=header:every=3",
                 false,
                 {Errc::kProtocol, Errc::kClosed, Errc::kTimedOut, Errc::kIo, Errc::kUnsupported, Errc::kInternal,
                  Errc::kInvalidArgument, Errc::kNotFound, Errc::kBusy, Errc::kPermission, Errc::kWrongState,
                  Errc::kExhausted, Errc::kNoSpace, Errc::kCancelled, Errc::kAlreadyExists, Errc::kCorrupt},
                 true},
        Scenario{"corrupt_headers_with_digests",
                 "seed=3;corrupt=header:every=4",
                 true,
                 {Errc::kCorrupt, Errc::kProtocol, Errc::kClosed, Errc::kTimedOut},
                 true},
        Scenario{"corrupt_data_with_digests", "corrupt=data:every=2", true, {Errc::kCorrupt}, true},
        Scenario{"duplicate_r2ts", "duplicate-r2t:every=3", false, kProtocolErrors, true},
        Scenario{"oversized_r2ts", "oversized-r2t:every=3", true, kProtocolErrors, true},
        Scenario{"wrong_ttags", "wrong-ttag:every=3", false, {Errc::kProtocol, Errc::kClosed, Errc::kIo}, true},
        Scenario{"wrong_cccids", "wrong-cccid:every=5", true, kProtocolErrors, true},
        Scenario{"early_success", "success=early:every=2", true, kProtocolErrors, true},
        Scenario{"success_without_last", "success=no-last:every=2", false, kProtocolErrors, true},
        Scenario{"deafness", "stop-reading:nth=6", false, kTimeouts, true},
        Scenario{"statuses", "status=0.6:every=4", false, {Errc::kIo, Errc::kInternal}, true},
        Scenario{"silence", "silence:times=2:queue=any", false, kTimeouts, true},
        Scenario{
            "everything",
            "seed=42;delay=1ms:p=0.05;drop:p=0.01;reset:p=0.02;truncate:p=0.02;wrong-cccid:p=0.02;"
            "duplicate-r2t:p=0.02;oversized-r2t:p=0.02;success=early:p=0.02;corrupt=data:p=0.05;status=2.129:p=0.02",
            true,
            {Errc::kProtocol, Errc::kClosed, Errc::kIo, Errc::kTimedOut, Errc::kCorrupt},
            false}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(Chaos, StatusArrivesAsItWasOrdered) {
  ChaosTarget target("status=2.129:nth=2:op=read:dnr:crd=2");
  PollerThread home;
  const ControllerConfig config = target.config(false);
  auto controller =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); })
          .value();
  const Outcome outcome = home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 1, 4); });
  ASSERT_EQ(outcome.errors.size(), 1U);
  const NvmeStatusCode status = outcome.errors[0].nvme_status();
  EXPECT_EQ(outcome.errors[0].domain(), ErrorDomain::kNvme);
  EXPECT_EQ(status.sct, 2);
  EXPECT_EQ(status.sc, 129);
  EXPECT_EQ(status.crd, 2);
  EXPECT_TRUE(status.dnr);
  EXPECT_FALSE(outcome.errors[0].retryable());
  EXPECT_EQ(outcome.good, 7U);
  (void)home.run([&](NvmePoller&) { return controller->shutdown(seconds(2)); });
}

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Everything at once, under many seeds. LEAP_CHAOS_SEEDS=500 for a longer look, LEAP_CHAOS_FIRST=N to repeat one.
class ManySeeds : public ::testing::Test {
 protected:
  /// Without digests a flipped bit of a header may make one command's data another's, and nobody can tell.
  static std::string spec(std::uint64_t seed, bool digests, const char* queue, double scale) {
    const std::vector<std::pair<const char*, double>> faults = {{"delay=1ms", 0.05},
                                                                {"stall=2ms", 0.02},
                                                                {"drop", 0.01},
                                                                {"reset", 0.03},
                                                                {"truncate", 0.03},
                                                                {"wrong-cccid", 0.03},
                                                                {"wrong-ttag", 0.03},
                                                                {"duplicate-r2t", 0.03},
                                                                {"oversized-r2t", 0.03},
                                                                {"success=early", 0.03},
                                                                {"success=no-last", 0.03},
                                                                {"stop-reading", 0.005},
                                                                {"status=2.129", 0.03},
                                                                {"silence", 0.01},
                                                                {"corrupt=header", 0.05},
                                                                {"corrupt=data", digests ? 0.05 : 0}};
    std::string text = fmt::format("seed={}", seed);
    for (const auto& [fault, p] : faults) {
      if (p > 0) text += fmt::format(";{}:p={:.6f}:queue={}", fault, p * scale, queue);
    }
    return text;
  }
  static void expect_typed(const Error& error, bool digests) {
    // A flipped bit may turn success into any status there is.
    if (!digests && error.domain() == ErrorDomain::kNvme) return;
    EXPECT_NE(error.kind(), Errc::kInternal) << error.to_string();
    EXPECT_NE(error.domain(), ErrorDomain::kLocal) << error.to_string();
  }
  Result<std::unique_ptr<NvmeController>> connect(bool digests) {
    const ControllerConfig config = target.config(digests);
    const auto begin = std::chrono::steady_clock::now();
    auto controller = home.run(
        [&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kConnectTimeout + kSlack);
    return controller;
  }
  void shut_down(std::unique_ptr<NvmeController> controller) {
    const auto begin = std::chrono::steady_clock::now();
    (void)home.run([&](NvmePoller&) { return controller->shutdown(seconds(1)); });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(1) + kSlack);
    controller.reset();
    EXPECT_EQ(home.pool().probe().bytes_in_use, 0U) << "a buffer was not given back";
  }

  const std::uint64_t first = number("LEAP_CHAOS_FIRST", 100);
  const std::uint64_t seeds = number("LEAP_CHAOS_SEEDS", 4);
  ChaosTarget target{""};
  PollerThread home;
};

TEST_F(ManySeeds, OnIoQueues) {
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE(fmt::format("LEAP_CHAOS_FIRST={} LEAP_CHAOS_SEEDS=1", seed));
    const bool digests = seed % 2 == 0;
    ASSERT_TRUE(target.runner->target().set_chaos("").ok());
    auto controller = connect(digests).value();
    ASSERT_TRUE(target.runner->target().set_chaos(spec(seed, digests, "io", 1)).ok());
    const Outcome outcome = home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 4, 12); });
    if (digests) {
      EXPECT_EQ(outcome.wrong, 0U);
    }
    EXPECT_EQ(outcome.late, 0U);
    for (const Error& error : outcome.errors) expect_typed(error, digests);
    EXPECT_TRUE(controller->live());
    shut_down(std::move(controller));
  }
}

TEST_F(ManySeeds, WhileConnectingAndEnding) {
  std::uint64_t connected = 0;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE(fmt::format("LEAP_CHAOS_FIRST={} LEAP_CHAOS_SEEDS=1", seed));
    const bool digests = seed % 2 == 0;
    ASSERT_TRUE(target.runner->target().set_chaos(spec(seed, digests, "any", 0.1)).ok());
    auto controller = connect(digests);
    if (!controller.ok()) {
      expect_typed(controller.error(), digests);
      continue;
    }
    ++connected;
    const Outcome outcome =
        home.run([&](NvmePoller& poller) { return work(*controller.value(), poller, home.pool(), 2, 3); });
    EXPECT_EQ(outcome.late, 0U);
    shut_down(std::move(controller).value());
  }
  RecordProperty("connected", std::to_string(connected));
  std::printf("%llu of %llu connected\n", static_cast<unsigned long long>(connected),
              static_cast<unsigned long long>(seeds));
}

TEST(Chaos, ProtocolCheckerTellsWhatTheTargetDoesWhenAskedFor) {
  const OnlyAsConfigured configured;
  const auto& found = nvme::PduChecker::violations(nvme::ConnectionEnd::kHost);
  for (const bool asked : {false, true}) {
    ChaosTarget target("duplicate-r2t:nth=1");
    PollerThread home;
    ControllerConfig config = target.config(false);
    config.protocol_checker = asked;
    const auto connect = [&](NvmePoller& poller) {
      return NvmeController::connect(poller, home.pool(), Net::system(), config);
    };
    auto controller = home.run(connect).value();
    const std::uint64_t before = found.peer.value();
    const std::uint64_t ours = found.own.value();
    (void)home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 1, 1); });
    EXPECT_EQ(found.peer.value() - before, asked ? 1U : 0U);
    EXPECT_EQ(found.own.value(), ours);
    (void)home.run([&](NvmePoller&) { return controller->shutdown(seconds(2)); });
  }
}

TEST(Chaos, SilentTargetIsNamedInTime) {
  ChaosTarget target("silence:queue=any");
  PollerThread home;
  const ControllerConfig config = target.config(false);
  const auto begin = std::chrono::steady_clock::now();
  const auto connected =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kConnectTimeout + kSlack);
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kTimedOut);
}

TEST(Chaos, AdminQueueMayBeHitToo) {
  ChaosTarget target("reset:nth=9:queue=admin");
  PollerThread home;
  const ControllerConfig config = target.config(false);
  const auto connected =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
  ASSERT_FALSE(connected.ok()) << "the ninth answer comes before the controller is ready";
  EXPECT_EQ(connected.error().kind(), Errc::kClosed) << connected.error().to_string();
}

}  // namespace
}  // namespace leap::test

#include "workload/io_bench.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "bdev/mem_bdev.h"
#include "store/superblock.h"
#include "support/poller_thread.h"

namespace leap {
namespace {

using testing::HasSubstr;

BlockDeviceInfo device_of(std::uint64_t size, std::uint32_t block_size) {
  BlockDeviceInfo info;
  info.name = "device";
  info.size = size;
  info.block_size = block_size;
  return info;
}

class IoBench : public testing::Test {
 protected:
  IoBench() { make_device(8 * kMiB); }
  void make_device(std::uint64_t size, std::uint32_t block_size = 512) {
    device_ = MemBdev::create({.size = size, .block_size = block_size, .name = "mem-io-bench"}).value();
  }
  Result<BenchReport> run(IoBenchConfig config) {
    config.duration = std::chrono::milliseconds(20);
    config.warmup = Nanos{0};
    config.queue_depth = 4;
    return run_io_bench(config, *device_, {{&poller_.poller(), &poller_.pool()}});
  }
  void put(std::uint64_t at, std::string_view text) {
    std::memcpy(device_->mapped().data() + at, text.data(), text.size());
  }

  test::PollerThread poller_{16 * kMiB};
  std::unique_ptr<MemBdev> device_;
};

TEST_F(IoBench, EveryPatternCountsWhatItDoesAndVerifies) {
  for (const auto* name : {"read", "write", "randread", "randwrite", "randrw", "rw"}) {
    const IoPattern pattern = parse_io_pattern(name).value();
    EXPECT_EQ(to_string(pattern), name);
    const auto report = run({.pattern = pattern, .verify = true});
    ASSERT_TRUE(report.ok()) << name << ": " << report.error().to_string();
    EXPECT_TRUE(report->good()) << report->first_error;
    EXPECT_GT(report->ios(), 0u) << name;
    EXPECT_GT(report->verified_units, 0u) << name;
    EXPECT_EQ(report->reads > 0, name != std::string("write") && name != std::string("randwrite")) << name;
    EXPECT_EQ(report->writes > 0, name != std::string("read") && name != std::string("randread")) << name;
  }
  EXPECT_EQ(parse_io_pattern("trim").error().kind(), Errc::kInvalidArgument);
}

TEST_F(IoBench, RecognisesWhatEarlierRunsWrote) {
  // Block sizes that cut each other's units anywhere, with and without verify.
  for (const bool verify : {false, true, false}) {
    for (const std::uint32_t block_size : {4096u, 512u, 131072u, 1536u, 4608u, 1u << 20}) {
      if (verify && block_size == 4608) continue;  // not a multiple of the unit
      for (const IoPattern pattern : {IoPattern::kRandWrite, IoPattern::kWrite, IoPattern::kRandRead}) {
        const auto report = run({.pattern = pattern, .block_size = block_size, .seed = block_size, .verify = verify});
        ASSERT_TRUE(report.ok()) << report.error().to_string();
        EXPECT_TRUE(report->good()) << report->first_error;
      }
    }
  }
}

TEST_F(IoBench, RefusesADeviceThatHoldsSomethingElseAtEitherEnd) {
  for (const std::uint64_t at : {std::uint64_t{1080}, kMiB - 3, 7 * kMiB, 8 * kMiB - 1}) {
    make_device(8 * kMiB);
    put(at, "x");
    for (const bool verify : {false, true}) {
      const IoPattern pattern = verify ? IoPattern::kRead : IoPattern::kRandWrite;
      const auto report = run({.pattern = pattern, .verify = verify});
      ASSERT_FALSE(report.ok()) << at;
      EXPECT_EQ(report.error().kind(), Errc::kAlreadyExists);
      EXPECT_THAT(report.error().message(), HasSubstr(std::to_string(at / 512 * 512)));
      EXPECT_EQ(device_->mapped()[at], std::byte{'x'});
    }
    EXPECT_TRUE(run({.pattern = IoPattern::kRandRead}).ok()) << "a load that only reads harms nobody";
    EXPECT_TRUE(run({.pattern = IoPattern::kWrite, .overwrite = true}).ok());
  }
}

TEST_F(IoBench, NamesALeapSuperblock) {
  make_device(8 * kMiB, 4096);
  const Superblock superblock = make_superblock(device_->info(), "prod", 1, Uuid::random()).value();
  encode_superblock(superblock, device_->mapped().first<Superblock::kBytes>());
  EXPECT_THAT(run({.pattern = IoPattern::kRandWrite}).error().message(), HasSubstr("cluster 'prod'"));
  device_->mapped()[100] ^= std::byte{1};
  EXPECT_THAT(run({.pattern = IoPattern::kRandWrite}).error().message(), HasSubstr("Leap"));
}

TEST_F(IoBench, VerifyLaysOutNoMoreThanItsRange) {
  std::string notice;
  IoBenchConfig config{.pattern = IoPattern::kRandRead, .range = kMiB, .verify = true};
  config.on_notice = [&notice](const std::string& line) { notice = line; };
  const auto report = run(config);
  ASSERT_TRUE(report.ok()) << report.error().to_string();
  EXPECT_EQ(report->laid_out, kMiB);
  EXPECT_EQ(report->range, kMiB);
  EXPECT_THAT(notice, HasSubstr("1.0 MiB"));
  EXPECT_EQ(device_->mapped()[kMiB], std::byte{0});
  EXPECT_THAT(report->to_text(), HasSubstr("1.0 MiB of it laid out"));
}

TEST_F(IoBench, VerifyDoesNotFillALargeDeviceByDefault) {
  BlockDeviceInfo large = device_of(kTiB, 512);
  IoBenchConfig config;
  EXPECT_EQ(config.range_on(large, 2), kTiB) << "reads alone may go anywhere";
  config.verify = true;
  EXPECT_EQ(config.range_on(large, 2), IoBenchConfig::kVerifyRange);
  config.range = 3 * kGiB;
  EXPECT_EQ(config.range_on(large, 2), 3 * kGiB) << "as asked";
  config.range = 0;
  config.block_size = 1 << 20;
  config.queue_depth = 128;
  EXPECT_EQ(config.range_on(large, 2), kGiB) << "more when the I/Os in flight need more";
  large.size = 100 * kMiB;
  EXPECT_EQ(config.range_on(large, 2), 100 * kMiB);
}

TEST_F(IoBench, RefusesWhatDoesNotFitTheDevice) {
  const BlockDeviceInfo device = device_of(kMiB, 4096);
  for (const IoBenchConfig& config :
       {IoBenchConfig{.block_size = 512}, IoBenchConfig{.block_size = 4 << 20}, IoBenchConfig{.queue_depth = 0},
        IoBenchConfig{.queue_depth = 257}, IoBenchConfig{.duration = Nanos{0}}, IoBenchConfig{.range = 2 * kMiB},
        IoBenchConfig{.read_percent = 101}}) {
    EXPECT_EQ(config.validate(device, 1).error().kind(), Errc::kInvalidArgument);
  }
  EXPECT_TRUE(IoBenchConfig{}.validate(device, 1).ok());
}

}  // namespace
}  // namespace leap

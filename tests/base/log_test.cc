#include "base/log.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/scope_exit.h"
#include "base/uuid.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Logs into a directory of its own and leaves the log as it found it.
class LogTest : public ::testing::Test {
 protected:
  void TearDown() override {
    ASSERT_TRUE(init_log(LogConfig{}).ok());
    std::filesystem::remove_all(dir_);
  }
  [[nodiscard]] LogConfig to_directory() const {
    LogConfig config;
    config.destination = dir_.string();
    return config;
  }
  [[nodiscard]] std::string content(const std::string& name = "leap.log") const {
    flush_log();
    std::ostringstream text;
    text << std::ifstream(dir_ / name).rdbuf();
    return text.str();
  }
  std::filesystem::path dir_ = std::filesystem::temp_directory_path() / ("leap_log_test_" + Uuid::random().to_string());
};

TEST_F(LogTest, WritesToStandardErrorUnlessToldOtherwise) {
  ::testing::internal::CaptureStderr();
  log_info("controller {} has {} queues", "nqn.a", 4);
  log_debug("not at this level");
  const std::string out = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(out, ContainsRegex("^[0-9-]+ [0-9:.]+ info +controller nqn.a has 4 queues\n$"));
}

TEST_F(LogTest, WritesToAFileInACreatedDirectoryWithLevelThreadAndPosition) {
  LogConfig config = to_directory();
  config.destination = (dir_ / "a" / "b").string();
  config.file_name = "worker.log";
  config.show_position = true;
  config.show_thread = true;
  ASSERT_TRUE(init_log(config).ok());
  log_warn("queue pair {} orphaned", 7);
  log_error("plain text with {{braces}}");
  const std::string out = content("a/b/worker.log");
  EXPECT_THAT(out, ContainsRegex("warning \\[[0-9]+\\] .*log_test.cc:[0-9]+ queue pair 7 orphaned\n"));
  EXPECT_THAT(out, ContainsRegex("error .*plain text with \\{braces\\}\n"));
}

TEST_F(LogTest, DropsWhatIsBelowTheLevelAndFollowsAChange) {
  LogConfig config = to_directory();
  config.level = LogLevel::kWarn;
  ASSERT_TRUE(init_log(config).ok());
  EXPECT_EQ(log_level(), LogLevel::kWarn);
  log_info("one");
  log_warn("two");
  set_log_level(LogLevel::kDebug);
  log_debug("three");
  set_log_level(LogLevel::kOff);
  log_error("four");
  const std::string out = content();
  EXPECT_THAT(out, Not(HasSubstr("one")));
  EXPECT_THAT(out, HasSubstr("two"));
  EXPECT_THAT(out, HasSubstr("three"));
  EXPECT_THAT(out, Not(HasSubstr("four")));
}

TEST_F(LogTest, DoesNotReadAFormatInsideAnArgument) {
  ASSERT_TRUE(init_log(to_directory()).ok());
  log_info("peer says {}", "{} %v %n {0}");
  EXPECT_THAT(content(), HasSubstr("peer says {} %v %n {0}\n"));
}

TEST_F(LogTest, KeepsTheOldLogWhenTheNewOneCannotBeOpened) {
  ASSERT_TRUE(init_log(to_directory()).ok());
  LogConfig bad;
  bad.destination = "/proc/no/such/place";
  bad.level = LogLevel::kOff;
  const Result<> result = init_log(bad);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message(), HasSubstr("/proc/no/such/place"));
  log_info("still here");
  EXPECT_THAT(content(), HasSubstr("still here"));
  bad.destination = "";
  EXPECT_EQ(init_log(bad).error().kind(), Errc::kInvalidArgument);
  bad = to_directory();
  bad.file_name = "../escape";
  EXPECT_EQ(init_log(bad).error().kind(), Errc::kInvalidArgument);
  bad = to_directory();
  bad.max_files = 1'000'000;
  EXPECT_EQ(init_log(bad).error().kind(), Errc::kInvalidArgument);
}

TEST_F(LogTest, RotatesBySizeAndKeepsTheConfiguredNumber) {
  LogConfig config = to_directory();
  config.max_file_bytes = 2000;
  config.max_files = 2;
  ASSERT_TRUE(init_log(config).ok());
  for (int i = 0; i < 200; ++i) log_info("line {:04} {}", i, std::string(60, 'x'));
  flush_log();
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_)) {
    ++files;
    EXPECT_LE(entry.file_size(), 2100u) << entry.path();
  }
  EXPECT_EQ(files, 3u);
  EXPECT_THAT(content(), HasSubstr("line 0199"));
}

TEST_F(LogTest, MayBeRedirectedWhileOtherThreadsWrite) {
  ASSERT_TRUE(init_log(to_directory()).ok());
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int t = 0; t < 3; ++t) {
    writers.emplace_back([&stop, t] {
      for (int i = 0; !stop.load(); ++i) log_info("thread {} line {}", t, i);
    });
  }
  LogConfig other = to_directory();
  other.file_name = "other";
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(init_log(i % 2 == 0 ? other : to_directory()).ok());
  stop = true;
  for (std::thread& writer : writers) writer.join();
  log_info("after");
  EXPECT_THAT(content(), HasSubstr("after"));
}

TEST(LogLevel, ParsesItsOwnNamesAndCurvines) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError, LogLevel::kOff}) {
    EXPECT_EQ(parse_log_level(to_string(level)).value(), level);
  }
  EXPECT_EQ(parse_log_level("INFO").value(), LogLevel::kInfo);
  EXPECT_EQ(parse_log_level("Trace").value(), LogLevel::kDebug);
  EXPECT_EQ(parse_log_level("WARNING").value(), LogLevel::kWarn);
  EXPECT_EQ(parse_log_level("loud").error().kind(), Errc::kInvalidArgument);
  EXPECT_FALSE(parse_log_level("").ok());
}

TEST(RateLimiter, PassesTheLimitPerIntervalAndReportsHowManyItRefused) {
  ManualClock clock;
  RateLimiter limiter(2, 10s, clock);
  EXPECT_EQ(limiter.admit()->suppressed, 0u);
  clock.advance(9s);
  EXPECT_TRUE(limiter.admit().has_value());
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(limiter.admit().has_value());
  clock.advance(1s);  // ten seconds after the first event
  const auto pass = limiter.admit();
  ASSERT_TRUE(pass.has_value());
  EXPECT_EQ(pass->suppressed, 5u);
  EXPECT_EQ(limiter.admit()->suppressed, 0u);
  EXPECT_FALSE(limiter.admit().has_value());
}

TEST(RateLimiter, CountsEveryEventOfEveryThread) {
  ManualClock clock;
  RateLimiter limiter(10, 1s, clock);
  std::atomic<int> passed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) passed += limiter.admit() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(passed, 10);
  clock.advance(1s);
  EXPECT_EQ(limiter.admit()->suppressed, 3990u);
}

}  // namespace
}  // namespace leap

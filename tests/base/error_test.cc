// error.h, result.h, check.h, scope_exit.h: how things fail.
#include "base/error.h"

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/result.h"
#include "base/scope_exit.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

TEST(Error, StartsLocalNotRetryableAndNotExecuted) {
  const Error error(Errc::kNoSpace, "allocate block 42");
  EXPECT_EQ(error.kind(), Errc::kNoSpace);
  EXPECT_EQ(error.domain(), ErrorDomain::kLocal);
  EXPECT_EQ(error.scope(), ErrorScope::kCommand);
  EXPECT_FALSE(error.retryable());
  EXPECT_FALSE(error.may_have_executed());
  EXPECT_EQ(error.os_errno(), 0);
  EXPECT_TRUE(error.nvme_status().ok());
  EXPECT_EQ(error.to_string(), "allocate block 42");
}

TEST(Error, FromErrnoKeepsTheNumberAndSaysWhatWasTried) {
  const Error error = Error::os(ENOSPC, "pwrite 4096 bytes to /data");
  EXPECT_EQ(error.kind(), Errc::kNoSpace);
  EXPECT_EQ(error.domain(), ErrorDomain::kOs);
  EXPECT_EQ(error.os_errno(), ENOSPC);
  EXPECT_EQ(error.message(), "pwrite 4096 bytes to /data: No space left on device");
}

TEST(Error, MapsErrnoToWhatACallerDecidesOn) {
  struct Row {
    int err;
    Errc kind;
    bool retryable;
  };
  for (const Row& row :
       {Row{ENOENT, Errc::kNotFound, false}, Row{EADDRINUSE, Errc::kAlreadyExists, false},
        Row{EBUSY, Errc::kBusy, false}, Row{ENOMEM, Errc::kExhausted, false}, Row{EAGAIN, Errc::kExhausted, true},
        Row{ETIMEDOUT, Errc::kTimedOut, true}, Row{ECONNRESET, Errc::kClosed, true}, Row{EPIPE, Errc::kClosed, true},
        Row{ECONNREFUSED, Errc::kUnreachable, true}, Row{EHOSTUNREACH, Errc::kUnreachable, false},
        Row{ECANCELED, Errc::kCancelled, false}, Row{ENOSYS, Errc::kUnsupported, false},
        Row{EACCES, Errc::kPermission, false}, Row{EINVAL, Errc::kInvalidArgument, false}, Row{EIO, Errc::kIo, false},
        Row{99999, Errc::kIo, false}}) {
    const Error error = Error::os(row.err, "x");
    EXPECT_EQ(error.kind(), row.kind) << row.err;
    EXPECT_EQ(error.retryable(), row.retryable) << row.err;
  }
}

TEST(Error, KeepsTheNvmeStatusApartAndShowsIt) {
  const Error error = Error(Errc::kIo, "read lba 7")
                          .with_nvme({.sct = 2, .sc = 0x81, .crd = 1, .more = false, .dnr = true})
                          .with_scope(ErrorScope::kDevice)
                          .maybe_executed();
  EXPECT_EQ(error.domain(), ErrorDomain::kNvme);
  EXPECT_EQ(error.nvme_status().sc, 0x81);
  EXPECT_EQ(error.scope(), ErrorScope::kDevice);
  EXPECT_TRUE(error.may_have_executed());
  EXPECT_EQ(error.os_errno(), 0);
  EXPECT_EQ(error.to_string(), "read lba 7 (sct 0x2 sc 0x81 dnr crd 1) (may have executed)");
}

TEST(Error, ContextReadsFromTheOperationDownToTheCause) {
  const Error error = Error::os(EIO, "fdatasync /data").context("flush device nvme0").context("finalize block 9");
  EXPECT_EQ(error.message(), "finalize block 9: flush device nvme0: fdatasync /data: Input/output error");
  EXPECT_EQ(error.os_errno(), EIO) << "context adds words, not facts";
}

TEST(Error, CopiesAreIndependent) {
  Error a = Error(Errc::kBusy, "first").in(ErrorDomain::kStore).retryable_if(true);
  Error b = a;
  b = std::move(b).context("second");
  EXPECT_EQ(a.message(), "first");
  EXPECT_EQ(b.message(), "second: first");
  EXPECT_TRUE(b.retryable());
  EXPECT_EQ(b.domain(), ErrorDomain::kStore);
  const Error& same = a;
  a = same;
  EXPECT_EQ(a.message(), "first");
}

TEST(Error, EveryKindDomainAndScopeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(Errc::kIo); ++i) names.insert(to_string(static_cast<Errc>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Errc::kIo) + 1);
  names.clear();
  for (int i = 0; i <= static_cast<int>(ErrorDomain::kRpc); ++i) names.insert(to_string(static_cast<ErrorDomain>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(ErrorDomain::kRpc) + 1);
  names.clear();
  for (int i = 0; i <= static_cast<int>(ErrorScope::kProcess); ++i) names.insert(to_string(static_cast<ErrorScope>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(ErrorScope::kProcess) + 1);
  EXPECT_EQ(names.count("unknown"), 0u);
}

Result<int> halve(int n) {
  if (n % 2 != 0) return Error(Errc::kInvalidArgument, "odd");
  return n / 2;
}

Result<int> quarter(int n) {
  LEAP_TRY(const int half, halve(n));
  LEAP_TRY(const int result, halve(half));  // twice in one scope: the temporaries must not collide
  return result;
}

Result<> check_quarter(int n, bool& reached_end) {
  LEAP_TRY_VOID(quarter(n));
  LEAP_TRY_VOID(Result<>());
  reached_end = true;
  return {};
}

TEST(Result, TryReturnsTheErrorOrGoesOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).error().message(), "odd");
  bool reached_end = false;
  EXPECT_EQ(check_quarter(2, reached_end).error().kind(), Errc::kInvalidArgument);
  EXPECT_FALSE(reached_end);
  EXPECT_TRUE(check_quarter(8, reached_end).ok());
  EXPECT_TRUE(reached_end);
}

TEST(Result, MovesTheValueOutAndReachesItsMembers) {
  Result<std::unique_ptr<std::string>> result(std::make_unique<std::string>("x"));
  EXPECT_EQ((*result)->size(), 1u);
  const std::unique_ptr<std::string> owned = *std::move(result);
  EXPECT_EQ(*owned, "x");
  Result<std::vector<int>> numbers(std::vector<int>{1, 2});
  numbers->push_back(3);
  EXPECT_EQ(numbers.value().size(), 3u);
}

TEST(Result, OfAnErrorConstructibleTypeKeepsSuccessAndFailureApart) {
  const Result<std::string> text("not an error");
  EXPECT_TRUE(text.ok());
  const Result<std::string> failed(Error(Errc::kClosed, "gone"));
  EXPECT_FALSE(failed);
}

TEST(ResultDeathTest, ReadingTheWrongSideStopsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Result<int> failed(Error(Errc::kCorrupt, "checksum of block 7"));
  EXPECT_DEATH((void)failed.value(), "CHECK failed.*checksum of block 7");
  EXPECT_DEATH((void)Result<>(Error(Errc::kCorrupt, "superblock")).value(), "superblock");
  EXPECT_DEATH((void)Result<int>(1).error(), "error\\(\\) of a success");
  EXPECT_DEATH((void)Result<>().error(), "error\\(\\) of a success");
}

TEST(CheckDeathTest, PrintsPlaceConditionAndDetail) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const int extent = 5;
  EXPECT_DEATH(LEAP_CHECK(extent < 3, "extent 5 past 3"), "error_test.cc:[0-9]+: extent < 3: extent 5 past 3");
}

TEST(Check, EvaluatesItsDetailOnlyOnFailure) {
  int evaluated = 0;
  const auto detail = [&] {
    ++evaluated;
    return "detail";
  };
  LEAP_CHECK(true, detail());
  EXPECT_EQ(evaluated, 0);
}

TEST(Defer, RunsAtScopeEndInReverseOrderUnlessDismissed) {
  std::string order;
  {
    const auto first = defer([&] { order += 'a'; });
    auto dismissed = defer([&] { order += 'x'; });
    const auto last = defer([&] { order += 'b'; });
    dismissed.dismiss();
    EXPECT_EQ(order, "");
  }
  EXPECT_EQ(order, "ba");
}

}  // namespace
}  // namespace leap

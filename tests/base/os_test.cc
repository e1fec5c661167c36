// fd.h, sys.h, clock.h, cpu.h, affinity.h: the operating system as the rooms above see it.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <rapidcheck/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "base/affinity.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/fd.h"
#include "base/sys.h"

namespace leap {
namespace {

using namespace std::chrono_literals;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

struct SocketPair {
  UniqueFd a, b;
  SocketPair() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    a = UniqueFd(fds[0]);
    b = UniqueFd(fds[1]);
  }
};

TEST(UniqueFd, ClosesOnDestructionAndOnReset) {
  int raw = -1;
  {
    const UniqueFd fd(::eventfd(0, EFD_CLOEXEC));
    raw = fd.get();
    EXPECT_TRUE(fd.valid());
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC));
  raw = fd.get();
  fd.reset();
  EXPECT_FALSE(is_open(raw));
  EXPECT_FALSE(fd.valid());
  fd.reset();
}

TEST(UniqueFd, MovingHandsOverTheOneDescriptor) {
  UniqueFd a(::eventfd(0, EFD_CLOEXEC));
  UniqueFd b(::eventfd(0, EFD_CLOEXEC));
  const int raw_a = a.get();
  const int raw_b = b.get();
  b = std::move(a);
  EXPECT_FALSE(is_open(raw_b)) << "the target's own descriptor is closed";
  EXPECT_EQ(b.get(), raw_a);
  UniqueFd& alias = b;
  b = std::move(alias);
  EXPECT_TRUE(is_open(raw_a));
  UniqueFd c(std::move(b));
  EXPECT_EQ(c.get(), raw_a);
  const int released = c.release();
  EXPECT_FALSE(c.valid());
  EXPECT_TRUE(is_open(released));
  ::close(released);
}

TEST(Sys, ScattersAndGathersAndCountsEachCall) {
  const SocketPair pair;
  const sys::Counters before = sys::counters();
  char hello[] = "hello ";
  char world[] = "world";
  const std::array<iovec, 2> out{iovec{hello, 6}, iovec{world, 5}};
  EXPECT_EQ(sys::sendmsg(pair.a.get(), out.data(), 2), 11);
  std::array<char, 4> first{};
  std::array<char, 16> second{};
  const std::array<iovec, 2> in{iovec{first.data(), first.size()}, iovec{second.data(), second.size()}};
  EXPECT_EQ(sys::readv(pair.b.get(), in.data(), 2), 11);
  EXPECT_EQ(std::string(first.data(), 4) + std::string(second.data(), 7), "hello world");
  EXPECT_EQ(sys::counters().send - before.send, 1u);
  EXPECT_EQ(sys::counters().receive - before.receive, 1u);
  EXPECT_EQ(sys::counters().total() - before.total(), 2u);
}

TEST(Sys, ReturnsTheNegativeErrnoAndRaisesNoSignal) {
  SocketPair pair;
  std::array<char, 8> buffer{};
  const iovec io{buffer.data(), buffer.size()};
  EXPECT_EQ(sys::readv(pair.a.get(), &io, 1), -EAGAIN);
  pair.b.reset();
  EXPECT_EQ(sys::sendmsg(pair.a.get(), &io, 1), -EPIPE) << "and no SIGPIPE, or we would not be here";
  EXPECT_EQ(sys::readv(-1, &io, 1), -EBADF);
  EXPECT_EQ(sys::pread(-1, buffer.data(), 1, 0), -EBADF);
  EXPECT_EQ(sys::pwrite(-1, buffer.data(), 1, 0), -EBADF);
  EXPECT_EQ(sys::fdatasync(-1), -EBADF);
  epoll_event event{};
  EXPECT_EQ(sys::epoll_wait(-1, &event, 1, 0ns), -EBADF);
}

TEST(Sys, SendingToAFullSocketDoesNotBlock) {
  const SocketPair pair;
  std::vector<char> big(1 << 20);
  const iovec io{big.data(), big.size()};
  ssize_t sent = 0;
  while (sent >= 0) sent = sys::sendmsg(pair.a.get(), &io, 1);
  EXPECT_EQ(sent, -EAGAIN);
}

TEST(Sys, WritesAndReadsAtOffsetsAndCountsStorageCalls) {
  const UniqueFd fd(::memfd_create("sys_test", MFD_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  const sys::Counters before = sys::counters();
  EXPECT_EQ(sys::pwrite(fd.get(), "abcd", 4, 4096), 4);
  std::array<char, 8> back{};
  EXPECT_EQ(sys::pread(fd.get(), back.data(), 2, 4098), 2);
  EXPECT_STREQ(back.data(), "cd");
  EXPECT_EQ(sys::pread(fd.get(), back.data(), 8, 1 << 20), 0);
  EXPECT_EQ(sys::fdatasync(fd.get()), 0);
  EXPECT_EQ(sys::counters().storage - before.storage, 4u);
}

TEST(Sys, WaitingHonoursItsTimeoutAndNeverEndsEarly) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  EXPECT_EQ(sys::epoll_wait(epoll.get(), &event, 1, 0ns), 0);
  for (const Nanos timeout : {Nanos{200'000}, Nanos{3'300'000}}) {
    const TimePoint start = Clock::system().now();
    EXPECT_EQ(sys::epoll_wait(epoll.get(), &event, 1, timeout), 0);
    EXPECT_GE(Clock::system().now() - start, timeout);
  }
}

TEST(Sys, WaitingForEverEndsWithAnEvent) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const UniqueFd wake(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event interest{};
  interest.events = EPOLLIN;
  interest.data.fd = wake.get();
  ASSERT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &interest), 0);
  epoll_event event{};
  EXPECT_EQ(sys::epoll_wait(epoll.get(), &event, 1, -1ns), 1);
  EXPECT_EQ(event.data.fd, wake.get());
}

TEST(Sys, CountsPerThread) {
  const std::uint64_t before = sys::counters().total();
  std::thread other([] {
    EXPECT_EQ(sys::counters().total(), 0u);
    (void)sys::fdatasync(-1);
    EXPECT_EQ(sys::counters().total(), 1u);
  });
  other.join();
  EXPECT_EQ(sys::counters().total(), before);
}

TEST(Clock, SystemTimeNeverGoesBackAndManualTimeStandsStill) {
  const Clock& clock = Clock::system();
  TimePoint last = clock.now();
  for (int i = 0; i < 1000; ++i) {
    const TimePoint now = clock.now();
    ASSERT_GE(now, last);
    last = now;
  }
  ManualClock manual;
  const TimePoint start = manual.now();
  EXPECT_EQ(manual.now(), start);
  manual.advance(5ms);
  EXPECT_EQ(manual.now() - start, 5ms);
  EXPECT_EQ(start + 5ms, manual.now());
  manual.set(TimePoint{7});
  EXPECT_EQ(manual.now().ns, 7);
  EXPECT_GT(TimePoint::max(), clock.now());
  EXPECT_GT(wall_clock_ms(), 1'600'000'000'000) << "2020 in milliseconds";
}

// Computes, without sleeping, until the thread has used this much CPU time.
void burn(Nanos amount) {
  const Nanos start = thread_cpu_time();
  while (thread_cpu_time() - start < amount) cpu_relax();
}

TEST(Cpu, ThreadTimeCountsThisThreadOnlyAndProcessTimeAll) {
  const Nanos own = thread_cpu_time();
  const Nanos process = process_cpu_time();
  const Nanos user = process_usage().user + process_usage().system;
  std::thread other([] { burn(20ms); });
  other.join();
  EXPECT_LT(thread_cpu_time() - own, 15ms) << "the other thread's work is not ours";
  EXPECT_GE(process_cpu_time() - process, 20ms);
  const ProcessUsage usage = process_usage();
  EXPECT_GT(usage.user + usage.system, user);
  EXPECT_GT(usage.max_resident_bytes, 1'000'000u);
  EXPECT_GT(usage.minor_faults, 0u);
}

TEST(CoreMask, ReadsHexadecimalMasksAndSpdkLists) {
  const auto cores = [](std::string_view text) { return parse_core_mask(text).value(); };
  using Cores = std::vector<unsigned>;
  EXPECT_EQ(cores("0x1"), (Cores{0}));
  EXPECT_EQ(cores("0x3"), (Cores{0, 1}));
  EXPECT_EQ(cores("F0"), (Cores{4, 5, 6, 7}));
  EXPECT_EQ(cores("0X8000000000000001"), (Cores{0, 63}));
  EXPECT_EQ(cores("0x10000000000000000"), (Cores{64}));
  EXPECT_EQ(cores("0x00000003"), (Cores{0, 1}));
  EXPECT_EQ(cores("[0]"), (Cores{0}));
  EXPECT_EQ(cores("[2-4,1,3]"), (Cores{1, 2, 3, 4}));
}

TEST(CoreMask, RefusesEmptySetsStrayCharactersAndCoresOutOfRange) {
  const std::string too_wide = "0x1" + std::string(256, '0');
  for (const std::string& text : std::vector<std::string>{"",
                                                          "0x",
                                                          "0",
                                                          "0x0",
                                                          "0xg",
                                                          "0x3 ",
                                                          "-1",
                                                          "1,2",
                                                          "[",
                                                          "[]",
                                                          "[1",
                                                          "[1,]",
                                                          "[,1]",
                                                          "[1-]",
                                                          "[4-2]",
                                                          "[4-2,1]",
                                                          "[a]",
                                                          "[1024]",
                                                          "[99999999999999999999]",
                                                          "[1]x",
                                                          too_wide}) {
    const auto cores = parse_core_mask(text);
    ASSERT_FALSE(cores.ok()) << text;
    EXPECT_EQ(cores.error().kind(), Errc::kInvalidArgument) << text;
    EXPECT_THAT(cores.error().message(), ::testing::HasSubstr("core mask \"")) << text;
  }
}

RC_GTEST_PROP(CoreMask, ReadsBackWhatItFormats, ()) {
  const auto cores = *rc::gen::nonEmpty(rc::gen::container<std::set<unsigned>>(rc::gen::inRange(0u, kMaxCores)));
  const std::vector<unsigned> sorted(cores.begin(), cores.end());
  const auto back = parse_core_mask(format_core_mask(sorted));
  RC_ASSERT(back.ok());
  RC_ASSERT(*back == sorted);
}

TEST(Affinity, PinsTheCallingThreadAndLeavesTheAllowedSetAsItWas) {
  const std::vector<unsigned> allowed = allowed_cores();
  ASSERT_FALSE(allowed.empty());
  std::thread pinned([&] {
    for (const unsigned core : allowed) {
      ASSERT_TRUE(pin_this_thread(core).ok());
      EXPECT_EQ(::sched_getcpu(), static_cast<int>(core));
    }
    EXPECT_EQ(allowed_cores(), allowed);
  });
  pinned.join();
}

TEST(Affinity, RefusesACoreThatDoesNotExist) {
  const std::vector<unsigned> allowed = allowed_cores();
  if (std::find(allowed.begin(), allowed.end(), kMaxCores - 1) != allowed.end()) GTEST_SKIP() << "1024 cores here";
  for (const unsigned core : {kMaxCores - 1, kMaxCores, 4'000'000'000u}) {
    const Result<> pinned = pin_this_thread(core);
    ASSERT_FALSE(pinned.ok());
    EXPECT_EQ(pinned.error().kind(), Errc::kInvalidArgument);
    EXPECT_THAT(pinned.error().message(), ::testing::HasSubstr(std::to_string(core)));
  }
}

TEST(Affinity, NamesTheThreadAndCutsALongName) {
  std::thread named([] {
    std::array<char, 16> name{};
    set_thread_name("leap-poll-0");
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    EXPECT_STREQ(name.data(), "leap-poll-0");
    set_thread_name("a-name-longer-than-the-kernel-takes");
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    EXPECT_STREQ(name.data(), "a-name-longer-t");
  });
  named.join();
}

}  // namespace
}  // namespace leap

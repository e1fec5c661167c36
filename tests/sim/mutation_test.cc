// Does the simulation notice? Each case breaks host or target in one place (base/mutation.h) and must be found within
// kSeeds seeds. A child process runs them, so that a mutation may also crash or trip over a CHECK: that is found, too.

#include "base/mutation.h"

#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/check.h"
#include "simulation.h"

namespace leap {
namespace {

std::string_view chosen;

}  // namespace

bool mutation_chosen(std::string_view name) { return name == chosen; }

namespace sim {
namespace {

constexpr std::uint64_t kSeeds = 500;
constexpr unsigned kSecondsAtMost = 100;

constexpr std::array kMutations{
    // host
    "r2t_data_from_the_pdu_before",   // H2CData carries the bytes of the PDU before it
    "r2t_forgotten",                  // only a command's first R2T is answered
    "success_flag_ignored",           // waits for a response that C2HData made superfluous
    "failure_says_not_executed",      // a command that was sent is reported as never sent
    "data_digest_not_verified",       // C2HData
    "timeout_gives_the_buffer_away",  // the command alone is given up, its connection lives on
    "late_answer_accepted",           // that, and the answer may then end the slot's next command
    "no_deadline",                    // a command waits for ever
    "waiter_for_a_slot_forgotten",    // one of those that wait for a free slot never gets one
    "orphan_never_released",          // a failed queue pair keeps its requests' buffers
    "keep_alive_not_sent",
    "namespace_by_position",  // identities are given to namespaces by place in the list
    // bdev
    "flush_not_sent",
    "range_lock_skipped",     // read-modify-writes of one block at the same time
    "failed_part_forgotten",  // a split write succeeds although a part of it failed
    "tail_block_not_read",    // read-modify-write of two edges reads only the first
    // target
    "flush_answered_at_once",             // before the device has flushed
    "write_error_swallowed",              // the device failed, the host is told nothing
    "answer_to_another_command",          // CID of the slot beside it
    "share_of_the_pool_kept",             // a connection's share of the buffers is never given back
    "second_data_pdu_repeats_the_first",  // C2HData at offset n carries the bytes at 0
    "host_digest_not_verified",           // H2CData
};

struct Finding {
  bool found = false;
  std::uint64_t seed = 0;
  std::string how;
};

/// The child: tells each seed before it runs it, and what it has found.
[[noreturn]] void hunt(std::string_view mutation, int out) {
  chosen = mutation;
  alarm(kSecondsAtMost);
  const auto tell = [out](const std::string& line) {
    LEAP_CHECK(write(out, line.data(), line.size()) == static_cast<ssize_t>(line.size()), "the parent is gone");
  };
  // What a CHECK has to say would only be noise here.
  if (std::freopen("/dev/null", "w", stderr) == nullptr) std::_Exit(1);
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    tell(fmt::format("seed {}\n", seed));
    const Verdict verdict = simulate(seed);
    if (verdict.ok()) continue;
    tell("found " + verdict.failure.substr(0, verdict.failure.find('\n')) + "\n");
    std::_Exit(0);
  }
  std::_Exit(1);
}

Finding find(std::string_view mutation) {
  std::array<int, 2> ends{};
  LEAP_CHECK(pipe(ends.data()) == 0, "pipe");
  const pid_t child = fork();
  LEAP_CHECK(child >= 0, "fork");
  if (child == 0) hunt(mutation, ends[1]);
  close(ends[1]);
  std::string told;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    told.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  Finding finding;
  constexpr std::string_view kSeed = "seed ";
  constexpr std::string_view kFound = "found ";
  // The text of a failure may quote anything: the last line that begins so is ours.
  const std::size_t last_seed = told.rfind("\n" + std::string(kSeed));
  finding.seed =
      std::strtoull(told.c_str() + (last_seed == std::string::npos ? 0 : last_seed + 1) + kSeed.size(), nullptr, 10);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    finding.found = true;
    finding.how = told.substr(told.rfind("\n" + std::string(kFound)) + 1 + kFound.size());
  } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM) {
    finding.found = true;
    finding.how = fmt::format("signal {}\n", WTERMSIG(status));
  }
  return finding;
}

class Mutations : public testing::TestWithParam<const char*> {};

TEST_P(Mutations, AreFound) {
  const Finding finding = find(GetParam());
  EXPECT_TRUE(finding.found) << GetParam() << " survives " << finding.seed << " seeds";
  if (finding.found) fmt::print("{}: seed {}: {}", GetParam(), finding.seed, finding.how);
}

INSTANTIATE_TEST_SUITE_P(Simulation, Mutations, testing::ValuesIn(kMutations),
                         [](const auto& mutation) { return std::string(mutation.param); });

}  // namespace
}  // namespace sim
}  // namespace leap

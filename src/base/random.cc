#include "base/random.h"

#include <sys/random.h>

#include <atomic>

#include <unistd.h>

#include "base/clock.h"

namespace leap {

std::uint64_t entropy_seed() {
  std::uint64_t seed = 0;
  if (::getentropy(&seed, sizeof seed) == 0) return seed;
  // A sandbox may forbid getrandom(2). Seeds are no secrets: what tells calls, processes and starts apart is enough.
  static std::atomic<std::uint64_t> calls{0};
  const auto now = static_cast<std::uint64_t>(Clock::system().now().ns);
  const auto wall = static_cast<std::uint64_t>(wall_clock_ms());
  const auto pid = static_cast<std::uint64_t>(::getpid());
  return Rng(now ^ std::rotl(wall, 24) ^ (pid << 40) ^ std::rotl(calls.fetch_add(1) + 1, 56)).next();
}

}  // namespace leap

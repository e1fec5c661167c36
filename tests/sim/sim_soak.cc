// sim_soak: seed after seed until time is up, or somebody stops it. A tool, not a test.
//
//   sim_soak [--seconds N | forever] [--from SEED] [--threads N]
//
// Prints every seed that fails and goes on; exit status 1 if there was one.

#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/random.h"
#include "simulation.h"

namespace leap::sim {
namespace {

using Steady = std::chrono::steady_clock;

struct Options {
  std::uint64_t seconds = 60;  // 0: forever
  std::uint64_t from = entropy_seed() >> 16;
  std::uint64_t threads = 1;
};

[[noreturn]] void usage() {
  fmt::print(stderr, "usage: sim_soak [--seconds N | forever] [--from SEED] [--threads N]\n");
  std::exit(2);
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) usage();
  return value;
}

Options parse(const std::vector<std::string_view>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "forever") {
      options.seconds = 0;
      continue;
    }
    if (i + 1 == arguments.size()) usage();
    const std::uint64_t value = number(arguments[i + 1]);
    if (arguments[i] == "--seconds") {
      options.seconds = value;
    } else if (arguments[i] == "--from") {
      options.from = value;
    } else if (arguments[i] == "--threads" && value > 0) {
      options.threads = value;
    } else {
      usage();
    }
    ++i;
  }
  return options;
}

std::atomic<bool> stop_asked{false};

class Soak {
 public:
  explicit Soak(const Options& options) : options_(options), next_(options.from) {}

  /// The number of seeds that failed.
  std::uint64_t run() {
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < options_.threads; ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
    progress();
    return failures_;
  }

 private:
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Steady::now() - begun_).count(); }
  [[nodiscard]] bool over() const {
    return stop_asked || (options_.seconds > 0 && seconds() >= static_cast<double>(options_.seconds));
  }

  void work() {
    while (!over()) {
      const Verdict verdict = simulate(next_++);
      const std::lock_guard lock(mutex_);
      ++seeds_;
      operations_ += verdict.operations;
      faults_ += verdict.faults;
      if (!verdict.ok()) {
        ++failures_;
        fmt::print("{}\n", report(verdict));
      }
      constexpr double kProgressSeconds = 10;
      if (seconds() - told_ > kProgressSeconds) progress();
    }
  }
  void progress() {
    told_ = seconds();
    fmt::print("{:.0f} s: {} seeds ({:.0f} a second), {} operations, {} faults, {} failures\n", told_, seeds_,
               static_cast<double>(seeds_) / told_, operations_, faults_, failures_);
    std::fflush(stdout);
  }

  const Options options_;
  const Steady::time_point begun_ = Steady::now();
  std::atomic<std::uint64_t> next_;
  std::mutex mutex_;
  std::uint64_t seeds_ = 0;
  std::uint64_t operations_ = 0;
  std::uint64_t faults_ = 0;
  std::uint64_t failures_ = 0;
  double told_ = 0;
};

}  // namespace
}  // namespace leap::sim

int main(int argc, char** argv) {
  const auto on_signal = [](int) { leap::sim::stop_asked = true; };
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  leap::sim::Soak soak(leap::sim::parse({argv + 1, argv + argc}));
  return soak.run() == 0 ? 0 : 1;
}

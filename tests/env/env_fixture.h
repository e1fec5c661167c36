// What the tests of running environments share: a small configuration, and a look at what the process holds.
#pragma once

#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fmt/format.h>

#include "base/affinity.h"
#include "base/units.h"
#include "env/nvme_env.h"

namespace leap::test {

/// One poller on the last core that is ours, 16 MiB, 5 s for connecting.
inline NvmeEnvConfig small_config(const std::vector<nvme::TransportAddress>& targets = {}) {
  NvmeEnvConfig config;
  config.reactor_mask = fmt::format("[{}]", allowed_cores().back());
  config.hugepage = 16 * kMiB;
  config.qpair_acquire_timeout = std::chrono::seconds(5);
  config.fast_io_fail_timeout = std::chrono::milliseconds(300);
  config.enabled = !targets.empty();
  for (const nvme::TransportAddress& address : targets) {
    config.targets.emplace_back();
    config.targets.back().address = address;
  }
  return config;
}

inline std::size_t count_entries(const char* path) {
  DIR* dir = ::opendir(path);
  if (dir == nullptr) return 0;
  std::size_t count = 0;
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

struct Footprint {
  std::size_t descriptors = count_entries("/proc/self/fd");
  std::size_t threads = count_entries("/proc/self/task");
  std::size_t mapped_bytes = mapped();

  static std::size_t mapped() {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * 4096;
  }
};

/// Looks until `condition` holds, for ten seconds at most.
inline bool eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

/// A thread that has been joined may still be listed for a moment.
inline bool back_to(const Footprint& before) {
  return eventually([&] {
    const Footprint now;
    return now.descriptors == before.descriptors && now.threads == before.threads;
  });
}

class Stopwatch {
 public:
  [[nodiscard]] Nanos elapsed() const { return Clock::system().now() - begun_; }

 private:
  TimePoint begun_ = Clock::system().now();
};

}  // namespace leap::test

// ErrorLog: the last failed commands of one controller, for Get Log Page 01h (NVMe Base 2.0, 5.16.1.2).
//
// Threading: any poller of the controller; a short mutex, on the error path only. Bounded: kEntries, the oldest goes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <span>

#include "nvme/log_page.h"

namespace leap::target {

class ErrorLog {
 public:
  static constexpr std::size_t kEntries = 64;  ///< ELPE + 1

  /// Numbers the entry and keeps it.
  void add(nvme::ErrorLogEntry entry) {
    const std::lock_guard lock(mutex_);
    entry.error_count = ++count_;
    entries_[(count_ - 1) % kEntries] = entry;
  }
  [[nodiscard]] std::uint64_t count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  /// Newest first, unused entries all zeros.
  void copy_to(std::span<nvme::ErrorLogEntry, kEntries> out) const {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < kEntries; ++i) {
      out[i] = i < count_ ? entries_[(count_ - 1 - i) % kEntries] : nvme::ErrorLogEntry{};
    }
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t count_ = 0;
  std::array<nvme::ErrorLogEntry, kEntries> entries_{};
};

}  // namespace leap::target

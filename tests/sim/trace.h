// Trace: a running hash of everything that happened in a simulation, so that two runs of one seed can be compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/crc32c.h"

namespace leap::sim {

class Trace {
 public:
  /// What kind of thing happened; part of the hash.
  enum class Event : std::uint8_t { kSend, kReceive, kConnect, kDevice, kOpStart, kOpEnd, kTarget, kSession, kAdvance };

  template <typename... Values>
  void note(Event event, Values... values) {
    mix(static_cast<std::uint64_t>(event));
    (mix(static_cast<std::uint64_t>(values)), ...);
    ++events_;
  }
  void note_bytes(Event event, std::span<const std::byte> bytes) { note(event, bytes.size(), crc32c(bytes)); }

  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  [[nodiscard]] std::uint64_t events() const { return events_; }

 private:
  void mix(std::uint64_t value) {
    hash_ ^= value + 0x9e3779b97f4a7c15 + (hash_ << 6) + (hash_ >> 2);
    hash_ *= 0xff51afd7ed558ccd;
    hash_ ^= hash_ >> 32;
  }

  std::uint64_t hash_ = 0x1234567;
  std::uint64_t events_ = 0;
};

}  // namespace leap::sim

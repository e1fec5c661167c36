// Every connection of a test program that links check_protocol.cc is watched by the protocol checker.
#pragma once

#include <atomic>

namespace leap::test {

/// True while a test uses a queue pair by itself, and so leaves out Connect.
inline std::atomic<bool> connect_is_left_out{false};

/// On from the start; off for a test of the configuration that asks for the checker.
void watch_every_connection(bool on);

/// Only what is configured is watched, while it lives.
struct OnlyAsConfigured {
  OnlyAsConfigured() { watch_every_connection(false); }
  ~OnlyAsConfigured() { watch_every_connection(true); }
};

}  // namespace leap::test

// Every connection of a test program that links check_protocol.cc is watched by the protocol checker.
#pragma once

#include <atomic>

namespace leap::test {

/// True while a test uses a queue pair by itself, and so leaves out Connect.
inline std::atomic<bool> connect_is_left_out{false};

}  // namespace leap::test

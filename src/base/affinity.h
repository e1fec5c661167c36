// Which cores a thread may run on, and its name: reactor_mask made real.
//
//   LEAP_TRY(const std::vector<unsigned> cores, parse_core_mask(config.reactor_mask));   // "0x3" -> {0, 1}
//   LEAP_TRY_VOID(pin_this_thread(cores[index]));
//   set_thread_name(fmt::format("leap-poll-{}", index));
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace leap {

/// Cores above this number are refused (CPU_SETSIZE of the C library).
inline constexpr unsigned kMaxCores = 1024;

/// A hexadecimal mask with or without "0x" ("0x3", "F0"), or SPDK's list form ("[0,2-4]"). Ascending, no duplicates.
/// An empty set, a stray character or a core >= kMaxCores is kInvalidArgument. Does not ask whether the cores exist.
Result<std::vector<unsigned>> parse_core_mask(std::string_view text);

/// The mask of a set of cores, as parse_core_mask() reads it: {0, 1} -> "0x3". Cores >= kMaxCores are left out.
std::string format_core_mask(std::span<const unsigned> cores);

/// The cores this process was allowed when it started, ascending (sched_getaffinity(2): respects cpusets and taskset).
/// Never empty, and not narrowed by pin_this_thread().
std::vector<unsigned> allowed_cores();

/// Restricts the calling thread to one core. kInvalidArgument when the core does not exist or is not allowed here.
Result<> pin_this_thread(unsigned core);

/// Names the calling thread for top, gdb and the log; cut to the kernel's 15 characters.
void set_thread_name(std::string_view name);

}  // namespace leap

// LEAP_CHECK: always on, for corruption and protocol invariants; prints where, what and the detail, then aborts.
// LEAP_DCHECK: debug builds only, for programmer slips on the hot path.
//
//   LEAP_CHECK(extent.end() <= size, fmt::format("extent {}+{} past {}", extent.offset, extent.length, size));
#pragma once

#include <string_view>

namespace leap {

/// Prints one line to standard error and aborts. Safe at any time; never returns.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, std::string_view detail) noexcept;

}  // namespace leap

#define LEAP_CHECK(condition, detail)                                 \
  do {                                                                \
    if (!(condition)) [[unlikely]]                                    \
      ::leap::check_failed(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)

#ifdef NDEBUG
#define LEAP_DCHECK(condition, detail) \
  do {                                 \
  } while (false)
#else
#define LEAP_DCHECK(condition, detail) LEAP_CHECK(condition, detail)
#endif

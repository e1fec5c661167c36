// The log: one line per event that an operator can act on, with ids in it.
//
// Works before init_log(): standard error, level info. Format strings are checked when compiling; a message below the
// level costs one relaxed load. Lines carry time, level and, if configured, thread name and source position.
//
// Threading: any thread. Writing takes a lock and may block on the disk or terminal: never per I/O. What a peer or a
// device can trigger repeatedly goes through a RateLimiter.
//
//   log_info("controller {}: {} I/O queues of depth {}", nqn, queues, depth);
//   if (const auto pass = limiter.admit()) log_warn("bad digest from {} ({} more suppressed)", peer, pass->suppressed);
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/result.h"

namespace leap {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError, kOff };

/// "debug" (also "trace"), "info", "warn" (also "warning"), "error", "off", in any case.
Result<LogLevel> parse_log_level(std::string_view text);
std::string_view to_string(LogLevel value);

/// Where lines go and how they look; the [log] tables of a Curvine file map one to one.
struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  std::string destination = "stderr";  ///< "stderr", "stdout", or a directory, created when missing
  std::string file_name = "leap";      ///< in a directory: <file_name>.log; an ending ".log" is not doubled
  std::size_t max_files = 10;          ///< rotated files kept beside the current one; 0 .. 200000
  std::uint64_t max_file_bytes = std::uint64_t{100} << 20;  ///< rotate beyond this size; 0: never
  bool show_thread = false;
  bool show_position = false;
};

/// Directs the log from now on; may be called again. Fails, and leaves the log as it was, when the directory or file
/// cannot be created. Blocking.
Result<> init_log(const LogConfig& config);

/// Changes the level alone. Any thread.
void set_log_level(LogLevel value);
[[nodiscard]] LogLevel log_level();

/// Hands everything written so far to the operating system.
void flush_log();

namespace log_detail {

/// A checked format string together with the place of the call. (Compiler builtins and not std::source_location, which
/// clang-tidy's front end does not have with this standard library.)
template <typename... Args>
struct Format {
  template <typename S>
  consteval Format(const S& s, const char* at_file = __builtin_FILE(), int at_line = __builtin_LINE())
      : text(s), file(at_file), line(at_line) {}
  fmt::format_string<Args...> text;
  const char* file;
  int line;
};

extern std::atomic<LogLevel> g_level;

void write(LogLevel level, const char* file, int line, fmt::string_view format, fmt::format_args args) noexcept;

template <typename... Args>
void log(LogLevel level, const Format<std::type_identity_t<Args>...>& format, Args&&... args) {
  if (level < g_level.load(std::memory_order_relaxed)) return;
  write(level, format.file, format.line, format.text, fmt::make_format_args(args...));
}

}  // namespace log_detail

template <typename... Args>
void log_debug(log_detail::Format<std::type_identity_t<Args>...> format, Args&&... args) {
  log_detail::log<Args...>(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(log_detail::Format<std::type_identity_t<Args>...> format, Args&&... args) {
  log_detail::log<Args...>(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warn(log_detail::Format<std::type_identity_t<Args>...> format, Args&&... args) {
  log_detail::log<Args...>(LogLevel::kWarn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(log_detail::Format<std::type_identity_t<Args>...> format, Args&&... args) {
  log_detail::log<Args...>(LogLevel::kError, format, std::forward<Args>(args)...);
}

/// Lets `limit` events pass per interval and counts the rest. Thread-safe; takes a lock.
class RateLimiter {
 public:
  struct Pass {
    std::uint64_t suppressed = 0;  ///< events refused since the last one that passed
  };

  /// `clock` must outlive the limiter. The interval starts with the first event after the previous one has ended.
  RateLimiter(std::uint32_t limit, Nanos interval, const Clock& clock = Clock::system())
      : limit_(limit), interval_(interval), clock_(clock) {}

  /// A Pass when this event may be reported.
  [[nodiscard]] std::optional<Pass> admit();

 private:
  const std::uint32_t limit_;
  const Nanos interval_;
  const Clock& clock_;
  std::mutex mutex_;
  std::optional<TimePoint> window_start_;
  std::uint32_t passed_ = 0;
  std::uint64_t suppressed_ = 0;
};

}  // namespace leap

#include "base/log.h"

#include <cstddef>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <system_error>
#include <vector>

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace leap {
namespace log_detail {

constinit std::atomic<LogLevel> g_level{LogLevel::kInfo};

}  // namespace log_detail

namespace {

spdlog::level::level_enum to_spdlog(LogLevel value) {
  switch (value) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_logger(spdlog::sink_ptr sink, const LogConfig& config) {
  auto logger = std::make_shared<spdlog::logger>("leap", std::move(sink));
  std::string pattern = "%Y-%m-%d %H:%M:%S.%e %-7l ";
  if (config.show_thread) pattern += "[%t] ";
  if (config.show_position) pattern += "%s:%# ";
  logger->set_pattern(pattern + "%v");
  logger->set_level(spdlog::level::trace);  // g_level decides, before anything is formatted
  logger->flush_on(spdlog::level::warn);    // what precedes a crash must be on disk
  return logger;
}

// The logger in use, and every one before it: a thread may still be writing to the previous one. Reconfiguring is rare,
// so keeping them is cheaper than counting references on every line. Never destroyed: static destructors may log.
struct Loggers {
  std::mutex mutex;
  std::vector<std::shared_ptr<spdlog::logger>> all;
  std::atomic<spdlog::logger*> current{nullptr};

  Loggers() { use(make_logger(std::make_shared<spdlog::sinks::stderr_sink_mt>(), LogConfig{})); }

  void use(std::shared_ptr<spdlog::logger> logger) {
    const std::lock_guard lock(mutex);
    current.store(logger.get(), std::memory_order_release);
    all.push_back(std::move(logger));
  }
};

Loggers& loggers() {
  static Loggers& instance = *new Loggers;
  return instance;
}

spdlog::logger& current_logger() { return *loggers().current.load(std::memory_order_acquire); }

spdlog::sink_ptr make_file_sink(const LogConfig& config) {
  std::filesystem::create_directories(config.destination);
  std::string_view stem = config.file_name;
  if (stem.ends_with(".log")) stem.remove_suffix(4);
  const std::string path = (std::filesystem::path(config.destination) / fmt::format("{}.log", stem)).string();
  if (config.max_file_bytes == 0) return std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  return std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, config.max_file_bytes, config.max_files);
}

spdlog::sink_ptr make_sink(const LogConfig& config) {
  if (config.destination == "stderr") return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  if (config.destination == "stdout") return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  return make_file_sink(config);
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view text) {
  std::string name(text.substr(0, 16));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (name == "debug" || name == "trace") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warn" || name == "warning") return LogLevel::kWarn;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return Error(Errc::kInvalidArgument, fmt::format("log level \"{}\": expected debug, info, warn, error or off", name));
}

std::string_view to_string(LogLevel value) {
  switch (value) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarn: return "warn";
    case LogLevel::kError: return "error";
    case LogLevel::kOff: return "off";
  }
  return "unknown";
}

Result<> init_log(const LogConfig& config) {
  constexpr std::size_t kMaxRotatedFiles = 200'000;  // the library's own limit
  if (config.destination.empty() || config.file_name.empty() || config.file_name.find('/') != std::string::npos) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("open log \"{}\" in \"{}\": expected stderr, stdout or a directory, "
                             "and a file name without '/'",
                             config.file_name, config.destination));
  }
  if (config.max_files > kMaxRotatedFiles) {
    return Error(Errc::kInvalidArgument, fmt::format("open log: {} rotated files, at most {} are possible",
                                                     config.max_files, kMaxRotatedFiles));
  }
  try {
    loggers().use(make_logger(make_sink(config), config));
  } catch (const std::filesystem::filesystem_error& e) {
    return Error::os(e.code().value(), fmt::format("create log directory {}", config.destination));
  } catch (const std::exception& e) {
    return Error(Errc::kIo, fmt::format("open log \"{}\" in {}: {}", config.file_name, config.destination, e.what()));
  }
  set_log_level(config.level);
  return {};
}

void set_log_level(LogLevel value) { log_detail::g_level.store(value, std::memory_order_relaxed); }

LogLevel log_level() { return log_detail::g_level.load(std::memory_order_relaxed); }

void flush_log() { current_logger().flush(); }

void log_detail::write(LogLevel level, const char* file, int line, fmt::string_view format,
                       fmt::format_args args) noexcept {
  // The library swallows its sinks' exceptions; a formatter's own would end the process, so it becomes the line.
  fmt::memory_buffer text;
  try {
    fmt::vformat_to(fmt::appender(text), format, args);
  } catch (const std::exception& e) {
    text.clear();
    const std::string_view why = e.what();
    text.append(format.begin(), format.end());
    text.append(why.begin(), why.end());
  }
  const spdlog::source_loc at{file, line, ""};
  current_logger().log(at, to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

std::optional<RateLimiter::Pass> RateLimiter::admit() {
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  if (!window_start_ || now - *window_start_ >= interval_) {
    window_start_ = now;
    passed_ = 0;
  }
  if (passed_ >= limit_) {
    ++suppressed_;
    return std::nullopt;
  }
  ++passed_;
  return Pass{std::exchange(suppressed_, 0)};
}

}  // namespace leap

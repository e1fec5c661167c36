// ChildProcess: another instance of this program, started, watched and stopped by pid.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace leap {

class ChildProcess {
 public:
  /// Runs this very executable with `arguments`; its standard output is read here, its standard error goes to
  /// `log_path`.
  static Result<ChildProcess> start(const std::vector<std::string>& arguments, const std::string& log_path);
  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  /// Kills it if it still runs.
  ~ChildProcess();

  /// Waits for a line that starts with `prefix` and returns it. Errors: kClosed (it ended: with the end of its log),
  /// kTimedOut.
  Result<std::string> wait_for_line(const std::string& prefix, Nanos timeout);
  /// Sends `signal` and waits. Returns the exit status, or 128 + signal number. Error: kTimedOut (then it was killed).
  Result<int> end(int signal, Nanos timeout);
  /// User and system time it has used, in seconds.
  [[nodiscard]] double cpu_seconds() const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  [[nodiscard]] std::string log_tail() const;

  pid_t pid_ = -1;
  UniqueFd output_;
  std::string pending_;
  std::string log_path_;
};

/// A TCP port of 127.0.0.1 that was free a moment ago.
Result<std::uint16_t> free_port();

}  // namespace leap

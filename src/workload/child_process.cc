#include "workload/child_process.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <unistd.h>

extern char** environ;  // NOLINT(readability-identifier-naming): the C library's name

namespace leap {
namespace {

constexpr Nanos kPollStep = std::chrono::milliseconds(5);

}  // namespace

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::move(other.output_)),
      pending_(std::move(other.pending_)),
      log_path_(std::move(other.log_path_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(pending_, other.pending_);
  std::swap(log_path_, other.log_path_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& arguments, const std::string& log_path) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::os(errno, "pipe");
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  std::vector<std::string> words{"leap"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ChildProcess child;
  const int failed = ::posix_spawn(&child.pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    child.pid_ = -1;
    return Error::os(failed, fmt::format("start leap {}", arguments.empty() ? "" : arguments.front()));
  }
  child.output_ = std::move(read_end);
  child.log_path_ = log_path;
  return child;
}

std::string ChildProcess::log_tail() const {
  constexpr std::streamoff kTail = 600;
  std::ifstream log(log_path_, std::ios::binary);
  log.seekg(0, std::ios::end);
  const std::streamoff size = log.tellg();
  log.seekg(size > kTail ? size - kTail : 0);
  std::ostringstream text;
  text << log.rdbuf();
  return text.str();
}

Result<std::string> ChildProcess::wait_for_line(const std::string& prefix, Nanos timeout) {
  const TimePoint deadline = Clock::system().now() + timeout;
  for (;;) {
    for (std::size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n')) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      if (line.starts_with(prefix)) return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::system().now()).count();
    if (left <= 0)
      return Error(Errc::kTimedOut,
                   fmt::format("no '{}' from process {}; its log ends:\n{}", prefix, pid_, log_tail()));
    pollfd watched{output_.get(), POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(left)) <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(output_.get(), buffer, sizeof buffer);
    if (got == 0) return Error(Errc::kClosed, fmt::format("process {} ended; its log ends:\n{}", pid_, log_tail()));
    if (got > 0) pending_.append(buffer, static_cast<std::size_t>(got));
  }
}

Result<int> ChildProcess::end(int signal, Nanos timeout) {
  if (pid_ < 0) return Error(Errc::kWrongState, "no process to end");
  ::kill(pid_, signal);
  const TimePoint deadline = Clock::system().now() + timeout;
  for (;;) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (Clock::system().now() >= deadline) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      return Error(Errc::kTimedOut, fmt::format("process {} did not end after signal {}; its log ends:\n{}",
                                                std::exchange(pid_, -1), signal, log_tail()));
    }
    std::this_thread::sleep_for(kPollStep);
  }
}

double ChildProcess::cpu_seconds() const {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid_));
  std::string text;
  std::getline(stat, text);
  // The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields after it (proc(5)).
  const auto after = text.rfind(')');
  if (after == std::string::npos) return 0;
  std::istringstream fields(text.substr(after + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Result<std::uint16_t> free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return Error::os(errno, "find a free port");
  }
  return ntohs(address.sin_port);
}

}  // namespace leap

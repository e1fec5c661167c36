// AdminSocket: a target's control port: lines in, lines out, on loopback or a unix socket. No authentication.
//
//   > chaos delay=2ms:p=0.01        replaces the rules; `chaos off` ends it
//   < ok
//   > chaos                         the rules in force, each after how often it has struck
//   < 17 delay=2ms:p=0.01
//   < ok
//   > metrics                       Prometheus text
//   > nonsense
//   < error: unknown command 'nonsense': chaos, metrics, help
//
// Every answer ends with a line "ok" or "error: ...". One client at a time, any number of lines.
//
//   LEAP_TRY(auto admin, AdminSocket::open("127.0.0.1:0", *target));       // or "/run/leap/target.sock"
//   ... admin->address() ...
//
// Threading: a thread of its own, which asks the target; destroy it before the target. Blocking: open, destruction.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.h"
#include "base/result.h"

namespace leap {

class NvmeTarget;

class AdminSocket {
 public:
  /// `where`: HOST:PORT with a loopback host, or the path of a unix socket, beginning with '/'. Errors: kInvalidArgument
  /// (another host), kAlreadyExists (in use), os.
  static Result<std::unique_ptr<AdminSocket>> open(const std::string& where, NvmeTarget& target);
  ~AdminSocket();
  AdminSocket(const AdminSocket&) = delete;
  AdminSocket& operator=(const AdminSocket&) = delete;

  /// As open() had it, with the port that the system chose.
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  AdminSocket(UniqueFd listener, UniqueFd stop, std::string address, std::string path, NvmeTarget& target);
  void run();
  void serve(int client);
  [[nodiscard]] bool wait_readable(int fd) const;
  [[nodiscard]] std::string answer(std::string_view line);

  UniqueFd listener_;
  UniqueFd stop_;  // an eventfd
  const std::string address_;
  const std::string path_;  // of a unix socket: removed at the end
  NvmeTarget& target_;
  std::thread thread_;
};

}  // namespace leap

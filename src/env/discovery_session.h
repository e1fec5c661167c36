// DiscoverySession: one discovery service asked, or watched, by a tool. Brings its own poller and a little memory.
//
//   LEAP_TRY(auto session, DiscoverySession::open("127.0.0.1:4420", {.follow_referrals = true}));
//   LEAP_TRY(const DiscoveryReport report, session->read());
//
// Threading: the owner's thread; open() and read() block. Handlers are called on the session's poller and should not
// block for long: keep-alives wait meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "host/discovery_watch.h"
#include "memory/arena.h"
#include "poller/poller.h"

namespace leap {

class DiscoverySession {
 public:
  struct Options {
    std::string hostnqn;  ///< empty: this machine's
    bool follow_referrals = false;
    Nanos connect_timeout = std::chrono::seconds(10);
    Nanos keep_alive_timeout = std::chrono::seconds(15);  ///< of watch()
  };
  using Handler = std::function<void(const Result<DiscoveryReport>&)>;

  /// `where`: HOST[:PORT], or one of the two forms of nvme/address.h, with 8009 as the default port. Connects to
  /// nothing yet. Errors: kInvalidArgument, kNotFound (no such host), kUnsupported (not TCP), kExhausted.
  static Result<std::unique_ptr<DiscoverySession>> open(const std::string& where, const Options& options,
                                                        Net& net = Net::system());
  ~DiscoverySession();
  DiscoverySession(const DiscoverySession&) = delete;
  DiscoverySession& operator=(const DiscoverySession&) = delete;

  /// Asks once, disconnects again. Errors: those of discover().
  Result<DiscoveryReport> read();
  /// Stays connected; tells the log now and whenever it has changed, and once per outage why there is none, until the
  /// session ends. Once.
  Result<> watch(Handler handler);

  [[nodiscard]] const nvme::TransportAddress& address() const { return config_.address; }

 private:
  DiscoverySession(Net& net, const Options& options) : net_(net), options_(options) {}
  void on_log(const Result<DiscoveryLog>& log);
  Task<void> follow();
  [[nodiscard]] Task<Result<DiscoveryReport>> ask();

  Net& net_;
  const Options options_;
  ControllerConfig config_;
  std::optional<HugePageArena> arena_;
  std::unique_ptr<DmaPool> pool_;
  std::unique_ptr<NvmePoller> poller_;
  // On the poller.
  std::optional<DiscoveryWatch> watch_;
  std::optional<TaskGroup> following_;
  bool follow_again_ = false;
  Handler handler_;
};

}  // namespace leap

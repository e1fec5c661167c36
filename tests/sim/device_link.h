// DeviceLink: the host's way to the simulated device, whatever happens to the target: the one place that knows how to
// connect again. It makes a new ControllerLink, and a new NvmeBdev on it, once nobody uses the old ones any more.
//
//   const DeviceLink::Lease lease = co_await link.acquire(i);       // on host poller i; waits until there is a session
//   if (!lease.valid()) co_return;                                  // the link was stopped
//   Result<> done = co_await lease.channel().write(...);
//   lease.report(done.ok());
//
// Threading: one thread; each member on the poller it names.
#pragma once

#include <memory>
#include <vector>

#include "bdev/nvme_bdev.h"
#include "poller/sync.h"
#include "scenario.h"
#include "world.h"

namespace leap::sim {

class DeviceLink : private ControllerLink::Listener {
 private:
  /// One association and what is built on it.
  struct Session {
    std::unique_ptr<AsyncSemaphore> connects;
    std::unique_ptr<ControllerLink> link;
    std::unique_ptr<NvmeBdev> device;
    std::vector<std::unique_ptr<BlockChannel>> channels;  // one per host poller
    std::size_t users = 0;
    std::uint32_t errors_in_a_row = 0;
  };

 public:
  class Lease {
   public:
    Lease() = default;
    Lease(DeviceLink& link, std::size_t poller);
    Lease(Lease&& other) noexcept
        : link_(std::exchange(other.link_, nullptr)), session_(other.session_), poller_(other.poller_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    [[nodiscard]] bool valid() const { return link_ != nullptr; }
    [[nodiscard]] BlockChannel& channel() const { return *session_->channels[poller_]; }
    /// How the operation went: a session that only fails is replaced.
    void report(bool ok) const;

   private:
    DeviceLink* link_ = nullptr;
    Session* session_ = nullptr;
    std::size_t poller_ = 0;
  };

  /// `pollers` outlive the link; the first one is the controllers' home.
  DeviceLink(World& world, const Scenario& scenario, Net& net, Uuid device, std::vector<SimPoller*> pollers);
  ~DeviceLink() override;

  void start();
  Task<Lease> acquire(std::size_t poller);
  /// Ends the session, in order if it can be; stopped() tells when. Leases must be given back.
  void stop();
  [[nodiscard]] bool stopped() const { return stopped_; }
  /// Ends the session and begins a new one.
  void renew();
  [[nodiscard]] std::uint64_t sessions() const { return sessions_; }

 private:
  static Task<void> run(DeviceLink& self);
  Task<Result<>> connect();
  Task<void> disconnect();
  void mark_broken();
  void on_namespaces(ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) override;
  void judge(const Error& error, const char* what);

  World& world_;
  const Scenario& scenario_;
  Net& net_;
  const Uuid device_;
  const std::vector<SimPoller*> pollers_;
  std::unique_ptr<Session> session_;
  bool accepting_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  std::uint64_t sessions_ = 0;
  std::vector<std::unique_ptr<AsyncEvent>> up_;  // per poller: a session is there, or never will be
  AsyncEvent broken_;
  AsyncEvent unused_;
};

}  // namespace leap::sim

// Subsystem: the NVM subsystem a target serves, and the discovery service beside it: namespaces, who may connect, which
// controllers exist.
//
// Configuration and namespaces are immutable; the controller registry has a mutex that Connect and teardown take.
// Threading: any poller of the target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "nvme/identify.h"
#include "target/config.h"
#include "target/controller.h"
#include "target/discovery_service.h"
#include "target/namespace.h"

namespace leap::target {

inline constexpr std::string_view kModelNumber = "Leap NVMe/TCP target";

class Subsystem {
 public:
  /// `config` has passed validate(). Errors: those of Namespace::create.
  static Result<std::unique_ptr<Subsystem>> create(TargetConfig config);

  [[nodiscard]] const TargetConfig& config() const { return config_; }
  /// In ascending order of nsid.
  [[nodiscard]] const std::vector<Namespace>& namespaces() const { return namespaces_; }
  /// nullptr: no such namespace.
  [[nodiscard]] const Namespace* find(nvme::Nsid nsid) const {
    const std::size_t at = std::size_t{nsid.value()} - 1;  // nsid 0 wraps to a value past every table
    return at < by_nsid_.size() ? by_nsid_[at] : nullptr;
  }
  /// Position of a namespace in namespaces().
  [[nodiscard]] std::size_t index_of(const Namespace& ns) const {
    return static_cast<std::size_t>(&ns - namespaces_.data());
  }
  /// NN: the largest nsid.
  [[nodiscard]] std::uint32_t max_nsid() const { return static_cast<std::uint32_t>(by_nsid_.size()); }
  [[nodiscard]] bool any_volatile_write_cache() const;

  [[nodiscard]] nvme::Cap cap() const;
  [[nodiscard]] static constexpr nvme::Version version() { return nvme::make_version(1, 4, 0); }
  [[nodiscard]] nvme::IdentifyController identify(const Controller::Identity& controller) const;

  // --- controllers ---
  /// A new association, or nullptr when there are max_controllers already.
  [[nodiscard]] std::shared_ptr<Controller> admit(std::string host_nqn, const Uuid& host_id, bool discovery,
                                                  QueueRef admin);
  /// nullptr: no such controller, or it is going away.
  [[nodiscard]] std::shared_ptr<Controller> controller(nvme::Cntlid id) const;
  [[nodiscard]] std::vector<std::shared_ptr<Controller>> controllers() const;
  [[nodiscard]] std::size_t controller_count() const;
  /// Ids from `from` on, ascending.
  [[nodiscard]] std::vector<nvme::Cntlid> controller_ids(nvme::Cntlid from) const;
  void forget_controller(nvme::Cntlid id);  ///< by ~Controller

  /// The discovery service beside the subsystem; it also holds who may connect.
  [[nodiscard]] DiscoveryService& discovery() { return discovery_; }
  [[nodiscard]] const DiscoveryService& discovery() const { return discovery_; }

 private:
  explicit Subsystem(TargetConfig config);

  TargetConfig config_;
  std::string serial_;
  std::vector<Namespace> namespaces_;
  std::vector<const Namespace*> by_nsid_;
  DiscoveryService discovery_;

  mutable std::mutex mutex_;
  std::map<nvme::Cntlid, std::weak_ptr<Controller>> controllers_;
  std::uint16_t last_cntlid_ = 0;
};

}  // namespace leap::target

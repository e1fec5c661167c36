// Subsystem: the NVM subsystem a target serves, and the discovery service beside it: namespaces, who may connect, which
// controllers exist.
//
// The configuration is immutable. The namespaces of one moment are an immutable table: whoever has it keeps it, a change
// makes another (shards have their own copy, so that no command takes a lock). The controller registry has a mutex that
// Connect and teardown take.
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
#include "target/namespace_table.h"

namespace leap::target {

inline constexpr std::string_view kModelNumber = "Leap NVMe/TCP target";

class Subsystem {
 public:
  /// `config` has passed validate(). Errors: those of Namespace::create.
  static Result<std::unique_ptr<Subsystem>> create(TargetConfig config);

  [[nodiscard]] const TargetConfig& config() const { return config_; }

  // --- namespaces ---
  /// Those there are now. Never nullptr.
  [[nodiscard]] std::shared_ptr<const NamespaceTable> namespaces() const;
  /// nullptr: no such namespace.
  [[nodiscard]] std::shared_ptr<const Namespace> find(nvme::Nsid nsid) const { return namespaces()->find(nsid); }
  /// Their nsid. Errors: kInvalidArgument, kAlreadyExists (nsid, identity), kExhausted (no nsid left).
  Result<nvme::Nsid> add_namespace(NamespaceConfig config);
  /// Error: kNotFound.
  Result<> remove_namespace(nvme::Nsid nsid);
  /// Errors: kNotFound, kInvalidArgument (more than the device has, or no whole blocks).
  Result<> resize_namespace(nvme::Nsid nsid, std::uint64_t bytes);

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
  void publish(NamespaceTable table);

  TargetConfig config_;
  std::string serial_;
  DiscoveryService discovery_;

  std::mutex changing_;  // one change of the namespaces at a time

  mutable std::mutex mutex_;
  std::shared_ptr<const NamespaceTable> namespaces_ = std::make_shared<NamespaceTable>();
  std::map<nvme::Cntlid, std::weak_ptr<Controller>> controllers_;
  std::uint16_t last_cntlid_ = 0;
};

}  // namespace leap::target

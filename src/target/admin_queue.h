// AdminQueue: the Admin commands of one controller: Identify, log pages, features, events, keep alive.
//
//   identify.cc    Identify             log_pages.cc   Get Log Page
//   features.cc    Get / Set Features   admin_queue.cc everything else, keep alive, events, CC
//
// Discovery controllers know a subset: Identify Controller, the discovery log, keep alive and events.
//
// Keep alive: KATO starts with Connect; traffic on any queue counts (CTRATT.TBKAS). When KATO passes without a command
// on any queue, the controller reports a fatal status and every connection of it is closed. A discovery controller
// without KATO ends after two idle minutes (NVMe Base 2.0, 3.1.3.3).
//
// Threading: the poller of the Admin queue's connection.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nvme/admin_command.h"
#include "nvme/features.h"
#include "poller/timer.h"
#include "target/events.h"
#include "target/session.h"

namespace leap::target {

class AdminQueue final : public CommandQueue {
 public:
  AdminQueue(Session& session, std::uint32_t kato_ms);
  ~AdminQueue() override;

  Step begin(Request& request) override;
  Step execute(Request& request) override;
  void closing() override;
  void deliver_event(EventKind kind, nvme::Nsid nsid) override;
  void on_cc(Controller::CcEffect effect) override;

 private:
  // admin_queue.cc
  Step begin_discovery(Request& request);
  Step abort(Request& request);
  Step async_event_request(Request& request);
  void complete_held(Request& request, NvmeStatusCode outcome, std::uint32_t dw0);
  void fail_held(NvmeStatusCode outcome);
  void pump_events();
  void set_keep_alive(std::uint32_t kato_ms);
  void arm_keep_alive();
  static void keep_alive_due(void* self);
  void start_shutdown();
  static Task<void> flush_caches(AdminQueue& queue);
  /// Claims `bytes` of data to the host and provides the zeroed page; nullopt: request has failed.
  [[nodiscard]] std::optional<std::span<std::byte>> page_for_host(Request& request, std::size_t bytes);

  // identify.cc
  Step identify(Request& request);
  Step identify_namespace(Request& request, const nvme::IdentifyFields& fields);
  Step identify_namespace_list(Request& request, const nvme::IdentifyFields& fields);
  Step identify_controller_list(Request& request, const nvme::IdentifyFields& fields);
  Step identify_command_set(Request& request, const nvme::IdentifyFields& fields);

  // log_pages.cc
  Step get_log_page(Request& request);
  [[nodiscard]] std::optional<std::vector<std::byte>> log_page(const nvme::GetLogPageFields& fields);
  [[nodiscard]] std::vector<std::byte> smart_log() const;
  void page_was_read(nvme::LogPage page);

  // features.cc
  Step get_features(Request& request);
  Step set_features(Request& request);
  Step set_number_of_queues(Request& request, std::uint32_t value);
  Step set_write_cache(Request& request, std::uint32_t value);
  Step get_host_identifier(Request& request, const nvme::GetFeaturesFields& fields);
  [[nodiscard]] std::uint32_t current_feature(nvme::FeatureId id) const;

  [[nodiscard]] bool discovery() const { return session_.controller()->identity().discovery; }
  [[nodiscard]] Controller& controller() { return *session_.controller(); }
  [[nodiscard]] const Controller& controller() const { return *session_.controller(); }
  [[nodiscard]] const Subsystem& subsystem() const { return session_.subsystem(); }

  Session& session_;
  AsyncEvents events_;
  IntrusiveList<Request> held_;  // Asynchronous Event Requests, oldest first
  std::uint32_t held_count_ = 0;
  std::uint32_t kato_ms_ = 0;
  Timer keep_alive_;
  bool flushing_ = false;
  bool flush_again_ = false;
  // Features that are only remembered.
  std::uint32_t arbitration_ = nvme::Arbitration{}.to_dword();
  std::uint32_t error_recovery_ = 0;
  std::uint32_t write_atomicity_ = 0;
  std::uint16_t over_temperature_ = 0;  // kelvin; this controller has no sensor
  std::uint16_t under_temperature_ = 0;
};

}  // namespace leap::target

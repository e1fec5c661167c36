#include "target/admin_queue.h"

#include <algorithm>

#include "base/log.h"
#include "target/core.h"
#include "target/limits.h"

namespace leap::target {

using nvme::AdminOpcode;
using nvme::GenericStatus;
using nvme::kDnr;
using nvme::status;

namespace {

/// A discovery controller that nobody keeps alive.
constexpr std::uint32_t kDiscoveryIdleMs = 120'000;

std::uint32_t rounded_keep_alive(std::uint32_t kato_ms, Nanos limit) {
  if (kato_ms == 0) return 0;
  const std::uint64_t granules = (std::uint64_t{kato_ms} + kKeepAliveGranularityMs - 1) / kKeepAliveGranularityMs;
  const auto limit_ms =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count());
  const std::uint64_t ms = std::min(granules * kKeepAliveGranularityMs, std::max<std::uint64_t>(limit_ms, 1));
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(ms, UINT32_MAX));
}

}  // namespace

AdminQueue::AdminQueue(Session& session, std::uint32_t kato_ms)
    : session_(session), keep_alive_(session.shard().poller().timers(), &AdminQueue::keep_alive_due, this) {
  set_keep_alive(kato_ms);
}

AdminQueue::~AdminQueue() = default;

Step AdminQueue::begin(Request& request) {
  session_.shard().counters().admin_commands.add();
  const AdminOpcode opcode = request.cmd.admin_opcode();
  // Before the host has enabled the controller there is nothing but properties (NVMe Base 2.0, 3.5.4).
  if (!controller().cc().en() && opcode != AdminOpcode::kKeepAlive) {
    return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  }
  switch (opcode) {
    case AdminOpcode::kIdentify: return identify(request);
    case AdminOpcode::kGetLogPage: return get_log_page(request);
    case AdminOpcode::kGetFeatures: return get_features(request);
    case AdminOpcode::kSetFeatures: return set_features(request);
    case AdminOpcode::kAsyncEventRequest: return async_event_request(request);
    case AdminOpcode::kKeepAlive: return Step::kComplete;  // the session has noted the activity
    case AdminOpcode::kAbort:
      if (!discovery()) return abort(request);
      break;
    default: break;
  }
  return request.fail(status(GenericStatus::kInvalidOpcode, kDnr));
}

Step AdminQueue::execute(Request& request) {
  // No Admin command here takes data from the host; begin() never asks for any.
  return request.fail(status(GenericStatus::kInternalError));
}

std::optional<std::span<std::byte>> AdminQueue::page_for_host(Request& request, std::size_t bytes) {
  if (const auto error = session_.claim_data(request, nvme::DataDirection::kControllerToHost, bytes)) {
    request.fail(*error);
    return std::nullopt;
  }
  return request.make_page(bytes);
}

Step AdminQueue::abort(Request& request) {
  const nvme::AbortFields fields = nvme::abort_fields(request.cmd);
  bool aborted = false;
  if (fields.sqid == nvme::kAdminQid) {
    Request* victim = nullptr;
    held_.for_each([&](Request& held) {
      if (held.cmd.cid == fields.cid) victim = &held;
    });
    if (victim != nullptr) {
      complete_held(*victim, status(GenericStatus::kAbortRequested), 0);
      aborted = true;
    }
  } else if (!controller().has_queue(fields.sqid)) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  // Whatever else is outstanding is with the device or on its way to the host: it will complete by itself.
  request.dw0 = nvme::abort_result(aborted);
  return Step::kComplete;
}

Step AdminQueue::async_event_request(Request& request) {
  if (held_count_ >= kMaxAsyncEventRequests) {
    return request.fail(status(nvme::CommandStatus::kAsyncEventRequestLimitExceeded, kDnr));
  }
  request.enter(RequestState::kHeld);
  held_.push_back(request);
  ++held_count_;
  pump_events();
  return Step::kPending;
}

void AdminQueue::complete_held(Request& request, NvmeStatusCode outcome, std::uint32_t dw0) {
  request.unlink();
  --held_count_;
  request.status = outcome;
  request.dw0 = dw0;
  session_.transport().complete(request);
}

void AdminQueue::fail_held(NvmeStatusCode outcome) {
  while (!held_.empty()) complete_held(held_.front(), outcome, 0);
}

void AdminQueue::pump_events() {
  while (!held_.empty()) {
    const auto event = events_.next();
    if (!event) return;
    complete_held(held_.front(), status(GenericStatus::kSuccess), event->to_dword());
  }
}

void AdminQueue::deliver_event(EventKind kind, nvme::Nsid nsid) {
  if (discovery() != (kind == EventKind::kDiscoveryChanged)) return;
  if (kind == EventKind::kNamespaceChanged) events_.add_changed(nsid);
  events_.raise(kind);
  pump_events();
}

void AdminQueue::closing() {
  keep_alive_.cancel();
  fail_held(status(GenericStatus::kAbortedSqDeletion));
}

void AdminQueue::on_cc(Controller::CcEffect effect) {
  switch (effect) {
    case Controller::CcEffect::kNone:
    case Controller::CcEffect::kEnabled: break;
    case Controller::CcEffect::kReset:
      fail_held(status(GenericStatus::kAbortedSqDeletion));
      events_ = AsyncEvents{};
      controller().enable_write_cache(controller().identity().volatile_write_cache);
      controller().close_io_queues(CloseReason::kControllerReset, &session_.shard());
      break;
    case Controller::CcEffect::kShutdown: start_shutdown(); break;
  }
}

void AdminQueue::start_shutdown() {
  fail_held(status(GenericStatus::kAbortedSqDeletion));
  // One flush at a time, whatever the host writes to CC meanwhile.
  flush_again_ = true;
  if (flushing_) return;
  flushing_ = true;
  session_.run_detached(flush_caches(*this));
}

Task<void> AdminQueue::flush_caches(AdminQueue& queue) {
  while (std::exchange(queue.flush_again_, false)) {
    const std::vector<NamespacePin> namespaces = queue.session_.shard().pin_namespaces();
    for (const NamespacePin& access : namespaces) {
      if (!access->ns->volatile_write_cache()) continue;
      if (!access->channel) {
        log_error("target: namespace {} is not flushed at shutdown of controller {}: its device cannot be opened",
                  access->ns->nsid(), queue.controller().identity().id);
        continue;
      }
      const Result<> flushed = co_await access->channel->flush();
      if (!flushed.ok()) {
        log_warn("target: flush namespace {} at shutdown of controller {}: {}", access->ns->nsid(),
                 queue.controller().identity().id, flushed.error().to_string());
      }
    }
  }
  queue.flushing_ = false;
  queue.controller().shutdown_complete();
}

void AdminQueue::set_keep_alive(std::uint32_t kato_ms) {
  kato_ms_ = rounded_keep_alive(kato_ms, subsystem().config().max_keep_alive);
  arm_keep_alive();
}

void AdminQueue::arm_keep_alive() {
  const std::uint32_t ms = kato_ms_ == 0 && discovery() ? kDiscoveryIdleMs : kato_ms_;
  if (ms == 0)
    keep_alive_.cancel();
  else
    keep_alive_.arm(session_.shard().poller().clock().now() + std::chrono::milliseconds(ms));
}

void AdminQueue::keep_alive_due(void* self) {
  auto& queue = *static_cast<AdminQueue*>(self);
  Controller& controller = queue.controller();
  if (controller.take_activity()) {
    queue.arm_keep_alive();
    return;
  }
  Core& core = queue.session_.shard().core();
  core.keep_alive_expirations.fetch_add(1, std::memory_order_relaxed);
  log_warn("target: controller {} of host {} ({}): no command in {} ms, association ended", controller.identity().id,
           controller.identity().host_nqn, queue.session_.transport().peer(), queue.kato_ms_);
  controller.set_fatal();
  controller.close_io_queues(CloseReason::kKeepAliveExpired, &queue.session_.shard());
  queue.session_.transport().close_now(CloseReason::kKeepAliveExpired);
}

}  // namespace leap::target

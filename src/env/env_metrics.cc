// NvmeEnv::append_metrics: what the environment shows on /metrics.
#include "base/metrics.h"
#include "env/nvme_env.h"
#include "nvme/pdu_checker.h"

namespace leap {
namespace {

double seconds(const std::atomic<std::uint64_t>& nanos) {
  constexpr double kNanosPerSecond = 1e9;
  return static_cast<double>(nanos.load(std::memory_order_relaxed)) / kNanosPerSecond;
}

void append_poller(MetricsText& page, const NvmePoller& poller) {
  const MetricLabels labels{{"poller", poller.name()}};
  const NvmePoller::Probe& probe = poller.probe();
  const auto count = [](const std::atomic<std::uint64_t>& value) { return value.load(std::memory_order_relaxed); };
  page.counter("leap_poller_turns_total", "Turns of the loop", count(probe.turns), labels);
  page.counter("leap_poller_busy_turns_total", "Turns that found work", count(probe.busy_turns), labels);
  page.counter("leap_poller_sleeps_total", "Times the poller went to sleep", count(probe.sleeps), labels);
  page.counter("leap_poller_mailbox_calls_total", "Calls from other threads", count(probe.mailbox_calls), labels);
  page.counter("leap_poller_syscalls_total", "System calls of the poller's thread", count(probe.syscalls), labels);
  page.gauge_real("leap_poller_spin_seconds", "Time awake without work", seconds(probe.spin_ns), labels);
  page.gauge_real("leap_poller_sleep_seconds", "Time asleep", seconds(probe.sleep_ns), labels);
}

void append_queue_pair(MetricsText& page, const std::string& name, const QueuePair::Probe& probe) {
  const MetricLabels labels{{"queue", name}};
  page.counter("leap_host_commands_total", "Commands given to the controller", probe.submitted.value(), labels);
  page.counter("leap_host_status_errors_total", "Commands answered with an error status", probe.status_errors.value(),
               labels);
  page.counter("leap_host_failed_commands_total", "Commands ended without an answer", probe.failed.value(), labels);
  page.counter("leap_host_timeouts_total", "Deadlines of commands that passed", probe.timeouts.value(), labels);
  page.counter("leap_host_slot_waits_total", "Commands that waited for a slot", probe.slot_waits.value(), labels);
  page.counter("leap_host_digest_errors_total", "Data digests that did not match", probe.digest_errors.value(), labels);
  page.counter("leap_host_read_bytes_total", "Bytes read", probe.read_bytes.value(), labels);
  page.counter("leap_host_written_bytes_total", "Bytes written", probe.written_bytes.value(), labels);
  page.gauge("leap_host_outstanding_commands", "Commands in flight", probe.outstanding.value(), labels);
}

void append_device(MetricsText& page, NvmeBdev& device) {
  const MetricLabels labels{{"device", device.info().name}};
  const NvmeBdev::Probe& probe = device.probe();
  page.counter("leap_bdev_retries_total", "Commands sent again", probe.retries.value(), labels);
  page.counter("leap_bdev_failovers_total", "Commands sent again because their path failed", probe.failovers.value(),
               labels);
  page.counter("leap_bdev_fenced_writes_total", "Lost writes whose range was closed", probe.fenced.value(), labels);
  page.counter("leap_bdev_fence_waits_total", "Writes that waited for such a range", probe.fence_waits.value(), labels);
  page.counter("leap_bdev_no_path_total", "I/Os that failed for want of a path", probe.no_path.value(), labels);
  page.gauge("leap_bdev_fenced_ranges", "Ranges closed now", static_cast<std::int64_t>(device.fence().size()), labels);
}

}  // namespace

void NvmeEnv::append_metrics(MetricsText& page) const {
  for (const PollerContext& context : contexts_) append_poller(page, *context.poller);
  for (const TargetStatus& target : targets()) {
    page.gauge("leap_env_target_up", "1: the target is connected", target.up ? 1 : 0,
               {{"subnqn", target.address.subnqn}, {"endpoint", target.address.endpoint()}});
  }
  for (const ControllerLink* link : links()) {
    const MetricLabels labels{{"link", link->name()}};
    const ControllerLink::Probe& probe = link->probe();
    page.counter("leap_host_connects_total", "Associations that came up", probe.connects.value(), labels);
    page.counter("leap_host_failed_attempts_total", "Attempts to connect that failed", probe.failed_attempts.value(),
                 labels);
    page.counter("leap_host_losses_total", "Associations that were lost", probe.losses.value(), labels);
    page.counter("leap_host_resets_total", "Of these, ended by a confirmed reset", probe.resets_confirmed.value(),
                 labels);
  }
  for (BlockDevice* device : devices()) append_device(page, static_cast<NvmeBdev&>(*device));
  const auto& violations = nvme::PduChecker::violations(nvme::ConnectionEnd::kHost);
  const char* const kViolations = "leap_host_protocol_violations_total";
  const char* const kViolationsHelp = "PDUs that broke NVMe/TCP, on connections with protocol_checker";
  page.counter(kViolations, kViolationsHelp, violations.own.value(), {{"by", "host"}});
  page.counter(kViolations, kViolationsHelp, violations.peer.value(), {{"by", "target"}});
  for (const auto& controller : controllers()) {
    for (const auto& [name, probe] : controller->queue_probes()) append_queue_pair(page, name, *probe);
  }
}

}  // namespace leap

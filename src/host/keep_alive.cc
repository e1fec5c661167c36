#include "host/keep_alive.h"

#include "base/log.h"
#include "base/mutation.h"
#include "nvme/admin_command.h"

namespace leap {

KeepAlive::KeepAlive(QueuePair& admin, Nanos timeout, Counter& answered)
    : admin_(admin),
      interval_(timeout / 2),
      answered_(answered),
      timer_(admin.poller().timers(), &KeepAlive::tick, this) {
  timer_.arm(admin.poller().clock().now() + interval_);
}

void KeepAlive::tick(void* self) {
  auto& keep_alive = *static_cast<KeepAlive*>(self);
  if (!keep_alive.admin_.live()) return;
  keep_alive.timer_.arm(keep_alive.admin_.poller().now() + keep_alive.interval_);
  if (keep_alive.pending() || LEAP_MUTATION(keep_alive_not_sent)) return;
  keep_alive.command = nvme::make_keep_alive();
  keep_alive.admin_.submit(keep_alive);
}

void KeepAlive::on_done(CommandResult result) {
  if (result.status.ok()) {
    answered_.add();
    return;
  }
  // A broken queue pair is its observer's business; here only the controller's own refusal is news.
  if (result.status.error().domain() == ErrorDomain::kNvme) log_warn("{}", result.status.error().message());
}

}  // namespace leap

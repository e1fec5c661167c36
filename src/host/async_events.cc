#include "host/async_events.h"

#include <utility>

#include <fmt/format.h>

#include "host/admin_commands.h"
#include "nvme/admin_command.h"
#include "nvme/identify_namespace.h"
#include "nvme/log_page.h"

namespace leap {

using nvme::AsyncEventType;
using nvme::LogPage;

/// One outstanding Asynchronous Event Request.
class AsyncEventMonitor::Request final : public Submission {
 public:
  explicit Request(AsyncEventMonitor& monitor) : monitor_(monitor) {
    command = nvme::make_async_event_request();
    unlimited = true;
  }
  bool fired = false;
  nvme::AsyncEvent event;

 private:
  void on_done(CommandResult result) override {
    if (result.status.ok()) {
      fired = true;
      event = nvme::AsyncEvent::from_dword(result.dw0);
      monitor_.on_event(*this);
    } else if (result.status.error().domain() == ErrorDomain::kNvme && !monitor_.stopped_) {
      // Refused, say because there are more of them than the controller takes: do with one less.
      log_warn("{}", result.status.error().message());
    }
  }
  AsyncEventMonitor& monitor_;
};

AsyncEventMonitor::AsyncEventMonitor(QueuePair& admin, DmaPool& pool, TaskGroup& tasks, Config config,
                                     Rescan namespaces_changed, Counter& received)
    : admin_(admin),
      pool_(pool),
      tasks_(tasks),
      config_(std::move(config)),
      namespaces_changed_(std::move(namespaces_changed)),
      received_(received),
      log_limit_(10, std::chrono::minutes(1), admin.poller().clock()) {
  for (std::uint32_t i = 0; i < config_.requests; ++i) {
    requests_.push_back(std::make_unique<Request>(*this));
    arm(*requests_.back());
  }
}

AsyncEventMonitor::~AsyncEventMonitor() = default;

void AsyncEventMonitor::arm(Request& request) {
  if (!stopped_ && admin_.live()) admin_.submit(request);
}

void AsyncEventMonitor::on_event(Request& /*request*/) {
  received_.add();
  if (handling_ || stopped_) return;
  handling_ = true;
  tasks_.spawn(handle_events());
}

Task<void> AsyncEventMonitor::handle_events() {
  for (bool found = true; found && !stopped_;) {
    found = false;
    for (auto& request : requests_) {
      if (!request->fired) continue;
      found = true;
      co_await handle(request->event);
      request->fired = false;
      arm(*request);
    }
  }
  handling_ = false;
}

Task<void> AsyncEventMonitor::handle(nvme::AsyncEvent event) {
  if (event.type == AsyncEventType::kNotice &&
      event.info == static_cast<std::uint8_t>(nvme::NoticeInfo::kNamespaceAttributeChanged)) {
    report(event, "namespaces changed");
    co_await clear_by_reading(event);
    if (!stopped_) co_await namespaces_changed_();
    co_return;
  }
  if (event.type == AsyncEventType::kNotice &&
      event.info == static_cast<std::uint8_t>(nvme::NoticeInfo::kDiscoveryLogChanged)) {
    // Whoever reads the log re-arms the event with it: only they know when they have seen all of it.
    if (!stopped_) co_await namespaces_changed_();
    co_return;
  }
  switch (event.type) {
    case AsyncEventType::kError: report(event, "the controller reports an error"); break;
    case AsyncEventType::kSmart: report(event, "the controller reports a health problem"); break;
    default: report(event, "event"); break;
  }
  co_await clear_by_reading(event);
}

/// Reading the log page an event names lets the controller send the next event of that kind.
Task<void> AsyncEventMonitor::clear_by_reading(nvme::AsyncEvent event) {
  std::size_t bytes = 0;
  switch (static_cast<LogPage>(event.log_page)) {
    case LogPage::kErrorInformation: bytes = sizeof(nvme::ErrorLogEntry); break;
    case LogPage::kSmart: bytes = sizeof(nvme::SmartLog); break;
    case LogPage::kChangedNamespaces: bytes = sizeof(nvme::NamespaceList); break;
    default: co_return;
  }
  nvme::GetLogPageFields fields;
  fields.lid = static_cast<LogPage>(event.log_page);
  fields.bytes = bytes;
  const nvme::Command command = nvme::make_get_log_page(fields);
  const Result<DmaBuf> page = co_await read_data(admin_, pool_, command, bytes);
  if (!page.ok()) log_warn("{}: cannot read the log page of an event: {}", config_.name, page.error().message());
}

void AsyncEventMonitor::report(nvme::AsyncEvent event, const std::string& what) {
  if (const auto pass = log_limit_.admit()) {
    log_warn("{}: {} (type {} info {:#x} log page {:#x}; {} more suppressed)", config_.name, what,
             static_cast<unsigned>(event.type), event.info, event.log_page, pass->suppressed);
  }
}

}  // namespace leap

#include "env/discovery_session.h"

#include <utility>

#include "base/units.h"
#include "env/host_identity.h"
#include "host/resolve.h"

namespace leap {
namespace {

constexpr std::uint64_t kMemory = 4 * kMiB;

Result<nvme::TransportAddress> parse_where(const std::string& where) {
  const bool whole = nvme::TransportAddress::looks_like(where);
  return nvme::TransportAddress::parse(whole ? where : "nvme+tcp://" + where);
}

}  // namespace

Result<std::unique_ptr<DiscoverySession>> DiscoverySession::open(const std::string& where, const Options& options,
                                                                 Net& net) {
  std::unique_ptr<DiscoverySession> session(new DiscoverySession(net, options));
  ControllerConfig& config = session->config_;
  LEAP_TRY(nvme::TransportAddress address, parse_where(where));
  if (!options.hostnqn.empty()) address.hostnqn = options.hostnqn;
  const HostIdentity us = address.hostnqn.empty() ? host_identity() : host_identity_for(address.hostnqn);
  LEAP_TRY(config.address, resolve_address(std::move(address)));
  config.hostnqn = us.nqn;
  config.hostid = us.id;
  config.connect_timeout = options.connect_timeout;
  config.keep_alive_timeout = options.keep_alive_timeout;
  LEAP_TRY_VOID(config.validate());
  LEAP_TRY(HugePageArena arena, HugePageArena::create({.size = kMemory, .highest = PageKind::kSmall}));
  session->arena_.emplace(std::move(arena));
  session->pool_ = std::make_unique<DmaPool>(session->arena_->memory());
  LEAP_TRY(session->poller_, NvmePoller::create({.name = "discovery"}));
  LEAP_TRY_VOID(session->poller_->start());
  return session;
}

DiscoverySession::~DiscoverySession() {
  if (poller_ == nullptr) return;
  if (watch_) {
    poller_->run([this](NvmePoller&) { return watch_->stop(); });
    poller_->run([this](NvmePoller&) -> Task<void> { co_await following_->wait(); });
  }
  poller_->stop();
}

Task<Result<DiscoveryReport>> DiscoverySession::ask() {
  // A connection for one question: without a KATO the controller knows that it does not persist.
  ControllerConfig config = config_;
  config.keep_alive_timeout = Nanos{0};
  DiscoveryOptions how;
  how.follow_referrals = options_.follow_referrals;
  return discover(*poller_, *pool_, net_, std::move(config), how);
}

Result<DiscoveryReport> DiscoverySession::read() {
  return poller_->run([this](NvmePoller&) { return ask(); });
}

Result<> DiscoverySession::watch(Handler handler) {
  LEAP_CHECK(!watch_, "a session watches once");
  handler_ = std::move(handler);
  return poller_->run([this](NvmePoller& poller) -> Task<Result<>> {
    following_.emplace(poller);
    watch_.emplace(poller, *pool_, net_, DiscoveryWatch::Config{.controller = config_},
                   [this](const Result<DiscoveryLog>& log) { on_log(log); });
    co_return watch_->start();
  });
}

void DiscoverySession::on_log(const Result<DiscoveryLog>& log) {
  if (!log.ok()) return handler_(log.error());
  if (options_.follow_referrals) {
    follow_again_ = true;
    if (following_->running() == 0) following_->spawn(follow());
    return;
  }
  DiscoveryReport report;
  report.answers.emplace_back();
  report.answers.back().address = config_.address;
  report.answers.back().log = *log;
  handler_(report);
}

/// One round of referrals at a time; what changes meanwhile is the next round.
Task<void> DiscoverySession::follow() {
  while (std::exchange(follow_again_, false)) {
    const Result<DiscoveryReport> report = co_await ask();
    handler_(report);
  }
}

}  // namespace leap

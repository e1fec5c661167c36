#include "env/discovery_targets.h"

#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "host/discovery.h"
#include "host/resolve.h"
#include "poller/sync.h"

namespace leap {
namespace {

using Report = std::optional<Result<DiscoveryReport>>;

/// One service to ask.
struct Question {
  ControllerConfig controller;
  Report answer;
};

Task<void> ask(Question& question, const PollerContext& home, Net& net, BlockingPool* resolver) {
  ControllerConfig config = question.controller;
  if (resolver != nullptr && !socket_address(config.address).ok()) {
    const auto resolve = [address = config.address] { return resolve_address(address); };
    Result<nvme::TransportAddress> resolved = co_await resolver->run(*home.poller, resolve);
    if (!resolved.ok()) {
      question.answer.emplace(std::move(resolved).error());
      co_return;
    }
    config.address = std::move(resolved).value();
  }
  config.keep_alive_timeout = Nanos{0};  // asked once
  DiscoveryOptions options;
  options.follow_referrals = true;
  Result<DiscoveryReport> found = co_await discover(*home.poller, *home.pool, net, std::move(config), options);
  question.answer.emplace(std::move(found));
}

Task<void> ask_all(std::vector<Question>& questions, const PollerContext& home, Net& net, BlockingPool* resolver) {
  TaskGroup group(*home.poller);
  for (Question& question : questions) group.spawn(ask(question, home, net, resolver));
  co_await group.wait();
}

/// What makes two ways to a subsystem the same.
std::string key_of(const nvme::TransportAddress& address) {
  return fmt::format("{} {} {}", address.subnqn, address.traddr, address.trsvcid);
}

class Expansion {
 public:
  explicit Expansion(const std::vector<NvmeTargetConfig>& targets) {
    for (const NvmeTargetConfig& target : targets) {
      if (!target.address.is_discovery()) known_.insert(key_of(target.address));
    }
  }

  void keep(const NvmeTargetConfig& target) { targets_.push_back({target}); }
  void add(const NvmeTargetConfig& service, const Result<DiscoveryReport>& found) {
    const auto name = service.address.endpoint();
    if (!found.ok()) return give_up(service, Error(found.error()));
    std::size_t usable = 0;
    for (const DiscoveryAnswer& answer : found->answers) {
      if (answer.error)
        log_warn("discovery at {}: referral to {}: {}", name, answer.address.endpoint(), answer.error->to_string());
      for (const DiscoveredEntry& entry : answer.log.entries) {
        if (entry.subtype != nvme::DiscoverySubtype::kNvm) continue;
        if (entry.usable()) ++usable;
        take(service, entry);
      }
    }
    if (usable == 0) {
      return give_up(service, Error(Errc::kNotFound, fmt::format("the discovery service at {} lists nothing that this "
                                                                 "host can use",
                                                                 name))
                                  .in(ErrorDomain::kTransport));
    }
    log_info("discovery at {}: {} subsystem addresses", name, usable);
  }
  [[nodiscard]] std::vector<ConfiguredTarget> result() && { return std::move(targets_); }

 private:
  void give_up(const NvmeTargetConfig& service, Error why) { targets_.push_back({service, std::move(why)}); }
  void take(const NvmeTargetConfig& service, const DiscoveredEntry& entry) {
    const auto address = entry.address();
    if (!address.ok()) return log_warn("discovery at {}: {}", service.address.endpoint(), address.error().message());
    if (!known_.insert(key_of(*address)).second) return;
    NvmeTargetConfig target = service;
    target.address = *address;
    target.address.hostnqn = service.address.hostnqn;
    target.address.nsid = service.address.nsid;
    targets_.push_back({std::move(target)});
  }

  std::set<std::string> known_;
  std::vector<ConfiguredTarget> targets_;
};

}  // namespace

std::vector<ConfiguredTarget> expand_discovery_targets(
    const std::vector<NvmeTargetConfig>& targets, const PollerContext& home, Net& net, BlockingPool* resolver,
    const std::function<ControllerConfig(const NvmeTargetConfig&)>& controller) {
  std::vector<Question> questions;
  for (const NvmeTargetConfig& target : targets) {
    if (target.address.is_discovery()) questions.push_back({controller(target), std::nullopt});
  }
  if (!questions.empty()) {
    home.poller->run([&](NvmePoller&) { return ask_all(questions, home, net, resolver); });
  }
  Expansion expansion(targets);
  std::size_t next = 0;
  for (const NvmeTargetConfig& target : targets) {
    if (target.address.is_discovery())
      expansion.add(target, *questions[next++].answer);
    else
      expansion.keep(target);
  }
  return std::move(expansion).result();
}

}  // namespace leap

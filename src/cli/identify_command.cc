// leap identify DEVICE: what a controller says about itself and its namespaces.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/command.h"
#include "env/device_session.h"
#include "nvme/identify.h"

namespace leap::cli {
namespace {

struct IdentifyOptions {
  std::string device;
  DeviceSession::Options session;
  bool json = false;
};

std::string version_name(nvme::Version version) {
  return fmt::format("{}.{}.{}", version.major_number(), version.minor_number(), version.tertiary());
}

std::string optional_commands(std::uint16_t oncs) {
  std::string names;
  const auto add = [&](std::uint16_t bit, const char* name) {
    if ((oncs & bit) != 0) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  };
  add(nvme::kOncsCompare, "compare");
  add(nvme::kOncsWriteZeroes, "write zeroes");
  add(nvme::kOncsDatasetManagement, "dataset management");
  add(nvme::kOncsVerify, "verify");
  add(nvme::kOncsReservations, "reservations");
  add(nvme::kOncsCopy, "copy");
  return names.empty() ? "none" : names;
}

void print_text(const NvmeController& controller) {
  const ControllerInfo& info = controller.info();
  fmt::print("subsystem        {}\n", info.subnqn);
  fmt::print("address          {}\n", info.endpoint);
  fmt::print("model            {}\n", info.model);
  fmt::print("serial           {}\n", info.serial);
  fmt::print("firmware         {}\n", info.firmware);
  fmt::print("NVMe version     {}\n", version_name(info.version));
  fmt::print("controller id    {}{}\n", info.cntlid.value(), info.discovery ? " (discovery)" : "");
  fmt::print("I/O queues       {} x {} entries\n", info.io_queues, info.io_queue_entries);
  fmt::print("max transfer     {}\n", format_bytes(info.max_transfer));
  fmt::print("in-capsule data  {}\n", format_bytes(info.in_capsule_bytes));
  fmt::print("keep-alive       {}\n", info.keep_alive_ms > 0 ? fmt::format("{} ms", info.keep_alive_ms) : "none");
  for (const NamespaceInfo& ns : controller.namespaces()) {
    fmt::print("namespace {}\n", ns.nsid.value());
    fmt::print("  uuid           {}{}\n", ns.uuid.to_string(),
               ns.uuid_is_derived ? " (derived: the namespace reports none)" : "");
    fmt::print("  size           {} ({} blocks of {})\n", format_bytes(ns.size()), ns.blocks, ns.block_size);
    fmt::print("  write cache    {}\n", ns.volatile_write_cache ? "volatile" : "none");
    fmt::print("  optional       {}\n", optional_commands(ns.oncs));
  }
}

void print_json(const NvmeController& controller) {
  const ControllerInfo& info = controller.info();
  nlohmann::ordered_json json;
  json["subnqn"] = info.subnqn;
  json["address"] = info.endpoint;
  json["model"] = info.model;
  json["serial"] = info.serial;
  json["firmware"] = info.firmware;
  json["version"] = version_name(info.version);
  json["cntlid"] = info.cntlid.value();
  json["discovery"] = info.discovery;
  json["io_queues"] = info.io_queues;
  json["io_queue_entries"] = info.io_queue_entries;
  json["max_transfer"] = info.max_transfer;
  json["in_capsule_bytes"] = info.in_capsule_bytes;
  json["keep_alive_ms"] = info.keep_alive_ms;
  json["namespaces"] = nlohmann::ordered_json::array();
  for (const NamespaceInfo& ns : controller.namespaces()) {
    json["namespaces"].push_back({{"nsid", ns.nsid.value()},
                                  {"uuid", ns.uuid.to_string()},
                                  {"uuid_is_derived", ns.uuid_is_derived},
                                  {"size", ns.size()},
                                  {"block_size", ns.block_size},
                                  {"blocks", ns.blocks},
                                  {"volatile_write_cache", ns.volatile_write_cache},
                                  {"write_protected", ns.write_protected},
                                  {"oncs", ns.oncs}});
  }
  fmt::print("{}\n", json.dump());
}

int run_identify(const IdentifyOptions& options) {
  auto session = DeviceSession::open(options.device, options.session);
  if (!session.ok()) return fail(session.error(), Peer::kTarget);
  const std::shared_ptr<const NvmeController> controller = session.value()->controller();
  if (controller == nullptr) {
    const BlockDeviceInfo& info = session.value()->device().info();
    if (options.json) {
      const nlohmann::ordered_json json = {
          {"name", info.name}, {"size", info.size}, {"block_size", info.block_size}, {"description", info.description}};
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}\n", info.description);
    }
  } else if (options.json) {
    print_json(*controller);
  } else {
    print_text(*controller);
  }
  const Result<> closed = session.value()->close();
  return closed.ok() ? 0 : fail(closed.error());
}

}  // namespace

void add_identify(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("identify", "Show what a controller says about itself and its namespaces");
  auto options = std::make_shared<IdentifyOptions>();
  options->session.any_namespace = true;
  options->session.memory = 16 * kMiB;
  command
      ->add_option("device", options->device,
                   "'trtype:TCP adrfam:IPv4 traddr:HOST trsvcid:PORT subnqn:NQN' or nvme+tcp://HOST:PORT/NQN")
      ->required();
  command->add_option("--cores", options->session.cores, "core to run on (default: the last one allowed)");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([&chosen, options] { chosen.action = [options] { return run_identify(*options); }; });
}

}  // namespace leap::cli

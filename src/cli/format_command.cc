// leap format: the one command that makes (and, with --force, discards) what is on a device.

#include <fmt/format.h>

#include "cli/command.h"
#include "worker/volumes.h"

namespace leap::cli {
namespace {

int run(const std::string& path, bool force) {
  const Result<WorkerConfig> config = WorkerConfig::load(path);
  if (!config.ok()) return fail(config.error());
  const auto lines = Volumes::format(config.value(), force);
  if (!lines.ok()) return fail(lines.error(), Peer::kTarget);
  for (const std::string& line : lines.value()) fmt::print("{}\n", line);
  return 0;
}

}  // namespace

void add_format(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("format", "Make the superblocks and metadata of a worker's data directories");
  auto path = std::make_shared<std::string>();
  auto force = std::make_shared<bool>(false);
  command->add_option("--conf", *path, "the worker's configuration (Curvine's TOML)")->required();
  command->add_flag("--force", *force, "discard what an earlier format left, with all blocks in it");
  command->callback([&chosen, path, force] { chosen.action = [path, force] { return run(*path, *force); }; });
}

}  // namespace leap::cli

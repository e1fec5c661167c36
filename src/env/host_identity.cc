#include "env/host_identity.h"

#include <fstream>

#include <fmt/format.h>

#include "nvme/nqn.h"

namespace leap {
namespace {

constexpr std::string_view kUuidNqn = "nqn.2014-08.org.nvmexpress:uuid:";

std::string first_word(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

}  // namespace

HostIdentity host_identity_for(const std::string& nqn) {
  if (nqn.starts_with(kUuidNqn)) {
    if (const auto inside = Uuid::parse(std::string_view(nqn).substr(kUuidNqn.size()));
        inside.ok() && !inside.value().is_nil()) {
      return {nqn, inside.value()};
    }
  }
  return {nqn, Uuid::from_name(nqn)};
}

HostIdentity host_identity(const std::filesystem::path& etc) {
  const std::string nqn = first_word(etc / "nvme/hostnqn");
  if (!nqn.empty() && nvme::validate_nqn(nqn).ok()) {
    HostIdentity identity = host_identity_for(nqn);
    const auto id = Uuid::parse(first_word(etc / "nvme/hostid"));
    if (id.ok() && !id.value().is_nil()) identity.id = id.value();
    return identity;
  }
  static const Uuid random = Uuid::random();
  const std::string machine = first_word(etc / "machine-id");
  // "uninitialized" is what an image holds before its first boot: every machine made from it would be the same host.
  const bool known = Uuid::parse(machine).ok();
  const Uuid id = known ? Uuid::from_name("leap host " + machine) : random;
  return {fmt::format("{}{}", kUuidNqn, id.to_string()), id};
}

}  // namespace leap

// Component: who is speaking, as a peer's compatibility policy wants to know it (ComponentInfoProto).
//
// The release version tracks the Curvine release whose behaviour is implemented; what we add to it is build metadata,
// which peers ignore when they compare versions.
#pragma once

#include <cstdint>
#include <string>

#include "proto/common.pb.h"

namespace leap::rpc {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr const char* kReleaseVersion = "0.4.1+leap";

struct Component {
  std::string name;  ///< "client" or "worker"
  std::string release_version = kReleaseVersion;
  std::string git_commit{};
  std::string git_tag{};
  std::string git_branch{};
  std::uint32_t protocol_version = kProtocolVersion;
  std::uint32_t min_protocol_version = kProtocolVersion;

  /// Sets every field, empty ones too, as the peers do.
  void fill(proto::ComponentInfoProto& info) const;
};

}  // namespace leap::rpc

#include "rpc/component.h"

namespace leap::rpc {

void Component::fill(proto::ComponentInfoProto& info) const {
  info.set_component(name);
  info.set_release_version(release_version);
  info.set_git_commit(git_commit);
  info.set_git_tag(git_tag);
  info.set_git_branch(git_branch);
  info.set_protocol_version(protocol_version);
  info.set_min_protocol_version(min_protocol_version);
}

}  // namespace leap::rpc

#include <cstdio>

#include <fmt/format.h>

#include "cli/command.h"

namespace leap::cli {
namespace {

std::string_view hint_when_unreachable(Peer peer) {
  switch (peer) {
    case Peer::kNone: return "";
    case Peer::kTarget:
      return "is the target running, and is this its address and port? (leap target --listen HOST:PORT ...)";
    case Peer::kWorker:
      return "is the worker running, and is this its RPC port? (worker.rpc_port; leap worker prints it when ready)";
    case Peer::kWorkerHttp:
      return "a worker's HTTP port listens on 127.0.0.1 unless worker.leap.web_hostname says otherwise: run this on "
             "the "
             "worker's host, or name the address with --web HOST:PORT";
  }
  return "";
}

/// What usually helps. Empty: the message says it all.
std::string_view hint_for(const Error& error, Peer peer) {
  switch (error.kind()) {
    case Errc::kUnreachable: return hint_when_unreachable(peer);
    case Errc::kPermission:
      return error.domain() == ErrorDomain::kNvme ? "is this host's NQN on the target's allow-list?"
                                                  : "check the owner and mode of the path, and the user this runs as";
    default: return "";
  }
}

}  // namespace

int fail(const Error& error, Peer peer) {
  fmt::print(stderr, "leap: {}\n", error.to_string());
  if (const auto hint = hint_for(error, peer); !hint.empty()) fmt::print(stderr, "hint: {}\n", hint);
  return 1;
}

int usage_error(const std::string& text) {
  fmt::print(stderr, "leap: {}\n", text);
  return 2;
}

}  // namespace leap::cli

#include <cstdio>

#include <fmt/format.h>

#include "cli/command.h"

namespace leap::cli {
namespace {

/// What usually helps. Empty: the message says it all.
std::string_view hint_for(const Error& error) {
  switch (error.kind()) {
    case Errc::kUnreachable:
      return "is the target running, and is this its address and port? (leap target --listen HOST:PORT ...)";
    case Errc::kPermission:
      return error.domain() == ErrorDomain::kNvme ? "is this host's NQN on the target's allow-list?"
                                                  : "check the owner and mode of the path, and the user this runs as";
    default: return "";
  }
}

}  // namespace

int fail(const Error& error) {
  fmt::print(stderr, "leap: {}\n", error.to_string());
  if (const auto hint = hint_for(error); !hint.empty()) fmt::print(stderr, "hint: {}\n", hint);
  return 1;
}

int usage_error(const std::string& text) {
  fmt::print(stderr, "leap: {}\n", text);
  return 2;
}

}  // namespace leap::cli

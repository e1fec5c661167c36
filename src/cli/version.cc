#include "cli/version.h"

#include <fmt/format.h>

namespace leap::cli {

std::string version_text() {
  return fmt::format("leap {} ({}), {} build, C++ compiler {}", LEAP_VERSION, LEAP_GIT_COMMIT, LEAP_BUILD_TYPE,
                     __VERSION__);
}

}  // namespace leap::cli

// What this binary is: version, commit, build.
#pragma once

#include <string>

namespace leap::cli {

/// "leap 0.1.0 (<commit>)" and what it was built with, for --version.
std::string version_text();

}  // namespace leap::cli

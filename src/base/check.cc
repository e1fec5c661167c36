#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace leap {

void check_failed(const char* file, int line, const char* condition, std::string_view detail) noexcept {
  std::fprintf(stderr, "leap: CHECK failed at %s:%d: %s: %.*s\n", file, line, condition,
               static_cast<int>(detail.size()), detail.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace leap

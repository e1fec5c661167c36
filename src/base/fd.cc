#include "base/fd.h"

#include <unistd.h>

namespace leap {

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

}  // namespace leap

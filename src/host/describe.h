// describe: a command in the words of an operator, for error messages. Error paths only: allocates.
//
//   describe(make_read(Nsid{1}, 8, 8), /*admin_queue=*/false)    // "read of LBA 8+8 in namespace 1"
#pragma once

#include <string>

#include "nvme/command.h"

namespace leap {

[[nodiscard]] std::string describe(const nvme::Command& command, bool admin_queue);

}  // namespace leap

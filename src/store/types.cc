#include "store/types.h"

#include <utility>

namespace leap {

std::string_view to_string(BlockState state) {
  switch (state) {
    case BlockState::kWriting: return "writing";
    case BlockState::kFinalized: return "finalized";
  }
  return "?";
}

std::string_view to_string(StorageType type) {
  switch (type) {
    case StorageType::kMem: return "MEM";
    case StorageType::kSsd: return "SSD";
    case StorageType::kHdd: return "HDD";
    case StorageType::kUfs: return "UFS";
    case StorageType::kDisk: return "DISK";
    case StorageType::kSpdkDisk: return "SPDK_DISK";
  }
  return "?";
}

void RecoveryReport::add(std::string problem) {
  ++problem_count;
  if (problems.size() < kMaxProblems) problems.push_back(std::move(problem));
}

}  // namespace leap

#include "workload/file_set.h"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace leap {
namespace fs = std::filesystem;
namespace {

void add(FileSet& set, const fs::path& path, std::uint64_t size, std::uint64_t block_size) {
  set.files.push_back(path);
  std::uint64_t offset = 0;
  do {
    const std::uint64_t length = std::min(block_size, size - offset);
    set.pieces.push_back({set.files.size() - 1, offset, length});
    offset += length;
  } while (offset < size);
  set.bytes += size;
}

/// Depth first, each directory in name order: the same tree gives the same set. Stops when there is enough.
void walk(const fs::path& path, std::uint64_t enough, std::uint64_t block_size, FileSet& set) {
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  if (error || (enough > 0 && set.bytes >= enough)) return;
  if (fs::is_regular_file(status)) {
    const auto size = fs::file_size(path, error);
    if (!error && ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0)
      add(set, path, size, block_size);
    else
      ++set.unreadable;
    return;
  }
  if (!fs::is_directory(status)) return;
  std::vector<fs::path> entries;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    entries.push_back(it->path());
  if (error) ++set.unreadable;
  std::sort(entries.begin(), entries.end());
  for (const auto& entry : entries) walk(entry, enough, block_size, set);
}

}  // namespace

Result<FileSet> FileSet::collect(const std::vector<fs::path>& roots, std::uint64_t enough, std::uint64_t block_size) {
  FileSet set;
  for (const auto& root : roots) {
    std::error_code error;
    if (!fs::exists(root, error)) return Error(Errc::kNotFound, fmt::format("{} does not exist", root.string()));
    walk(root, enough, block_size, set);
  }
  if (set.files.empty())
    return Error(Errc::kNotFound,
                 fmt::format("no readable files under {}", roots.empty() ? "" : roots.front().string()));
  return set;
}

}  // namespace leap

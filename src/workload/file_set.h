// FileSet: regular files of a directory tree, cut into pieces of at most one block each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace leap {

/// A piece of a file: what one block stores.
struct FilePiece {
  std::size_t file = 0;      ///< index into FileSet::files
  std::uint64_t offset = 0;  ///< bytes
  std::uint64_t length = 0;  ///< bytes, at most the block size; 0 only for an empty file
};

struct FileSet {
  std::vector<std::filesystem::path> files;
  std::vector<FilePiece> pieces;
  std::uint64_t bytes = 0;
  std::uint64_t unreadable = 0;  ///< files and directories that were left out because they may not be read

  /// Readable regular files under `roots` (files may be named too), in path order, symbolic links not followed, until
  /// `enough` bytes are together (0: all). Unreadable ones are left out and counted. Error: kNotFound (nothing there to read).
  static Result<FileSet> collect(const std::vector<std::filesystem::path>& roots, std::uint64_t enough,
                                 std::uint64_t block_size);
};

}  // namespace leap

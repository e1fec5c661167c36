// ConfigFile: a TOML file read key by key, so that every key is used or reported.
//
// Getters take a default and a range, note the key as used, and never fail: what is wrong (type, range, syntax) is
// collected with file, line and key, and finish() returns all of it at once, together with the keys nobody asked for.
//
//   LEAP_TRY(ConfigFile file, ConfigFile::load(path));
//   ConfigTable worker = file.root().table("worker");
//   const auto port = worker.integer("rpc_port", 8997, 1, 65535);
//   file.root().table("fuse").accept_rest();       // a section of somebody else
//   LEAP_TRY_VOID(file.finish());
//
// What a file may hold is bounded (1 MiB, 8192 dots), and so is the report (the first 100 problems, control characters
// replaced).
//
// Threading: none; start-up only. Sizes are Curvine's ("1.5GB" is 1024-based), durations too (a bare number is ms).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace leap {

class ConfigTable;

class ConfigFile {
 public:
  /// Errors: os (cannot be read, a directory), kInvalidArgument (not TOML: file, line and column; too long).
  static Result<ConfigFile> load(const std::string& path);
  /// The same from memory; `name` stands for the file in messages.
  static Result<ConfigFile> parse(std::string_view text, std::string name);

  ConfigFile(ConfigFile&&) noexcept;
  ConfigFile& operator=(ConfigFile&&) noexcept;
  ~ConfigFile();

  /// Valid as long as this object.
  [[nodiscard]] ConfigTable root();
  /// Everything found wrong so far and every key not used, one line each; success when there is nothing.
  [[nodiscard]] Result<> finish();
  [[nodiscard]] const std::string& name() const;

 private:
  friend class ConfigTable;
  struct State;
  explicit ConfigFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A view of one table. Copyable; all copies share the bookkeeping. An absent table gives defaults for everything.
class ConfigTable {
 public:
  [[nodiscard]] bool present() const { return node_ != nullptr; }
  [[nodiscard]] bool has(std::string_view key) const;

  [[nodiscard]] std::string string(std::string_view key, std::string fallback = {});
  [[nodiscard]] bool boolean(std::string_view key, bool fallback);
  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t fallback, std::int64_t min, std::int64_t max);
  [[nodiscard]] std::uint64_t size(std::string_view key, std::uint64_t fallback, std::uint64_t min = 0,
                                   std::uint64_t max = UINT64_MAX);
  [[nodiscard]] Nanos duration(std::string_view key, Nanos fallback, Nanos min = Nanos{0}, Nanos max = Nanos::max());
  [[nodiscard]] std::vector<std::string> strings(std::string_view key);
  /// A sub-table; an absent one is an empty view.
  [[nodiscard]] ConfigTable table(std::string_view key);
  /// An array of tables ([[key]]).
  [[nodiscard]] std::vector<ConfigTable> tables(std::string_view key);
  /// Names of the sub-tables that are there, in file order.
  [[nodiscard]] std::vector<std::string> table_names() const;

  /// Marks everything in here as known: a section that other programs own.
  void accept_rest();
  /// The same for one key, whatever its type.
  void accept(std::string_view key);
  /// Reports a problem with `key` of this table: "file:line: worker.key: text".
  void report(std::string_view key, std::string_view problem);

 private:
  friend class ConfigFile;
  ConfigTable(ConfigFile::State* state, const void* node, std::string path)
      : state_(state), node_(node), path_(std::move(path)) {}
  [[nodiscard]] const void* take(std::string_view key);
  void report_type(std::string_view key, std::string_view expected);
  [[nodiscard]] std::optional<std::string> text(std::string_view key, std::string_view expected);

  ConfigFile::State* state_;
  const void* node_;  // toml::table; its type stays out of this header
  std::string path_;  // "worker.spdk_disk"
};

}  // namespace leap

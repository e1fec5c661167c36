#include "env/config_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/units.h"

namespace leap {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
/// The parser makes a table for every part of a dotted key, without a limit, and destroys them recursively: a line of
/// 100 KB could overflow the stack. No key can have more parts than the file has dots.
constexpr std::ptrdiff_t kMaxDots = 8192;
constexpr std::size_t kMaxProblems = 100;
constexpr std::size_t kMaxProblemText = 500;

/// What stands in a file is shown on terminals and in logs: no control characters, no line without end.
std::string printable(std::string text) {
  if (text.size() > kMaxProblemText) text = text.substr(0, kMaxProblemText) + "...";
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

Result<std::string> read_file(const std::string& path) {
  const auto what = [&path] { return fmt::format("read configuration {}", path); };
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::os(errno, what()).in(ErrorDomain::kConfig);
  std::string text;
  for (;;) {
    char part[16384];
    const ssize_t got = ::read(fd.get(), part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::os(errno, what()).in(ErrorDomain::kConfig);  // EISDIR for a directory
    if (got == 0) return text;
    text.append(part, static_cast<std::size_t>(got));
    // parse() refuses it; no need to see all of it.
    if (text.size() > kMaxFileBytes) return text;
  }
}

}  // namespace

struct ConfigFile::State {
  std::string name;
  toml::table root;
  std::set<const void*> used;  // nodes that a getter has looked at
  std::vector<std::pair<std::uint32_t, std::string>> problems;

  void problem(std::uint32_t line, std::string text) {
    text = printable(std::move(text));
    problems.emplace_back(line,
                          line > 0 ? fmt::format("{}:{}: {}", name, line, text) : fmt::format("{}: {}", name, text));
  }

  void find_unused(const toml::table& table, const std::string& path) {
    for (const auto& [key, node] : table) {
      const std::string full = path.empty() ? std::string(key.str()) : fmt::format("{}.{}", path, key.str());
      if (!used.contains(&node)) {
        problem(key.source().begin.line, fmt::format("unknown key '{}'", full));
        continue;
      }
      if (const auto* sub = node.as_table()) find_unused(*sub, full);
      if (const auto* array = node.as_array()) {
        for (const auto& element : *array) {
          if (const auto* sub = element.as_table(); sub != nullptr && used.contains(&element)) find_unused(*sub, full);
        }
      }
    }
  }

  void mark_all(const toml::node& node) {
    used.insert(&node);
    if (const auto* table = node.as_table()) {
      for (const auto& [key, child] : *table) mark_all(child);
    }
    if (const auto* array = node.as_array()) {
      for (const auto& child : *array) mark_all(child);
    }
  }
};

namespace {

const toml::table* as_table(const void* node) { return static_cast<const toml::table*>(node); }
const toml::node* as_node(const void* node) { return static_cast<const toml::node*>(node); }

}  // namespace

ConfigFile::ConfigFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
ConfigFile::ConfigFile(ConfigFile&&) noexcept = default;
ConfigFile& ConfigFile::operator=(ConfigFile&&) noexcept = default;
ConfigFile::~ConfigFile() = default;

const std::string& ConfigFile::name() const { return state_->name; }

Result<ConfigFile> ConfigFile::load(const std::string& path) {
  LEAP_TRY(const std::string text, read_file(path));
  return parse(text, path);
}

Result<ConfigFile> ConfigFile::parse(std::string_view text, std::string name) {
  const auto bad = [&name](const std::string& what) {
    return Error(Errc::kInvalidArgument, fmt::format("{}:{}", name, what)).in(ErrorDomain::kConfig);
  };
  if (text.size() > kMaxFileBytes)
    return bad(fmt::format(" is longer than {}: not a configuration", format_bytes(kMaxFileBytes)));
  if (std::count(text.begin(), text.end(), '.') > kMaxDots) {
    return bad(fmt::format(" has more than {} dots: not a configuration", kMaxDots));
  }
  auto state = std::make_unique<State>();
  try {
    state->root = toml::parse(text, std::string_view(name));
  } catch (const toml::parse_error& error) {
    const auto& where = error.source().begin;
    return bad(printable(fmt::format("{}:{}: {}", where.line, where.column, error.description())));
  }
  state->name = std::move(name);
  return ConfigFile(std::move(state));
}

ConfigTable ConfigFile::root() { return ConfigTable(state_.get(), &state_->root, ""); }

Result<> ConfigFile::finish() {
  auto problems = state_->problems;
  state_->find_unused(state_->root, "");
  std::swap(problems, state_->problems);
  if (problems.empty()) return {};
  std::stable_sort(problems.begin(), problems.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string all;
  for (std::size_t i = 0; i < std::min(problems.size(), kMaxProblems); ++i) {
    all += (i == 0 ? "" : "\n") + problems[i].second;
  }
  if (problems.size() > kMaxProblems)
    all += fmt::format("\n{}: and {} more", state_->name, problems.size() - kMaxProblems);
  return Error(Errc::kInvalidArgument, all).in(ErrorDomain::kConfig);
}

bool ConfigTable::has(std::string_view key) const { return node_ != nullptr && as_table(node_)->contains(key); }

const void* ConfigTable::take(std::string_view key) {
  if (node_ == nullptr) return nullptr;
  const toml::node* node = as_table(node_)->get(key);
  if (node != nullptr) state_->used.insert(node);
  return node;
}

void ConfigTable::report(std::string_view key, std::string_view problem) {
  const toml::node* node = node_ != nullptr ? as_table(node_)->get(key) : nullptr;
  if (node == nullptr && node_ != nullptr) node = as_table(node_);
  const std::uint32_t line = node != nullptr ? node->source().begin.line : 0;
  const std::string where = fmt::format("{}{}{}", path_, path_.empty() || key.empty() ? "" : ".", key);
  state_->problem(line, where.empty() ? std::string(problem) : fmt::format("{}: {}", where, problem));
}

void ConfigTable::report_type(std::string_view key, std::string_view expected) {
  report(key, fmt::format("must be {}", expected));
  // One complaint is enough: whatever is inside is not unknown besides.
  accept(key);
}

void ConfigTable::accept(std::string_view key) {
  if (const void* node = take(key); node != nullptr) state_->mark_all(*as_node(node));
}

std::string ConfigTable::string(std::string_view key, std::string fallback) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return fallback;
  if (const auto value = node->value_exact<std::string>()) return *value;
  report_type(key, "a string");
  return fallback;
}

bool ConfigTable::boolean(std::string_view key, bool fallback) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return fallback;
  if (const auto value = node->value_exact<bool>()) return *value;
  report_type(key, "true or false");
  return fallback;
}

std::int64_t ConfigTable::integer(std::string_view key, std::int64_t fallback, std::int64_t min, std::int64_t max) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return fallback;
  const auto value = node->value_exact<std::int64_t>();
  if (!value) {
    report_type(key, "a whole number");
    return fallback;
  }
  if (*value < min || *value > max) {
    report(key, fmt::format("{} is not in {}..{}", *value, min, max));
    return fallback;
  }
  return *value;
}

std::optional<std::string> ConfigTable::text(std::string_view key, std::string_view expected) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return std::nullopt;
  if (const auto value = node->value_exact<std::string>()) {
    // An empty text means "not given" in Curvine's files.
    if (value->empty()) return std::nullopt;
    return *value;
  }
  if (const auto value = node->value_exact<std::int64_t>()) return fmt::format("{}", *value);
  report_type(key, expected);
  return std::nullopt;
}

std::uint64_t ConfigTable::size(std::string_view key, std::uint64_t fallback, std::uint64_t min, std::uint64_t max) {
  const auto value = text(key, "a size such as \"1024MB\"");
  if (!value) return fallback;
  const Result<std::uint64_t> bytes = parse_size(*value);
  if (!bytes.ok()) {
    report(key, bytes.error().message());
    return fallback;
  }
  if (bytes.value() < min || bytes.value() > max) {
    report(key, max == UINT64_MAX ? fmt::format("{} is less than {}", *value, format_bytes(min))
                                  : fmt::format("{} is not in {}..{}", *value, format_bytes(min), format_bytes(max)));
    return fallback;
  }
  return bytes.value();
}

Nanos ConfigTable::duration(std::string_view key, Nanos fallback, Nanos min, Nanos max) {
  const auto value = text(key, "a duration such as \"30s\"");
  if (!value) return fallback;
  const Result<Nanos> parsed = parse_duration(*value);
  if (!parsed.ok()) {
    report(key, parsed.error().message());
    return fallback;
  }
  if (parsed.value() < min || parsed.value() > max) {
    report(key, max == Nanos::max()
                    ? fmt::format("{} is less than {}", *value, format_duration(min))
                    : fmt::format("{} is not in {}..{}", *value, format_duration(min), format_duration(max)));
    return fallback;
  }
  return parsed.value();
}

std::vector<std::string> ConfigTable::strings(std::string_view key) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return {};
  const auto* array = node->as_array();
  std::vector<std::string> values;
  if (array != nullptr) {
    for (const auto& element : *array) {
      const auto value = element.value_exact<std::string>();
      if (!value) break;
      values.push_back(*value);
    }
  }
  if (array == nullptr || values.size() != array->size()) report_type(key, "a list of strings");
  return values;
}

ConfigTable ConfigTable::table(std::string_view key) {
  const auto* node = as_node(take(key));
  const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  if (node != nullptr && !node->is_table()) report_type(key, "a table");
  return ConfigTable(state_, node != nullptr ? node->as_table() : nullptr, path);
}

std::vector<ConfigTable> ConfigTable::tables(std::string_view key) {
  const auto* node = as_node(take(key));
  if (node == nullptr) return {};
  const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  std::vector<ConfigTable> all;
  const auto* array = node->as_array();
  if (array != nullptr) {
    for (const auto& element : *array) {
      if (!element.is_table()) break;
      state_->used.insert(&element);
      all.push_back(ConfigTable(state_, element.as_table(), fmt::format("{}[{}]", path, all.size())));
    }
  }
  if (array == nullptr || all.size() != array->size()) report_type(key, fmt::format("tables ([[{}]])", path));
  return all;
}

std::vector<std::string> ConfigTable::table_names() const {
  if (node_ == nullptr) return {};
  std::vector<std::pair<toml::source_position, std::string>> found;  // the parser keeps keys in alphabetical order
  for (const auto& [key, node] : *as_table(node_)) {
    if (node.is_table()) found.emplace_back(key.source().begin, key.str());
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (auto& [position, name] : found) names.push_back(std::move(name));
  return names;
}

void ConfigTable::accept_rest() {
  if (node_ != nullptr) state_->mark_all(*as_table(node_));
}

}  // namespace leap

#include "base/affinity.h"

#include <bitset>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pthread.h>
#include <sched.h>

namespace leap {
namespace {

static_assert(kMaxCores == CPU_SETSIZE);
using CoreSet = std::bitset<kMaxCores>;

Error bad_mask(std::string_view text, std::string_view why) {
  return Error(Errc::kInvalidArgument, fmt::format("core mask \"{}\": {}", text.substr(0, 64), why));
}

std::vector<unsigned> to_vector(const CoreSet& set) {
  std::vector<unsigned> cores;
  for (unsigned core = 0; core < kMaxCores; ++core) {
    if (set[core]) cores.push_back(core);
  }
  return cores;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<CoreSet> parse_hex(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
  if (digits.empty()) return bad_mask(text, "expected hexadecimal digits, e.g. 0x3");
  CoreSet set;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const int value = hex_value(digits[i]);
    if (value < 0) return bad_mask(text, fmt::format("'{}' is no hexadecimal digit", digits[i]));
    const std::size_t first_core = (digits.size() - 1 - i) * 4;
    for (unsigned bit = 0; bit < 4; ++bit) {
      if ((value >> bit & 1) == 0) continue;
      if (first_core + bit >= kMaxCores) return bad_mask(text, fmt::format("core numbers end at {}", kMaxCores - 1));
      set.set(first_core + bit);
    }
  }
  return set;
}

// Takes a core number off the front of `rest`; the digits are few because the value is bounded at once.
Result<unsigned> take_core(std::string_view text, std::string_view& rest) {
  if (rest.empty() || rest[0] < '0' || rest[0] > '9') return bad_mask(text, "expected a list such as [0,2-4]");
  unsigned core = 0;
  while (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
    core = core * 10 + static_cast<unsigned>(rest[0] - '0');
    if (core >= kMaxCores) return bad_mask(text, fmt::format("core numbers end at {}", kMaxCores - 1));
    rest.remove_prefix(1);
  }
  return core;
}

Result<CoreSet> parse_list(std::string_view text) {
  if (text.size() < 2 || text.back() != ']') return bad_mask(text, "the list has no closing ']'");
  std::string_view rest = text.substr(1, text.size() - 2);
  CoreSet set;
  for (;;) {
    LEAP_TRY(const unsigned first, take_core(text, rest));
    unsigned last = first;
    if (rest.starts_with('-')) {
      rest.remove_prefix(1);
      LEAP_TRY(last, take_core(text, rest));
    }
    if (last < first) return bad_mask(text, fmt::format("the range {}-{} runs backwards", first, last));
    for (unsigned core = first; core <= last; ++core) set.set(core);
    if (rest.empty()) return set;
    if (rest[0] != ',') return bad_mask(text, fmt::format("unexpected '{}'", rest[0]));
    rest.remove_prefix(1);
  }
}

std::vector<unsigned> read_affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  // EINVAL means more cores than cpu_set_t can hold; core 0 keeps the promise that the answer is usable.
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0) return {0};
  CoreSet set;
  for (unsigned core = 0; core < kMaxCores; ++core) set[core] = CPU_ISSET(core, &mask);
  return to_vector(set);
}

const std::vector<unsigned>& cores_at_start() {
  static const std::vector<unsigned> cores = read_affinity();
  return cores;
}

// Affinity belongs to threads and is inherited: look before main() can pin the first one.
[[maybe_unused]] const bool g_looked_at_start = !cores_at_start().empty();

}  // namespace

Result<std::vector<unsigned>> parse_core_mask(std::string_view text) {
  LEAP_TRY(const CoreSet set, text.starts_with('[') ? parse_list(text) : parse_hex(text));
  if (set.none()) return bad_mask(text, "names no core");
  return to_vector(set);
}

std::string format_core_mask(std::span<const unsigned> cores) {
  CoreSet set;
  for (const unsigned core : cores) {
    if (core < kMaxCores) set.set(core);
  }
  std::string digits;
  for (unsigned nibble = kMaxCores / 4; nibble-- > 0;) {
    unsigned value = 0;
    for (unsigned bit = 0; bit < 4; ++bit) value |= static_cast<unsigned>(set[nibble * 4 + bit]) << bit;
    if (value != 0 || !digits.empty()) digits.push_back("0123456789abcdef"[value]);
  }
  return "0x" + (digits.empty() ? "0" : digits);
}

std::vector<unsigned> allowed_cores() { return cores_at_start(); }

Result<> pin_this_thread(unsigned core) {
  const auto what = [&] {
    return fmt::format("pin thread to core {} (allowed: {})", core, fmt::join(cores_at_start(), ","));
  };
  if (core >= kMaxCores) return Error(Errc::kInvalidArgument, fmt::format("{}: no such core", what()));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(core, &mask);
  if (::sched_setaffinity(0, sizeof mask, &mask) != 0) return Error::os(errno, what());
  return {};
}

void set_thread_name(std::string_view name) {
  char buffer[16] = {};  // TASK_COMM_LEN, terminator included
  std::memcpy(buffer, name.data(), name.size() < sizeof buffer ? name.size() : sizeof buffer - 1);
  ::pthread_setname_np(::pthread_self(), buffer);
}

}  // namespace leap

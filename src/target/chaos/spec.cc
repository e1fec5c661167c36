#include "target/chaos/spec.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"

namespace leap::target {
namespace {

/// What follows the name of a fault.
enum class Value : std::uint8_t { kNothing, kDuration, kStatus, kWord };

struct Fault {
  std::string_view name;
  std::string_view word;  // kWord: the value that makes it this kind
  ChaosKind kind;
  Value value;
  ChaosEvent event;
};

constexpr std::array<Fault, kChaosKinds> kFaults{{
    {"delay", "", ChaosKind::kDelay, Value::kDuration, ChaosEvent::kPdu},
    {"stall", "", ChaosKind::kStall, Value::kDuration, ChaosEvent::kPdu},
    {"drop", "", ChaosKind::kDrop, Value::kNothing, ChaosEvent::kPdu},
    {"reset", "", ChaosKind::kReset, Value::kNothing, ChaosEvent::kPdu},
    {"truncate", "", ChaosKind::kTruncate, Value::kNothing, ChaosEvent::kPdu},
    {"corrupt", "header", ChaosKind::kCorruptHeader, Value::kWord, ChaosEvent::kPdu},
    {"corrupt", "data", ChaosKind::kCorruptData, Value::kWord, ChaosEvent::kPdu},
    {"duplicate-r2t", "", ChaosKind::kDuplicateR2T, Value::kNothing, ChaosEvent::kPdu},
    {"oversized-r2t", "", ChaosKind::kOversizedR2T, Value::kNothing, ChaosEvent::kPdu},
    {"wrong-ttag", "", ChaosKind::kWrongTtag, Value::kNothing, ChaosEvent::kPdu},
    {"wrong-cccid", "", ChaosKind::kWrongCccid, Value::kNothing, ChaosEvent::kPdu},
    {"success", "early", ChaosKind::kSuccessEarly, Value::kWord, ChaosEvent::kPdu},
    {"success", "no-last", ChaosKind::kSuccessNoLast, Value::kWord, ChaosEvent::kPdu},
    {"silence", "", ChaosKind::kSilence, Value::kNothing, ChaosEvent::kConnection},
    {"stop-reading", "", ChaosKind::kStopReading, Value::kNothing, ChaosEvent::kCommand},
    {"status", "", ChaosKind::kStatus, Value::kStatus, ChaosEvent::kCommand},
}};

constexpr std::array<std::pair<std::string_view, ChaosQueue>, 3> kQueues{
    {{"io", ChaosQueue::kIo}, {"admin", ChaosQueue::kAdmin}, {"any", ChaosQueue::kAny}}};
constexpr std::array<std::pair<std::string_view, ChaosOp>, 7> kOps{{{"any", ChaosOp::kAny},
                                                                    {"read", ChaosOp::kRead},
                                                                    {"write", ChaosOp::kWrite},
                                                                    {"flush", ChaosOp::kFlush},
                                                                    {"connect", ChaosOp::kConnect},
                                                                    {"identify", ChaosOp::kIdentify},
                                                                    {"keep-alive", ChaosOp::kKeepAlive}}};

std::optional<std::uint64_t> number(std::string_view text) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> fraction(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <typename T, std::size_t N>
std::optional<T> named(const std::array<std::pair<std::string_view, T>, N>& names, std::string_view text) {
  for (const auto& [name, value] : names) {
    if (name == text) return value;
  }
  return std::nullopt;
}

/// Cuts text at the first `separator`; what is behind it becomes the rest.
std::string_view cut(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view first = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
  return first;
}

/// "NAME=VALUE" or "NAME".
struct Pair {
  std::string_view name;
  std::string_view value;
  bool has_value = false;
};
Pair split(std::string_view text) {
  const std::size_t at = text.find('=');
  if (at == std::string_view::npos) return {text, {}, false};
  return {text.substr(0, at), text.substr(at + 1), true};
}

/// Empty when it went well; otherwise what is wrong.
using Problem = std::string;

Problem set_status(ChaosRule& rule, std::string_view text) {
  const auto sct = number(cut(text, '.'));
  const auto sc = number(text);
  if (!sct || !sc || *sct > 7 || *sc > 255 || (*sct == 0 && *sc == 0)) {
    return "a status is SCT.SC, 0..7 and 0..255 (decimal or 0x), and not 0.0";
  }
  rule.status.sct = static_cast<std::uint8_t>(*sct);
  rule.status.sc = static_cast<std::uint8_t>(*sc);
  return {};
}

Problem set_fault(ChaosRule& rule, const Pair& item) {
  const auto same_name = [&](const Fault& fault) { return fault.name == item.name; };
  const auto* found = std::find_if(kFaults.begin(), kFaults.end(), same_name);
  if (found == kFaults.end()) return fmt::format("unknown fault '{}'", item.name);
  if (found->value == Value::kWord) {
    const auto with_word = [&](const Fault& fault) { return same_name(fault) && fault.word == item.value; };
    found = std::find_if(kFaults.begin(), kFaults.end(), with_word);
    if (found == kFaults.end()) return fmt::format("'{}' is no kind of {}", item.value, item.name);
  }
  rule.kind = found->kind;
  if (found->value == Value::kNothing) return item.has_value ? fmt::format("{} takes no value", item.name) : Problem{};
  if (found->value == Value::kStatus) return set_status(rule, item.value);
  if (found->value == Value::kDuration) {
    const auto duration = parse_duration(item.value);
    if (!duration.ok()) return duration.error().message();
    rule.duration = duration.value();
    if (rule.duration == Nanos{0}) return fmt::format("{} for no time", item.name);
  }
  return {};
}

Problem set_count(std::uint64_t& field, const Pair& key) {
  const auto value = number(key.value);
  if (!value || *value == 0) return fmt::format("{} needs a number of at least 1", key.name);
  if (field != 0) return fmt::format("{} is there twice", key.name);
  field = *value;
  return {};
}

Problem set_key(ChaosRule& rule, const Pair& key) {
  if (key.name == "every") return set_count(rule.every, key);
  if (key.name == "nth") return set_count(rule.nth, key);
  if (key.name == "times") return set_count(rule.times, key);
  if (key.name == "p") {
    const auto value = fraction(key.value);
    if (!value || *value <= 0 || *value > 1) return "p is a probability, more than 0 and at most 1";
    rule.probability = *value;
    return {};
  }
  if (key.name == "queue") {
    const auto value = named(kQueues, key.value);
    if (!value) return "queue is io, admin or any";
    rule.queue = *value;
    return {};
  }
  if (key.name == "op") {
    const auto value = named(kOps, key.value);
    if (!value) return "op is read, write, flush, connect, identify, keep-alive or any";
    rule.op = *value;
    return {};
  }
  if (rule.kind == ChaosKind::kStatus && key.name == "dnr") {
    rule.status.dnr = true;
    return key.has_value ? "dnr takes no value" : Problem{};
  }
  if (rule.kind == ChaosKind::kStatus && key.name == "crd") {
    const auto value = number(key.value);
    if (!value || *value < 1 || *value > 3) return "crd is 1 to 3";
    rule.status.crd = static_cast<std::uint8_t>(*value);
    return {};
  }
  return fmt::format("unknown key '{}'", key.name);
}

Problem parse_rule(ChaosRule& rule, std::string_view text) {
  rule.text = text;
  const std::string_view whole = text;
  if (Problem problem = set_fault(rule, split(cut(text, ':'))); !problem.empty()) return problem;
  if (text.empty() && whole.ends_with(':')) return "nothing follows ':'";
  while (!text.empty()) {
    if (Problem problem = set_key(rule, split(cut(text, ':'))); !problem.empty()) return problem;
  }
  const int triggers = (rule.probability > 0 ? 1 : 0) + (rule.every > 0 ? 1 : 0) + (rule.nth > 0 ? 1 : 0);
  if (triggers > 1) return "only one of p, every and nth";
  if (event_of(rule.kind) == ChaosEvent::kConnection && rule.op != ChaosOp::kAny) return "a connection has no op";
  return {};
}

}  // namespace

Result<ChaosSpec> ChaosSpec::parse(std::string_view text) {
  ChaosSpec spec;
  const auto bad = [](std::size_t place, std::string_view item, const std::string& why) {
    return Error(Errc::kInvalidArgument, fmt::format("chaos rule {} '{}': {}", place, item, why))
        .in(ErrorDomain::kConfig);
  };
  std::size_t place = 0;
  while (!text.empty()) {
    const std::string_view item = cut(text, ';');
    ++place;
    if (item.empty()) return bad(place, item, "is empty");
    if (const Pair pair = split(item); pair.name == "seed") {
      const auto seed = number(pair.value);
      if (!seed) return bad(place, item, "a seed is a number");
      spec.seed = *seed;
      continue;
    }
    ChaosRule rule;
    if (const Problem problem = parse_rule(rule, item); !problem.empty()) return bad(place, item, problem);
    spec.rules.push_back(std::move(rule));
  }
  return spec;
}

std::string_view to_string(ChaosKind kind) {
  constexpr std::array<std::string_view, kChaosKinds> kNames{
      "delay",           "stall",         "drop",          "reset",      "truncate",    "corrupt=header",
      "corrupt=data",    "duplicate-r2t", "oversized-r2t", "wrong-ttag", "wrong-cccid", "success=early",
      "success=no-last", "silence",       "stop-reading",  "status"};
  return kNames[static_cast<std::size_t>(kind)];
}

ChaosEvent event_of(ChaosKind kind) { return kFaults[static_cast<std::size_t>(kind)].event; }

std::string_view chaos_help() {
  return "SPEC is ITEM;ITEM;... where an item is seed=N or FAULT[=VALUE][:KEY[=VALUE]]...\n"
         "faults, and what they count:\n"
         "  delay=TIME      a PDU sent: it and what follows wait          stall=TIME     a PDU sent: nothing moves "
         "either way\n"
         "  drop            a response: left out                          reset          a PDU sent: closed half way "
         "through\n"
         "  truncate        a PDU sent: the stream ends half way through  corrupt=header a PDU sent: a bit flips, "
         "digest kept\n"
         "  corrupt=data    data to the host: a bit flips, digest kept    duplicate-r2t  an R2T: sent twice\n"
         "  oversized-r2t   an R2T: asks for more than there is           wrong-ttag     an R2T: another tag\n"
         "  wrong-cccid     data, R2T, response: an unknown command       success=early  data: half of it, then "
         "SUCCESS\n"
         "  success=no-last data: SUCCESS without LAST_PDU                silence        a connection: accepted, "
         "unanswered\n"
         "  stop-reading    a command: nothing is received after it       status=SCT.SC  a command: fails, is not "
         "executed\n"
         "keys: p=0..1 | every=N | nth=N (per connection; none: always), times=N (at most, in all),\n"
         "      queue=io|admin|any (io), op=read|write|flush|connect|identify|keep-alive|any (any); status: dnr, "
         "crd=1..3\n"
         "example: seed=7;delay=2ms:p=0.01;reset:every=1000;status=0.6:nth=50:op=write\n";
}

}  // namespace leap::target

// ChaosSpec: what a target shall do wrong, as an operator writes it.
//
//   SPEC    := ITEM { ';' ITEM }
//   ITEM    := 'seed=' NUMBER | FAULT [ '=' VALUE ] { ':' KEY [ '=' VALUE ] }
//   KEYs    := p=0..1 | every=N | nth=N     when, counted per connection over what the fault can hit; none: always
//              times=N                      at most N times for the whole target
//              queue=io|admin|any           default io
//              op=read|write|flush|connect|identify|keep-alive|any   the command concerned, default any
//              dnr, crd=1..3                status only
//
//   seed=7;delay=2ms:p=0.01;reset:every=1000;status=0.6:nth=50:dnr;silence:nth=3
//
// Strict: anything else is an error that names the rule. kChaosHelp lists the faults for --help.
//
// Threading: values. Allocates; not for the I/O path.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/result.h"

namespace leap::target {

enum class ChaosKind : std::uint8_t {
  kDelay,          ///< holds a PDU, and what follows it, for a time
  kStall,          ///< neither sends nor receives for a time
  kDrop,           ///< leaves out a response (a capsule, or data with SUCCESS)
  kReset,          ///< closes in the middle of a PDU, receiving nothing more
  kTruncate,       ///< ends its direction in the middle of a PDU, and goes on receiving
  kCorruptHeader,  ///< flips a bit of a header
  kCorruptData,    ///< flips a bit of data to the host
  kDuplicateR2T,   ///< sends an R2T twice
  kOversizedR2T,   ///< asks for more data than the command has
  kWrongTtag,      ///< an R2T with another tag than its own
  kWrongCccid,     ///< C2HData, R2T or response for a command that is not outstanding
  kSuccessEarly,   ///< half of the data, then SUCCESS
  kSuccessNoLast,  ///< SUCCESS without LAST_PDU
  kSilence,        ///< accepts a connection and never says a word
  kStopReading,    ///< takes no more bytes after a command
  kStatus,         ///< fails a command instead of executing it
};
inline constexpr std::size_t kChaosKinds = 16;

/// What is counted, and what a rule's filters look at.
enum class ChaosEvent : std::uint8_t { kConnection, kCommand, kPdu };

enum class ChaosQueue : std::uint8_t { kIo, kAdmin, kAny };
enum class ChaosOp : std::uint8_t { kAny, kRead, kWrite, kFlush, kConnect, kIdentify, kKeepAlive };

struct ChaosRule {
  ChaosKind kind = ChaosKind::kDelay;
  Nanos duration{0};      ///< kDelay, kStall
  NvmeStatusCode status;  ///< kStatus
  double probability = 0;
  std::uint64_t every = 0;
  std::uint64_t nth = 0;
  std::uint64_t times = 0;  ///< 0: no limit
  ChaosQueue queue = ChaosQueue::kIo;
  ChaosOp op = ChaosOp::kAny;
  std::string text;  ///< as it was written
};

struct ChaosSpec {
  std::uint64_t seed = 0;
  std::vector<ChaosRule> rules;

  /// Error kInvalidArgument of domain kConfig: "chaos rule 2 'delay=2:q=1': ...". Empty text: no rules.
  static Result<ChaosSpec> parse(std::string_view text);
};

[[nodiscard]] std::string_view to_string(ChaosKind kind);
[[nodiscard]] ChaosEvent event_of(ChaosKind kind);
/// The grammar and the faults, for people.
[[nodiscard]] std::string_view chaos_help();

}  // namespace leap::target

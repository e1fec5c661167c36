// The life of a queue pair, as a table.
//
//   state \ event | kEstablished | kDrain    | kExpired  | kFault  | kClose  | kQuiesced
//   --------------+--------------+-----------+-----------+---------+---------+----------
//   kConnecting   | kLive        | kFailed   | kFailed   | kFailed | kFailed | -
//   kLive         | -            | kDraining | kFailed   | kFailed | kFailed | -
//   kDraining     | -            | -         | kFailed   | kFailed | kFailed | -
//   kFailed       | -            | -         | -         | -       | -       | kClosed
//   kClosed       | -            | -         | -         | -       | -       | -
//
//   kConnecting  the transport is being set up; commands are refused
//   kLive        commands flow
//   kDraining    new commands are refused, accepted ones finish
//   kFailed      orphaned: every caller has its answer, requests keep their buffers because the transport may still touch
//                them
//   kClosed      torn down: the transport is gone and every buffer is back in its pool
//
//   kEstablished the transport is ready            kExpired  a command's deadline passed
//   kDrain       the owner wants an orderly end    kFault    the transport broke, or the peer its protocol
//   kClose       the owner ends it now             kQuiesced the transport has let go of all request memory
//
// "-" means the event changes nothing. kExpired ends the queue pair when an expired command did not
// end within abort_timeout of its Abort (or at once, where there are no Aborts). A queue pair never comes back:
// reconnecting makes a new one.
#pragma once

#include <cstdint>
#include <string_view>

namespace leap {

enum class QueuePairState : std::uint8_t { kConnecting, kLive, kDraining, kFailed, kClosed };
enum class QueuePairEvent : std::uint8_t { kEstablished, kDrain, kExpired, kFault, kClose, kQuiesced };

/// The table above. Total; pure.
[[nodiscard]] constexpr QueuePairState next_state(QueuePairState state, QueuePairEvent event) {
  using S = QueuePairState;
  constexpr S kTable[5][6] = {
      // kEstablished  kDrain         kExpired      kFault        kClose        kQuiesced
      {S::kLive, S::kFailed, S::kFailed, S::kFailed, S::kFailed, S::kConnecting},      // kConnecting
      {S::kLive, S::kDraining, S::kFailed, S::kFailed, S::kFailed, S::kLive},          // kLive
      {S::kDraining, S::kDraining, S::kFailed, S::kFailed, S::kFailed, S::kDraining},  // kDraining
      {S::kFailed, S::kFailed, S::kFailed, S::kFailed, S::kFailed, S::kClosed},        // kFailed
      {S::kClosed, S::kClosed, S::kClosed, S::kClosed, S::kClosed, S::kClosed},        // kClosed
  };
  return kTable[static_cast<std::uint8_t>(state)][static_cast<std::uint8_t>(event)];
}

[[nodiscard]] constexpr std::string_view to_string(QueuePairState state) {
  switch (state) {
    case QueuePairState::kConnecting: return "connecting";
    case QueuePairState::kLive: return "live";
    case QueuePairState::kDraining: return "draining";
    case QueuePairState::kFailed: return "failed";
    case QueuePairState::kClosed: return "closed";
  }
  return "?";
}

}  // namespace leap

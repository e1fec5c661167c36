// The life of an NVMe/TCP connection of the target, as a table.
//
//   state \ event | kIcDone | kFault     | kFinish    | kAbort    | kQuiet
//   --------------+---------+------------+------------+-----------+---------
//   kHandshake    | kReady  | kLingering | kDraining  | kDraining | -
//   kReady        | -       | kLingering | kLingering | kDraining | -
//   kLingering    | -       | -          | -          | kDraining | -
//   kDraining     | -       | -          | -          | -         | kClosed
//   kClosed       | -       | -          | -          | -         | -
//
//   kHandshake  waits for ICReq
//   kReady      PDUs flow
//   kLingering  no more commands are taken; what is queued goes out (after a fault: the C2HTermReq), then our direction is
//               closed, and the peer has until the linger deadline to close its own
//   kDraining   the socket is gone; commands that the device is working on have to end, because they own memory
//   kClosed     nothing is left; the shard destroys the connection
//
//   kIcDone   a good ICReq has come            kFault   the peer broke the protocol (NVMe TCP Transport 1.0, 3.4)
//   kFinish   Disconnect, or the target stops  kAbort   the socket failed, the peer closed, a deadline passed, or the
//   kQuiet    no command executes any more              controller is gone
//
// "-" means the event changes nothing.
#pragma once

#include <cstdint>
#include <string_view>

namespace leap::target {

enum class ConnectionState : std::uint8_t { kHandshake, kReady, kLingering, kDraining, kClosed };
enum class ConnectionEvent : std::uint8_t { kIcDone, kFault, kFinish, kAbort, kQuiet };

/// The table above. Total; pure.
[[nodiscard]] constexpr ConnectionState next_state(ConnectionState state, ConnectionEvent event) {
  using S = ConnectionState;
  constexpr S kTable[5][5] = {
      // kIcDone      kFault         kFinish        kAbort        kQuiet
      {S::kReady, S::kLingering, S::kDraining, S::kDraining, S::kHandshake},       // kHandshake
      {S::kReady, S::kLingering, S::kLingering, S::kDraining, S::kReady},          // kReady
      {S::kLingering, S::kLingering, S::kLingering, S::kDraining, S::kLingering},  // kLingering
      {S::kDraining, S::kDraining, S::kDraining, S::kDraining, S::kClosed},        // kDraining
      {S::kClosed, S::kClosed, S::kClosed, S::kClosed, S::kClosed},                // kClosed
  };
  return kTable[static_cast<std::uint8_t>(state)][static_cast<std::uint8_t>(event)];
}

[[nodiscard]] constexpr std::string_view to_string(ConnectionState state) {
  switch (state) {
    case ConnectionState::kHandshake: return "handshake";
    case ConnectionState::kReady: return "ready";
    case ConnectionState::kLingering: return "lingering";
    case ConnectionState::kDraining: return "draining";
    case ConnectionState::kClosed: return "closed";
  }
  return "?";
}

}  // namespace leap::target

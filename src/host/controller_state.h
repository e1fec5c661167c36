// The life of an association with a controller, as a table.
//
//   state \ event  | kReady | kAdminLost | kShutdown     | kStopped
//   ---------------+--------+------------+---------------+---------
//   kConnecting    | kLive  | kFailed    | kShuttingDown | kStopped
//   kLive          | -      | kFailed    | kShuttingDown | -
//   kFailed        | -      | -          | kShuttingDown | -
//   kShuttingDown  | -      | -          | -             | kStopped
//   kStopped       | -      | -          | -             | -
//
//   kConnecting   connect() is at work                kReady      every step of it succeeded
//   kLive         queues can be opened and used       kAdminLost  the admin queue pair failed: the association is over
//   kFailed       all queue pairs are failing         kShutdown   the owner wants the end
//   kShuttingDown draining, then disconnecting        kStopped    everything is torn down
//   kStopped      nothing left but memory
//
// "-" means the event changes nothing. An association never comes back: controller_link.h makes new ones.
#pragma once

#include <cstdint>
#include <string_view>

namespace leap {

enum class ControllerState : std::uint8_t { kConnecting, kLive, kFailed, kShuttingDown, kStopped };
enum class ControllerEvent : std::uint8_t { kReady, kAdminLost, kShutdown, kStopped };

/// The table above. Total; pure.
[[nodiscard]] constexpr ControllerState next_state(ControllerState state, ControllerEvent event) {
  using S = ControllerState;
  constexpr S kTable[5][4] = {
      // kReady          kAdminLost        kShutdown         kStopped
      {S::kLive, S::kFailed, S::kShuttingDown, S::kStopped},                // kConnecting
      {S::kLive, S::kFailed, S::kShuttingDown, S::kLive},                   // kLive
      {S::kFailed, S::kFailed, S::kShuttingDown, S::kFailed},               // kFailed
      {S::kShuttingDown, S::kShuttingDown, S::kShuttingDown, S::kStopped},  // kShuttingDown
      {S::kStopped, S::kStopped, S::kStopped, S::kStopped},                 // kStopped
  };
  return kTable[static_cast<std::uint8_t>(state)][static_cast<std::uint8_t>(event)];
}

[[nodiscard]] constexpr std::string_view to_string(ControllerState state) {
  switch (state) {
    case ControllerState::kConnecting: return "connecting";
    case ControllerState::kLive: return "live";
    case ControllerState::kFailed: return "failed";
    case ControllerState::kShuttingDown: return "shutting down";
    case ControllerState::kStopped: return "stopped";
  }
  return "?";
}

}  // namespace leap

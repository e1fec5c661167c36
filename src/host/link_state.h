// The life of a link to a controller (controller_link.h), as a table.
//
//   state \ event | kConnected | kQueueLost | kAssociationLost | kFailedToConnect | kGaveUp | kClose
//   --------------+------------+------------+------------------+------------------+---------+--------
//   kConnecting   | kLive      | -          | -                | kReconnecting    | kLost   | kClosed
//   kLive         | -          | kDegraded  | kReconnecting    | -                | -       | kClosed
//   kDegraded     | -          | -          | kReconnecting    | -                | -       | kClosed
//   kReconnecting | kLive      | -          | -                | -                | kLost   | kClosed
//   kLost         | -          | -          | -                | -                | -       | kClosed
//   kClosed       | -          | -          | -                | -                | -       | -
//
//   kConnecting    the first attempt                    kConnected        an association is up, namespaces are known
//   kLive          I/O flows                            kQueueLost        an I/O queue failed; the admin queue lives
//   kDegraded      the association is being reset       kAssociationLost  it has been ended, or its admin queue failed
//   kReconnecting  waiting, or trying again             kFailedToConnect  the first attempt failed
//   kLost          ctrl_loss_timeout has passed         kGaveUp           so it has
//   kClosed        the owner ended it                   kClose            the owner ends it
//
// "-" means the event changes nothing.
#pragma once

#include <cstdint>
#include <string_view>

namespace leap {

enum class LinkState : std::uint8_t { kConnecting, kLive, kDegraded, kReconnecting, kLost, kClosed };
enum class LinkEvent : std::uint8_t { kConnected, kQueueLost, kAssociationLost, kFailedToConnect, kGaveUp, kClose };

/// The table above. Total; pure.
[[nodiscard]] constexpr LinkState next_state(LinkState state, LinkEvent event) {
  using S = LinkState;
  constexpr S kTable[6][6] = {
      // kConnected kQueueLost        kAssociationLost  kFailedToConnect  kGaveUp           kClose
      {S::kLive, S::kConnecting, S::kConnecting, S::kReconnecting, S::kLost, S::kClosed},      // kConnecting
      {S::kLive, S::kDegraded, S::kReconnecting, S::kLive, S::kLive, S::kClosed},              // kLive
      {S::kDegraded, S::kDegraded, S::kReconnecting, S::kDegraded, S::kDegraded, S::kClosed},  // kDegraded
      {S::kLive, S::kReconnecting, S::kReconnecting, S::kReconnecting, S::kLost, S::kClosed},  // kReconnecting
      {S::kLost, S::kLost, S::kLost, S::kLost, S::kLost, S::kClosed},                          // kLost
      {S::kClosed, S::kClosed, S::kClosed, S::kClosed, S::kClosed, S::kClosed},                // kClosed
  };
  return kTable[static_cast<std::uint8_t>(state)][static_cast<std::uint8_t>(event)];
}

[[nodiscard]] constexpr std::string_view to_string(LinkState state) {
  switch (state) {
    case LinkState::kConnecting: return "connecting";
    case LinkState::kLive: return "live";
    case LinkState::kDegraded: return "degraded";
    case LinkState::kReconnecting: return "reconnecting";
    case LinkState::kLost: return "lost";
    case LinkState::kClosed: return "closed";
  }
  return "?";
}

}  // namespace leap

// PduMonitor: a passive judge of one NVMe/TCP connection. It sees the header of every PDU that either end sends and says
// which rule, if any, the PDU breaks.
//
//   connection   ICReq > ICResp > Connect > commands > Disconnect > nothing
//   command      CapsuleCmd > (R2T > H2CData ...)* > CapsuleResp
//                CapsuleCmd > C2HData* > CapsuleResp, or C2HData with SUCCESS
//
//   PduMonitor monitor({.end = ConnectionEnd::kHost, .commands = 128, .in_capsule_bytes = 8192});
//   if (const PduRule rule = monitor.observe(PduDirection::kToHost, header); rule != PduRule::kNone) ...
//
// It stands at one end and sees PDUs in the order in which that end sends and receives them, so it never blames a peer
// for what may have crossed on the wire: a PDU that arrives after our own TermReq, H2CData for a write that we have
// already failed. A PDU that breaks a rule changes nothing (but for a
// missing Connect, which is reported once); after that, what follows from it may look wrong too
// (provoked()).
//
// It has its own opinion: of what the two ends use to judge each other (pdu_check.h) it shares the layouts alone. It
// does not look at payload, digests' values, reserved bits, or what commands mean.
//
// Threading: the connection's. Allocation: the tables, at construction. Source: NVMe TCP Transport 1.0; NVMe Base 2.0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "nvme/completion.h"
#include "nvme/fabrics.h"
#include "nvme/id_table.h"
#include "nvme/pdu.h"
#include "nvme/pdu_rules.h"

namespace leap::nvme {

enum class ConnectionEnd : std::uint8_t { kHost, kController };

class PduMonitor {
 public:
  struct Config {
    ConnectionEnd end = ConnectionEnd::kHost;  ///< where the monitor stands
    std::uint32_t commands = 128;              ///< most commands outstanding at a time
    std::uint32_t r2ts = 1;                    ///< most R2Ts outstanding per command, as far as this end goes
    std::uint32_t in_capsule_bytes = 0;        ///< data an I/O command's capsule may carry; Admin and Fabrics: 8192
    /// SUCCESS needs SQ flow control to be off (3.3.2.1). SPDK and Leap's target send it to everybody, and every known
    /// host takes it, so this is asked for separately.
    bool strict_success = false;
  };

  explicit PduMonitor(const Config& config);

  /// Judges a PDU from its header; kNone when nothing is wrong. `header`: at least the common header, and all HLEN
  /// bytes unless the PDU was refused before they arrived.
  [[nodiscard]] PduRule observe(PduDirection direction, std::span<const std::byte> header);

  /// The end that `direction` leads away from has seen the other break a rule: what it did next proves nothing.
  [[nodiscard]] bool provoked(PduDirection direction) const { return broken_[index(opposite(direction))]; }
  [[nodiscard]] bool own(PduDirection direction) const {
    return (direction == PduDirection::kToController) == (config_.end == ConnectionEnd::kHost);
  }
  /// More was outstanding than the tables hold, and nothing is judged any more.
  [[nodiscard]] bool blind() const { return blind_; }
  [[nodiscard]] const ConnectionParams& params() const { return params_; }
  [[nodiscard]] std::uint64_t pdus() const { return pdus_; }
  [[nodiscard]] std::size_t outstanding() const { return commands_.size(); }

 private:
  enum class Setup : std::uint8_t { kNothing, kRequested, kDone };
  enum class Association : std::uint8_t { kNone, kConnecting, kConnected, kDisconnecting };
  enum class Kind : std::uint8_t { kOther, kConnect, kDisconnect };

  struct Outstanding {
    std::uint32_t expected = 0;  // bytes that PDUs after the capsule move
    std::uint32_t moved = 0;     // of these: received by the host, or asked for by R2Ts
    std::uint32_t r2ts = 0;      // not answered in full
    DataDirection direction = DataDirection::kNone;
    Kind kind = Kind::kOther;
    bool last_seen = false;
  };
  struct Grant {
    Cid cid{};
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t done = 0;
    bool orphan = false;  // its command has failed; data may be on its way
  };

  [[nodiscard]] static constexpr std::size_t index(PduDirection direction) {
    return static_cast<std::size_t>(direction);
  }
  [[nodiscard]] static constexpr PduDirection opposite(PduDirection direction) {
    return direction == PduDirection::kToController ? PduDirection::kToHost : PduDirection::kToController;
  }

  [[nodiscard]] PduRule judge(PduDirection direction, std::span<const std::byte> bytes);
  [[nodiscard]] PduRule common(PduDirection direction, const PduHeader& header) const;
  [[nodiscard]] PduRule data_part(PduDirection direction, const PduHeader& header) const;
  [[nodiscard]] PduRule ic_req(const IcReqPdu& pdu);
  [[nodiscard]] PduRule ic_resp(const IcRespPdu& pdu);
  [[nodiscard]] PduRule command(const CapsuleCmdPdu& pdu);
  [[nodiscard]] PduRule track(const CapsuleCmdPdu& pdu);
  [[nodiscard]] PduRule stage(const Command& cmd) const;
  /// A Connect was seen.
  [[nodiscard]] bool entries_known() const { return connect_.entries != 0; }
  [[nodiscard]] PduRule data_pointer(const Command& cmd, std::uint32_t capsule_bytes) const;
  [[nodiscard]] PduRule response(const CapsuleRespPdu& pdu);
  [[nodiscard]] PduRule h2c_data(const H2CDataPdu& pdu);
  [[nodiscard]] PduRule c2h_data(const C2HDataPdu& pdu);
  [[nodiscard]] PduRule r2t(const R2TPdu& pdu);
  [[nodiscard]] bool sqhd_fits(std::uint16_t sqhd);
  void over(Cid cid, const Outstanding& command, bool ok, std::uint16_t sqhd);

  Config config_;
  ConnectionParams params_;
  Setup setup_ = Setup::kNothing;
  Association association_ = Association::kNone;
  ConnectFields connect_;  // of the last Connect
  bool flow_control_ = true;
  bool blind_ = false;
  std::array<bool, 2> ended_{};   // by direction: a TermReq went this way
  std::array<bool, 2> broken_{};  // by direction: a rule was broken
  IdTable<Outstanding> commands_;
  IdTable<Grant> grants_;
  std::uint64_t sent_ = 0;      // commands since and with Connect
  std::uint64_t consumed_ = 0;  // of these, that SQHD has reported taken, at least
  std::uint64_t pdus_ = 0;
};

}  // namespace leap::nvme

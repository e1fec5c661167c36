// Feature identifiers and the values Set/Get Features carry in CDW11 and DW0; asynchronous event results.
//
// Each value is a plain struct with to_dword() and from_dword(); counts are counts (the 0's based fields of the wire
// stay inside). Source: NVMe Base 2.0, 5.27.1 (features), 5.2.1 (asynchronous events). Pure, constexpr.
//
//   make_set_features(FeatureId::kNumberOfQueues, NumberOfQueues{.sq = 4, .cq = 4}.to_dword());
//   const auto granted = NumberOfQueues::from_dword(cqe.dw0);
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "nvme/wire.h"

namespace leap::nvme {

/// Feature Identifier (NVMe Base 2.0, figure "Set Features - Feature Identifiers").
enum class FeatureId : std::uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kLbaRangeType = 0x03,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kVolatileWriteCache = 0x06,
  kNumberOfQueues = 0x07,
  kInterruptCoalescing = 0x08,
  kInterruptVectorConfiguration = 0x09,
  kWriteAtomicityNormal = 0x0A,
  kAsyncEventConfiguration = 0x0B,
  kAutonomousPowerStateTransition = 0x0C,
  kHostMemoryBuffer = 0x0D,
  kTimestamp = 0x0E,
  kKeepAliveTimer = 0x0F,
  kHostBehaviorSupport = 0x16,
  kSanitizeConfig = 0x17,
  kIoCommandSetProfile = 0x19,
  kSoftwareProgressMarker = 0x80,
  kHostIdentifier = 0x81,
  kReservationNotificationMask = 0x82,
  kReservationPersistence = 0x83,
  kNamespaceWriteProtection = 0x84,
};

/// Number of Queues (07h): I/O queues asked for, or granted; counts of 1 to 65535.
struct NumberOfQueues {
  std::uint32_t sq = 1;
  std::uint32_t cq = 1;

  [[nodiscard]] constexpr std::uint32_t to_dword() const { return ((sq - 1) & 0xFFFF) | (((cq - 1) & 0xFFFF) << 16); }
  [[nodiscard]] static constexpr NumberOfQueues from_dword(std::uint32_t dword) {
    return {.sq = get_bits<0, 16>(dword) + 1, .cq = get_bits<16, 16>(dword) + 1};
  }
  friend constexpr bool operator==(const NumberOfQueues&, const NumberOfQueues&) = default;
};

/// Keep Alive Timer (0Fh): milliseconds, 0 disables; a controller may round up to its granularity (KAS).
struct KeepAliveTimer {
  std::uint32_t kato_ms = 0;
  [[nodiscard]] constexpr std::uint32_t to_dword() const { return kato_ms; }
  [[nodiscard]] static constexpr KeepAliveTimer from_dword(std::uint32_t dword) { return {.kato_ms = dword}; }
};

/// Volatile Write Cache (06h).
struct VolatileWriteCache {
  bool enabled = false;
  [[nodiscard]] constexpr std::uint32_t to_dword() const { return enabled ? 1U : 0U; }
  [[nodiscard]] static constexpr VolatileWriteCache from_dword(std::uint32_t dword) {
    return {.enabled = get_bit<0>(dword)};
  }
};

/// Asynchronous Event Configuration (0Bh): which events the host wants to hear of. OAES of Identify Controller uses the
/// same bits 31:8.
struct AsyncEventConfig {
  std::uint8_t smart_critical = 0;    ///< bits 7:0: one per critical warning of the SMART log
  bool namespace_attribute = false;   ///< bit 8
  bool firmware_activation = false;   ///< bit 9
  bool ana_change = false;            ///< bit 11
  bool discovery_log_change = false;  ///< bit 31

  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    std::uint32_t dword = smart_critical;
    dword = set_bit<8>(dword, namespace_attribute);
    dword = set_bit<9>(dword, firmware_activation);
    dword = set_bit<11>(dword, ana_change);
    return set_bit<31>(dword, discovery_log_change);
  }
  [[nodiscard]] static constexpr AsyncEventConfig from_dword(std::uint32_t dword) {
    return {.smart_critical = static_cast<std::uint8_t>(get_bits<0, 8>(dword)),
            .namespace_attribute = get_bit<8>(dword),
            .firmware_activation = get_bit<9>(dword),
            .ana_change = get_bit<11>(dword),
            .discovery_log_change = get_bit<31>(dword)};
  }
  friend constexpr bool operator==(const AsyncEventConfig&, const AsyncEventConfig&) = default;
};

/// Arbitration (01h).
struct Arbitration {
  std::uint8_t burst = 7;  ///< power of two, 7: no limit
  std::uint8_t low_weight = 0;
  std::uint8_t medium_weight = 0;
  std::uint8_t high_weight = 0;
  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    return (burst & 7U) | (std::uint32_t{low_weight} << 8) | (std::uint32_t{medium_weight} << 16) |
           (std::uint32_t{high_weight} << 24);
  }
  [[nodiscard]] static constexpr Arbitration from_dword(std::uint32_t dword) {
    return {.burst = static_cast<std::uint8_t>(get_bits<0, 3>(dword)),
            .low_weight = static_cast<std::uint8_t>(get_bits<8, 8>(dword)),
            .medium_weight = static_cast<std::uint8_t>(get_bits<16, 8>(dword)),
            .high_weight = static_cast<std::uint8_t>(get_bits<24, 8>(dword))};
  }
};

/// Host Identifier (81h), CDW11 bit 0: the extended form, 16 bytes of data. Fabrics allows only that form.
inline constexpr std::uint32_t kExtendedHostId = 1;

/// Temperature Threshold (04h), CDW11.
struct TemperatureThreshold {
  std::uint16_t kelvin = 0;
  std::uint8_t sensor = 0;  ///< TMPSEL; 0: composite, Fh: all
  bool under = false;       ///< THSEL: under (true) or over temperature
  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    return kelvin | (std::uint32_t{sensor & 0x0FU} << 16) | (under ? 1U << 20 : 0U);
  }
  [[nodiscard]] static constexpr TemperatureThreshold from_dword(std::uint32_t dword) {
    return {.kelvin = static_cast<std::uint16_t>(get_bits<0, 16>(dword)),
            .sensor = static_cast<std::uint8_t>(get_bits<16, 4>(dword)),
            .under = get_bits<20, 2>(dword) == 1};
  }
};

/// Capabilities that Get Features with FeatureSelect::kCapabilities returns in DW0 (NVMe Base 2.0, 5.15.1).
struct FeatureCapabilities {
  bool saveable = false;
  bool namespace_specific = false;
  bool changeable = false;
  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    return (saveable ? 1U : 0U) | (namespace_specific ? 2U : 0U) | (changeable ? 4U : 0U);
  }
  [[nodiscard]] static constexpr FeatureCapabilities from_dword(std::uint32_t dword) {
    return {.saveable = get_bit<0>(dword), .namespace_specific = get_bit<1>(dword), .changeable = get_bit<2>(dword)};
  }
};

/// Asynchronous Event Type (DW0 bits 2:0; NVMe Base 2.0, 5.2.1).
enum class AsyncEventType : std::uint8_t {
  kError = 0,
  kSmart = 1,
  kNotice = 2,
  kImmediate = 3,
  kIoCommandSet = 6,
  kVendor = 7,
};
/// Asynchronous Event Information for AsyncEventType::kNotice.
enum class NoticeInfo : std::uint8_t {
  kNamespaceAttributeChanged = 0x00,
  kFirmwareActivationStarting = 0x01,
  kTelemetryLogChanged = 0x02,
  kAnaChange = 0x03,
  kDiscoveryLogChanged = 0xF0,
};
/// Asynchronous Event Information for AsyncEventType::kError.
enum class ErrorInfo : std::uint8_t {
  kInvalidDoorbellRegister = 0x00,
  kInvalidDoorbellValue = 0x01,
  kDiagnosticFailure = 0x02,
  kPersistentInternalError = 0x03,
  kTransientInternalError = 0x04,
  kFirmwareImageLoadError = 0x05,
};
/// Asynchronous Event Information for AsyncEventType::kSmart.
enum class SmartInfo : std::uint8_t { kReliability = 0x00, kTemperature = 0x01, kSpareBelowThreshold = 0x02 };

/// DW0 of an Asynchronous Event Request's completion.
struct AsyncEvent {
  AsyncEventType type = AsyncEventType::kNotice;
  std::uint8_t info = 0;      ///< NoticeInfo, ErrorInfo or SmartInfo, by type
  std::uint8_t log_page = 0;  ///< the LogPage to read to clear the event

  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    return (static_cast<std::uint32_t>(type) & 7) | (std::uint32_t{info} << 8) | (std::uint32_t{log_page} << 16);
  }
  [[nodiscard]] static constexpr AsyncEvent from_dword(std::uint32_t dword) {
    return {.type = static_cast<AsyncEventType>(get_bits<0, 3>(dword)),
            .info = static_cast<std::uint8_t>(get_bits<8, 8>(dword)),
            .log_page = static_cast<std::uint8_t>(get_bits<16, 8>(dword))};
  }
  friend constexpr bool operator==(const AsyncEvent&, const AsyncEvent&) = default;
};

/// The notices Leap's own host and target use.
inline constexpr AsyncEvent kNamespaceChangedEvent{
    AsyncEventType::kNotice, static_cast<std::uint8_t>(NoticeInfo::kNamespaceAttributeChanged), 0x04};
inline constexpr AsyncEvent kDiscoveryChangedEvent{AsyncEventType::kNotice,
                                                   static_cast<std::uint8_t>(NoticeInfo::kDiscoveryLogChanged), 0x70};

}  // namespace leap::nvme

// TargetConfig: what an NVMe/TCP target serves, to whom, and within which limits. Every limit has a name here.
//
//   TargetConfig config;
//   config.nqn = "nqn.2024-01.io.example:disk1";
//   config.listen = {SocketAddress::parse("127.0.0.1:4420").value()};
//   config.namespaces.push_back({.device = &device});
//   LEAP_TRY_VOID(config.validate());
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/units.h"
#include "base/uuid.h"
#include "bdev/block_device.h"

namespace leap {

/// Namespaces a subsystem may have, and the largest nsid. What Identify reports as NN.
inline constexpr std::uint32_t kMaxNsid = 1024;

/// One namespace of the subsystem. The device must outlive the target.
struct NamespaceConfig {
  BlockDevice* device = nullptr;
  std::uint32_t nsid = 0;  ///< 1..1024; 0: the lowest free one, in order of configuration
  std::uint64_t size = 0;  ///< bytes hosts see of the device, whole blocks; 0: all of it
  std::string name{};      ///< what the identity derives from; empty: the device's name
  Uuid uuid{};             ///< nil: derived from the subsystem NQN and the name, the same after every restart
  std::optional<std::array<std::byte, 16>> nguid{};  ///< derived from the UUID when absent
};

/// When a successful read answers with the SUCCESS flag of its last C2HData instead of a response capsule of its own.
enum class C2hSuccess : std::uint8_t {
  kNever,
  kWithoutFlowControl,  ///< only where the host disabled SQ flow control, and so does not wait for SQHD
  kAlways,  ///< as SPDK does: SQHD then travels with the next response capsule; Linux, SPDK, FreeBSD and Leap accept it
};

struct TargetConfig {
  std::vector<SocketAddress> listen;  ///< port 0: the system chooses, see NvmeTarget::addresses()
  std::string nqn;                    ///< of the one NVM subsystem
  std::vector<NamespaceConfig> namespaces;
  std::vector<std::string> allowed_hosts;  ///< host NQNs; empty: any host
  std::vector<SocketAddress> referrals;    ///< other discovery services that ours points to, at most 64
  std::string serial;                      ///< at most 20 ASCII characters; empty: derived from the NQN
  std::string firmware = "1";              ///< at most 8 ASCII characters: the version of the program

  std::uint32_t queue_depth = 128;       ///< entries of a submission queue, 2..1024; slots are preallocated
  std::uint32_t max_io_queues = 64;      ///< I/O queue pairs per controller, 1..1024
  std::uint32_t max_controllers = 256;   ///< associations at the same time, 1..4096
  std::uint32_t max_connections = 1024;  ///< TCP connections at the same time, 1..65536
  std::uint32_t in_capsule_data_size =
      8192;                                ///< bytes, 0..64 KiB, a multiple of 16; Fabrics and Admin always have 8 KiB
  std::uint32_t max_io_size = 1U << 20;    ///< bytes, a power of two, 4 KiB..1 MiB: MDTS
  std::uint32_t max_h2c_data = 1U << 20;   ///< MAXH2CDATA: bytes, a multiple of 4, 4 KiB..1 MiB
  std::uint32_t max_c2h_data = 1U << 20;   ///< bytes of one C2HData, 16 KiB..1 MiB
  std::uint32_t max_r2t_bytes = 1U << 20;  ///< bytes one R2T asks for, 4 KiB..1 MiB
  std::uint32_t max_r2ts = 1;  ///< R2Ts outstanding per command, 1..16; never more than the host's MAXR2T allows
  bool header_digest = true;   ///< grant header digests to hosts that ask
  bool data_digest = true;     ///< grant data digests to hosts that ask
  C2hSuccess c2h_success = C2hSuccess::kAlways;
  bool protocol_checker = false;  ///< hold every PDU of both ends against the specification; log and count offences

  std::string chaos;           ///< faults to inject (chaos/spec.h); empty: none
  bool chaos_control = false;  ///< NvmeTarget::set_chaos() may change them while it runs

  Nanos handshake_timeout = std::chrono::seconds(10);  ///< from accept to a successful Connect
  Nanos stall_timeout = std::chrono::seconds(30);  ///< a peer that owes us data, or reads nothing, is closed after this
  Nanos linger_timeout =
      std::chrono::seconds(1);  ///< for a peer to read our last words (C2HTermReq, Disconnect) and close
  Nanos max_keep_alive = std::chrono::hours(24);  ///< a longer KATO is cut down to this

  /// Fills in nsids and names the first thing that is wrong. Error: kInvalidArgument of domain kConfig.
  Result<> validate();
};

/// The parts of validate() for what may be changed while a target runs.
[[nodiscard]] Result<> validate_allowed_hosts(const std::vector<std::string>& hosts);
[[nodiscard]] Result<> validate_referrals(const std::vector<SocketAddress>& referrals);

}  // namespace leap

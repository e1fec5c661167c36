// DeviceLease: one worker per device, without leaving the device stuck after a crash.
//
// A page beside the first superblock (Superblock::kLeaseOffset) says who holds the device: a random token, kernel boot
// id, PID namespace, process id and start time, and a counter that the holder moves every heartbeat. Whoever opens the
// device
//   * takes it at once when it is free, or when the holder ran under this kernel and its process is gone (a crash);
//   * is refused at once when that process lives;
//   * otherwise (another machine or container, or this machine before a reboot) watches the counter for the timeout: if it
//     moves it is refused, if it stands still the holder is dead.
// After taking it, the page is read again a moment later, so that of two who came together only the last writer goes
// on. The holder reads the page before each heartbeat and, finding another token, stops writing (renew() fails with
// kBusy).
//
// This is no fencing: a holder that was frozen for longer than the timeout can still have one write under way when it
// wakes. It is there against mistakes (two workers configured on one device), beside RocksDB's lock on the metadata
// directory.
//
// Threading: tasks on the poller of the channel; a lease also dies there, its page is that poller's memory.
// read_lease_holder() blocks on /proc.
//
//   LEAP_CO_TRY(DeviceLease lease, co_await DeviceLease::acquire(io, holder, timing));
//   LEAP_CO_TRY_VOID(co_await lease.renew(io));     // every timing.heartbeat
//   LEAP_CO_TRY_VOID(co_await lease.release(io));
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "bdev/block_device.h"
#include "poller/task.h"
#include "store/types.h"

namespace leap {

/// A process, so exactly that a later one with the same number is not taken for it.
struct LeaseHolder {
  std::string host;     ///< name, for messages only; at most 64 bytes are kept
  std::string boot_id;  ///< of the running kernel
  std::uint64_t pid_namespace = 0;
  std::uint64_t pid = 0;
  std::uint64_t start_time = 0;  ///< clock ticks since boot
  friend bool operator==(const LeaseHolder&, const LeaseHolder&) = default;
};

struct LeaseRecord {
  static constexpr std::size_t kBytes = 4096;

  bool held = false;
  Uuid token;
  LeaseHolder holder;
  std::uint64_t counter = 0;
  std::uint64_t heartbeat_ms = 0;
  friend bool operator==(const LeaseRecord&, const LeaseRecord&) = default;
};

void encode_lease(const LeaseRecord& record, std::span<std::byte, LeaseRecord::kBytes> out);
/// A page of zeros is a free lease. kCorrupt otherwise when it is no lease.
Result<LeaseRecord> decode_lease(std::span<const std::byte> bytes);

/// This process.
LeaseHolder read_lease_holder();

enum class Liveness : std::uint8_t { kAlive, kDead, kUnknown };
/// Whether the holder of `record` lives, as far as `self` can tell from its own kernel.
Liveness judge_lease(const LeaseRecord& record, const LeaseHolder& self);

/// What the lease needs for its I/O.
struct LeaseIo {
  BlockChannel& channel;
  NvmePoller& poller;
  DmaPool& pool;
};

class DeviceLease {
 public:
  struct Timing {
    Nanos heartbeat = std::chrono::seconds(5);
    Nanos timeout = std::chrono::seconds(15);      ///< a counter that stands still this long belongs to nobody
    Nanos settle = std::chrono::milliseconds(20);  ///< between taking it and looking again
  };

  /// kBusy names the holder. Device errors.
  static Task<Result<DeviceLease>> acquire(LeaseIo io, LeaseHolder self, Timing timing);
  /// kBusy when somebody living holds the device; changes nothing.
  static Task<Result<>> check_free(LeaseIo io, LeaseHolder self, Timing timing);

  DeviceLease(DeviceLease&& other) noexcept;
  DeviceLease& operator=(DeviceLease&& other) noexcept;
  ~DeviceLease();  ///< forgets it without touching the device, as a crash would

  /// Moves the counter. kBusy: somebody else has taken the device.
  Task<Result<>> renew(LeaseIo io);
  Task<Result<>> release(LeaseIo io);

 private:
  DeviceLease(LeaseRecord record, DmaBuf page) : record_(std::move(record)), page_(std::move(page)) {}
  LeaseRecord record_;  // token nil: moved from or released
  DmaBuf page_;         // for every heartbeat: it must never wait for clients to give memory back
};

}  // namespace leap

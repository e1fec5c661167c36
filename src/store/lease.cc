#include "store/lease.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "poller/dma_await.h"
#include "store/superblock.h"

namespace leap {
namespace {

// 0 magic[8]  8 version u32  12 held u32  16 token[16]  32 counter u64  40 heartbeat_ms u64  48 pid_namespace u64  56
// pid u64 64 start_time u64  72 boot_id[40]  112 host[64]  ...  4092 crc u32. Little-endian; text is zero-padded.
constexpr char kMagic[8] = {'L', 'E', 'A', 'P', 'L', 'E', 'A', 'S'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kBootAt = 72;
constexpr std::size_t kBootBytes = 40;
constexpr std::size_t kHostAt = 112;
constexpr std::size_t kHostBytes = 64;
constexpr std::size_t kCrcAt = LeaseRecord::kBytes - 4;

// Leases held by this process: a record with our own process id is alive only if its token is here.
std::mutex g_held_mutex;
std::set<Uuid>& held_here() {
  static auto* const tokens = new std::set<Uuid>();  // never destroyed: leases may be released while statics die
  return *tokens;
}
void note_held(const Uuid& token, bool held) {
  const std::lock_guard lock(g_held_mutex);
  if (held)
    held_here().insert(token);
  else
    held_here().erase(token);
}
bool is_held_here(const Uuid& token) {
  const std::lock_guard lock(g_held_mutex);
  return held_here().contains(token);
}

std::string read_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// Field 22 of /proc/<pid>/stat; 0 when there is no such process. The command name may contain blanks and parentheses.
std::uint64_t start_time_of(std::uint64_t pid) {
  const std::string stat = read_line(fmt::format("/proc/{}/stat", pid));
  std::size_t at = stat.rfind(')');
  if (at == std::string::npos) return 0;
  for (int field = 2; field < 22; ++field) {
    at = stat.find(' ', at + 1);
    if (at == std::string::npos) return 0;
  }
  return std::strtoull(stat.c_str() + at, nullptr, 10);
}

std::string text_at(const std::byte* from, std::size_t size) {
  const char* const begin = reinterpret_cast<const char*>(from);
  return std::string(begin, strnlen(begin, size));
}

std::string describe(const LeaseRecord& record) {
  return fmt::format("process {} on {} (lease {})", record.holder.pid, record.holder.host, record.token);
}

Error busy(const LeaseRecord& record) {
  return Error(Errc::kBusy, "the device is in use by " + describe(record))
      .in(ErrorDomain::kStore)
      .with_scope(ErrorScope::kDevice);
}

using Page = std::array<std::byte, LeaseRecord::kBytes>;

Task<Result<>> read_page(LeaseIo io, Page& out) {
  LEAP_CO_TRY(DmaBuf buffer, co_await allocate(io.poller, io.pool, out.size()));
  LEAP_CO_TRY(DmaBuf read, co_await io.channel.read(Superblock::kLeaseOffset, std::move(buffer)));
  std::memcpy(out.data(), read.data(), out.size());
  co_return Result<>{};
}

Task<Result<>> write_record(LeaseIo io, LeaseRecord record, DmaBuf page) {
  encode_lease(record, std::span<std::byte, LeaseRecord::kBytes>(page.data(), LeaseRecord::kBytes));
  co_return co_await io.channel.write(Superblock::kLeaseOffset, std::move(page));
}

}  // namespace

void encode_lease(const LeaseRecord& record, std::span<std::byte, LeaseRecord::kBytes> out) {
  std::byte* const p = out.data();
  std::memset(p, 0, out.size());
  std::memcpy(p, kMagic, sizeof kMagic);
  store_le32(p + 8, kVersion);
  store_le32(p + 12, record.held ? 1 : 0);
  std::memcpy(p + 16, record.token.bytes.data(), 16);
  store_le64(p + 32, record.counter);
  store_le64(p + 40, record.heartbeat_ms);
  store_le64(p + 48, record.holder.pid_namespace);
  store_le64(p + 56, record.holder.pid);
  store_le64(p + 64, record.holder.start_time);
  std::memcpy(p + kBootAt, record.holder.boot_id.data(), std::min(kBootBytes, record.holder.boot_id.size()));
  std::memcpy(p + kHostAt, record.holder.host.data(), std::min(kHostBytes, record.holder.host.size()));
  store_le32(p + kCrcAt, crc32c(out.first(kCrcAt)));
}

Result<LeaseRecord> decode_lease(std::span<const std::byte> bytes) {
  const auto corrupt = [](const char* what) {
    return Error(Errc::kCorrupt, std::string("device lease: ") + what).in(ErrorDomain::kStore);
  };
  if (bytes.size() < LeaseRecord::kBytes) return corrupt("too short");
  if (std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; })) return LeaseRecord{};
  const std::byte* const p = bytes.data();
  if (std::memcmp(p, kMagic, sizeof kMagic) != 0) return corrupt("no lease record");
  if (load_le32(p + kCrcAt) != crc32c(bytes.first(kCrcAt))) return corrupt("its checksum does not match");
  if (load_le32(p + 8) != kVersion) return corrupt("unknown version");
  LeaseRecord record;
  record.held = load_le32(p + 12) != 0;
  std::memcpy(record.token.bytes.data(), p + 16, 16);
  record.counter = load_le64(p + 32);
  record.heartbeat_ms = load_le64(p + 40);
  record.holder.pid_namespace = load_le64(p + 48);
  record.holder.pid = load_le64(p + 56);
  record.holder.start_time = load_le64(p + 64);
  record.holder.boot_id = text_at(p + kBootAt, kBootBytes);
  record.holder.host = text_at(p + kHostAt, kHostBytes);
  return record;
}

LeaseHolder read_lease_holder() {
  LeaseHolder self;
  std::array<char, kHostBytes> name{};
  if (gethostname(name.data(), name.size() - 1) == 0) self.host = name.data();
  self.boot_id = read_line("/proc/sys/kernel/random/boot_id");
  struct stat ns {};
  if (stat("/proc/self/ns/pid", &ns) == 0) self.pid_namespace = ns.st_ino;
  self.pid = static_cast<std::uint64_t>(getpid());
  self.start_time = start_time_of(self.pid);
  return self;
}

Liveness judge_lease(const LeaseRecord& record, const LeaseHolder& self) {
  if (!record.held) return Liveness::kDead;
  const LeaseHolder& holder = record.holder;
  const bool same_kernel = !self.boot_id.empty() && holder.boot_id == self.boot_id && self.pid_namespace != 0 &&
                           holder.pid_namespace == self.pid_namespace;
  if (!same_kernel) return Liveness::kUnknown;
  if (holder.pid == self.pid && holder.start_time == self.start_time) {
    return is_held_here(record.token) ? Liveness::kAlive : Liveness::kDead;
  }
  return start_time_of(holder.pid) == holder.start_time ? Liveness::kAlive : Liveness::kDead;
}

Task<Result<>> DeviceLease::check_free(LeaseIo io, LeaseHolder self, Timing timing) {
  Page page;
  LEAP_CO_TRY_VOID(co_await read_page(io, page));
  Result<LeaseRecord> seen = decode_lease(page);
  Nanos watch = timing.timeout;
  if (seen) {
    const Liveness liveness = judge_lease(*seen, self);
    if (liveness == Liveness::kDead) co_return Result<>{};
    if (liveness == Liveness::kAlive) co_return busy(*seen);
    // Its own heartbeat may be slower than ours; but a damaged number must not make us wait for ever.
    const Nanos its_timeout = 3 * std::chrono::milliseconds(std::min<std::uint64_t>(seen->heartbeat_ms, 60'000));
    watch = std::max(watch, its_timeout);
  }
  const TimePoint until = io.poller.clock().now() + watch;
  while (io.poller.clock().now() < until) {
    co_await io.poller.sleep_for(std::max<Nanos>(watch / 20, std::chrono::milliseconds(1)));
    Page again;
    LEAP_CO_TRY_VOID(co_await read_page(io, again));
    if (again == page) continue;
    Result<LeaseRecord> now = decode_lease(again);
    if (now && !now->held) co_return Result<>{};
    co_return busy(now ? *now : LeaseRecord{});
  }
  co_return Result<>{};
}

Task<Result<DeviceLease>> DeviceLease::acquire(LeaseIo io, LeaseHolder self, Timing timing) {
  LEAP_CO_TRY_VOID(co_await check_free(io, self, timing));
  LeaseRecord mine;
  mine.held = true;
  mine.token = Uuid::random();
  mine.holder = std::move(self);
  mine.counter = 1;
  mine.heartbeat_ms =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(timing.heartbeat).count());
  LEAP_CO_TRY(DmaBuf buffer, co_await allocate(io.poller, io.pool, LeaseRecord::kBytes));
  DeviceLease lease(mine, std::move(buffer));
  note_held(mine.token, true);
  LEAP_CO_TRY_VOID(co_await write_record(io, mine, lease.page_.slice(0, LeaseRecord::kBytes)));
  co_await io.poller.sleep_for(timing.settle);
  Page page;
  LEAP_CO_TRY_VOID(co_await read_page(io, page));
  Result<LeaseRecord> stored = decode_lease(page);
  if (!stored) co_return std::move(stored).error();
  if (stored->token != mine.token) co_return busy(*stored);
  co_return std::move(lease);
}

Task<Result<>> DeviceLease::renew(LeaseIo io) {
  LEAP_CO_TRY(const DmaBuf read,
              co_await io.channel.read(Superblock::kLeaseOffset, page_.slice(0, LeaseRecord::kBytes)));
  Result<LeaseRecord> stored = decode_lease(read.bytes());
  if (!stored || stored->token != record_.token) {
    co_return Error(Errc::kBusy, "the device was taken over by " + (stored ? describe(*stored) : "somebody unknown"))
        .in(ErrorDomain::kStore)
        .with_scope(ErrorScope::kDevice);
  }
  ++record_.counter;
  co_return co_await write_record(io, record_, page_.slice(0, LeaseRecord::kBytes));
}

Task<Result<>> DeviceLease::release(LeaseIo io) {
  LeaseRecord free = record_;
  free.held = false;
  Result<> written = co_await write_record(io, free, std::move(page_));
  note_held(record_.token, false);
  record_.token = Uuid{};
  co_return written;
}

DeviceLease::DeviceLease(DeviceLease&& other) noexcept
    : record_(std::exchange(other.record_, {})), page_(std::move(other.page_)) {}

DeviceLease& DeviceLease::operator=(DeviceLease&& other) noexcept {
  if (this != &other) {
    if (!record_.token.is_nil()) note_held(record_.token, false);
    record_ = std::exchange(other.record_, {});
    page_ = std::move(other.page_);
  }
  return *this;
}

DeviceLease::~DeviceLease() {
  if (!record_.token.is_nil()) note_held(record_.token, false);
}

}  // namespace leap

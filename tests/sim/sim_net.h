// SimNet: TCP inside a simulation: connections between one listening target and its hosts, in virtual time.
//
// Bytes travel in segments with a latency each, in order; reads return any part of what has arrived, writes take any
// part of what fits the window. A connection may be given one fault, which strikes when a direction has carried a given
// number of bytes:
//
//   reset       both ends get ECONNRESET; bytes behind the mark are lost, arrived ones may be
//   half-close  the reader sees the end of the stream; what is written later is answered by a reset
//   blackhole   nothing arrives any more in either direction, until TCP gives up and resets
//   stall       everything behind the mark is late
//   corrupt     one bit flips
//   refuse, lose: connection attempts that are turned down or never answered
//
// A closed end behaves as the kernel's: FIN after what was sent, or a reset when unread bytes were thrown away.
//
//   SimNet net(clock, rng, plan, trace);
//   auto backend = net.make_backend();          // one per poller: readiness of the streams attached there
//   net.next_event();                           // when something arrives next, for the owner of the clock
//
// Threading: one thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"
#include "poller/net.h"
#include "trace.h"

namespace leap::sim {

enum class NetFault : std::uint8_t { kNone, kReset, kHalfClose, kBlackhole, kStall, kCorrupt };

struct NetPlan {
  std::int64_t latency_min_ns = 2'000;
  std::int64_t latency_max_ns = 60'000;
  double late_segment = 0.02;  ///< share of segments that take up to late_max_ns
  std::int64_t late_max_ns = 3'000'000;
  double split = 0.3;               ///< share of reads and writes that move only a part
  std::size_t window = 256 * 1024;  ///< bytes under way per direction
  double refuse = 0.0;              ///< share of connection attempts
  double lose_connect = 0.0;
  double accept_error = 0.0;              ///< share of accepts that find no descriptor free
  double fault = 0.0;                     ///< share of connections with a fault
  std::uint64_t fault_within = 200'000;   ///< bytes of a direction before it strikes, at most
  double corrupt = 0.0;                   ///< share of the faults that flip a bit; only where digests are agreed on
  std::uint64_t blackhole_max_ms = 4000;  ///< until TCP gives up
};

/// Something a poller waits for.
class SimSource {
 public:
  virtual ~SimSource() = default;
  [[nodiscard]] virtual bool ready(Interest interest) const = 0;
};

/// Both directions of one connection and what each end knows. Shared by its two streams.
struct SimLink {
  struct Segment {
    TimePoint at;
    std::uint64_t end;  // position in the direction's stream of bytes
  };
  struct Pipe {
    std::vector<std::byte> bytes;  // from position `read` on, behind `consumed` dead ones
    std::size_t consumed = 0;
    std::deque<Segment> segments;
    std::uint64_t written = 0;
    std::uint64_t read = 0;
    TimePoint last_arrival;
    std::optional<TimePoint> fin;  // the end of the stream becomes visible
    NetFault fault = NetFault::kNone;
    std::uint64_t fault_at = 0;
    bool cut = false;  // whatever is written from now on is lost
  };
  struct End {
    bool open = false;
    bool shut_down = false;
    TimePoint error_at = TimePoint::max();
    int error = 0;
    bool loses_unread = false;  // the reset takes what has arrived along
  };

  std::array<Pipe, 2> to;   // [0] towards the host, [1] towards the target
  std::array<End, 2> ends;  // [0] the host's, [1] the target's
  TimePoint settled_at;     // the attempt is over
  bool connecting = true;
  int connect_error = 0;
  SocketAddress address;
};

class SimNet final : public Net {
 public:
  static constexpr std::size_t kHost = 0;
  static constexpr std::size_t kTarget = 1;

  SimNet(const Clock& clock, Rng rng, const NetPlan& plan, Trace& trace);
  ~SimNet() override;

  Result<std::unique_ptr<Stream>> connect(const SocketAddress& address) override;
  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress& address) override;
  [[nodiscard]] std::unique_ptr<WaitBackend> make_backend();

  /// Ends connection attempts whose time has come. Call whenever time has moved.
  void settle();
  /// TimePoint::max(): nothing will happen by itself.
  [[nodiscard]] TimePoint next_event() const;
  /// The target's machine is gone: every connection ends, at once or when its host's TCP notices.
  void lose_target();
  /// No further faults.
  void heal();

  /// Connections of which the host has let go and the target has not: commands on them may still be on their way.
  [[nodiscard]] std::size_t half_dead() const;
  [[nodiscard]] std::size_t open_streams() const { return open_streams_; }
  [[nodiscard]] std::uint64_t faults() const { return faults_; }

 private:
  friend class SimStream;
  friend class SimAcceptor;
  friend class SimBackend;

  [[nodiscard]] TimePoint now() const { return clock_.now(); }
  [[nodiscard]] TimePoint arrival(SimLink::Pipe& pipe);
  ssize_t read(SimLink& link, std::size_t end, const iovec* iov, int count);
  ssize_t write(SimLink& link, std::size_t end, const iovec* iov, int count);
  void close(SimLink& link, std::size_t end);
  void append(SimLink::Pipe& pipe, const iovec* iov, int count, std::size_t bytes);
  void strike(SimLink& link, std::size_t towards);
  void reset(SimLink& link, std::size_t end, TimePoint at);
  void finish(SimLink::Pipe& pipe);
  [[nodiscard]] std::size_t arrived(const SimLink::Pipe& pipe) const;
  [[nodiscard]] std::size_t part(std::size_t available);
  [[nodiscard]] bool readable(const SimLink& link, std::size_t end) const;
  [[nodiscard]] bool writable(const SimLink& link, std::size_t end) const;
  void choose_fault(SimLink& link);
  void forget_dead_links();

  const Clock& clock_;
  Rng rng_;
  NetPlan plan_;
  Trace& trace_;
  std::vector<std::shared_ptr<SimLink>> links_;
  std::deque<std::shared_ptr<SimLink>> backlog_;
  class SimAcceptor* listener_ = nullptr;
  std::map<int, SimSource*> sources_;
  int next_fd_ = 1000;
  std::size_t open_streams_ = 0;
  std::uint64_t faults_ = 0;
};

}  // namespace leap::sim

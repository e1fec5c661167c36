// ScriptedStream: a Stream in memory whose peer follows a script: pieces, delays, would-block, end, reset.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "poller/net.h"
#include "virtual_poller.h"

namespace leap::test {

/// What the peer does next. One readv takes from one piece only, one writev is answered by one step.
struct PeerStep {
  enum class Kind { kBytes, kDelay, kAgain, kEnd, kError };
  Kind kind;
  std::vector<std::byte> bytes;  // kBytes of the receiving script
  std::size_t count = 0;         // kBytes of the sending script: how many are taken
  Nanos delay{0};
  int error = 0;

  static PeerStep data(std::vector<std::byte> bytes) { return {Kind::kBytes, std::move(bytes), 0, Nanos{0}, 0}; }
  static PeerStep take(std::size_t count) { return {Kind::kBytes, {}, count, Nanos{0}, 0}; }
  /// Nothing happens for a while.
  static PeerStep wait(Nanos delay) { return {Kind::kDelay, {}, 0, delay, 0}; }
  /// One "would block" although the descriptor was reported: a spurious wake-up.
  static PeerStep again() { return {Kind::kAgain, {}, 0, Nanos{0}, 0}; }
  static PeerStep end() { return {Kind::kEnd, {}, 0, Nanos{0}, 0}; }
  static PeerStep fail(int error) { return {Kind::kError, {}, 0, Nanos{0}, error}; }
};

/// The test's side of the connection; outlives the stream.
struct Peer {
  std::deque<PeerStep> incoming;    // then: silence
  std::deque<PeerStep> outgoing;    // how writes go; then as `reads_on` says
  bool reads_on = true;             // false: the peer takes nothing any more
  bool hung_up = false;             // reported in every wait from now on
  int connect_result = 0;           // errno of the attempt
  std::vector<std::byte> received;  // what the peer got
  std::size_t readv_calls = 0;
  std::size_t writev_calls = 0;
  std::size_t attach_calls = 0;
  bool closed = false;
};

class ScriptedStream final : public Stream, private VirtualSource {
 public:
  ScriptedStream(VirtualPoller& sim, Peer& peer) : sim_(sim), peer_(peer), fd_(sim.backend().add(*this)) {}
  ~ScriptedStream() override {
    sim_.backend().remove(fd_);
    peer_.closed = true;
  }

  ssize_t readv(const iovec* iov, int count) override {
    ++peer_.readv_calls;
    PeerStep* step = front(peer_.incoming);
    if (step == nullptr) return -EAGAIN;
    switch (step->kind) {
      case PeerStep::Kind::kBytes: break;
      case PeerStep::Kind::kDelay: return -EAGAIN;
      case PeerStep::Kind::kAgain: peer_.incoming.pop_front(); return -EAGAIN;
      case PeerStep::Kind::kEnd: return 0;
      case PeerStep::Kind::kError: {
        const int error = step->error;
        *step = PeerStep::end();  // the kernel tells an error once
        return -error;
      }
    }
    std::size_t done = 0;
    for (int i = 0; i < count && done < step->bytes.size(); ++i) {
      const std::size_t part = std::min(iov[i].iov_len, step->bytes.size() - done);
      std::memcpy(iov[i].iov_base, step->bytes.data() + done, part);
      done += part;
    }
    step->bytes.erase(step->bytes.begin(), step->bytes.begin() + static_cast<std::ptrdiff_t>(done));
    if (step->bytes.empty()) peer_.incoming.pop_front();
    return static_cast<ssize_t>(done);
  }

  ssize_t writev(const iovec* iov, int count) override {
    ++peer_.writev_calls;
    std::size_t limit = peer_.reads_on ? SIZE_MAX : 0;
    if (PeerStep* step = front(peer_.outgoing)) {
      if (step->kind == PeerStep::Kind::kDelay) return -EAGAIN;
      if (step->kind == PeerStep::Kind::kError) return -step->error;
      limit = step->kind == PeerStep::Kind::kBytes ? step->count : 0;
      peer_.outgoing.pop_front();
    }
    if (limit == 0) return -EAGAIN;
    std::size_t done = 0;
    for (int i = 0; i < count && limit > 0; ++i) {
      const std::size_t part = std::min(iov[i].iov_len, limit);
      const auto* from = static_cast<const std::byte*>(iov[i].iov_base);
      peer_.received.insert(peer_.received.end(), from, from + part);
      limit -= part;
      done += part;
    }
    return static_cast<ssize_t>(done);
  }
  void shutdown_write() override {}

  Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override {
    ++peer_.attach_calls;
    if (Result<> watched = poller.watch(fd_, pollable, interest); !watched.ok()) return watched;
    poller_ = &poller;
    pollable_ = &pollable;
    return {};
  }
  void set_interest(Interest interest) override {
    if (poller_ != nullptr) poller_->rewatch(fd_, *pollable_, interest).ignore("it cannot fail");
  }
  void detach() override {
    if (poller_ != nullptr) std::exchange(poller_, nullptr)->unwatch(fd_);
  }
  int connect_error() override { return writable(sim_.clock().now()) ? peer_.connect_result : EINPROGRESS; }
  [[nodiscard]] std::string peer() const override { return "script"; }

 private:
  bool readable(TimePoint) override {
    const PeerStep* step = front(peer_.incoming);
    return step != nullptr && step->kind != PeerStep::Kind::kDelay;
  }
  bool writable(TimePoint) override {
    const PeerStep* step = front(peer_.outgoing);
    return step == nullptr ? peer_.reads_on : step->kind != PeerStep::Kind::kDelay;
  }
  bool hung_up() override { return peer_.hung_up; }
  TimePoint next_change(TimePoint) override {
    TimePoint next = TimePoint::max();
    for (auto* script : {&peer_.incoming, &peer_.outgoing}) {
      const PeerStep* step = front(*script);
      if (step != nullptr && step->kind == PeerStep::Kind::kDelay) next = std::min(next, due_[script]);
    }
    return next;
  }

  /// The current step, after delays that are over. A delay starts when it is first looked at.
  PeerStep* front(std::deque<PeerStep>& script) {
    while (!script.empty() && script.front().kind == PeerStep::Kind::kDelay) {
      const auto started = due_.try_emplace(&script, sim_.clock().now() + script.front().delay).first;
      if (sim_.clock().now() < started->second) break;
      due_.erase(started);
      script.pop_front();
    }
    return script.empty() ? nullptr : &script.front();
  }

  VirtualPoller& sim_;
  Peer& peer_;
  const int fd_;
  NvmePoller* poller_ = nullptr;
  Pollable* pollable_ = nullptr;
  std::map<std::deque<PeerStep>*, TimePoint> due_;
};

/// A Net whose next connection is scripted.
class ScriptedNet final : public Net {
 public:
  ScriptedNet(VirtualPoller& sim, Peer& peer) : sim_(sim), peer_(peer) {}
  Result<std::unique_ptr<Stream>> connect(const SocketAddress&) override {
    return std::unique_ptr<Stream>(std::make_unique<ScriptedStream>(sim_, peer_));
  }
  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress&) override {
    return Error(Errc::kUnsupported, "a scripted net does not listen");
  }

 private:
  VirtualPoller& sim_;
  Peer& peer_;
};

/// Bytes that say where they belong: no two positions of a stream look alike over a long stretch.
inline std::byte stamp(std::size_t position) {
  return static_cast<std::byte>((position * 0x9e3779b97f4a7c15ULL) >> 56);
}
inline std::vector<std::byte> stamped(std::size_t first, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = stamp(first + i);
  return bytes;
}

}  // namespace leap::test

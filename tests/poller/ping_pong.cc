// poller_ping_pong: one small message to and fro over loopback TCP between two pollers, one request at a time: what a
// turn, a spin and a sleep cost without anything on top. A tool to look at, not a test.
//
//   poller_ping_pong [--cores A,B] [--seconds N] [--bytes N] [--think-us N] [--spin-us N]
//
// --think-us: the client waits that long between a reply and the next request; --spin-us 0: never spin.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/cpu.h"
#include "base/histogram.h"
#include "base/sys.h"
#include "poller/net.h"
#include "poller/rx_buffer.h"
#include "poller/tx_queue.h"

namespace leap {
namespace {

struct Options {
  int cores[2] = {0, 1};
  long seconds = 3;
  long bytes = 64;
  long think_us = 0;
  long spin_us = 50;
};

/// One end: collects whole messages, sends one at the end of the turn.
class End : private Pollable, private TurnEndHook {
 public:
  End(NvmePoller& poller, const Options& options)
      : poller_(poller), message_(static_cast<std::size_t>(options.bytes)), rx_(256 * 1024), tx_(16, 16) {}
  virtual ~End() = default;

  void open(std::unique_ptr<Stream> stream) {
    stream_ = std::move(stream);
    stream_->attach(poller_, *this, Interest{}).value();
  }
  void send() {
    tx_.reference(message_, nullptr);
    poller_.at_turn_end(*this);
    poller_.heat(*this);
  }
  void close() {
    poller_.cool(*this);
    stream_.reset();
  }

  sys::Counters calls;
  Nanos cpu{0};

 protected:
  virtual void on_message() = 0;
  NvmePoller& poller_;

 private:
  std::size_t poll() override {
    const auto filled = rx_.fill(*stream_);
    if (filled.total <= 0) return 0;
    while (rx_.data().size() >= message_.size()) {
      rx_.consume(message_.size());
      on_message();
    }
    return 1;
  }
  void on_turn_end() override {
    if (stream_ != nullptr) tx_.flush(*stream_);
  }

  std::unique_ptr<Stream> stream_;
  std::vector<std::byte> message_;
  RxBuffer rx_;
  TxQueue tx_;
};

class Server final : public End {
 public:
  using End::End;

 private:
  void on_message() override { send(); }
};

class Client final : public End {
 public:
  Client(NvmePoller& poller, const Options& options)
      : End(poller, options), think_(options.think_us * 1000), timer_(poller.timers(), &Client::next, this) {}
  void end() {
    timer_.cancel();
    close();
  }
  void begin() {
    sent_ = poller_.clock().now();
    send();
  }
  Histogram latency;
  std::uint64_t trips = 0;

 private:
  static void next(void* self) { static_cast<Client*>(self)->begin(); }
  void on_message() override {
    const TimePoint now = poller_.clock().now();
    latency.record(now - sent_);
    ++trips;
    if (think_.count() == 0)
      begin();
    else
      timer_.arm(now + think_);
  }
  const Nanos think_;
  Timer timer_;
  TimePoint sent_;
};

std::unique_ptr<NvmePoller> make_poller(const Options& options, int index) {
  NvmePoller::Config config{.name = fmt::format("ping-{}", index), .core = options.cores[index]};
  config.spin_max = std::chrono::microseconds(options.spin_us);
  if (options.spin_us == 0) config.spin_iterations = 0;
  auto poller = NvmePoller::create(config).value();
  poller->start().value();
  return poller;
}

/// The thread's counters since the last time.
void note(End& end) {
  const sys::Counters now = sys::counters();
  sys::Counters delta = now;
  delta.receive -= end.calls.receive;
  delta.send -= end.calls.send;
  delta.wait -= end.calls.wait;
  end.calls = delta;
  end.cpu = thread_cpu_time() - end.cpu;
}

void print_end(const char* name, const End& end, const NvmePoller::Probe& probe, double trips, double seconds) {
  const double spin = static_cast<double>(probe.spin_ns.load()) / 1e9;
  fmt::print(
      "  {:6}  per trip: {:.2f} receive {:.2f} send {:.2f} wait, {:.1f} turns, {:.2f} sleeps; spinning {:.0f} % of the "
      "time;"
      " {:.0f} k receive+wait/s; cpu {:.0f} %\n",
      name, static_cast<double>(end.calls.receive) / trips, static_cast<double>(end.calls.send) / trips,
      static_cast<double>(end.calls.wait) / trips, static_cast<double>(probe.turns.load()) / trips,
      static_cast<double>(probe.sleeps.load()) / trips, 100 * spin / seconds,
      static_cast<double>(end.calls.receive + end.calls.wait) / seconds / 1e3,
      100.0 * static_cast<double>(end.cpu.count()) / 1e9 / seconds);
}

void measure(const Options& options) {
  auto client_poller = make_poller(options, 0);
  auto server_poller = make_poller(options, 1);
  Client client(*client_poller, options);
  Server server(*server_poller, options);
  auto acceptor = Net::system().listen(SocketAddress::from_numeric("127.0.0.1", 0).value()).value();
  auto out = Net::system().connect(acceptor->local_address()).value();
  std::unique_ptr<Stream> in;
  while (in == nullptr) in = acceptor->accept().value();
  server_poller->run([&](NvmePoller&) -> Task<void> {
    server.open(std::move(in));
    note(server);
    co_return;
  });
  const auto seconds = std::chrono::seconds(options.seconds);
  client_poller->run([&](NvmePoller& p) -> Task<void> {
    client.open(std::move(out));
    note(client);
    client.begin();
    co_await p.sleep_for(seconds);
    note(client);
    client.end();
  });
  server_poller->run([&](NvmePoller&) -> Task<void> {
    note(server);
    server.close();
    co_return;
  });
  client_poller->stop();
  server_poller->stop();
  const auto trips = static_cast<double>(std::max<std::uint64_t>(client.trips, 1));
  const auto us = [&](double percent) { return static_cast<double>(client.latency.percentile(percent).count()) / 1e3; };
  fmt::print("{} bytes, think {} us, spin {} us: {} trips; round trip p50 {:.1f} us, p99 {:.1f}, p99.9 {:.1f}\n",
             options.bytes, options.think_us, options.spin_us, client.trips, us(50), us(99), us(99.9));
  const auto wall = static_cast<double>(options.seconds);
  print_end("client", client, client_poller->probe(), trips, wall);
  print_end("server", server, server_poller->probe(), trips, wall);
}

bool parse(std::string_view text, long& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && out >= 0;
}

int run(const std::vector<std::string_view>& arguments) {
  Options options;
  for (std::size_t i = 0; i + 1 < arguments.size(); i += 2) {
    const std::string_view key = arguments[i];
    const std::string_view value = arguments[i + 1];
    bool ok = false;
    if (key == "--seconds") ok = parse(value, options.seconds);
    if (key == "--bytes") ok = parse(value, options.bytes) && options.bytes > 0;
    if (key == "--think-us") ok = parse(value, options.think_us);
    if (key == "--spin-us") ok = parse(value, options.spin_us);
    if (key == "--cores") {
      const std::size_t comma = value.find(',');
      long a = 0;
      long b = 0;
      ok = comma != value.npos && parse(value.substr(0, comma), a) && parse(value.substr(comma + 1), b);
      options.cores[0] = static_cast<int>(a);
      options.cores[1] = static_cast<int>(b);
    }
    if (!ok) {
      fmt::print(stderr, "poller_ping_pong: {} {}: unknown or not a number\n", key, value);
      return 2;
    }
  }
  measure(options);
  return 0;
}

}  // namespace
}  // namespace leap

int main(int argc, char** argv) { return leap::run({argv + 1, argv + argc}); }

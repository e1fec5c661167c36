// WorkerConnection: one TCP connection to a worker's RPC port, on which requests and replies alternate.
//
//   WorkerConnection::Config config;
//   LEAP_CO_TRY(auto connection, co_await WorkerConnection::connect(poller, Net::system(), address, config));
//   LEAP_CO_TRY(auto writer, co_await RemoteWriter::open(*connection, {.id = BlockId{7}, .capacity = 128 << 20}));
//
// A connection carries one session at a time (RemoteWriter or RemoteReader); after its end, and also after an error
// reply, it can carry the next one. After a lost or late reply it cannot: usable() says which.
//
// Threading: the poller it was connected on; one call at a time. Memory: one small header buffer; data goes to and from
// the caller's memory directly.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/address.h"
#include "base/random.h"
#include "poller/async_stream.h"
#include "rpc/component.h"
#include "rpc/frame_stream.h"

namespace leap {

class WorkerConnection {
 public:
  struct Config {
    Nanos connect_timeout = std::chrono::seconds(30);
    Nanos data_timeout =
        std::chrono::seconds(120);  ///< for one request and its reply; afterwards the connection is closed
    std::string client_name;        ///< sent with writes; empty: a random UUID
    rpc::Component component{.name = "client"};
    std::uint32_t max_reply_header = 1024 * 1024;  ///< bytes
  };

  /// One request and where its reply goes. What it points to must live until call() returns.
  struct Call {
    rpc::RpcCode code = rpc::RpcCode::kUndefined;
    rpc::RequestStatus status = rpc::RequestStatus::kRpc;
    std::int64_t req_id = 0;
    std::int32_t seq_id = -1;
    const google::protobuf::MessageLite* header = nullptr;
    std::span<const std::byte> data{};
    google::protobuf::MessageLite* reply_header = nullptr;
    std::span<std::byte> reply_data{};
  };

  /// Errors: kUnreachable, kTimedOut, os.
  static Task<Result<std::unique_ptr<WorkerConnection>>> connect(NvmePoller& poller, Net& net, SocketAddress address,
                                                                 Config config);

  /// Sends the request, waits for its reply, returns how many bytes it brought. Errors: what the worker answered
  /// (domain kRpc, see rpc/error_codec.h); kProtocol (wrong ids, more data than asked for), kClosed, kTimedOut, os,
  /// after which the connection is closed.
  Task<Result<std::size_t>> call(Call call);

  /// The next call has a chance: open, in step, the peer has not closed.
  [[nodiscard]] bool usable() const { return !busy_ && !stream_->closed() && !stream_->end_seen(); }
  void close() { stream_->close(); }

  /// Random and negative, as the peers' are.
  [[nodiscard]] std::int64_t new_request_id();
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const SocketAddress& address() const { return address_; }

 private:
  WorkerConnection(NvmePoller& poller, std::unique_ptr<AsyncStream> stream, SocketAddress address, Config config);
  Task<Result<std::size_t>> exchange(Call call, TimePoint deadline);
  Task<Result<>> read_error(TimePoint deadline);
  Error broken(std::string text);

  NvmePoller& poller_;
  std::unique_ptr<AsyncStream> stream_;
  const SocketAddress address_;
  Config config_;
  rpc::FrameReader in_;
  rpc::FrameWriter out_;
  Rng ids_;
  bool busy_ = false;  // stays set when a call was abandoned half-way
};

}  // namespace leap

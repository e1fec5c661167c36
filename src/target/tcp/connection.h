// Connection: one NVMe/TCP connection, which carries one queue (its Session).
//
//   connection.cc   life: opening, poll, deadlines, lingering, draining (connection_state.h has the table)
//   receive.cc      PDUs from the host: ICReq, command capsules, H2CData, H2CTermReq
//   send.cc         PDUs to the host: ICResp, R2T, C2HData, response capsules, C2HTermReq
//
// Receiving: one readv per turn, more only while large payload follows. Data in capsules is copied once, from the
// receive buffer to where it belongs (twice when no pool memory is free: what is behind it in the stream may be what
// frees some, so parsing never waits); H2CData lands by itself. Everything is checked before it is believed, and what
// is wrong ends the connection with a C2HTermReq that names the field (NVMe TCP Transport 1.0, 3.4). A data digest that
// does not match fails its command alone, with Transient Transport Error.
//
// Sending: responses collect during a turn and leave in one sendmsg at its end; payload is referenced, not copied. A
// request keeps its slot, and its memory, until the kernel has taken its last byte, so the slots bound what a peer that
// does not read can pile up; stall_timeout ends it.
//
// Threading: the shard's poller. Allocation: at ICReq (buffers and slots); none per command.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "nvme/pdu.h"
#include "nvme/pdu_checker.h"
#include "nvme/pdu_frame.h"
#include "poller/net.h"
#include "poller/rx_buffer.h"
#include "poller/timer.h"
#include "poller/tx_queue.h"
#include "target/chaos/chaos_stream.h"
#include "target/request.h"
#include "target/session.h"
#include "target/tcp/connection_state.h"
#include "target/transport.h"

namespace leap::target {

class Connection final : public Pollable, public TurnEndHook, public Transport {
 public:
  /// Takes over an accepted stream. Error: os (the poller cannot watch it).
  static Result<std::unique_ptr<Connection>> open(Shard& shard, ConnectionId id, std::unique_ptr<Stream> stream);
  ~Connection() override;

  // Transport
  void complete(Request& request) override;
  void buffer_ready(Request& request) override;
  void work_done() override;
  void close_gracefully(CloseReason reason) override;
  void close_now(CloseReason reason) override;
  [[nodiscard]] ConnectionId id() const override { return id_; }
  [[nodiscard]] const std::string& peer() const override { return peer_; }
  [[nodiscard]] SocketAddress local_address() const override { return local_; }
  [[nodiscard]] bool stages_payload() const override { return params_.ddgst; }

  [[nodiscard]] ConnectionState state() const { return state_; }
  [[nodiscard]] Session& session() { return session_; }

 private:
  Connection(Shard& shard, ConnectionId id, std::unique_ptr<Stream> stream);

  std::size_t poll() override;
  void on_turn_end() override { flush(); }

  // connection.cc
  void allocate_queue();
  bool enter(ConnectionEvent event);
  void abort(CloseReason reason);
  void drop_transfers();
  void release(Request& request);
  void check_quiet();
  void half_close_if_done();
  void update_interest();
  void watch_for_stall();
  static void deadline_passed(void* self);
  [[nodiscard]] bool may_receive() const;
  [[nodiscard]] bool taking_commands() const {
    return state_ == ConnectionState::kHandshake || state_ == ConnectionState::kReady;
  }

  // receive.cc
  [[nodiscard]] bool receive_once();
  void parse();
  [[nodiscard]] bool parse_pdu();
  void show_received(const nvme::PduFrame& frame);
  void on_icreq(const nvme::PduFrame& frame);
  void on_capsule(const nvme::PduFrame& frame);
  void on_h2c_data(const nvme::PduFrame& frame);
  void on_term_req();
  void start_receiving(Request& request);
  [[nodiscard]] bool take_payload();
  void account_payload(std::size_t bytes);
  void all_received(Request& request);
  void execute(Request& request);

  // send.cc
  void send_icresp();
  [[nodiscard]] std::uint16_t ttag(const Request& request, std::uint32_t r2t) const;
  void send_r2ts(Request& request);
  void respond(Request& request);
  [[nodiscard]] bool send_data(Request& request, const nvme::Completion& cqe);
  void send_capsule(const nvme::Completion& cqe);
  void fault(const nvme::PduError& error, const nvme::PduHeader& header);
  [[nodiscard]] bool reserve(std::size_t pieces, std::size_t header_bytes);
  template <nvme::WireStruct Pdu>
  void queue_head(const Pdu& pdu);
  void flush();

  Shard& shard_;
  const ConnectionId id_;
  std::unique_ptr<Stream> stream_;
  ChaosStream* chaos_ = nullptr;  // the same stream, when it breaks on purpose
  const std::string peer_;
  const SocketAddress local_;
  ConnectionState state_ = ConnectionState::kHandshake;
  CloseReason reason_ = CloseReason::kPeerClosed;
  bool faulted_ = false;  // a C2HTermReq is queued or sent: nothing may follow it
  bool half_closed_ = false;
  bool blocked_ = false;  // the socket takes no more for now

  nvme::ConnectionParams params_;
  std::unique_ptr<nvme::PduChecker> checker_;  // nullptr: nobody watches
  RxBuffer rx_;
  TxQueue tx_;
  std::unique_ptr<RequestSlots> slots_;
  Session session_;
  IntrusiveList<Request> sending_;  // in the order of their bytes

  // The H2CData PDU whose payload is arriving.
  struct Payload {
    Request* request = nullptr;
    std::uint32_t remaining = 0;
    std::uint32_t digest_bytes = 0;
    std::uint32_t digest = 0;
  };
  Payload payload_;
  std::size_t awaiting_data_ = 0;  // requests in kReceiving

  Timer deadline_;
  TimePoint handshake_deadline_;
  TimePoint linger_deadline_ = TimePoint::max();
  std::uint64_t bytes_received_ = 0;
  std::uint64_t progress_mark_ = 0;  // bytes either way when the stall clock was last started
  TimePoint progress_at_;
};

}  // namespace leap::target

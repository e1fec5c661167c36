// TcpQueuePair: a queue pair over one NVMe/TCP connection.
//
//   LEAP_CO_TRY(auto qp, co_await TcpQueuePair::connect(poller, Net::system(), address, config, deadline));
//   // TCP is up and ICReq/ICResp are exchanged; the first command must be Fabrics Connect.
//
//   submit -> PduSender -> one sendmsg at the end of the turn  ~~~ TCP ~~~>  controller
//   on_done <- checks below <- PduReceiver <- few large reads  <~~ TCP ~~~
//
// The controller is not trusted. For each PDU: does the command exist, is it sent, does it move data this way, is it
// not answered yet; C2HData in order, without gap, within the length; R2Ts in order, within the length, at most MAXR2T;
// a successful response only when every byte has moved. Anything else is a protocol error: an H2CTermReq goes out (NVMe
// TCP Transport 1.0, 3.4), the queue pair fails, and every command in flight completes with it. A data digest that does
// not match costs its command only (3.3.1.1).
//
// Failure: the transmit queue is dropped and receiving into buffers stops at once, so request memory is out of reach
// when quiesce() returns. Only the socket may live on for a moment, so that a TermReq is not lost to a reset.
//
// Threading: one poller.
#pragma once

#include <memory>
#include <vector>

#include "base/address.h"
#include "host/queue_pair.h"
#include "host/tcp/pdu_receiver.h"
#include "host/tcp/pdu_sender.h"
#include "host/tcp/receive_pacer.h"
#include "poller/net.h"

namespace leap {

class TcpQueuePair final : public QueuePair,
                           private Pollable,
                           private TurnEndHook,
                           private PduReceiver::Handler,
                           private TcpCommandOwner {
 public:
  struct TcpConfig {
    QueuePair::Config queue;
    bool header_digest = false;                 ///< must be granted, or the connection fails
    bool data_digest = false;                   ///< likewise
    std::uint32_t maxr2t = 4;                   ///< R2Ts the controller may have outstanding per command, 1 .. kMaxR2T
    std::uint32_t receive_buffer = 256 * 1024;  ///< bytes
    bool protocol_checker = false;              ///< watch every PDU (nvme/pdu_checker.h)
    std::uint32_t in_capsule_bytes = 0;  ///< data an I/O command's capsule may carry; Admin and Fabrics: always 8192
  };
  static constexpr std::uint32_t kMaxR2T = 16;

  /// Errors: os and kUnreachable (nobody listens), kTimedOut, kProtocol (something else than NVMe/TCP answers),
  /// kUnsupported (a digest was declined), kClosed.
  static Task<Result<std::unique_ptr<TcpQueuePair>>> connect(NvmePoller& poller, Net& net, SocketAddress address,
                                                             TcpConfig config, TimePoint deadline);
  ~TcpQueuePair() override;

  /// What ICReq and ICResp settled.
  [[nodiscard]] const nvme::ConnectionParams& params() const { return params_; }

 private:
  enum class Phase : std::uint8_t {
    kIdle,           // no connection yet
    kTcpConnecting,  // until the socket is writable
    kInitialising,   // ICReq is out
    kUp,
    kLingering,  // failed; a TermReq is out, waiting for the peer to close
    kDown,
  };

  TcpQueuePair(NvmePoller& poller, SocketAddress address, TcpConfig config);
  Result<> begin(Net& net);
  void on_connected();
  std::size_t linger();
  std::size_t receive();
  void close_stream();
  void flush();
  void update_interest();
  [[nodiscard]] Error connect_timeout_error() const;
  [[nodiscard]] Error transport_error(Errc kind, std::string message) const;
  static void on_connect_expired(void* self);
  static void on_linger_expired(void* self);

  // QueuePair
  void transmit(NvmeRequest& request) override;
  bool quiesce(const Error& cause) override;
  void sever() override { close_stream(); }
  [[nodiscard]] bool may_have_reached_peer(const NvmeRequest& request) const override;
  // Pollable, TurnEndHook
  std::size_t poll() override;
  void on_turn_end() override;
  // PduReceiver::Handler
  bool on_ic_resp(const nvme::IcRespPdu& pdu) override;
  bool on_response(const nvme::CapsuleRespPdu& pdu) override;
  bool on_data(const nvme::C2HDataPdu& pdu, std::span<std::byte>& destination) override;
  bool on_data_end(const nvme::C2HDataPdu& pdu, bool intact) override;
  bool on_r2t(const nvme::R2TPdu& pdu) override;
  void on_term_req(const nvme::TermReqPdu& pdu) override;
  void on_invalid(const nvme::PduError& error, const nvme::PduHeader& header,
                  std::span<const std::byte> quoted) override;
  void on_stream_end(int error) override;
  // TcpCommandOwner
  void on_held_command_free(TcpCommand& command) override;

  /// The command a PDU names, if it may name it now; otherwise the connection has failed.
  template <typename Pdu>
  TcpCommand* command_for(nvme::Cid cid, std::uint32_t cid_offset, const Pdu& pdu);
  template <typename Pdu>
  bool protocol_error(const nvme::PduError& error, const Pdu& pdu, const char* reason);
  void deliver(TcpCommand& command, const nvme::Completion& completion);

  const SocketAddress address_;
  const TcpConfig config_;
  Phase phase_ = Phase::kIdle;
  std::unique_ptr<Stream> stream_;
  nvme::ConnectionParams params_;  // what we want, then what was granted
  std::unique_ptr<nvme::PduChecker> checker_;
  PduReceiver receiver_;
  PduSender sender_;
  ReceivePacer pacer_;
  std::uint32_t answers_ = 0;         // received in the current call of poll()
  std::vector<TcpCommand> commands_;  // by slot
  AsyncEvent connect_done_;
  Timer linger_timer_;
  /// The TermReq to send while failing; set by protocol_error().
  struct Termination {
    nvme::PduError error;
    std::span<const std::byte> quoted;
  };
  const Termination* termination_ = nullptr;
};

}  // namespace leap

// PduReceiver: the receiving half of an NVMe/TCP connection, host side: bytes in, whole PDUs out.
//
//        8 bytes, then the head            pad            data                  digest
//   +--> kHead ------------------+-----> kSkip ------> kPayload ------------> kDigest --+
//   |      | IcResp, CapsuleResp,|  C2HData only                 without DDGST          |
//   |      | R2T, TermReq        |                                    |                 |
//   +------+---------------------+------------------------------------+-----------------+
//
// Any split of the stream gives the same PDUs. Few, large reads fill a buffer; the payload of a large C2HData is
// received straight into the request's buffer, small ones are copied out of the buffer while it is in the cache.
// Everything is judged before it is used: head and header digest by nvme/pdu_frame.h, the meaning of a PDU by the
// Handler.
//
// Threading: one poller. Allocation: the buffer, once. Source: NVMe TCP Transport 1.0, 3.3, 3.6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "nvme/pdu.h"
#include "nvme/pdu_check.h"
#include "nvme/pdu_checker.h"
#include "nvme/pdu_frame.h"
#include "poller/rx_buffer.h"

namespace leap {

class PduReceiver {
 public:
  /// What arrives. A false return means that the connection has failed: nothing more is delivered.
  class Handler {
   public:
    virtual bool on_ic_resp(const nvme::IcRespPdu& pdu) = 0;
    virtual bool on_response(const nvme::CapsuleRespPdu& pdu) = 0;
    /// The head of a C2HData. Sets `destination` to where its pdu.datal bytes go.
    virtual bool on_data(const nvme::C2HDataPdu& pdu, std::span<std::byte>& destination) = 0;
    /// All of its payload is there. `intact`: no data digest was agreed on, or it matches.
    virtual bool on_data_end(const nvme::C2HDataPdu& pdu, bool intact) = 0;
    virtual bool on_r2t(const nvme::R2TPdu& pdu) = 0;
    /// The connection is over: the peer says so,
    virtual void on_term_req(const nvme::TermReqPdu& pdu) = 0;
    /// it sent something that is not allowed; `quoted`: what there is of the PDU's head,
    virtual void on_invalid(const nvme::PduError& error, const nvme::PduHeader& header,
                            std::span<const std::byte> quoted) = 0;
    /// or the stream ended: 0 for an orderly end, otherwise an errno.
    virtual void on_stream_end(int error) = 0;

   protected:
    ~Handler() = default;
  };

  /// `params` is the connection's and outlives the receiver; `capacity`: bytes of the buffer.
  PduReceiver(Handler& handler, const nvme::ConnectionParams& params, std::size_t capacity);

  /// Receives and delivers what the stream has now, a bounded amount per call. Returns the number of reads that brought
  /// something, 0 when there was nothing. The stream may be gone when a handler call has ended the connection.
  std::size_t receive(Stream& stream);
  /// Shows every PDU to `checker`, which outlives the receiver; nullptr: to nobody.
  void set_checker(nvme::PduChecker* checker) { checker_ = checker; }
  /// From now on PDUs after the ICReq/ICResp exchange are expected.
  void initialised() { ic_done_ = true; }
  /// Bytes received so far and not understood, for telling what the peer speaks instead.
  [[nodiscard]] std::span<const std::byte> unread() const { return rx_.data(); }
  /// Bytes of payload still to come in the PDU being received.
  [[nodiscard]] std::size_t payload_left() const { return payload_.size(); }
  [[nodiscard]] std::uint64_t pdus() const { return pdus_; }

 private:
  enum class Stage : std::uint8_t { kHead, kSkip, kPayload, kDigest };

  [[nodiscard]] bool parse();
  [[nodiscard]] bool parse_head();
  [[nodiscard]] bool deliver(const nvme::PduFrame& frame);
  [[nodiscard]] bool begin_data(const nvme::PduFrame& frame);
  [[nodiscard]] bool end_data(bool intact);
  void advance_payload(std::size_t bytes);
  [[nodiscard]] bool starved() const { return rx_.data().size() < need_; }

  Handler& handler_;
  const nvme::ConnectionParams& params_;
  nvme::PduChecker* checker_ = nullptr;
  RxBuffer rx_;
  bool ic_done_ = false;
  Stage stage_ = Stage::kHead;
  std::size_t need_;              // buffered bytes without which parse() cannot go on; 1 while payload flows
  std::size_t skip_ = 0;          // padding left
  nvme::C2HDataPdu data_pdu_;     // kSkip, kPayload, kDigest: the PDU being received
  std::span<std::byte> payload_;  // what is left of its destination
  std::uint32_t digest_ = 0;      // of the payload so far
  bool large_payload_ = false;    // the last C2HData was worth receiving in place
  std::uint64_t pdus_ = 0;
};

}  // namespace leap

// TestHost: a host that builds every PDU itself and looks at every PDU it gets. One per connection.
//
// It knows nothing of src/host: what it believes about NVMe/TCP comes from the nvme room's types alone. Wire is where
// the bytes go: a MemoryNet cable or a real socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/endian.h"
#include "base/uuid.h"
#include "nvme/completion.h"
#include "nvme/fabrics.h"
#include "nvme/nvm_command.h"
#include "nvme/pdu.h"
#include "nvme/pdu_check.h"
#include "nvme/pdu_frame.h"

namespace leap::target::testing {

using Bytes = std::vector<std::byte>;

class Wire {
 public:
  virtual ~Wire() = default;
  virtual void send(std::span<const std::byte> bytes) = 0;
  /// Appends what has arrived; waits a little if nothing has. False: nothing came, or the peer has closed.
  virtual bool receive(Bytes& into) = 0;
  [[nodiscard]] virtual bool closed() = 0;
  virtual void close() = 0;
};

/// One received PDU.
struct Pdu {
  nvme::PduHeader header;
  Bytes bytes;

  template <typename T>
  [[nodiscard]] T as() const {
    return nvme::wire::load<T>(bytes).value();
  }
  [[nodiscard]] nvme::PduType type() const { return header.type; }
  [[nodiscard]] std::span<const std::byte> data() const {
    const auto at = nvme::layout_of(header);
    return std::span(bytes).subspan(at.data_offset, at.data_bytes);
  }
};

/// How a command ended.
struct Reply {
  nvme::Completion cqe;
  Bytes data;                 ///< data to the host
  bool success_flag = false;  ///< SUCCESS instead of a response capsule
  std::size_t c2h_pdus = 0;
  std::size_t r2ts = 0;
  bool lost = false;  ///< the connection ended instead
  [[nodiscard]] NvmeStatusCode status() const { return cqe.status(); }
  [[nodiscard]] bool ok() const { return !lost && cqe.ok(); }
};

/// Where the host puts the data of a command.
enum class Via : std::uint8_t { kCapsule, kR2T };

class TestHost {
 public:
  struct Identity {
    std::string nqn = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
    Uuid id = Uuid::parse("11111111-2222-3333-4444-555555555555").value();
  };

  explicit TestHost(std::unique_ptr<Wire> wire) : wire_(std::move(wire)) {}

  // --- PDUs ---
  void send_bytes(std::span<const std::byte> bytes) { wire_->send(bytes); }
  /// ICReq with these wishes; the ICResp, and params() from then on.
  std::optional<nvme::IcRespPdu> handshake(const nvme::ConnectionParams& wanted = {});
  /// A complete PDU: head with digest and padding, data, data digest.
  template <nvme::WireStruct T>
  [[nodiscard]] Bytes build(const T& pdu, std::span<const std::byte> data = {}) const;
  template <nvme::WireStruct T>
  void send_pdu(const T& pdu, std::span<const std::byte> data = {}) {
    wire_->send(build(pdu, data));
  }
  /// The next PDU, digests checked; nullopt when none comes.
  std::optional<Pdu> next();
  [[nodiscard]] bool closed() { return wire_->closed(); }
  void close() { wire_->close(); }
  [[nodiscard]] Wire& wire() { return *wire_; }
  nvme::ConnectionParams& params() { return params_; }

  // --- commands ---
  /// Sends a command capsule; returns its CID. `out` goes into the capsule (Via::kCapsule) or is kept for R2Ts; `in`
  /// bytes are expected from the controller.
  nvme::Cid submit(nvme::Command cmd, std::span<const std::byte> out = {}, Via via = Via::kCapsule,
                   std::uint32_t in = 0);
  /// As it is: no CID, no SGL filled in.
  void submit_raw(const nvme::Command& cmd, std::span<const std::byte> in_capsule = {});
  /// Serves R2Ts and data until the command has ended.
  Reply wait(nvme::Cid cid);
  Reply execute(const nvme::Command& cmd, std::span<const std::byte> out = {}, Via via = Via::kCapsule,
                std::uint32_t in = 0) {
    return wait(submit(cmd, out, via, in));
  }
  /// Handles one PDU for whichever command it belongs to; false when none came.
  bool pump();
  [[nodiscard]] std::optional<Reply> take_reply(nvme::Cid cid);
  [[nodiscard]] std::size_t outstanding() const { return commands_.size(); }
  /// When false, R2Ts are recorded but not answered.
  bool answer_r2ts = true;
  std::vector<nvme::R2TPdu> r2ts;
  std::optional<nvme::TermReqPdu> term_req;
  Bytes term_quote;
  std::uint32_t h2c_chunk = UINT32_MAX;  ///< bytes per H2CData
  bool corrupt_data_digest = false;

  // --- what most tests need ---
  Reply connect(std::uint16_t qid, std::uint16_t cntlid = 0xFFFF, std::uint32_t entries = 32,
                std::uint32_t kato_ms = 0);
  Reply connect(const nvme::ConnectFields& fields, const nvme::ConnectData& data);
  [[nodiscard]] nvme::ConnectData connect_data(std::uint16_t cntlid = 0xFFFF) const;
  Reply property_set(nvme::PropertyOffset offset, std::uint64_t value) {
    return execute(nvme::make_property_set(offset, value));
  }
  Reply property_get(nvme::PropertyOffset offset) { return execute(nvme::make_property_get(offset)); }
  Reply read(std::uint32_t nsid, std::uint64_t lba, std::uint32_t blocks, std::uint32_t block_size = 512) {
    return execute(nvme::make_read(nvme::Nsid{nsid}, lba, blocks), {}, Via::kR2T, blocks * block_size);
  }
  Reply write(std::uint32_t nsid, std::uint64_t lba, std::span<const std::byte> data, Via via = Via::kCapsule,
              std::uint32_t block_size = 512, bool fua = false) {
    return execute(
        nvme::make_write(nvme::Nsid{nsid}, lba, static_cast<std::uint32_t>(data.size()) / block_size, {.fua = fua}),
        data, via);
  }
  Identity identity;
  std::string subnqn = "nqn.2024-01.io.leap:test";
  std::uint16_t cntlid = 0xFFFF;

 private:
  struct Outstanding {
    Bytes out;
    Reply reply;
    std::uint32_t in_expected = 0;
    bool done = false;
  };
  void answer(const nvme::R2TPdu& r2t);

  std::unique_ptr<Wire> wire_;
  nvme::ConnectionParams params_;
  bool ic_done_ = false;
  Bytes received_;
  std::map<nvme::Cid, Outstanding> commands_;
  std::uint16_t next_cid_ = 1;
};

/// Bytes that say where they belong: each 16-bit word mixes seed and position.
[[nodiscard]] Bytes pattern(std::size_t size, std::uint32_t seed);
/// Equal contents; unlike EXPECT_EQ it does not print megabytes.
[[nodiscard]] bool same(std::span<const std::byte> a, std::span<const std::byte> b);

}  // namespace leap::target::testing

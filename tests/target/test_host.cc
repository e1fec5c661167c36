#include "test_host.h"

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "nvme/pdu_frame.h"

namespace leap::target::testing {

using nvme::PduType;

Bytes pattern(std::size_t size, std::uint32_t seed) {
  Bytes data(size);
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t mixed = (std::uint64_t{seed} << 32 | (i / 2)) * 0x9e3779b97f4a7c15;
    data[i] = static_cast<std::byte>(mixed >> (i % 2 == 0 ? 56 : 48));
  }
  return data;
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<nvme::IcRespPdu> TestHost::handshake(const nvme::ConnectionParams& wanted) {
  const nvme::IcReqPdu request = nvme::make_icreq(wanted);
  wire_->send(nvme::wire::bytes_of(request));
  params_ = wanted;
  const auto pdu = next();
  if (!pdu || pdu->type() != PduType::kIcResp) return std::nullopt;
  const auto response = pdu->as<nvme::IcRespPdu>();
  params_ = nvme::negotiate(wanted, response);
  params_.in_capsule_bytes = 1 << 20;
  ic_done_ = true;
  return response;
}

template <nvme::WireStruct T>
Bytes TestHost::build(const T& pdu, std::span<const std::byte> data) const {
  std::array<std::byte, nvme::kMaxPduHeadBytes + 128> head{};
  const std::size_t size = nvme::write_head(std::span(head), pdu);
  Bytes bytes(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(size));
  bytes.insert(bytes.end(), data.begin(), data.end());
  if (!data.empty() && nvme::may_have_data_digest(pdu.header.type) && pdu.header.has_data_digest()) {
    std::array<std::byte, 4> digest{};
    nvme::put_digest(digest, nvme::data_digest(data) ^ (corrupt_data_digest ? 1U : 0U));
    bytes.insert(bytes.end(), digest.begin(), digest.end());
  }
  return bytes;
}
template Bytes TestHost::build(const nvme::CapsuleCmdPdu&, std::span<const std::byte>) const;
template Bytes TestHost::build(const nvme::H2CDataPdu&, std::span<const std::byte>) const;

std::optional<Pdu> TestHost::next() {
  for (;;) {
    const auto frame = nvme::frame_pdu(received_, nvme::PduDirection::kToHost, params_, ic_done_);
    if (frame.state == nvme::FrameState::kInvalid) {
      ADD_FAILURE() << "bad PDU from the target: type " << int(frame.header.type) << " fei " << frame.error.fei;
      return std::nullopt;
    }
    if (frame.state == nvme::FrameState::kReady && received_.size() >= frame.at.total_bytes) {
      Pdu pdu{frame.header,
              Bytes(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(frame.at.total_bytes))};
      received_.erase(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(frame.at.total_bytes));
      if (frame.at.data_digest_bytes != 0) {
        const auto data = pdu.data();
        EXPECT_EQ(load_le32(data.data() + data.size()), nvme::data_digest(data)) << "data digest of the target";
      }
      return pdu;
    }
    if (!wire_->receive(received_)) return std::nullopt;
  }
}

nvme::Cid TestHost::submit(nvme::Command cmd, std::span<const std::byte> out, Via via, std::uint32_t in) {
  cmd.cid = nvme::Cid{next_cid_++};
  const auto size = static_cast<std::uint32_t>(out.size());
  if (!out.empty() && via == Via::kCapsule)
    cmd.set_sgl(nvme::SglDescriptor::in_capsule(size));
  else
    cmd.set_sgl(nvme::SglDescriptor::transport(out.empty() ? in : size));
  Outstanding& command = commands_[cmd.cid];
  command.out.assign(out.begin(), out.end());
  command.in_expected = in;
  submit_raw(cmd, via == Via::kCapsule ? out : std::span<const std::byte>{});
  return cmd.cid;
}

void TestHost::submit_raw(const nvme::Command& cmd, std::span<const std::byte> in_capsule) {
  send_pdu(nvme::make_capsule_cmd(cmd, static_cast<std::uint32_t>(in_capsule.size()), params_), in_capsule);
}

void TestHost::answer(const nvme::R2TPdu& r2t) {
  const auto it = commands_.find(r2t.cccid);
  ASSERT_NE(it, commands_.end()) << "R2T for a command that is not outstanding";
  ASSERT_LE(std::uint64_t{r2t.r2to} + r2t.r2tl, it->second.out.size()) << "R2T past the end of the data";
  ++it->second.reply.r2ts;
  const std::span<const std::byte> data = std::span(it->second.out).subspan(r2t.r2to, r2t.r2tl);
  for (std::uint32_t at = 0; at < r2t.r2tl;) {
    const std::uint32_t part = std::min({h2c_chunk, params_.maxh2cdata, r2t.r2tl - at});
    const bool last = at + part == r2t.r2tl;
    send_pdu(nvme::make_h2c_data(r2t.cccid, r2t.ttag, r2t.r2to + at, part, last, params_), data.subspan(at, part));
    at += part;
  }
}

bool TestHost::pump() {
  const auto pdu = next();
  if (!pdu) return false;
  switch (pdu->type()) {
    case PduType::kR2T: {
      const auto r2t = pdu->as<nvme::R2TPdu>();
      r2ts.push_back(r2t);
      if (answer_r2ts) answer(r2t);
      return true;
    }
    case PduType::kC2HData: {
      const auto head = pdu->as<nvme::C2HDataPdu>();
      const auto it = commands_.find(head.cccid);
      EXPECT_NE(it, commands_.end()) << "data for a command that is not outstanding";
      if (it == commands_.end()) return true;
      Reply& reply = it->second.reply;
      EXPECT_EQ(head.datao, reply.data.size()) << "data out of order";
      ++reply.c2h_pdus;
      reply.data.insert(reply.data.end(), pdu->data().begin(), pdu->data().end());
      if (pdu->header.last_pdu()) {
        EXPECT_EQ(reply.data.size(), it->second.in_expected);
      }
      if (pdu->header.success()) {
        EXPECT_FALSE(it->second.done) << "a second completion";
        reply.success_flag = it->second.done = true;
        reply.cqe.cid = head.cccid;
      }
      return true;
    }
    case PduType::kCapsuleResp: {
      const auto cqe = pdu->as<nvme::CapsuleRespPdu>().cqe;
      const auto it = commands_.find(cqe.cid);
      EXPECT_NE(it, commands_.end()) << "completion of a command that is not outstanding: cid " << cqe.cid.value();
      if (it == commands_.end()) return true;
      EXPECT_FALSE(it->second.done) << "a second completion";
      it->second.reply.cqe = cqe;
      it->second.done = true;
      return true;
    }
    case PduType::kC2HTermReq:
      term_req = pdu->as<nvme::TermReqPdu>();
      term_quote.assign(pdu->data().begin(), pdu->data().end());
      return true;
    default: ADD_FAILURE() << "unexpected PDU " << int(pdu->header.type); return true;
  }
}

std::optional<Reply> TestHost::take_reply(nvme::Cid cid) {
  const auto it = commands_.find(cid);
  if (it == commands_.end() || !it->second.done) return std::nullopt;
  Reply reply = std::move(it->second.reply);
  commands_.erase(it);
  return reply;
}

Reply TestHost::wait(nvme::Cid cid) {
  for (;;) {
    if (auto reply = take_reply(cid)) return std::move(*reply);
    if (!pump()) {
      Reply lost;
      lost.lost = true;
      return lost;
    }
  }
}

nvme::ConnectData TestHost::connect_data(std::uint16_t to) const {
  return nvme::make_connect_data(identity.id, nvme::Cntlid{to}, subnqn, identity.nqn);
}

Reply TestHost::connect(const nvme::ConnectFields& fields, const nvme::ConnectData& data) {
  Reply reply = execute(nvme::make_connect(fields), nvme::wire::bytes_of(data));
  if (reply.ok() && fields.qid == nvme::kAdminQid)
    cntlid = nvme::ConnectResponse::from_dword(reply.cqe.dw0).cntlid.value();
  return reply;
}

Reply TestHost::connect(std::uint16_t qid, std::uint16_t to, std::uint32_t entries, std::uint32_t kato_ms) {
  nvme::ConnectFields fields;
  fields.qid = nvme::Qid{qid};
  fields.entries = entries;
  fields.kato_ms = kato_ms;
  return connect(fields, connect_data(to));
}

}  // namespace leap::target::testing

#include "target/chaos/pdu_edit.h"

#include "nvme/pdu_frame.h"

namespace leap::target::pdu_edit {

using nvme::PduType;

namespace {

template <nvme::WireStruct Pdu>
Pdu load(std::span<const std::byte> bytes) {
  return nvme::wire::load<Pdu>(bytes).value();
}

/// Writes the header back and computes both digests anew.
template <nvme::WireStruct Pdu>
void store(PduBytes& bytes, const Pdu& pdu) {
  (void)nvme::wire::store<Pdu>(bytes, pdu);
  const nvme::PduLayout at = nvme::layout_of(pdu.header);
  const std::span<std::byte> all(bytes);
  if (at.header_digest_bytes != 0) {
    nvme::put_digest(all.subspan(at.header_bytes).first<nvme::kDigestBytes>(),
                     nvme::header_digest(all.first(at.header_bytes)));
  }
  if (at.data_digest_bytes != 0) {
    nvme::put_digest(all.subspan(at.data_offset + at.data_bytes).first<nvme::kDigestBytes>(),
                     nvme::data_digest(all.subspan(at.data_offset, at.data_bytes)));
  }
}

void flip(std::span<std::byte> bytes, std::uint64_t bit) {
  if (bytes.empty()) return;
  bit %= bytes.size() * 8;
  bytes[bit / 8] ^= std::byte{1} << (bit % 8);
}

}  // namespace

nvme::PduHeader header_of(std::span<const std::byte> bytes) { return load<nvme::PduHeader>(bytes); }

std::optional<nvme::Cid> command_of(std::span<const std::byte> bytes) {
  switch (header_of(bytes).type) {
    case PduType::kC2HData: return load<nvme::C2HDataPdu>(bytes).cccid;
    case PduType::kR2T: return load<nvme::R2TPdu>(bytes).cccid;
    case PduType::kCapsuleResp: return load<nvme::CapsuleRespPdu>(bytes).cqe.cid;
    default: return std::nullopt;
  }
}

bool is_response(std::span<const std::byte> bytes) {
  const nvme::PduHeader header = header_of(bytes);
  return header.type == PduType::kCapsuleResp || (header.type == PduType::kC2HData && header.success());
}

void set_command(PduBytes& bytes, nvme::Cid cid) {
  switch (header_of(bytes).type) {
    case PduType::kC2HData: {
      auto pdu = load<nvme::C2HDataPdu>(bytes);
      pdu.cccid = cid;
      return store(bytes, pdu);
    }
    case PduType::kR2T: {
      auto pdu = load<nvme::R2TPdu>(bytes);
      pdu.cccid = cid;
      return store(bytes, pdu);
    }
    case PduType::kCapsuleResp: {
      auto pdu = load<nvme::CapsuleRespPdu>(bytes);
      pdu.cqe.cid = cid;
      return store(bytes, pdu);
    }
    default: return;
  }
}

void set_ttag(PduBytes& bytes, std::uint16_t ttag) {
  auto pdu = load<nvme::R2TPdu>(bytes);
  pdu.ttag = ttag;
  store(bytes, pdu);
}

void add_to_r2tl(PduBytes& bytes, std::uint32_t more) {
  auto pdu = load<nvme::R2TPdu>(bytes);
  pdu.r2tl += more;
  store(bytes, pdu);
}

bool end_early(PduBytes& bytes) {
  auto pdu = load<nvme::C2HDataPdu>(bytes);
  const std::uint32_t half = pdu.datal / 2 & ~3U;
  if (half == 0) return false;
  const nvme::PduLayout at = nvme::layout_of(pdu.header);
  pdu.header.plen -= pdu.datal - half;
  pdu.header.flags |= nvme::kPduLastPdu | nvme::kPduSuccess;
  pdu.datal = half;
  bytes.resize(at.data_offset + half + at.data_digest_bytes);
  store(bytes, pdu);
  return true;
}

void success_without_last(PduBytes& bytes) {
  auto pdu = load<nvme::C2HDataPdu>(bytes);
  pdu.header.flags = static_cast<std::uint8_t>((pdu.header.flags & ~nvme::kPduLastPdu) | nvme::kPduSuccess);
  store(bytes, pdu);
}

void flip_header_bit(PduBytes& bytes, std::uint64_t bit) { flip(std::span(bytes).first(header_of(bytes).hlen), bit); }

void flip_data_bit(PduBytes& bytes, std::uint64_t bit) {
  const nvme::PduLayout at = nvme::layout_of(header_of(bytes));
  flip(std::span(bytes).subspan(at.data_offset, at.data_bytes), bit);
}

}  // namespace leap::target::pdu_edit

// Whole PDUs as bytes, changed in place: what ChaosStream does to them.
//
// Every function but the two that corrupt leaves good digests behind, so that a host has to notice the meaning. All
// expect a PDU that the target itself built; `bytes` holds all of it.
//
// Threading: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nvme/ids.h"
#include "nvme/pdu.h"

namespace leap::target::pdu_edit {

using PduBytes = std::vector<std::byte>;

[[nodiscard]] nvme::PduHeader header_of(std::span<const std::byte> bytes);
/// The command it is about: C2HData, R2T, CapsuleResp.
[[nodiscard]] std::optional<nvme::Cid> command_of(std::span<const std::byte> bytes);
/// It ends its command: a CapsuleResp, or C2HData with SUCCESS.
[[nodiscard]] bool is_response(std::span<const std::byte> bytes);

void set_command(PduBytes& bytes, nvme::Cid cid);
void set_ttag(PduBytes& bytes, std::uint16_t ttag);
void add_to_r2tl(PduBytes& bytes, std::uint32_t more);
/// C2HData: keeps the first half of its data and says that this was all, with success. False: there is too little.
bool end_early(PduBytes& bytes);
/// C2HData: SUCCESS without LAST_PDU.
void success_without_last(PduBytes& bytes);
/// Flips bit `bit` (taken modulo their number) of the header, or of the data; digests stay as they were.
void flip_header_bit(PduBytes& bytes, std::uint64_t bit);
void flip_data_bit(PduBytes& bytes, std::uint64_t bit);

}  // namespace leap::target::pdu_edit

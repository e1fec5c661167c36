#include "nvme/identify_namespace.h"

#include <algorithm>
#include <cstring>

namespace leap::nvme {

Uuid NamespaceDescriptor::uuid() const {
  Uuid uuid;
  const bool is_16_bytes = type == DescriptorType::kUuid || type == DescriptorType::kNguid;
  if (is_16_bytes && id.size() == uuid.bytes.size()) std::copy(id.begin(), id.end(), uuid.bytes.begin());
  return uuid;
}

std::optional<NamespaceDescriptor> DescriptorCursor::next() {
  while (!malformed_) {
    const auto header = wire::load<DescriptorHeader>(rest_);
    if (!header || header->nidl == 0) return std::nullopt;
    const auto after_header = rest_.subspan(sizeof(DescriptorHeader));
    const auto type = static_cast<DescriptorType>(header->nidt);
    const std::size_t expected = descriptor_bytes(type);
    if (after_header.size() < header->nidl || (expected != 0 && expected != header->nidl)) {
      malformed_ = true;
      return std::nullopt;
    }
    rest_ = after_header.subspan(header->nidl);
    if (expected != 0) return NamespaceDescriptor{type, after_header.first(header->nidl)};
  }
  return std::nullopt;
}

DescriptorBuilder::DescriptorBuilder(std::span<std::byte> page) : page_(page) {
  std::fill(page_.begin(), page_.end(), std::byte{0});
}

bool DescriptorBuilder::add(DescriptorType type, std::span<const std::byte> id) {
  if (id.empty() || id.size() != descriptor_bytes(type)) return false;
  const std::size_t room = page_.size() - used_;
  if (room < sizeof(DescriptorHeader) || room - sizeof(DescriptorHeader) < id.size()) return false;
  const DescriptorHeader header{
      .nidt = static_cast<std::uint8_t>(type), .nidl = static_cast<std::uint8_t>(id.size()), .reserved = 0};
  if (!wire::store(page_, header, used_)) return false;
  std::memcpy(page_.data() + used_ + sizeof(header), id.data(), id.size());
  used_ += sizeof(header) + id.size();
  return true;
}

}  // namespace leap::nvme

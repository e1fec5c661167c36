#include "rpc/frame_stream.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace leap::rpc {

bool HeaderBudget::try_take(std::size_t bytes) {
  std::size_t seen = free_.load(std::memory_order_relaxed);
  while (seen >= bytes) {
    if (free_.compare_exchange_weak(seen, seen - bytes, std::memory_order_relaxed)) return true;
  }
  return false;
}

Task<Result<bool>> FrameReader::next(TimePoint deadline) {
  Result<bool> more = co_await next_frame(deadline);
  failed_ = failed_ || !more.ok();
  co_return more;
}

Task<Result<bool>> FrameReader::next_frame(TimePoint deadline) {
  LEAP_CHECK(data_left_ == 0, fmt::format("next frame while {} data bytes are unread", data_left_));
  release_header();
  head_ = FrameHead{};
  const Result<bool> got = co_await stream_.read_exact(prefix_, deadline);
  if (!got.ok()) {
    // A peer that goes away inside a prefix has said nothing: as clean an end as one between frames.
    if (got.error().kind() == Errc::kClosed) co_return false;
    co_return got.error();
  }
  if (!got.value()) co_return false;
  LEAP_CO_TRY(const FrameHead head, decode_prefix(prefix_, limits_));
  if (head.header_size > 0) {
    Result<> header = co_await read_header(head.header_size, deadline);
    if (!header.ok()) co_return std::move(header).error();
  }
  head_ = head;
  data_left_ = head.data_size;
  co_return true;
}

Task<Result<>> FrameReader::read_header(std::size_t size, TimePoint deadline) {
  std::size_t have = 0;
  while (have < size) {
    // At most doubles what has really arrived: a length alone buys no memory.
    const std::size_t upto = std::min(size, std::max(kKeptHeader, 2 * have));
    if (!grow_header(upto)) {
      co_return Error(Errc::kExhausted,
                      fmt::format("header of {} bytes: no room among the headers being received", size))
          .in(ErrorDomain::kRpc);
    }
    const std::span<std::byte> part{header_.data() + have, upto - have};
    const Result<bool> got = co_await stream_.read_exact(part, deadline);
    if (!got.ok()) co_return got.error();
    if (!got.value()) co_return Error(Errc::kClosed, "connection closed inside a frame's header").in(ErrorDomain::kRpc);
    have = upto;
  }
  co_return Result<>{};
}

bool FrameReader::grow_header(std::size_t size) {
  if (size <= header_.size()) return true;
  if (size > kKeptHeader && budget_ != nullptr) {
    const std::size_t more = size - kKeptHeader - charged_;
    if (!budget_->try_take(more)) return false;
    charged_ += more;
  }
  header_.reserve(size);  // exactly: growth is already by doubling
  header_.resize(size);
  return true;
}

void FrameReader::release_header() {
  if (header_.size() > kKeptHeader) std::vector<std::byte>().swap(header_);
  if (charged_ > 0) budget_->give(std::exchange(charged_, 0));
}

Task<Result<>> FrameReader::read_data(std::span<std::byte> out, TimePoint deadline) {
  LEAP_CHECK(out.size() <= data_left_, fmt::format("read {} of {} data bytes", out.size(), data_left_));
  const Result<bool> got = co_await stream_.read_exact(out, deadline);
  failed_ = failed_ || !got.ok() || !got.value();
  if (!got.ok()) co_return got.error();
  if (!got.value()) co_return Error(Errc::kClosed, "connection closed inside a frame's data").in(ErrorDomain::kRpc);
  data_left_ -= out.size();
  co_return Result<>{};
}

Task<Result<>> FrameReader::skip_data(TimePoint deadline) {
  constexpr std::size_t kDiscard = 64 * 1024;
  while (data_left_ > 0) {
    if (discard_.size() < std::min(kDiscard, data_left_)) discard_.resize(std::min(kDiscard, data_left_));
    const std::span<std::byte> part{discard_.data(), std::min(discard_.size(), data_left_)};
    const Result<> got = co_await read_data(part, deadline);
    if (!got.ok()) co_return got.error();
  }
  co_return Result<>{};
}

FrameWriter::FrameWriter(AsyncStream& stream) : stream_(stream), lead_(kPrefixSize), pieces_(1) {}

void FrameWriter::set_message(const google::protobuf::MessageLite& message) {
  const std::size_t size = header_size(message);
  lead_.resize(kPrefixSize + size);
  encode_header(message, std::span(lead_).subspan(kPrefixSize));
}

void FrameWriter::add_data(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  // sendmsg takes pointers to mutable memory and does not write to it.
  pieces_.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
  data_size_ += bytes.size();
}

void FrameWriter::clear() {
  lead_.resize(kPrefixSize);
  pieces_.resize(1);
  data_size_ = 0;
}

Task<Result<>> FrameWriter::send(FrameHead head, TimePoint deadline) {
  Result<> sent = co_await send_first(head, data_size_, deadline);
  co_return sent;
}

Task<Result<>> FrameWriter::send_first(FrameHead head, std::size_t total, TimePoint deadline) {
  LEAP_CHECK(owed_ == 0, "a frame begins while data of the last one is missing");
  LEAP_CHECK(data_size_ <= total && total <= kMaxData, fmt::format("{} of {} data bytes", data_size_, total));
  head.header_size = static_cast<std::uint32_t>(lead_.size() - kPrefixSize);
  head.data_size = static_cast<std::uint32_t>(total);
  encode_prefix(std::span(lead_).first<kPrefixSize>(), head);
  pieces_[0] = {lead_.data(), lead_.size()};
  owed_ = total - data_size_;
  Result<> sent = co_await stream_.write_all(pieces_, deadline);
  failed_ = failed_ || !sent.ok();
  clear();
  co_return sent;
}

Task<Result<>> FrameWriter::send_more(TimePoint deadline) {
  LEAP_CHECK(data_size_ <= owed_, fmt::format("{} data bytes where {} were announced", data_size_, owed_));
  owed_ -= data_size_;
  Result<> sent = co_await stream_.write_all(std::span(pieces_).subspan(1), deadline);
  failed_ = failed_ || !sent.ok();
  clear();
  co_return sent;
}

}  // namespace leap::rpc

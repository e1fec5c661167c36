// WireClient: a peer written from the protocol's text, on a plain blocking socket. It sends whatever a test wants and
// checks of every reply what Curvine's clients check.
#pragma once

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/address.h"
#include "base/fd.h"
#include "rpc/error_codec.h"
#include "rpc/frame.h"
#include "rpc/messages.h"

namespace leap::testing {

using rpc::RequestStatus;
using Bytes = std::vector<std::byte>;

inline constexpr std::uint8_t kWrite = 80;
inline constexpr std::uint8_t kRead = 81;

inline Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

struct Reply {
  rpc::FrameHead head;
  Bytes header;
  Bytes data;

  [[nodiscard]] bool ok() const { return head.response() == rpc::ResponseStatus::kSuccess; }
  [[nodiscard]] rpc::RemoteError error() const {
    if (ok()) return {static_cast<rpc::ErrorKind>(0), "success"};
    return rpc::decode_error(data).value();
  }
  [[nodiscard]] int kind() const { return ok() ? 0 : static_cast<int>(error().kind); }
  [[nodiscard]] std::string text() const { return error().message; }
};

class WireClient {
 public:
  explicit WireClient(const SocketAddress& address)
      : fd_(::socket(address.os_family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(fd_.get(), address.data(), address.size()), 0) << errno;
  }

  // --- bytes ---

  void send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the worker has closed; the test will see it when it reads
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
  }
  /// Exactly `size` bytes; fewer when the worker closes.
  Bytes receive(std::size_t size) {
    Bytes bytes(size);
    std::size_t got = 0;
    while (got < size) {
      const ssize_t n = ::recv(fd_.get(), bytes.data() + got, size - got, 0);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
    bytes.resize(got);
    return bytes;
  }
  /// The worker closes without sending anything.
  bool closed() {
    std::byte byte;
    errno = 0;
    const ssize_t n = ::recv(fd_.get(), &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
  }
  /// The worker has sent nothing so far.
  bool silent() {
    std::byte byte;
    return ::recv(fd_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
  void close() { fd_.reset(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

  // --- frames ---

  static Bytes frame(rpc::FrameHead head, std::span<const std::byte> header = {},
                     std::span<const std::byte> data = {}) {
    head.header_size = static_cast<std::uint32_t>(header.size());
    head.data_size = static_cast<std::uint32_t>(data.size());
    Bytes bytes(rpc::kPrefixSize);
    rpc::encode_prefix(std::span(bytes).first<rpc::kPrefixSize>(), head);
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.insert(bytes.end(), data.begin(), data.end());
    return bytes;
  }
  static Bytes header_of(const google::protobuf::MessageLite& message) {
    Bytes header(rpc::header_size(message));
    rpc::encode_header(message, header);
    return header;
  }

  /// The next frame, checked as far as it must hold for every reply to `request`.
  Reply read_reply(const rpc::FrameHead& request) {
    Reply reply;
    const Bytes prefix = receive(rpc::kPrefixSize);
    if (prefix.size() < rpc::kPrefixSize) {
      ADD_FAILURE() << "no reply to code " << int{request.code} << " status " << int{request.status};
      reply.head.status = 0x10;
      reply.data = bytes_of(rpc::encode_error(rpc::ErrorKind::kCommon, "no reply"));
      return reply;
    }
    reply.head = rpc::decode_prefix(std::span(prefix).first<rpc::kPrefixSize>()).value();
    reply.header = receive(reply.head.header_size);
    reply.data = receive(reply.head.data_size);
    EXPECT_EQ(reply.head.code, request.code);
    EXPECT_EQ(reply.head.status & 0x0F, request.status & 0x0F);
    EXPECT_EQ(reply.head.req_id, request.req_id);
    EXPECT_EQ(reply.head.seq_id, request.seq_id);
    EXPECT_LE(reply.head.status >> 4, 1) << "success or error";
    if (!reply.ok()) {
      EXPECT_EQ(reply.head.header_size, 0u);
      EXPECT_GE(reply.head.data_size, 12u);
      EXPECT_TRUE(rpc::decode_error(reply.data).ok());
    }
    return reply;
  }
  Reply call(rpc::FrameHead head, std::span<const std::byte> header = {}, std::span<const std::byte> data = {}) {
    send(frame(head, header, data));
    return read_reply(head);
  }
  Reply call(std::uint8_t code, RequestStatus status, std::span<const std::byte> header = {},
             std::span<const std::byte> data = {}) {
    return call({.code = code, .status = rpc::request_byte(status), .req_id = req_id, .seq_id = seq_id++}, header,
                data);
  }

  // --- WriteBlock ---

  struct Write {
    std::int64_t id = 0;
    std::int64_t capacity = 0;
    std::int64_t off = 0;
    int type = 4;
    bool short_circuit = false;
    std::int64_t length = 0;  ///< for Complete
    std::optional<proto::FileAllocOptsProto> alloc{};
  };
  static Bytes write_header(const Write& w) {
    proto::BlockWriteRequest request;
    request.mutable_block()->set_id(w.id);
    request.mutable_block()->set_block_size(w.length);
    request.mutable_block()->set_storage_type(static_cast<proto::StorageTypeProto>(w.type));
    request.mutable_block()->set_file_type(proto::FILE_TYPE_FILE);
    if (w.alloc) *request.mutable_block()->mutable_alloc_opts() = *w.alloc;
    request.set_off(w.off);
    request.set_block_size(w.capacity);
    request.set_short_circuit(w.short_circuit);
    request.set_client_name("test");
    request.set_chunk_size(131072);
    return header_of(request);
  }
  Reply open_write(const Write& w) {
    new_session();
    return call(kWrite, RequestStatus::kOpen, write_header(w));
  }
  Reply write(std::span<const std::byte> data) { return call(kWrite, RequestStatus::kRunning, {}, data); }
  Reply write_at(std::int64_t offset, std::span<const std::byte> data) {
    return call(kWrite, RequestStatus::kRunning, data_header(offset, false), data);
  }
  Reply flush(std::int64_t offset) { return call(kWrite, RequestStatus::kRunning, data_header(offset, true)); }
  Reply complete(const Write& w) { return call(kWrite, RequestStatus::kComplete, write_header(w)); }
  Reply cancel(const Write& w) { return call(kWrite, RequestStatus::kCancel, write_header(w)); }

  // --- ReadBlock ---

  struct Read {
    std::int64_t id = 0;
    std::int64_t len = 0;
    std::int64_t off = 0;
    std::int32_t chunk = 131072;
    bool short_circuit = false;
    bool read_ahead = true;
    std::int64_t read_ahead_len = 1048576;
  };
  static Bytes read_header(const Read& r) {
    proto::BlockReadRequest request;
    request.set_id(r.id);
    request.set_off(r.off);
    request.set_len(r.len);
    request.set_chunk_size(r.chunk);
    request.set_short_circuit(r.short_circuit);
    request.set_enable_read_ahead(r.read_ahead);
    request.set_read_ahead_len(r.read_ahead_len);
    request.set_drop_cache_len(1048576);
    return header_of(request);
  }
  Reply open_read(const Read& r) {
    new_session();
    return call(kRead, RequestStatus::kOpen, read_header(r));
  }
  Reply read() { return call(kRead, RequestStatus::kRunning); }
  Reply read_at(std::int64_t offset) { return call(kRead, RequestStatus::kRunning, data_header(offset, false)); }
  Reply close_read() { return call(kRead, RequestStatus::kComplete); }

  // --- whole blocks ---

  /// Writes and commits `data` as the whole content of block `id`.
  void put(std::int64_t id, std::span<const std::byte> data, std::int64_t capacity) {
    EXPECT_EQ(open_write({.id = id, .capacity = capacity}).text(), "success");
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t part = std::min<std::size_t>(data.size() - at, 131072);
      EXPECT_EQ(write(data.subspan(at, part)).text(), "success");
      at += part;
    }
    EXPECT_EQ(complete({.id = id, .capacity = capacity, .length = static_cast<std::int64_t>(data.size())}).text(),
              "success");
  }
  /// What a client that knows the block as `len` bytes sees; empty if it cannot be opened.
  Bytes get(std::int64_t id, std::int64_t len, std::int32_t chunk = 131072) {
    Bytes all;
    if (!open_read({.id = id, .len = len, .chunk = chunk}).ok()) return all;
    while (static_cast<std::int64_t>(all.size()) < len) {
      const Reply reply = read();
      EXPECT_TRUE(reply.ok()) << reply.text();
      if (!reply.ok() || reply.data.empty()) break;
      all.insert(all.end(), reply.data.begin(), reply.data.end());
    }
    EXPECT_TRUE(close_read().ok());
    return all;
  }
  /// The error kind of opening the block for reading; 0: it can be read.
  int read_kind(std::int64_t id) { return open_read({.id = id, .len = 1}).kind(); }

  void new_session() {
    req_id -= 1;
    seq_id = 0;
  }

  std::int64_t req_id = -0x1234567890;
  std::int32_t seq_id = 0;

 private:
  static Bytes data_header(std::int64_t offset, bool flush) {
    proto::DataHeaderProto header;
    header.set_offset(offset);
    header.set_flush(flush);
    header.set_is_last(false);
    return header_of(header);
  }

  UniqueFd fd_;
};

}  // namespace leap::testing

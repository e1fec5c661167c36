// A Net whose one peer answers each request at once with what a function returns: a worker without sockets or blocks.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "poller/net.h"
#include "rpc/frame.h"

namespace leap::testing {

/// A request as it came over the wire, and its parts.
struct Request {
  std::vector<std::byte> frame;
  rpc::FrameHead head;

  [[nodiscard]] std::span<const std::byte> header() const {
    return std::span(frame).subspan(rpc::kPrefixSize, head.header_size);
  }
  [[nodiscard]] std::span<const std::byte> data() const { return std::span(frame).last(head.data_size); }
};

/// The encoded reply to `request`: `header` and `data` are raw bytes.
inline std::vector<std::byte> reply_to(const Request& request, std::span<const std::byte> header,
                                       std::span<const std::byte> data,
                                       rpc::ResponseStatus status = rpc::ResponseStatus::kSuccess) {
  rpc::FrameHead head = rpc::reply_head(request.head, status);
  head.header_size = static_cast<std::uint32_t>(header.size());
  head.data_size = static_cast<std::uint32_t>(data.size());
  std::vector<std::byte> frame(rpc::kPrefixSize);
  rpc::encode_prefix(std::span(frame).first<rpc::kPrefixSize>(), head);
  frame.insert(frame.end(), header.begin(), header.end());
  frame.insert(frame.end(), data.begin(), data.end());
  return frame;
}

class FakeWorker final : public Net {
 public:
  /// Returns the bytes to answer with; none: no answer.
  using Handler = std::function<std::vector<std::byte>(const Request&)>;

  explicit FakeWorker(Handler handler) : handler_(std::move(handler)) {}

  Result<std::unique_ptr<Stream>> connect(const SocketAddress&) override {
    ++connections;
    return std::unique_ptr<Stream>(std::make_unique<Connection>(*this));
  }
  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress&) override {
    return Error(Errc::kUnsupported, "a fake worker does not listen");
  }

  int connections = 0;
  std::vector<Request> requests;

 private:
  class Connection final : public Stream {
   public:
    explicit Connection(FakeWorker& worker) : worker_(worker) {}

    ssize_t readv(const iovec* iov, int count) override {
      std::size_t done = 0;
      for (int i = 0; i < count && !replies_.empty(); ++i) {
        const std::size_t part = std::min(replies_.size(), iov[i].iov_len);
        std::memcpy(iov[i].iov_base, replies_.data(), part);
        replies_.erase(replies_.begin(), replies_.begin() + static_cast<std::ptrdiff_t>(part));
        done += part;
      }
      return done > 0 ? static_cast<ssize_t>(done) : -EAGAIN;
    }
    ssize_t writev(const iovec* iov, int count) override {
      std::size_t done = 0;
      for (int i = 0; i < count; ++i) {
        const auto* from = static_cast<const std::byte*>(iov[i].iov_base);
        sent_.insert(sent_.end(), from, from + iov[i].iov_len);
        done += iov[i].iov_len;
      }
      while (serve()) {
      }
      return static_cast<ssize_t>(done);
    }
    void shutdown_write() override {}
    Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override {
      if (interest.write) poller.heat(pollable);  // "connected": the attempt is over at once
      return {};
    }
    void set_interest(Interest) override {}
    void detach() override {}
    int connect_error() override { return 0; }
    [[nodiscard]] std::string peer() const override { return "fake worker"; }

   private:
    bool serve() {
      if (sent_.size() < rpc::kPrefixSize) return false;
      Request request;
      request.head = rpc::decode_prefix(std::span(sent_).first<rpc::kPrefixSize>()).value();
      const auto size = static_cast<std::ptrdiff_t>(rpc::kPrefixSize + request.head.body_size());
      if (sent_.size() < static_cast<std::size_t>(size)) return false;
      request.frame.assign(sent_.begin(), sent_.begin() + size);
      sent_.erase(sent_.begin(), sent_.begin() + size);
      const auto answer = worker_.handler_(request);
      replies_.insert(replies_.end(), answer.begin(), answer.end());
      worker_.requests.push_back(std::move(request));
      return true;
    }

    FakeWorker& worker_;
    std::vector<std::byte> sent_;
    std::vector<std::byte> replies_;
  };

  Handler handler_;
};

}  // namespace leap::testing

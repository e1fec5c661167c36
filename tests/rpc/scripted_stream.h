// A Stream that delivers given bytes in given pieces and keeps what is sent through it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "poller/net.h"

namespace leap::testing {

class ScriptedStream final : public Stream {
 public:
  struct Script {
    std::vector<std::byte> input;
    /// How many bytes the next read may take, given what is left; 0 is not allowed.
    std::function<std::size_t(std::size_t left)> cut = [](std::size_t left) { return left; };
    std::size_t accept_per_write = SIZE_MAX;
  };
  /// What was sent, readable after the stream is gone.
  using Sent = std::shared_ptr<std::vector<std::byte>>;

  ScriptedStream(Script script, Sent sent) : script_(std::move(script)), sent_(std::move(sent)) {}

  ssize_t readv(const iovec* iov, int count) override {
    const std::size_t left = script_.input.size() - read_;
    if (left == 0) return 0;
    std::size_t may = std::min(script_.cut(left), left);
    std::size_t done = 0;
    for (int i = 0; i < count && may > 0; ++i) {
      const std::size_t part = std::min(may, iov[i].iov_len);
      std::memcpy(iov[i].iov_base, script_.input.data() + read_, part);
      read_ += part;
      may -= part;
      done += part;
    }
    return static_cast<ssize_t>(done);
  }
  ssize_t writev(const iovec* iov, int count) override {
    std::size_t may = script_.accept_per_write;
    std::size_t done = 0;
    for (int i = 0; i < count && may > 0; ++i) {
      const std::size_t part = std::min(may, iov[i].iov_len);
      const auto* from = static_cast<const std::byte*>(iov[i].iov_base);
      sent_->insert(sent_->end(), from, from + part);
      may -= part;
      done += part;
    }
    return static_cast<ssize_t>(done);
  }
  void shutdown_write() override {}
  Result<> attach(NvmePoller&, Pollable&, Interest) override { return {}; }
  void set_interest(Interest) override {}
  void detach() override {}
  int connect_error() override { return 0; }
  [[nodiscard]] std::string peer() const override { return "script"; }

 private:
  Script script_;
  Sent sent_;
  std::size_t read_ = 0;
};

}  // namespace leap::testing

// AdminClient: a worker's HTTP interface, for tools: what the block protocol has no verb for.
//
//   AdminClient admin("127.0.0.1", 9002);
//   LEAP_TRY(const AdminClient::Block block, admin.stat(BlockId{7}));
//   for (std::string cursor;;) {
//     LEAP_TRY(const AdminClient::Page page, admin.list(cursor, 1000));
//     if (!page.next) break;
//     cursor = *page.next;
//   }
//
// Threading: blocking; one thread at a time; never a poller's. Errors: kUnreachable (nobody listens), kTimedOut, what
// the worker answered (kNotFound, ...), kProtocol (whoever answered is no worker).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "client/worker_info.h"
#include "store/types.h"

namespace leap {

class AdminClient {
 public:
  using Block = RemoteBlock;
  struct Page {
    std::vector<Block> blocks;
    std::optional<std::string> next;  ///< cursor of the next page; nothing: the end
  };

  AdminClient(std::string host, std::uint16_t port, Nanos timeout = std::chrono::seconds(30));
  ~AdminClient();
  AdminClient(AdminClient&&) noexcept;
  AdminClient& operator=(AdminClient&&) noexcept;

  Result<Block> stat(BlockId id);
  /// About `limit` blocks after `cursor` (empty: from the start), in no particular order.
  Result<Page> list(std::string_view cursor, std::size_t limit);
  /// Deletes the block durably.
  Result<> remove(BlockId id);
  /// Prometheus text.
  Result<std::string> metrics();
  /// A JSON object: version, uptime, sessions, space, directories.
  Result<std::string> status();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace leap

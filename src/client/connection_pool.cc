#include "client/connection_pool.h"

#include <algorithm>

namespace leap {

Task<Result<ConnectionPool::Lease>> ConnectionPool::acquire(SocketAddress address) {
  drop_expired();
  for (std::size_t i = idle_.size(); i-- > 0;) {
    if (!(idle_[i].connection->address() == address)) continue;
    auto connection = std::move(idle_[i].connection);
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
    if (connection->usable()) co_return Lease(*this, std::move(connection));
  }
  LEAP_CO_TRY(auto connection,
              co_await WorkerConnection::connect(poller_, net_, std::move(address), config_.connection));
  co_return Lease(*this, std::move(connection));
}

void ConnectionPool::give_back(std::unique_ptr<WorkerConnection> connection) {
  drop_expired();
  if (!connection->usable() || config_.max_idle == 0) return;
  if (idle_.size() >= config_.max_idle) idle_.erase(idle_.begin());
  idle_.push_back({std::move(connection), poller_.clock().now()});
}

void ConnectionPool::drop_expired() {
  const TimePoint now = poller_.clock().now();
  std::erase_if(idle_, [&](const Idle& idle) { return now - idle.since > config_.idle_timeout; });
}

}  // namespace leap

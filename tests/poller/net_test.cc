// Net and AsyncStream over real loopback sockets.
#include "poller/net.h"

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/fd.h"
#include "poller/async_stream.h"
#include "poller/sync.h"
#include "scripted_stream.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::stamped;

constexpr Nanos kPatience = 10s;

SocketAddress loopback(std::uint16_t port) { return SocketAddress::from_numeric("127.0.0.1", port).value(); }

/// Awaits one connection.
class Accept final : private Pollable {
 public:
  Accept(NvmePoller& poller, Acceptor& acceptor) : poller_(poller), acceptor_(acceptor), arrived_(poller) {}
  Task<Result<std::unique_ptr<AsyncStream>>> next() {
    LEAP_CO_TRY_VOID(acceptor_.attach(poller_, *this));
    co_await arrived_.wait();
    acceptor_.detach();
    auto stream = AsyncStream::open(poller_, std::move(stream_));
    co_return std::move(stream);
  }

 private:
  std::size_t poll() override {
    auto stream = acceptor_.accept();
    if (!stream.ok() || *stream == nullptr) return 0;
    stream_ = std::move(*stream);
    arrived_.set();
    return 1;
  }
  NvmePoller& poller_;
  Acceptor& acceptor_;
  AsyncEvent arrived_;
  std::unique_ptr<Stream> stream_;
};

class NetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    poller_ = NvmePoller::create({.name = "net"}).value();
    poller_->start().value();
  }
  void TearDown() override { poller_->stop(); }
  std::unique_ptr<NvmePoller> poller_;
};

struct Pair {
  std::unique_ptr<AsyncStream> client;
  std::unique_ptr<AsyncStream> server;
};

Task<void> connect_into(NvmePoller& poller, SocketAddress address, std::unique_ptr<AsyncStream>& out) {
  auto stream = co_await AsyncStream::connect(poller, Net::system(), address, poller.now() + kPatience);
  if (stream.ok()) out = std::move(stream).value();
}

Task<Result<Pair>> connected(NvmePoller& poller) {
  LEAP_CO_TRY(auto acceptor, Net::system().listen(loopback(0)));
  Pair pair;
  TaskGroup group(poller);
  group.spawn(connect_into(poller, acceptor->local_address(), pair.client));
  Accept accept(poller, *acceptor);
  LEAP_CO_TRY(pair.server, co_await accept.next());
  co_await group.wait();
  if (pair.client == nullptr) co_return Error(Errc::kInternal, "the client did not connect");
  co_return std::move(pair);
}

/// A server's end of a connection whose client reads nothing: closing the client with bytes unread is a reset.
struct Resettable {
  std::unique_ptr<Stream> client;
  std::unique_ptr<AsyncStream> server;
};

Task<void> send_all(AsyncStream& stream, std::vector<std::byte>& data, Result<>& outcome);

Task<Result<Resettable>> with_unread_bytes(NvmePoller& poller) {
  LEAP_CO_TRY(auto acceptor, Net::system().listen(loopback(0)));
  Resettable pair;
  LEAP_CO_TRY(pair.client, Net::system().connect(acceptor->local_address()));
  Accept accept(poller, *acceptor);
  LEAP_CO_TRY(pair.server, co_await accept.next());
  std::vector<std::byte> data = stamped(0, 100);
  Result<> sent;
  co_await send_all(*pair.server, data, sent);
  LEAP_CO_TRY_VOID(sent);
  co_return std::move(pair);
}

Task<void> send_all(AsyncStream& stream, std::vector<std::byte>& data, Result<>& outcome) {
  iovec piece{data.data(), data.size()};
  Result<> written = co_await stream.write_all({&piece, 1}, TimePoint::max());
  outcome = std::move(written);
}

TEST_F(NetTest, MovesMegabytesBothWaysAtOnce) {
  const Result<> outcome = poller_->run([](NvmePoller& p) -> Task<Result<>> {
    LEAP_CO_TRY(Pair pair, co_await connected(p));
    constexpr std::size_t kSize = 8 << 20;  // far more than the sockets hold: both writers have to wait
    std::vector<std::byte> up = stamped(0, kSize);
    std::vector<std::byte> down = stamped(1'000'000'007, kSize);
    Result<> up_sent;
    Result<> down_sent;
    TaskGroup group(p);
    group.spawn(send_all(*pair.client, up, up_sent));
    group.spawn(send_all(*pair.server, down, down_sent));
    std::vector<std::byte> got(kSize);
    LEAP_CO_TRY(const bool first, co_await pair.server->read_exact(got, p.now() + kPatience));
    const bool up_right = first && got == up;
    LEAP_CO_TRY(const bool second, co_await pair.client->read_exact(got, p.now() + kPatience));
    const bool down_right = second && got == down;
    co_await group.wait();
    LEAP_CO_TRY_VOID(up_sent);
    LEAP_CO_TRY_VOID(down_sent);
    if (!up_right || !down_right) co_return Error(Errc::kCorrupt, "other bytes arrived");
    pair.client->close();
    std::byte byte{};
    LEAP_CO_TRY(const bool more, co_await pair.server->read_exact({&byte, 1}, p.now() + kPatience));
    if (more) co_return Error(Errc::kProtocol, "bytes after the end");
    co_return Result<>{};
  });
  EXPECT_TRUE(outcome.ok()) << outcome.error().to_string();
}

TEST_F(NetTest, APeerThatResetsIsAnErrorForBothDirections) {
  const Result<> outcome = poller_->run([](NvmePoller& p) -> Task<Result<>> {
    LEAP_CO_TRY(Resettable pair, co_await with_unread_bytes(p));
    pair.client.reset();
    std::byte byte{};
    const Result<bool> more = co_await pair.server->read_exact({&byte, 1}, p.now() + kPatience);
    EXPECT_FALSE(more.ok()) << "a reset looks like a clean end";
    EXPECT_EQ(more.ok() ? 0 : more.error().os_errno(), ECONNRESET);
    std::vector<std::byte> data = stamped(0, 100);
    Result<> sent;
    co_await send_all(*pair.server, data, sent);
    EXPECT_FALSE(sent.ok());
    co_return Result<>{};
  });
  EXPECT_TRUE(outcome.ok()) << outcome.error().to_string();
}

TEST_F(NetTest, AConnectionThatBreaksWhileNobodyReadsDoesNotKeepThePollerAwake) {
  const Result<std::uint64_t> turns = poller_->run([](NvmePoller& p) -> Task<Result<std::uint64_t>> {
    LEAP_CO_TRY(Resettable pair, co_await with_unread_bytes(p));
    pair.client.reset();
    co_await p.sleep_for(20ms);
    EXPECT_TRUE(pair.server->end_seen());
    const std::uint64_t before = p.probe().turns.load();
    co_await p.sleep_for(100ms);
    const std::uint64_t spent = p.probe().turns.load() - before;
    co_return spent;
  });
  ASSERT_TRUE(turns.ok()) << turns.error().to_string();
  EXPECT_LT(*turns, 2000U);  // one spin, not 100 ms of them
}

TEST_F(NetTest, ConnectingWhereNobodyListensIsUnreachable) {
  const auto port = Net::system().listen(loopback(0)).value()->local_address().port();  // free again at once
  const Errc kind = poller_->run([port](NvmePoller& p) -> Task<Errc> {
    auto stream = co_await AsyncStream::connect(p, Net::system(), loopback(port), p.now() + kPatience);
    co_return stream.ok() ? Errc::kInternal : stream.error().kind();
  });
  EXPECT_EQ(kind, Errc::kUnreachable);
}

TEST_F(NetTest, ConnectingToAnAddressThatNeverAnswersTimesOut) {
  // A listener whose queue is full drops connection attempts: nothing answers, on any machine.
  const Result<Errc> kind = poller_->run([](NvmePoller& p) -> Task<Result<Errc>> {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const UniqueFd listener(fd);
    const SocketAddress any = loopback(0);
    if (::bind(fd, any.data(), any.size()) != 0 || ::listen(fd, 0) != 0) co_return Error::os(errno, "listen");
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
    LEAP_CO_TRY(const auto address, SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), size));
    std::vector<std::unique_ptr<AsyncStream>> filling;
    for (int i = 0; i < 4; ++i) {
      auto stream = co_await AsyncStream::connect(p, Net::system(), address, p.clock().now() + 50ms);
      if (!stream.ok()) co_return stream.error().kind();
      filling.push_back(std::move(stream).value());
    }
    co_return Errc::kInternal;
  });
  ASSERT_TRUE(kind.ok()) << kind.error().to_string();
  EXPECT_EQ(*kind, Errc::kTimedOut);
}

TEST(Net, AnAddressInUseIsToldAsSuch) {
  auto first = Net::system().listen(loopback(0)).value();
  const auto second = Net::system().listen(first->local_address());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), Errc::kAlreadyExists);
  EXPECT_NE(second.error().message().find(first->local_address().to_string()), std::string::npos);
}

TEST(Net, AcceptSaysWhenThereIsNobody) {
  auto acceptor = Net::system().listen(loopback(0)).value();
  const auto nobody = acceptor->accept();
  ASSERT_TRUE(nobody.ok());
  EXPECT_EQ(*nobody, nullptr);
}

TEST(Net, StreamsKnowBothEnds) {
  auto acceptor = Net::system().listen(loopback(0)).value();
  auto client = Net::system().connect(acceptor->local_address()).value();
  std::unique_ptr<Stream> server;
  while (server == nullptr) server = acceptor->accept().value();
  EXPECT_EQ(client->peer(), acceptor->local_address().to_string());
  EXPECT_EQ(server->local_address(), acceptor->local_address());
  EXPECT_EQ(server->peer(), client->local_address().to_string());
  EXPECT_EQ(client->connect_error(), 0);
}

}  // namespace
}  // namespace leap

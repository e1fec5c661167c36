// WriteBlock as any peer sees it: protocol checklist B.2.
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

using WriteBlock = WorkerTest;

proto::FileAllocOptsProto alloc(std::int64_t len, bool truncate = true, std::int32_t mode = 0, std::int64_t off = 0) {
  proto::FileAllocOptsProto options;
  options.set_truncate(truncate);
  options.set_off(off);
  options.set_len(len);
  options.set_mode(mode);
  return options;
}

Bytes zeros(std::size_t size) { return Bytes(size); }

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(WriteBlock, CommittedBlockIsReadableAtOnceFromElsewhere) {
  WireClient writer = connect(), reader = connect();
  const std::int64_t id = new_id();
  const Bytes data = stamped(id, 0, 300'001);
  writer.put(id, data, kMebi);
  EXPECT_TRUE(same(reader.get(id, 300'001), data));
}

TEST_F(WriteBlock, UncommittedBlockIsNotReadable) {
  WireClient writer = connect(), reader = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(writer.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(writer.write(stamped(id, 0, 5000)).ok());
  EXPECT_EQ(reader.read_kind(id), 29);
  EXPECT_TRUE(writer.cancel({.id = id, .capacity = kMebi}).ok());
}

TEST_F(WriteBlock, OffsetOutsideTheCapacityIsRefusedAndChargesNothing) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const std::uint64_t before = env().taken();
  EXPECT_EQ(client.open_write({.id = id, .capacity = kMebi, .off = -1}).kind(), 28);
  EXPECT_EQ(client.open_write({.id = id, .capacity = kMebi, .off = kMebi + 1}).kind(), 28);
  EXPECT_EQ(client.open_write({.id = id, .capacity = -1, .off = 0}).kind(), 28);
  EXPECT_NE(client.open_write({.id = id, .capacity = std::int64_t{1} << 62}).kind(), 0);
  EXPECT_EQ(env().taken(), before);
  EXPECT_EQ(client.read_kind(id), 29);
}

TEST_F(WriteBlock, EveryRequestedStorageTypeIsServed) {
  WireClient client = connect();
  for (const int type : {0, 1, 2, 3, 4, 5, 77, -3}) {
    const std::int64_t id = new_id();
    const Reply opened = client.open_write({.id = id, .capacity = kMebi, .type = type});
    ASSERT_TRUE(opened.ok()) << type << ": " << opened.text();
    proto::BlockWriteResponse reply;
    rpc::parse_header(opened.header, reply).value();
    EXPECT_EQ(reply.storage_type(), proto::STORAGE_TYPE_SPDK_DISK) << type;
    EXPECT_TRUE(client.cancel({.id = id, .capacity = kMebi, .type = type}).ok());
  }
}

TEST_F(WriteBlock, ReplyNeverHasAPathAndEchoesTheCapacity) {
  WireClient client = connect();
  for (const bool short_circuit : {false, true}) {
    const std::int64_t id = new_id();
    const WireClient::Write write{.id = id, .capacity = 123'457, .off = 0, .short_circuit = short_circuit};
    const Reply opened = client.open_write(write);
    ASSERT_TRUE(opened.ok());
    proto::BlockWriteResponse reply;
    rpc::parse_header(opened.header, reply).value();
    EXPECT_FALSE(reply.has_path());
    EXPECT_EQ(reply.block_size(), 123'457);
    EXPECT_EQ(reply.id(), id);
    EXPECT_EQ(reply.off(), 0);
    EXPECT_TRUE(client.cancel(write).ok());
  }
}

TEST_F(WriteBlock, BlocksNeverShareAByte) {
  WireClient a = connect(), b = connect();
  const std::int64_t first = new_id(), second = new_id();
  constexpr std::size_t kStep = 3001, kSteps = 100;
  ASSERT_TRUE(a.open_write({.id = first, .capacity = kMebi}).ok());
  ASSERT_TRUE(b.open_write({.id = second, .capacity = kMebi}).ok());
  for (std::size_t i = 0; i < kSteps; ++i) {
    ASSERT_TRUE(a.write(stamped(first, i * kStep, kStep)).ok());
    ASSERT_TRUE(b.write(stamped(second, i * kStep, kStep)).ok());
  }
  constexpr std::int64_t kLength = kStep * kSteps;
  ASSERT_TRUE(a.complete({.id = first, .capacity = kMebi, .length = kLength}).ok());
  ASSERT_TRUE(b.complete({.id = second, .capacity = kMebi, .length = kLength}).ok());
  EXPECT_TRUE(same(a.get(first, kLength), stamped(first, 0, kLength)));
  EXPECT_TRUE(same(a.get(second, kLength), stamped(second, 0, kLength)));
}

TEST_F(WriteBlock, BadRunningFailsTheBlockAndNotTheConnection) {
  const Bytes data = stamped(1, 0, 4096);
  struct Case {
    const char* name;
    Reply (*bad)(WireClient&, const Bytes&);
  };
  const Case cases[] = {
      {"seek below 0", [](WireClient& c, const Bytes& d) { return c.write_at(-1, d); }},
      {"seek to the capacity", [](WireClient& c, const Bytes& d) { return c.write_at(10'000, d); }},
      {"write past the capacity", [](WireClient& c, const Bytes& d) { return c.write_at(8000, d); }},
      {"header that is no message",
       [](WireClient& c, const Bytes& d) { return c.call(kWrite, RequestStatus::kRunning, bytes_of("\x08"), d); }},
  };
  for (const Case& c : cases) {
    WireClient client = connect();
    const std::int64_t id = new_id();
    const WireClient::Write write{.id = id, .capacity = 10'000, .length = 4096};
    ASSERT_TRUE(client.open_write(write).ok());
    ASSERT_TRUE(client.write(data).ok());
    EXPECT_FALSE(c.bad(client, data).ok()) << c.name;
    EXPECT_FALSE(client.write_at(0, data).ok()) << c.name << ": nothing may be written behind a hole";
    EXPECT_FALSE(client.complete(write).ok()) << c.name;
    EXPECT_EQ(client.cancel(write).text(), "success") << c.name;
    EXPECT_EQ(client.read_kind(id), 29) << c.name;
  }
}

// A block is open and holds 4096 good bytes; the frame after them was refused.
void write_and_be_refused(WireClient& client, std::int64_t id) {
  ASSERT_TRUE(client.open_write({.id = id, .capacity = 10'000}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 4096)).ok());
  ASSERT_FALSE(client.write_at(8000, stamped(id, 8000, 4096)).ok());
}

TEST_F(WriteBlock, ARefusedFrameIsNotCommittedByAConnectionThatTakesOver) {
  WireClient client = connect(), other = connect();
  const std::int64_t id = new_id();
  write_and_be_refused(client, id);
  ASSERT_TRUE(other.open_write({.id = id, .capacity = 10'000, .off = 4096}).ok());
  EXPECT_FALSE(other.complete({.id = id, .capacity = 10'000, .length = 4096}).ok());
  EXPECT_EQ(other.read_kind(id), 29);
  EXPECT_TRUE(other.cancel({.id = id, .capacity = 10'000}).ok());
}

TEST_F(WriteBlock, ARefusedFrameIsNotCommittedAfterAReadInBetween) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  write_and_be_refused(client, id);
  EXPECT_EQ(client.read_kind(id), 29) << "begins an empty read session, the write session is let go";
  EXPECT_FALSE(client.complete({.id = id, .capacity = 10'000, .length = 4096}).ok());
  EXPECT_EQ(client.read_kind(id), 29);
  EXPECT_TRUE(client.cancel({.id = id, .capacity = 10'000}).ok());
}

TEST_F(WriteBlock, ARefusedRewriteIsNotTakenForTheOldContentOfTheSameLength) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  client.put(id, stamped(id, 0, 4096, 2), 10'000);
  write_and_be_refused(client, id);
  EXPECT_EQ(client.read_kind(id), 0);
  EXPECT_FALSE(client.complete({.id = id, .capacity = 10'000, .length = 4096}).ok());
  EXPECT_TRUE(same(client.get(id, 4096), stamped(id, 0, 4096, 2)));
}

TEST_F(WriteBlock, HolesReadAsZerosOnADirtyDevice) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 5000)).ok());
  ASSERT_TRUE(client.write_at(100'003, stamped(id, 100'003, 777)).ok());
  ASSERT_TRUE(client.write_at(1000, stamped(id, 1000, 500, 2)).ok());  // overwrite inside
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 100'780}).ok());
  Bytes wanted = stamped(id, 0, 5000) + zeros(95'003) + stamped(id, 100'003, 777);
  std::ranges::copy(stamped(id, 1000, 500, 2), wanted.begin() + 1000);
  EXPECT_TRUE(same(client.get(id, 100'780), wanted));
}

TEST_F(WriteBlock, FlushDoesNotMoveThePosition) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 1234)).ok());
  for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{1234}, std::int64_t{-5}, std::int64_t{1} << 40}) {
    EXPECT_EQ(client.flush(offset).text(), "success");
  }
  EXPECT_TRUE(client.call(kWrite, RequestStatus::kRunning).ok()) << "neither header nor data: a no-op";
  ASSERT_TRUE(client.write(stamped(id, 1234, 1000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 2234}).ok());
  EXPECT_TRUE(same(client.get(id, 2234), stamped(id, 0, 2234)));
}

TEST_F(WriteBlock, RunningOfAnotherSessionWritesNothing) {
  WireClient client = connect();
  EXPECT_EQ(client.write(bytes_of("x")).kind(), 10000) << "before any Open";
  const std::int64_t id = new_id();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 100)).ok());
  const std::int64_t ours = client.req_id;
  client.req_id = 42;
  EXPECT_EQ(client.write(bytes_of("intruder")).kind(), 10000);
  EXPECT_EQ(client.complete({.id = id, .capacity = kMebi, .length = 100}).kind(), 10000);
  EXPECT_EQ(client.cancel({.id = id, .capacity = kMebi}).kind(), 10000);
  client.req_id = ours;
  ASSERT_TRUE(client.write(stamped(id, 100, 100)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 200}).ok());
  EXPECT_TRUE(same(client.get(id, 200), stamped(id, 0, 200)));
}

TEST_F(WriteBlock, CompleteIsIdempotentForTheSameLengthOnly) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const Bytes data = stamped(id, 0, 5000);
  client.put(id, data, kMebi);
  EXPECT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 5000}).ok());
  EXPECT_FALSE(client.complete({.id = id, .capacity = kMebi, .length = 4999}).ok());
  EXPECT_FALSE(client.complete({.id = id, .capacity = kMebi, .length = kMebi + 1}).ok());
  EXPECT_FALSE(client.complete({.id = id, .capacity = kMebi, .length = -1}).ok());
  EXPECT_TRUE(same(client.get(id, 5000), data));
  EXPECT_EQ(client.complete({.id = new_id(), .capacity = kMebi, .length = 0}).kind(), 29) << "unknown block";
}

TEST_F(WriteBlock, FirstWriteCannotBeCompletedBeyondItsEnd) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const WireClient::Write write{.id = id, .capacity = kMebi};
  ASSERT_TRUE(client.open_write(write).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 5000)).ok());
  EXPECT_FALSE(client.complete({.id = id, .capacity = kMebi, .length = 5001}).ok());
  EXPECT_EQ(client.read_kind(id), 29);
  ASSERT_TRUE(client.open_write(write).ok()) << "it can be reopened";
  EXPECT_TRUE(client.cancel(write).ok()) << "and cancelled";
  EXPECT_EQ(client.read_kind(id), 29);
}

TEST_F(WriteBlock, FirstWriteCompletedShortIsTruncated) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 50'000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 33'333}).ok());
  EXPECT_TRUE(same(client.get(id, 50'000), stamped(id, 0, 33'333) + zeros(16'667)));
}

TEST_F(WriteBlock, ImpossibleLengthAbortsANewBlock) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const std::uint64_t before = env().taken();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = 10'000}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 5000)).ok());
  EXPECT_EQ(client.complete({.id = id, .capacity = 10'000, .length = 10'001}).kind(), 28);
  EXPECT_EQ(client.read_kind(id), 29);
  EXPECT_TRUE(eventually([&] { return env().taken() == before; })) << env().taken();
}

TEST_F(WriteBlock, ImpossibleLengthOfARewriteKeepsTheOldContentAlsoThroughTheCancelThatFollows) {
  WireClient client = connect(), reader = connect();
  const std::int64_t id = new_id();
  const Bytes old = stamped(id, 0, 9000);
  client.put(id, old, 10'000);
  ASSERT_TRUE(client.open_write({.id = id, .capacity = 10'000}).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 5000, 2)).ok());
  EXPECT_EQ(client.complete({.id = id, .capacity = 10'000, .length = 10'001}).kind(), 28);
  EXPECT_TRUE(same(reader.get(id, 9000), old));
  EXPECT_FALSE(client.write(bytes_of("more")).ok());
  EXPECT_TRUE(client.cancel({.id = id, .capacity = 10'000}).ok());
  EXPECT_TRUE(same(reader.get(id, 9000), old));
}

TEST_F(WriteBlock, CancelUndoesWhatTheSessionDid) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const WireClient::Write write{.id = id, .capacity = kMebi};
  const std::uint64_t before = env().taken();
  ASSERT_TRUE(client.open_write(write).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 300'000)).ok());
  EXPECT_TRUE(client.cancel(write).ok());
  EXPECT_EQ(client.read_kind(id), 29) << "a new block is gone";
  EXPECT_TRUE(eventually([&] { return env().taken() == before; })) << "and its space is back";

  const Bytes old = stamped(id, 0, 9000);
  client.put(id, old, kMebi);
  ASSERT_TRUE(client.open_write(write).ok());
  ASSERT_TRUE(client.write(stamped(id, 0, 20'000, 2)).ok());
  EXPECT_TRUE(client.cancel(write).ok());
  EXPECT_TRUE(same(client.get(id, 9000), old)) << "a rewrite is undone";

  EXPECT_TRUE(client.cancel(write).ok());
  EXPECT_EQ(client.read_kind(id), 29) << "a finalized block is deleted";
  EXPECT_TRUE(client.cancel(write).ok()) << "an unknown one is fine";
}

TEST_F(WriteBlock, CancelAndCompleteWorkFromAConnectionThatNeverOpenedTheBlock) {
  const std::int64_t fresh = new_id(), rewritten = new_id(), finalized = new_id(), abandoned = new_id();
  const Bytes old = stamped(rewritten, 0, 9000);
  {
    WireClient writer = connect();
    writer.put(rewritten, old, kMebi);
    writer.put(finalized, old, kMebi);
    for (const std::int64_t id : {fresh, rewritten, abandoned}) {
      ASSERT_TRUE(writer.open_write({.id = id, .capacity = kMebi}).ok());
      ASSERT_TRUE(writer.write(stamped(id, 0, 7000, 2)).ok());
    }
  }
  WireClient other = connect();
  EXPECT_TRUE(other.cancel({.id = fresh, .capacity = kMebi}).ok());
  EXPECT_EQ(other.read_kind(fresh), 29);
  EXPECT_TRUE(other.cancel({.id = rewritten, .capacity = kMebi}).ok());
  EXPECT_TRUE(same(other.get(rewritten, 9000), old));
  EXPECT_TRUE(other.cancel({.id = finalized, .capacity = kMebi}).ok());
  EXPECT_EQ(other.read_kind(finalized), 29);
  EXPECT_TRUE(other.cancel({.id = new_id(), .capacity = kMebi}).ok());
  // The last session may still be ending: its connection has only just been closed.
  EXPECT_TRUE(eventually([&] { return other.complete({.id = abandoned, .capacity = kMebi, .length = 7000}).ok(); }));
  EXPECT_TRUE(same(other.get(abandoned, 7000), stamped(abandoned, 0, 7000, 2)));
}

TEST_F(WriteBlock, CancelAfterAShortCircuitOpenKeepsCommittedData) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const Bytes old = stamped(id, 0, 12'345);
  client.put(id, old, kMebi);
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi, .short_circuit = true}).ok());
  client.seq_id = 0;  // what a stock client does when the reply has no path
  ASSERT_TRUE(client.cancel({.id = id, .capacity = kMebi}).ok());
  EXPECT_TRUE(same(client.get(id, 12'345), old));
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi, .off = 12'345}).ok()) << "then it opens remotely";
  ASSERT_TRUE(client.write(stamped(id, 12'345, 5000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 17'345}).ok());
  EXPECT_TRUE(same(client.get(id, 17'345), stamped(id, 0, 17'345)));
}

TEST_F(WriteBlock, ReadersKeepTheGenerationTheyOpened) {
  WireClient writer = connect(), before = connect(), after = connect();
  const std::int64_t id = new_id();
  const Bytes old = stamped(id, 0, 40'000), fresh = stamped(id, 0, 40'000, 2);
  writer.put(id, old, kMebi);
  ASSERT_TRUE(writer.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(writer.write(fresh).ok());
  ASSERT_TRUE(before.open_read({.id = id, .len = 40'000, .chunk = 10'000}).ok());
  EXPECT_TRUE(same(before.read().data, std::span(old).first(10'000))) << "during the rewrite";
  ASSERT_TRUE(writer.complete({.id = id, .capacity = kMebi, .length = 40'000}).ok());
  EXPECT_TRUE(same(after.get(id, 40'000), fresh));
  for (const std::size_t at : {10'000u, 20'000u, 30'000u}) {
    EXPECT_TRUE(same(before.read().data, std::span(old).subspan(at, 10'000))) << "opened before: old to the end";
  }
}

TEST_F(WriteBlock, AppendKeepsWhatIsThere) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  client.put(id, stamped(id, 0, 10'001), kMebi);
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi, .off = 10'001}).ok());
  ASSERT_TRUE(client.write(stamped(id, 10'001, 20'000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 30'001}).ok());
  EXPECT_TRUE(same(client.get(id, 30'001), stamped(id, 0, 30'001)));
}

TEST_F(WriteBlock, FullBlockCanBeOpenedAtItsEnd) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const Bytes data = stamped(id, 0, 20'480);
  client.put(id, data, 20'480);
  ASSERT_TRUE(client.open_write({.id = id, .capacity = 20'480, .off = 20'480}).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = 20'480, .length = 20'480}).ok());
  EXPECT_TRUE(same(client.get(id, 20'480), data));
}

TEST_F(WriteBlock, FailingOpenLeavesACommittedBlockReadable) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const Bytes data = stamped(id, 0, 20'000);
  client.put(id, data, kMebi);
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .off = -1}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .off = kMebi + 1}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = std::int64_t{1} << 39}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .alloc = alloc(kMebi + 1)}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .alloc = alloc(100, true, 0, 1)}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .alloc = alloc(-1)}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .alloc = alloc(50'000, false, 2)}).ok());
  EXPECT_FALSE(client.open_write({.id = id, .capacity = kMebi, .alloc = alloc(100, false)}).ok()) << "would shrink";
  EXPECT_TRUE(same(client.get(id, 20'000), data));
}

TEST_F(WriteBlock, AllocOptionsSetTheLength) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const Bytes data = stamped(id, 0, 20'000);
  const auto resize = [&](const proto::FileAllocOptsProto& options) {
    EXPECT_EQ(client.open_write({.id = id, .capacity = kMebi, .alloc = options}).text(), "success");
    EXPECT_EQ(client.complete({.id = id, .capacity = kMebi, .length = options.len()}).text(), "success");
  };
  client.put(id, data, kMebi);
  resize(alloc(7001));
  EXPECT_TRUE(same(client.get(id, 7001), std::span(data).first(7001)));
  resize(alloc(20'000));
  EXPECT_TRUE(same(client.get(id, 20'000), stamped(id, 0, 7001) + zeros(12'999))) << "cut bytes do not come back";
  resize(alloc(300'000, false, 1));
  EXPECT_TRUE(same(client.get(id, 300'000), stamped(id, 0, 7001) + zeros(292'999)));
  resize(alloc(0));
  EXPECT_TRUE(same(client.get(id, 100), zeros(100)));
}

TEST_F(WriteBlock, AllocOptionsOfANewBlockReserveItsLength) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi, .off = 5000, .alloc = alloc(100'000, false)}).ok());
  ASSERT_TRUE(client.write(stamped(id, 5000, 1000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 100'000}).ok());
  EXPECT_TRUE(same(client.get(id, 100'000), zeros(5000) + stamped(id, 5000, 1000) + zeros(94'000)));
}

TEST_F(WriteBlock, ReopenMayRaiseTheCapacity) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  client.put(id, stamped(id, 0, 4096), 4096);
  ASSERT_TRUE(client.open_write({.id = id, .capacity = kMebi, .off = 4096}).ok());
  ASSERT_TRUE(client.write(stamped(id, 4096, 500'000)).ok());
  ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = 504'096}).ok());
  EXPECT_TRUE(same(client.get(id, 504'096), stamped(id, 0, 504'096)));
}

TEST_F(WriteBlock, OpeningAnotherBlockLeavesTheFirstReopenable) {
  WireClient client = connect();
  const std::int64_t a = new_id(), b = new_id();
  ASSERT_TRUE(client.open_write({.id = a, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(a, 0, 6000)).ok());
  client.put(b, stamped(b, 0, 5000), kMebi);
  EXPECT_TRUE(same(client.get(b, 5000), stamped(b, 0, 5000)));
  ASSERT_TRUE(client.open_write({.id = a, .capacity = kMebi, .off = 6000}).ok());
  ASSERT_TRUE(client.write(stamped(a, 6000, 1000)).ok());
  ASSERT_TRUE(client.complete({.id = a, .capacity = kMebi, .length = 7000}).ok());
  EXPECT_TRUE(same(client.get(a, 7000), stamped(a, 0, 7000)));
}

TEST_F(WriteBlock, NewestSessionOfABlockWins) {
  WireClient lost = connect(), fresh = connect(), third = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(lost.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(lost.write(stamped(id, 0, 6000)).ok());
  // The client gave its connection up; the worker has not noticed.
  const Reply reopened = fresh.open_write({.id = id, .capacity = kMebi, .off = 6000});
  ASSERT_TRUE(reopened.ok()) << reopened.text();
  EXPECT_FALSE(lost.write(bytes_of("late")).ok());
  EXPECT_FALSE(lost.complete({.id = id, .capacity = kMebi, .length = 6000}).ok());
  EXPECT_FALSE(lost.cancel({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(fresh.write(stamped(id, 6000, 4000)).ok());
  ASSERT_TRUE(third.open_write({.id = id, .capacity = kMebi, .off = 10'000}).ok()) << "and again";
  ASSERT_TRUE(third.write(stamped(id, 10'000, 10)).ok());
  ASSERT_TRUE(third.complete({.id = id, .capacity = kMebi, .length = 10'010}).ok());
  EXPECT_TRUE(same(third.get(id, 10'010), stamped(id, 0, 10'010)));
}

// Sends the beginning of a frame of `size` bytes of data, and nothing more.
void begin_frame(WireClient& client, std::size_t size) {
  const Bytes frame = WireClient::frame({.code = kWrite,
                                         .status = rpc::request_byte(RequestStatus::kRunning),
                                         .req_id = client.req_id,
                                         .seq_id = client.seq_id},
                                        {}, Bytes(size));
  client.send(std::span(frame).first(frame.size() / 4));
}

TEST_F(WriteBlock, AClientThatFallsSilentInTheMiddleOfAFrameMakesWay) {
  WireClient silent = connect(), fresh = connect();
  const std::int64_t id = new_id();
  ASSERT_TRUE(silent.open_write({.id = id, .capacity = kMebi}).ok());
  ASSERT_TRUE(silent.write(stamped(id, 0, 5000)).ok());
  begin_frame(silent, 300'000);
  const TimePoint begin = Clock::system().now();
  const Reply opened = fresh.open_write({.id = id, .capacity = kMebi, .off = 5000});
  ASSERT_TRUE(opened.ok()) << opened.text();
  EXPECT_LT(Clock::system().now() - begin, std::chrono::seconds(5));
  EXPECT_TRUE(silent.closed());
  ASSERT_TRUE(fresh.write(stamped(id, 5000, 1000)).ok());
  ASSERT_TRUE(fresh.complete({.id = id, .capacity = kMebi, .length = 6000}).ok());
  EXPECT_TRUE(same(fresh.get(id, 6000), stamped(id, 0, 6000))) << "bytes of the broken frame are no data";
}

TEST_F(WriteBlock, ClientsThatStallInTheMiddleOfFramesDoNotStopReaders) {
  WorkerEnv small({.device_size = 64ULL << 20, .pool_bytes = 4ULL << 20, .config = {}});
  small.connect().put(1, stamped(1, 0, 500'000), kMebi);
  std::vector<WireClient> stalled;
  for (std::int64_t id = 2; id < 40; ++id) {
    stalled.push_back(small.connect());
    ASSERT_TRUE(stalled.back().open_write({.id = id, .capacity = kMebi}).ok());
    begin_frame(stalled.back(), 600'000);
  }
  for (int i = 0; i < 4; ++i) {
    WireClient reader = small.connect();
    ASSERT_TRUE(same(reader.get(1, 500'000), stamped(1, 0, 500'000)));
  }
}

TEST(SessionMemory, ARepliesBuffersAreChargedAsThePoolHandsThemOut) {
  EXPECT_EQ(SessionContext::reply_charge(0, 1), 4096u);
  EXPECT_EQ(SessionContext::reply_charge(4000, 200), 8192u);
  EXPECT_EQ(SessionContext::reply_charge(0, 3 * 4096), 16'384u);
}

TEST_F(WriteBlock, CompleteMayNameAnotherBlockThanTheSession) {
  WireClient client = connect();
  const std::int64_t committed = new_id(), open = new_id();
  client.put(committed, stamped(committed, 0, 100), kMebi);
  ASSERT_TRUE(client.open_write({.id = open, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(stamped(open, 0, 5000)).ok());
  EXPECT_TRUE(client.complete({.id = committed, .capacity = kMebi, .length = 100}).ok());
  EXPECT_EQ(client.read_kind(open), 29) << "the session's own block was not committed";
  EXPECT_TRUE(client.cancel({.id = open, .capacity = kMebi}).ok());
}

TEST_F(WriteBlock, FullDeviceIsAnErrorUntilSomethingIsDeleted) {
  WorkerEnv small({.device_size = 24ULL << 20, .pool_bytes = 8ULL << 20, .config = {}});
  WireClient client = small.connect();
  std::vector<std::int64_t> stored;
  Reply refused;
  for (std::int64_t id = 1; id < 100; ++id) {
    refused = client.open_write({.id = id, .capacity = kMebi});
    if (!refused.ok()) break;
    ASSERT_TRUE(client.write(stamped(id, 0, kMebi)).ok());
    ASSERT_TRUE(client.complete({.id = id, .capacity = kMebi, .length = kMebi}).ok());
    stored.push_back(id);
  }
  ASSERT_GT(stored.size(), 5u);
  EXPECT_EQ(refused.kind(), 17) << refused.text();
  const std::uint64_t full = small.taken();
  EXPECT_EQ(client.open_write({.id = 200, .capacity = kMebi}).kind(), 17);
  EXPECT_EQ(small.taken(), full) << "a refused block charges nothing";
  EXPECT_TRUE(client.cancel({.id = stored[2], .capacity = kMebi}).ok());
  EXPECT_TRUE(eventually([&] { return client.open_write({.id = 200, .capacity = kMebi}).ok(); }));
  EXPECT_TRUE(client.cancel({.id = 200, .capacity = kMebi}).ok());
  for (const std::int64_t id : stored) {
    if (id == stored[2]) continue;
    ASSERT_TRUE(same(client.get(id, kMebi), stamped(id, 0, kMebi))) << id;
  }
}

TEST_F(WriteBlock, ErrorInTheMiddleOfALargeFrameKeepsTheConnectionInStep) {
  WireClient client = connect();
  const std::int64_t id = new_id();
  const WireClient::Write write{.id = id, .capacity = kMebi, .length = 0};
  ASSERT_TRUE(client.open_write(write).ok());
  EXPECT_EQ(client.write(Bytes(kMebi + 1)).kind(), 28) << "1 MiB + 1 bytes that nobody wants";
  EXPECT_TRUE(client.cancel(write).ok());
  client.put(id, stamped(id, 0, 9999), kMebi);
  EXPECT_TRUE(same(client.get(id, 9999), stamped(id, 0, 9999)));
}

}  // namespace
}  // namespace leap::testing

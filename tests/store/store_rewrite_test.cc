// A block that is committed can be rewritten; until the commit everybody sees the old one, and a cancel brings it back.
#include "poller/sync.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

class StoreRewrite : public StoreFixture {};

Task<Result<std::unique_ptr<BlockWriter>>> reopen(BlockStore& store, NvmePoller& poller, std::int64_t id,
                                                  std::uint64_t offset, std::uint64_t capacity = 8 * kMi) {
  co_return co_await store.open_writer(poller, BlockId{id}, {.capacity = capacity, .offset = offset});
}

TEST_F(StoreRewrite, ReadersKeepTheGenerationTheyOpened) {
  make();
  put_stamped(1, 0, 2 * kMi);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto old_reader = (co_await s.open_reader(p, BlockId{1})).value();
      for (std::uint64_t version = 1; version <= 3; ++version) {
        auto writer = (co_await reopen(s, p, 1, 0)).value();
        EXPECT_TRUE(writer->is_rewrite());
        (co_await writer->write(stamped(1, version, 0, 2 * kMi))).value();
        auto during = (co_await s.open_reader(p, BlockId{1})).value();
        EXPECT_TRUE((co_await read_range(*during, 0, 2 * kMi)).value() == stamped(1, version - 1, 0, 2 * kMi));
        EXPECT_TRUE((co_await writer->complete(2 * kMi)).ok());
        EXPECT_TRUE((co_await read_range(*during, 0, 2 * kMi)).value() == stamped(1, version - 1, 0, 2 * kMi));
        auto after = (co_await s.open_reader(p, BlockId{1})).value();
        EXPECT_TRUE((co_await read_range(*after, 0, 2 * kMi)).value() == stamped(1, version, 0, 2 * kMi));
        EXPECT_GT(after->generation(), during->generation());
      }
      EXPECT_TRUE((co_await read_range(*old_reader, 0, 2 * kMi)).value() == stamped(1, 0, 0, 2 * kMi));
      EXPECT_GE(s.space().allocated, 4 * kMi) << "the old reader's space must not be given away";
    }(store, poller);
  });
  EXPECT_EQ(store_->space().allocated, 2 * kMi);
  expect_space_adds_up();
}

TEST_F(StoreRewrite, CancelBringsTheCommittedGenerationBack) {
  make();
  put_stamped(1, 0, 100'000);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await reopen(s, p, 1, 0)).value();
      (co_await writer->write(stamped(1, 9, 0, 200'000))).value();
      (co_await writer->flush()).value();
      EXPECT_TRUE(s.stat(BlockId{1})->rewriting);
      EXPECT_EQ(s.stat(BlockId{1})->length, 100'000u);
      (co_await writer->cancel()).value();
      EXPECT_FALSE(s.stat(BlockId{1})->rewriting);
    }(store, poller);
  });
  expect_stamped(1, 0, 100'000);
  expect_space_adds_up();
}

// A client that dies in the middle of a frame: what it left in the buffer is not data.
TEST_F(StoreRewrite, BytesThatWereNeverProducedAreNotKept) {
  make();
  for (const std::uint64_t at : {0u, 100u, 4096u, 5000u, 9000u}) {
    for (const bool seek : {true, false}) {
      put_stamped(1, 0, 10'000);
      run([at, seek](BlockStore& store, NvmePoller& poller) {
        return [](BlockStore& s, NvmePoller& p, std::uint64_t offset, bool by_seek) -> Task<void> {
          auto writer = (co_await reopen(s, p, 1, offset)).value();
          (co_await writer->write(stamped(1, 1, offset, 10))).value();
          const std::span<std::byte> room = (co_await writer->prepare(6'000)).value();
          std::ranges::fill(room, std::byte{0xEE});
          if (by_seek) (co_await writer->seek(offset + 10)).value();
          EXPECT_TRUE((co_await writer->complete(10'000)).ok());
          auto reader = (co_await s.open_reader(p, BlockId{1})).value();
          auto expected = stamped(1, 0, 0, 10'000);
          const auto fresh = stamped(1, 1, offset, 10);
          std::ranges::copy(fresh, expected.begin() + static_cast<std::ptrdiff_t>(offset));
          EXPECT_TRUE((co_await read_range(*reader, 0, 10'000)).value() == expected) << offset << by_seek;
        }(store, poller, at, seek);
      });
    }
  }
  expect_space_adds_up();
}

TEST_F(StoreRewrite, AppendKeepsEveryCommittedPageWhereItIs) {
  make();
  constexpr std::size_t kFirst = kMi + 1000;
  put_stamped(1, 0, kFirst);
  device_->forget_counts();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await reopen(s, p, 1, kFirst)).value();
      (co_await writer->write(stamped(1, 0, kFirst, 50'000))).value();
      EXPECT_TRUE((co_await writer->complete(kFirst + 50'000)).ok());
    }(store, poller);
  });
  expect_stamped(1, 0, kFirst + 50'000);
  // The partial page moves; nothing else is written again.
  EXPECT_LE(device_->bytes_written(), page_round_up(50'000) + 4096 + 3 * 4096);
  EXPECT_EQ(store_->space().allocated, page_round_up(kFirst + 50'000));
  expect_space_adds_up();
  close();
  open();
  EXPECT_TRUE(store_->recovery().clean_shutdown);
  expect_stamped(1, 0, kFirst + 50'000);
}

TEST_F(StoreRewrite, ManyPartialOverwritesMatchAnOracleAcrossCommitsAndRestarts) {
  make();
  std::vector<std::byte> oracle = stamped(1, 0, 0, 700'001);
  put_stamped(1, 0, 700'001);
  for (std::uint64_t round = 1; round <= 25; ++round) {
    SCOPED_TRACE(round);
    run(
        [&](BlockStore& store, NvmePoller& poller) {
          return [](BlockStore& s, NvmePoller& p, std::uint64_t version, std::vector<std::byte>& shadow) -> Task<void> {
            Rng rng(version);
            auto writer = (co_await reopen(s, p, 1, 0)).value();
            for (int i = 0; i < 8; ++i) {
              const std::uint64_t offset = rng.below(shadow.size() + 5000);
              const std::size_t size = 1 + rng.below(rng.chance(0.2) ? 100'000 : 6000);
              (co_await writer->seek(offset)).value();
              const auto bytes = stamped(1, version, offset, size);
              (co_await writer->write(bytes)).value();
              if (shadow.size() < offset + size) shadow.resize(offset + size);
              std::copy(bytes.begin(), bytes.end(), shadow.begin() + static_cast<std::ptrdiff_t>(offset));
            }
            std::size_t length = shadow.size();
            if (rng.chance(0.3)) length = 1 + rng.below(shadow.size() + 20'000);
            shadow.resize(length);
            EXPECT_TRUE((co_await writer->complete(length)).ok());
          }(store, poller, round, oracle);
        },
        round % 2);
    ASSERT_TRUE(get(1, round % 2).value() == oracle);
    if (round % 5 == 0) {
      if (round % 2 == 0)
        close();
      else
        crash();
      open();
      EXPECT_EQ(store_->recovery().problem_count, 0u) << store_->recovery().problems.front();
      ASSERT_TRUE(get(1).value() == oracle);
      expect_space_adds_up();
    }
  }
  EXPECT_EQ(device_->violations(), 0u);
}

TEST_F(StoreRewrite, TruncatedBytesNeverComeBack) {
  make();
  put_stamped(1, 0, 50'000);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await reopen(s, p, 1, 0)).value();
      (co_await writer->resize({.length = 10'001, .truncate = true})).value();
      (co_await writer->resize({.length = 40'000, .truncate = true})).value();
      EXPECT_TRUE((co_await writer->complete(40'000)).ok());
      auto shrink = (co_await reopen(s, p, 1, 0)).value();
      EXPECT_TRUE((co_await shrink->complete(5000)).ok());
      auto grow = (co_await reopen(s, p, 1, 0)).value();
      EXPECT_EQ((co_await grow->complete(20'000))->allocated_bytes, 8192u);
    }(store, poller);
  });
  std::vector<std::byte> expected = stamped(1, 0, 0, 5000);
  expected.resize(20'000);
  EXPECT_TRUE(get(1).value() == expected);
  expect_space_adds_up();
}

TEST_F(StoreRewrite, ReopeningWithoutAChangeCommitsNothing) {
  make();
  put_stamped(1, 0, 5000);
  const std::uint64_t commits = store_->totals().meta_commits;
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      const std::uint64_t generation = s.stat(BlockId{1})->generation;
      auto writer = (co_await reopen(s, p, 1, 5000)).value();
      EXPECT_EQ((co_await writer->complete(5000))->generation, generation);
    }(store, poller);
  });
  EXPECT_EQ(store_->totals().meta_commits, commits);
  expect_stamped(1, 0, 5000);
}

TEST_F(StoreRewrite, ASecondWriterIsRefusedUntilTheFirstHasGone) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto first = (co_await reopen(s, p, 1, 0)).value();
      (co_await first->write(stamped(1, 0, 0, 7000))).value();
      EXPECT_EQ((co_await reopen(s, p, 1, 0)).error().kind(), Errc::kBusy);
      EXPECT_EQ((co_await s.complete(p, BlockId{1}, 7000, 8192)).error().kind(), Errc::kBusy);
      first.reset();
      // What the first wrote is still there, the unaligned end of it included.
      auto second = (co_await reopen(s, p, 1, 7000)).value();
      EXPECT_EQ(second->length(), 7000u);
      (co_await second->write(stamped(1, 0, 7000, 9000))).value();
      EXPECT_TRUE((co_await second->complete(16'000)).ok());
    }(store, poller);
  });
  expect_stamped(1, 0, 16'000);
  expect_space_adds_up();
}

TEST_F(StoreRewrite, AnAbandonedSessionGoesOnFromAnotherPoller) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await reopen(s, p, 1, 0)).value();
      (co_await writer->write(stamped(1, 0, 0, 3 * kMi + 77))).value();
    }(store, poller);
  });
  EXPECT_EQ(run([](BlockStore& store,
                   NvmePoller& poller) { return store.complete(poller, BlockId{1}, 3 * kMi + 78, 4 * kMi); },
                1)
                .error()
                .kind(),
            Errc::kInvalidArgument);
  const auto info = run(
      [](BlockStore& store, NvmePoller& poller) { return store.complete(poller, BlockId{1}, 3 * kMi + 77, 4 * kMi); },
      1);
  ASSERT_TRUE(info.ok()) << info.error().to_string();
  expect_stamped(1, 0, 3 * kMi + 77);
  const auto again = run(
      [](BlockStore& store, NvmePoller& poller) { return store.complete(poller, BlockId{1}, 3 * kMi + 77, 4 * kMi); });
  EXPECT_TRUE(again.ok());
  const auto other =
      run([](BlockStore& store, NvmePoller& poller) { return store.complete(poller, BlockId{1}, 5, 4 * kMi); });
  EXPECT_EQ(other.error().kind(), Errc::kWrongState);
  const auto unknown =
      run([](BlockStore& store, NvmePoller& poller) { return store.complete(poller, BlockId{2}, 5, 4 * kMi); });
  EXPECT_EQ(unknown.error().kind(), Errc::kNotFound);
  EXPECT_FALSE(store_->contains(BlockId{2}));
}

TEST_F(StoreRewrite, CancelByIdFollowsTheProtocol) {
  make();
  put_stamped(1, 0, 1000);
  put_stamped(2, 0, 1000);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto rewrite = (co_await reopen(s, p, 1, 0)).value();
      (co_await rewrite->write(stamped(1, 1, 0, 500))).value();
      (co_await s.cancel(p, BlockId{1})).value();
      EXPECT_EQ((co_await rewrite->write(stamped(1, 1, 0, 500))).error().kind(), Errc::kCancelled);
      EXPECT_EQ((co_await rewrite->complete(1000)).error().kind(), Errc::kCancelled);
      (co_await s.cancel(p, BlockId{2})).value();  // finalized: deleted
      auto fresh = (co_await reopen(s, p, 3, 0)).value();
      (co_await fresh->write(stamped(3, 1, 0, 500))).value();
      fresh.reset();
      (co_await s.cancel(p, BlockId{3})).value();   // abandoned and new: dropped
      (co_await s.cancel(p, BlockId{99})).value();  // unknown: fine
    }(store, poller);
  });
  expect_stamped(1, 0, 1000);
  expect_gone(2);
  EXPECT_FALSE(store_->contains(BlockId{3}));
  expect_space_adds_up();
}

TEST_F(StoreRewrite, RemoveUnderReadersAndWriterKeepsTheReadersBytes) {
  make();
  put_stamped(1, 0, kMi);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto reader = (co_await s.open_reader(p, BlockId{1})).value();
      auto writer = (co_await reopen(s, p, 1, 0)).value();
      (co_await writer->write(stamped(1, 1, 0, 300'000))).value();
      (co_await s.remove(p, BlockId{1})).value();
      EXPECT_EQ((co_await s.open_reader(p, BlockId{1})).error().kind(), Errc::kNotFound);
      EXPECT_EQ((co_await writer->complete(300'000)).error().kind(), Errc::kCancelled);
      // New blocks come and take whatever is free: not the reader's pages. The id may come back meanwhile.
      for (std::int64_t id = 1; id <= 20; ++id)
        EXPECT_TRUE((co_await put_block(s, p, id, stamped(id, 5, 0, 2 * kMi))).ok());
      EXPECT_TRUE((co_await read_range(*reader, 0, kMi)).value() == stamped(1, 0, 0, kMi));
    }(store, poller);
  });
  expect_stamped(1, 5, 2 * kMi);
  expect_space_adds_up();
}

TEST_F(StoreRewrite, SessionsNobodyComesBackForAreDropped) {
  config_.detach_grace = std::chrono::milliseconds(8);
  make();
  put_stamped(1, 0, 1000);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      for (const std::int64_t id : {1, 2}) {
        auto writer = (co_await reopen(s, p, id, 0)).value();
        (co_await writer->write(stamped(id, 1, 0, 5000))).value();
        co_await writer->detach();
      }
      while (s.contains(BlockId{2}) || s.stat(BlockId{1})->rewriting)
        co_await p.sleep_for(std::chrono::milliseconds(1));
    }(store, poller);
  });
  expect_stamped(1, 0, 1000);
  expect_space_adds_up();
  EXPECT_EQ(store_->probe().blocks_cancelled.value(), 2u);
}

TEST_F(StoreRewrite, ALongChainOfGenerationsUnderOneReaderComesApart) {
  make();
  put_stamped(1, 0, 4096);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto reader = (co_await s.open_reader(p, BlockId{1})).value();
      for (std::uint64_t version = 1; version <= 300; ++version) {
        auto writer = (co_await reopen(s, p, 1, 0, 4096)).value();
        (co_await writer->write(stamped(1, version, 0, 4096))).value();
        EXPECT_TRUE((co_await writer->complete(4096)).ok());
      }
      EXPECT_EQ(s.space().allocated, 301u * 4096);
      EXPECT_TRUE((co_await read_range(*reader, 0, 4096)).value() == stamped(1, 0, 0, 4096));
    }(store, poller);
  });
  EXPECT_EQ(store_->space().allocated, 4096u);
  expect_stamped(1, 300, 4096);
}

// Readers on one poller, writers on the other, deletes in between: a reader sees one version of one block, whole.
Task<void> churn_reader(BlockStore& store, NvmePoller& poller, std::uint64_t seed, bool& stop, std::uint64_t& checked) {
  Rng rng(seed);
  while (!stop) {
    const auto id = static_cast<std::int64_t>(1 + rng.below(6));
    auto reader = co_await store.open_reader(poller, BlockId{id});
    if (!reader) {
      EXPECT_EQ(reader.error().kind(), Errc::kNotFound);
      co_await poller.yield();
      continue;
    }
    const std::uint64_t length = (*reader)->length();
    const auto first = (co_await read_range(**reader, 0, length, 100'000)).value();
    std::uint64_t version = 0;
    while (version < 200 && first != stamped(id, version, 0, length)) ++version;
    EXPECT_LT(version, 200u) << "block " << id << " is a mixture";
    const std::uint64_t offset = rng.below(length);
    const auto part = (co_await read_range(**reader, offset, length - offset)).value();
    EXPECT_TRUE(part == stamped(id, version, offset, length - offset));
    ++checked;
  }
}

Task<void> churn_writer(BlockStore& store, NvmePoller& poller, int rounds) {
  Rng rng(5);
  for (int round = 0; round < rounds; ++round) {
    const auto id = static_cast<std::int64_t>(1 + rng.below(6));
    if (rng.chance(0.15)) {
      const Result<> removed = co_await store.remove(poller, BlockId{id});
      if (!removed) {
        EXPECT_EQ(removed.error().kind(), Errc::kNotFound);
      }
      continue;
    }
    auto writer = (co_await store.open_writer(poller, BlockId{id}, {.capacity = 2 * kMi})).value();
    const std::size_t size = 1 + rng.below(200'000);
    (co_await writer->resize({.length = 0, .zero_range = true})).value();
    (co_await writer->write(stamped(id, static_cast<std::uint64_t>(round), 0, size))).value();
    if (rng.chance(0.2)) {
      (co_await writer->cancel()).value();
    } else {
      EXPECT_TRUE((co_await writer->complete(size)).ok());
    }
  }
}

TEST_F(StoreRewrite, ConcurrentReadersAndWritersOnTwoPollers) {
  make();
  bool stop = false;  // poller 1 only
  std::uint64_t checked = 0;
  std::thread reading([&] {
    run(
        [&](BlockStore& store, NvmePoller& poller) {
          return [](BlockStore& s, NvmePoller& p, bool& end, std::uint64_t& count) -> Task<void> {
            TaskGroup group(p);
            for (std::uint64_t i = 0; i < 3; ++i) group.spawn(churn_reader(s, p, i, end, count));
            co_await group.wait();
          }(store, poller, stop, checked);
        },
        1);
  });
  run([](BlockStore& store, NvmePoller& poller) { return churn_writer(store, poller, 150); });
  run(
      [&](BlockStore& /*store*/, NvmePoller& /*poller*/) {
        return [](bool& end) -> Task<void> {
          end = true;
          co_return;
        }(stop);
      },
      1);
  reading.join();
  EXPECT_GT(checked, 10u);
  expect_space_adds_up();
  EXPECT_EQ(device_->violations(), 0u);
  crash();
  open();
  EXPECT_EQ(store_->recovery().problem_count, 0u);
  expect_space_adds_up();
}

}  // namespace
}  // namespace leap::test

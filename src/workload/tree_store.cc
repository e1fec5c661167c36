#include "workload/tree_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fd.h"
#include "client/transfer.h"
#include "poller/sync.h"

namespace leap {
namespace {

constexpr Nanos kProgressEvery = std::chrono::milliseconds(100);

/// The part of a file that one piece covers, read from start to end.
class PieceReader {
 public:
  static Result<PieceReader> open(const std::filesystem::path& path, const FilePiece& piece) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return Error::os(errno, fmt::format("open {}", path.string()));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return Error::os(errno, fmt::format("stat {}", path.string()));
    PieceReader reader;
    reader.fd_ = std::move(fd);
    reader.at_ = piece.offset;
    reader.end_ = piece.offset + piece.length;
    reader.mtime_ = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec;
    reader.whole_ = static_cast<std::uint64_t>(status.st_size) >= reader.end_;
    return reader;
  }

  /// The next bytes of the piece; 0 at its end.
  Result<std::size_t> read(std::span<std::byte> out) {
    const std::size_t want = std::min<std::uint64_t>(out.size(), end_ - at_);
    if (want == 0) return std::size_t{0};
    const ssize_t got = ::pread(fd_.get(), out.data(), want, static_cast<off_t>(at_));
    if (got < 0) return Error::os(errno, "read a source file");
    if (got == 0) return Error(Errc::kIo, "a source file became shorter while it was read");
    at_ += static_cast<std::uint64_t>(got);
    return static_cast<std::size_t>(got);
  }
  [[nodiscard]] std::int64_t mtime() const { return mtime_; }
  [[nodiscard]] bool whole() const { return whole_; }

 private:
  UniqueFd fd_;
  std::uint64_t at_ = 0;
  std::uint64_t end_ = 0;
  std::int64_t mtime_ = 0;
  bool whole_ = false;
};

}  // namespace

struct TreeStore::Job {
  TreeStore& tree;
  NvmePoller& poller;
  bool storing;
  const Progress& progress;
  std::size_t next = 0;  // piece
  std::uint64_t bytes_done = 0;
  bool over = false;
  TransferReport report;

  void fail(const std::string& text) {
    ++report.errors;
    if (report.first_error.empty()) report.first_error = text;
  }
};

TreeStore::TreeStore(const FileSet& set, Config config)
    : set_(set), config_(std::move(config)), crcs_(set.pieces.size()), mtimes_(set.pieces.size()) {}

Result<TransferReport> TreeStore::store(const Progress& progress) { return run(true, progress); }
Result<TransferReport> TreeStore::verify(const Progress& progress) { return run(false, progress); }

Result<TransferReport> TreeStore::run(bool storing, const Progress& progress) {
  LEAP_TRY(auto poller, NvmePoller::create({.name = "leap-client", .core = config_.core}));
  LEAP_TRY_VOID(poller->start());
  Job job{*this, *poller, storing, progress, 0, 0, false, {}};
  const TimePoint begin = Clock::system().now();
  poller->run([&job](NvmePoller&) { return drive(job); });
  job.report.seconds = std::chrono::duration<double>(Clock::system().now() - begin).count();
  poller->stop();
  return std::move(job.report);
}

Task<void> TreeStore::drive(Job& job) {
  TaskGroup transfers(job.poller);
  TaskGroup reporter(job.poller);
  reporter.spawn(report_progress(job));
  for (std::size_t i = 0; i < job.tree.config_.connections; ++i) transfers.spawn(transfer(job));
  co_await transfers.wait();
  job.over = true;
  co_await reporter.wait();
}

Task<void> TreeStore::report_progress(Job& job) {
  while (!job.over) {
    if (job.progress) job.progress(job.bytes_done, job.tree.set_.bytes);
    co_await job.poller.sleep_for(kProgressEvery);
  }
  if (job.progress) job.progress(job.bytes_done, job.tree.set_.bytes);
}

Task<void> TreeStore::transfer(Job& job) {
  std::unique_ptr<WorkerConnection> connection;
  while (job.next < job.tree.set_.pieces.size()) {
    if (connection == nullptr || !connection->usable()) {
      const WorkerConnection::Config defaults;
      auto connected = co_await WorkerConnection::connect(job.poller, Net::system(), job.tree.config_.worker, defaults);
      if (!connected.ok()) {
        job.fail(connected.error().to_string());
        co_return;
      }
      connection = std::move(connected).value();
      if (job.next >= job.tree.set_.pieces.size()) co_return;
    }
    const std::size_t piece = job.next++;
    const TimePoint start = job.poller.clock().now();
    Result<> done;
    if (job.storing)
      done = co_await put_piece(job, *connection, piece);
    else
      done = co_await check_piece(job, *connection, piece);
    if (done.ok()) {
      ++job.report.blocks;
      job.report.bytes += job.tree.set_.pieces[piece].length;
      job.report.latency.record(job.poller.clock().now() - start);
    } else {
      const auto& path = job.tree.set_.files[job.tree.set_.pieces[piece].file];
      job.fail(fmt::format("{} (block {}): {}", path.string(),
                           job.tree.config_.first_block_id + static_cast<std::int64_t>(piece),
                           done.error().to_string()));
    }
  }
}

Task<Result<>> TreeStore::put_piece(Job& job, WorkerConnection& connection, std::size_t index) {
  TreeStore& tree = job.tree;
  const FilePiece& piece = tree.set_.pieces[index];
  LEAP_CO_TRY(PieceReader file, PieceReader::open(tree.set_.files[piece.file], piece));
  tree.mtimes_[index] = file.mtime();
  std::uint32_t crc = 0;
  const BlockSource source = [&](std::span<std::byte> out) -> Result<std::size_t> {
    LEAP_TRY(const std::size_t got, file.read(out));
    crc = crc32c(out.first(got), crc);
    job.bytes_done += got;
    return got;
  };
  RemoteWriteOptions options;
  options.id = BlockId(tree.config_.first_block_id + static_cast<std::int64_t>(index));
  options.capacity = std::max<std::uint64_t>(piece.length, 1);
  Result<std::uint64_t> stored = co_await put_block(connection, options, source);
  if (!stored.ok()) co_return std::move(stored).error();
  if (stored.value() != piece.length)
    co_return Error(Errc::kIo, fmt::format("stored {} of {} bytes", stored.value(), piece.length));
  tree.crcs_[index] = crc;
  co_return Result<>{};
}

Task<Result<>> TreeStore::check_piece(Job& job, WorkerConnection& connection, std::size_t index) {
  TreeStore& tree = job.tree;
  const FilePiece& piece = tree.set_.pieces[index];
  // The file itself when it is still what was stored; its checksum when it is not.
  Result<PieceReader> file = PieceReader::open(tree.set_.files[piece.file], piece);
  const bool compare = file.ok() && file.value().whole() && file.value().mtime() == tree.mtimes_[index];
  std::uint32_t crc = 0;
  std::uint64_t seen = 0;
  const BlockSink sink = [&](std::span<const std::byte> bytes) -> Result<> {
    crc = crc32c(bytes, crc);
    job.bytes_done += bytes.size();
    if (compare) {
      std::array<std::byte, 32 * 1024> expected;
      for (std::size_t at = 0; at < bytes.size();) {
        LEAP_TRY(const std::size_t got,
                 file.value().read(std::span(expected).first(std::min(expected.size(), bytes.size() - at))));
        if (got == 0) return Error(Errc::kCorrupt, "more bytes came back than were stored");
        const auto part = bytes.subspan(at, got);
        const auto differs = std::mismatch(part.begin(), part.end(), expected.begin()).first - part.begin();
        if (static_cast<std::size_t>(differs) != got) {
          return Error(Errc::kCorrupt, fmt::format("byte {} differs", seen + at + static_cast<std::size_t>(differs)));
        }
        at += got;
      }
    }
    seen += bytes.size();
    return {};
  };
  RemoteReadOptions options;
  options.id = BlockId(tree.config_.first_block_id + static_cast<std::int64_t>(index));
  options.length = piece.length;
  LEAP_CO_TRY_VOID(co_await get_block(connection, options, sink));
  if (seen != piece.length)
    co_return Error(Errc::kCorrupt, fmt::format("{} of {} bytes came back", seen, piece.length));
  if (crc != tree.crcs_[index])
    co_return Error(Errc::kCorrupt, fmt::format("CRC32C {:08x}, stored {:08x}", crc, tree.crcs_[index]));
  co_return Result<>{};
}

}  // namespace leap

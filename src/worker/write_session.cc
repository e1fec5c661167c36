#include "worker/write_session.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/scope_exit.h"

namespace leap {
namespace {

// Bits of fallocate(2) in FileAllocOptsProto.mode.
constexpr std::int32_t kKeepSize = 1;
constexpr std::int32_t kZeroRange = 16;
constexpr std::int64_t kMaxResize = std::int64_t{1} << 50;

Error refused(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kRpc); }

Result<ResizeRequest> resize_request(const proto::FileAllocOptsProto& options, BlockId id, std::int64_t capacity) {
  if (options.off() != 0)
    return refused(Errc::kInvalidArgument, fmt::format("resize block {}: offset {} is not 0", id, options.off()));
  if (options.len() < 0 || options.len() > kMaxResize || options.len() > capacity) {
    return refused(Errc::kInvalidArgument,
                   fmt::format("resize block {}: length {} is not in 0..{}", id, options.len(), capacity));
  }
  if (!options.truncate() && (options.mode() & ~(kKeepSize | kZeroRange)) != 0) {
    return refused(Errc::kInvalidArgument,
                   fmt::format("resize block {}: mode {} has bits other than 1 and 16", id, options.mode()));
  }
  return ResizeRequest{.length = static_cast<std::uint64_t>(options.len()),
                       .truncate = options.truncate(),
                       .zero_range = !options.truncate() && (options.mode() & kZeroRange) != 0};
}

}  // namespace

WriteSession::~WriteSession() { forget_writer(); }

/// The writer's destructor leaves the block to the store's grace time.
void WriteSession::forget_writer() {
  if (writer_ == nullptr) return;
  context_.writers.leave(id_, *this);
  writer_.reset();
}

void WriteSession::yield_writer() {
  if (!serving_) {
    let_go();
    return;
  }
  yield_ = true;
  // The request ends by itself, unless its client has fallen silent in the middle of a frame.
  constexpr Nanos kSilence = std::chrono::seconds(1);
  if (!hang_up_timer_.armed()) hang_up_timer_.arm(now() + kSilence);
}

void WriteSession::hang_up(void* self) {
  auto& session = *static_cast<WriteSession*>(self);
  if (session.yield_ && session.awaiting_data_) session.stream_.close();
}

void WriteSession::let_go() {
  yield_ = false;
  hang_up_timer_.cancel();
  if (writer_ == nullptr) return;
  forget_writer();
  state_ = State::kTakenOver;
  context_.probe.taken_over.add();
}

Task<void> WriteSession::drop() {
  if (state_ == State::kFailed) spoiled_.emplace(id_, failure_.error());
  if (writer_ != nullptr) {
    context_.writers.leave(id_, *this);
    const auto writer = std::move(writer_);
    co_await writer->detach();
  }
  state_ = State::kNone;
  failure_ = Result<>{};
}

Task<Result<>> WriteSession::handle(rpc::FrameReader& in, rpc::FrameWriter& out) {
  serving_ = true;
  Result<> result;
  switch (in.head().request()) {
    case rpc::RequestStatus::kOpen: result = co_await open(in, out); break;
    case rpc::RequestStatus::kRunning: result = co_await running(in); break;
    case rpc::RequestStatus::kComplete: result = co_await complete(in); break;
    case rpc::RequestStatus::kCancel: result = co_await cancel(in); break;
    default:
      result = refused(Errc::kUnsupported, fmt::format("Unsupported request type: {} of code {}",
                                                       rpc::to_string(in.head().request()), in.head().code));
  }
  serving_ = false;
  if (yield_) let_go();
  co_return result;
}

Task<Result<>> WriteSession::open(rpc::FrameReader& in, rpc::FrameWriter& out) {
  co_await drop();
  spoiled_.reset();
  proto::BlockWriteRequest request;
  LEAP_CO_TRY_VOID(rpc::parse_header(in.header(), request));
  LEAP_CO_TRY_VOID(gate_.admit(request.has_component_info() ? &request.component_info() : nullptr));
  const proto::ExtendedBlockProto& block = request.block();
  const BlockId id{block.id()};
  if (request.off() < 0 || request.off() > request.block_size()) {
    co_return refused(Errc::kInvalidArgument, fmt::format("write block {}: offset {} is not in 0..{}", id,
                                                          request.off(), request.block_size()));
  }
  std::optional<ResizeRequest> resize;
  if (block.has_alloc_opts()) {
    LEAP_CO_TRY(resize, resize_request(block.alloc_opts(), id, request.block_size()));
  }
  const StoreSet::OpenWrite options{.capacity = static_cast<std::uint64_t>(request.block_size()),
                                    .offset = static_cast<std::uint64_t>(request.off()),
                                    .type = static_cast<StorageType>(block.storage_type())};
  LEAP_CO_TRY_VOID(co_await open_block(id, options, resize));
  req_id_ = in.head().req_id;
  context_.probe.write_blocks.add();

  // No path, whatever short_circuit says: a raw device has no file that a client could open.
  proto::BlockWriteResponse reply;
  reply.set_id(id.value());
  reply.set_off(request.off());
  reply.set_block_size(request.block_size());
  reply.set_storage_type(static_cast<proto::StorageTypeProto>(type_));
  out.set_message(reply);
  co_return Result<>{};
}

Task<Result<>> WriteSession::open_block(BlockId id, StoreSet::OpenWrite options,
                                        const std::optional<ResizeRequest>& resize) {
  Result<StoreSet::OpenedWriter> opened = co_await acquire(id, options);
  if (!opened.ok()) co_return std::move(opened).error();
  if (resize.has_value()) {
    const Result<> resized = co_await opened->writer->resize(*resize);
    if (!resized.ok()) {
      const Result<> undone = co_await opened->writer->cancel();
      undone.ignore("the resize error is the one to report; what is left ends with the writer's grace time");
      co_return resized.error();
    }
  }
  writer_ = std::move(opened->writer);
  type_ = opened->type;
  id_ = id;
  state_ = State::kOpen;
  context_.writers.enter(id, *this, context_.poller);
  co_return Result<>{};
}

/// The block's writer, if need be after asking the session that has it to let go. Without such a session the block is
/// being created or committed right now, which passes too.
Task<Result<StoreSet::OpenedWriter>> WriteSession::acquire(BlockId id, StoreSet::OpenWrite options) {
  constexpr Nanos kPatience = std::chrono::seconds(2);
  constexpr Nanos kPause = std::chrono::milliseconds(1);
  const TimePoint give_up = now() + kPatience;
  for (;;) {
    Result<StoreSet::OpenedWriter> opened = co_await context_.store.open_writer(context_.poller, id, options);
    if (opened.ok() || opened.error().kind() != Errc::kBusy || now() >= give_up) co_return opened;
    context_.writers.ask_to_yield(id);
    co_await context_.poller.sleep_for(kPause);
  }
}

Result<> WriteSession::check_request(const rpc::FrameReader& in) const {
  if (state_ == State::kNone || in.head().req_id == req_id_) return {};
  return refused(Errc::kWrongState, fmt::format("request id {} is not the session's ({})", in.head().req_id, req_id_));
}

/// Whether data can still be written and committed.
Result<> WriteSession::check_usable() const {
  switch (state_) {
    case State::kNone:
      return refused(Errc::kWrongState, "Uninitialized: no block is open for writing on this connection");
    case State::kOpen: return {};
    case State::kFailed: return failure_;
    case State::kAborted: return refused(Errc::kWrongState, fmt::format("write block {}: already aborted", id_));
    case State::kTakenOver:
      return refused(Errc::kCancelled, fmt::format("write block {}: another connection has opened it", id_));
  }
  return {};
}

Task<Result<>> WriteSession::running(rpc::FrameReader& in) {
  // Somebody else's request says nothing about this session's data: it fails alone.
  LEAP_CO_TRY_VOID(check_request(in));
  LEAP_CO_TRY_VOID(check_usable());
  const TimePoint begin = now();
  const std::size_t size = in.head().data_size;
  receiving_ = Nanos{0};
  Result<> written = co_await write(in);
  if (!written.ok()) {
    state_ = State::kFailed;
    failure_ = written;
    // Whoever comes to the block next, by another connection or by its id alone, must not commit without this frame. A
    // connection that broke is different: its client got no answer and goes on from where it knows it was.
    if (!in.failed()) writer_->fail(written.error());
    co_return written;
  }
  SessionProbe& probe = context_.probe;
  probe.write_count.add();
  probe.write_bytes.add(size);
  probe.write_time_us.add(static_cast<std::uint64_t>((now() - begin - receiving_).count() / 1000));
  co_return Result<>{};
}

Task<Result<>> WriteSession::write(rpc::FrameReader& in) {
  bool flush = false;
  if (!in.header().empty()) {
    proto::DataHeaderProto header;
    LEAP_CO_TRY_VOID(rpc::parse_header(in.header(), header));
    flush = header.flush();
    // With flush the offset only says where the client stands.
    if (!flush) {
      if (header.offset() < 0 || static_cast<std::uint64_t>(header.offset()) >= writer_->capacity()) {
        co_return refused(Errc::kInvalidArgument, fmt::format("write block {}: seek to {} outside its capacity of {}",
                                                              id_, header.offset(), writer_->capacity()));
      }
      LEAP_CO_TRY_VOID(co_await writer_->seek(static_cast<std::uint64_t>(header.offset())));
    }
  }
  if (in.data_left() > 0) {
    LEAP_CO_TRY_VOID(co_await receive(in));
  }
  if (flush) {
    LEAP_CO_TRY_VOID(co_await writer_->flush());
  }
  co_return Result<>{};
}

/// Moves the frame's data from the socket into the writer's buffers, as far as they go at a time.
Task<Result<>> WriteSession::receive(rpc::FrameReader& in) {
  const std::uint64_t end = writer_->position() + in.data_left();
  if (end > writer_->capacity()) {
    co_return refused(Errc::kInvalidArgument, fmt::format("write block {}: {} bytes at {} exceeds block size {}", id_,
                                                          in.data_left(), writer_->position(), writer_->capacity()));
  }
  while (in.data_left() > 0) {
    // Clients that stall in the middle of a frame must not get hold of the whole pool.
    const std::size_t bytes = writer_->prepared_bytes(in.data_left());
    if (!context_.receive_memory.try_acquire(bytes)) {
      context_.probe.receive_waits.add();
      co_await context_.receive_memory.acquire(bytes);
    }
    context_.probe.receiving_bytes.add(static_cast<std::int64_t>(bytes));
    const auto permit = defer([&] {
      context_.receive_memory.release(bytes);
      context_.probe.receiving_bytes.add(-static_cast<std::int64_t>(bytes));
    });
    Result<std::span<std::byte>> room = co_await writer_->prepare(in.data_left());
    if (!room.ok()) co_return std::move(room).error();
    const TimePoint waiting = now();
    awaiting_data_ = true;
    Result<> received = co_await in.read_data(*room, context_.frame_deadline());
    awaiting_data_ = false;
    receiving_ = receiving_ + (now() - waiting);
    if (!received.ok()) co_return received;
    writer_->produced(room->size());
  }
  co_return Result<>{};
}

Task<Result<>> WriteSession::complete(rpc::FrameReader& in) {
  LEAP_CO_TRY_VOID(check_request(in));
  proto::BlockWriteRequest request;
  LEAP_CO_TRY_VOID(rpc::parse_header(in.header(), request));
  const BlockId id{request.block().id()};
  // The request's header replaces the session's: it may even name another block.
  if (state_ != State::kNone && id != id_) co_await drop();
  if (state_ != State::kNone) {
    LEAP_CO_TRY_VOID(check_usable());
  } else if (spoiled_ && spoiled_->first == id) {
    // A committed block of the same length must not pass for what this client could not write.
    co_return spoiled_->second;
  }
  LEAP_CO_TRY_VOID(co_await commit(id, request.block().block_size(), request.block_size()));
  forget_writer();
  state_ = State::kNone;
  co_return Result<>{};
}

Task<Result<>> WriteSession::commit(BlockId id, std::int64_t length, std::int64_t capacity) {
  if (length < 0) co_return refused(Errc::kInvalidArgument, fmt::format("complete block {}: length {}", id, length));
  if (length > capacity) {
    if (writer_ != nullptr) {
      const Result<> aborted = co_await writer_->cancel();
      aborted.ignore("the length is the error to report; what is left ends with the writer's grace time");
      forget_writer();
      state_ = State::kAborted;
    }
    co_return refused(Errc::kInvalidArgument,
                      fmt::format("complete block {}: Invalid block length {}, more than {}", id, length, capacity));
  }
  const auto bytes = static_cast<std::uint64_t>(length);
  Result<BlockInfo> done = Error(Errc::kInternal, "not asked");
  if (writer_ != nullptr)
    done = co_await writer_->complete(bytes);
  else
    done = co_await context_.store.complete(context_.poller, id, bytes, static_cast<std::uint64_t>(capacity));
  if (!done.ok()) co_return std::move(done).error();
  co_return Result<>{};
}

Task<Result<>> WriteSession::cancel(rpc::FrameReader& in) {
  LEAP_CO_TRY_VOID(check_request(in));
  proto::BlockWriteRequest request;
  LEAP_CO_TRY_VOID(rpc::parse_header(in.header(), request));
  const BlockId id{request.block().id()};
  if (state_ != State::kNone && id != id_) co_await drop();
  spoiled_.reset();
  Result<> done;
  switch (state_) {
    case State::kNone: done = co_await context_.store.cancel(context_.poller, id); break;
    case State::kOpen:
    case State::kFailed: done = co_await writer_->cancel(); break;
    case State::kAborted: break;
    case State::kTakenOver: done = check_usable(); break;
  }
  if (!done.ok()) co_return done;
  forget_writer();
  state_ = State::kNone;
  failure_ = Result<>{};
  co_return Result<>{};
}

}  // namespace leap

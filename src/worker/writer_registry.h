// WriterRegistry: which connection writes which block, so that the newest one wins.
//
// Curvine's protocol lets a block be opened again while an older session still has it: the client may have lost its
// connection long before the worker notices. The store allows one writer; so the older session is asked to let go,
// between two requests, and fails from then on. What it wrote stays, and the new session goes on with it.
//
// Threading: any poller. An owner is entered, removed and asked to yield on its own poller's thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "poller/poller.h"
#include "store/types.h"

namespace leap {

class WriterRegistry {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Drop the block's writer now, or as soon as the request in progress is over.
    virtual void yield_writer() = 0;
  };

  void enter(BlockId id, Owner& owner, NvmePoller& poller);
  /// No effect if somebody else has taken the block since.
  void leave(BlockId id, Owner& owner);
  /// Asks the session that writes `id`, if there is one, to let go. It will, soon; the caller tries again.
  void ask_to_yield(BlockId id);

 private:
  struct Entry {
    Owner* owner;
    NvmePoller* poller;
    std::uint64_t token;
  };
  struct Request;
  void deliver(const Request& request);

  std::mutex mutex_;
  std::unordered_map<BlockId, Entry> entries_;
  std::uint64_t next_token_ = 1;
};

}  // namespace leap

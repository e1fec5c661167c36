// NvmeLanes: a channel's queue pairs, one per path of its device, and the choice between them.
//
// A queue pair that failed is replaced when its link is live again; who still waits for something on the old one keeps it
// (and its association) in memory through Lane::Ticket. Threading: the channel's poller.
#pragma once

#include <memory>
#include <vector>

#include "bdev/nvme_bdev.h"

namespace leap {

class NvmeLanes {
 public:
  /// One queue pair in use, with the path it belongs to.
  struct Lane {
    NvmePath* path = nullptr;
    ControllerLink::Queue queue;
    std::uint32_t users = 0;  ///< I/Os that look at it
    bool replaced = false;

    [[nodiscard]] bool live() const { return queue.queue->live(); }
  };
  /// Keeps a lane in memory while an I/O looks at it.
  class Ticket {
   public:
    Ticket(NvmeLanes& lanes, Lane& lane) : lanes_(lanes), lane_(lane) { ++lane.users; }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() {
      if (--lane_.users == 0 && lane_.replaced) lanes_.forget(lane_);
    }
    [[nodiscard]] Lane& lane() const { return lane_; }

   private:
    NvmeLanes& lanes_;
    Lane& lane_;
  };

  NvmeLanes(NvmeBdev& device, NvmePoller& poller, DmaPool& pool) : device_(device), poller_(poller), pool_(pool) {}

  /// The lane for the next I/O; nullptr when one has to be opened first.
  [[nodiscard]] Lane* pick();
  /// Opens what can be opened and picks, waiting for a path until `give_up`. Error: kUnreachable, naming every path.
  Task<Result<Lane*>> wait(TimePoint give_up);
  /// Something is wrong with this way: others come first for a while.
  void avoid(Lane& lane);

 private:
  struct Slot {
    NvmePath* path = nullptr;
    Lane* lane = nullptr;
    TimePoint avoid_until;
  };
  void notice_paths();
  Task<Result<>> open(std::size_t index);
  void forget(Lane& lane);
  [[nodiscard]] bool ready(const Slot& slot) const { return slot.lane != nullptr && slot.lane->live(); }
  [[nodiscard]] bool wants_opening(const Slot& slot) const {
    return !ready(slot) && slot.path->usable() && slot.avoid_until <= poller_.now();
  }
  [[nodiscard]] Error unreachable(const std::vector<Error>& causes) const;

  NvmeBdev& device_;
  NvmePoller& poller_;
  DmaPool& pool_;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::size_t turn_ = 0;
};

}  // namespace leap

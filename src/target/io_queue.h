// IoQueue: the NVM commands of one I/O queue (NVM Command Set 1.0, 3).
//
// A command is judged completely before anything happens: opcode, namespace, protection information, LBA range, size,
// data pointer. Two ways to carry it out:
//   * memory   the namespace is memory: done on the spot, the payload goes from and to device memory without a copy.
//              A block that is being received may be seen half-written by a concurrent Read of the same block.
//   * channel  a task on the shard's BlockChannel, with a buffer from the shard's pool.
// Write with FUA, or with the volatile write cache switched off, is followed by a flush before it completes.
//
// Threading: the poller of the queue's connection. The memory way allocates nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "nvme/nvm_command.h"
#include "target/session.h"

namespace leap::target {

class IoQueue final : public CommandQueue {
 public:
  explicit IoQueue(Session& session) : session_(session) {}

  Step begin(Request& request) override;
  Step execute(Request& request) override;

 private:
  /// Where a command with an LBA range works.
  struct Extent {
    NamespaceAccess* access = nullptr;
    std::uint64_t offset = 0;  ///< bytes
    std::uint64_t bytes = 0;
  };
  /// Judges namespace, protection information and range; limits the size to MDTS when data moves.
  [[nodiscard]] std::optional<NvmeStatusCode> locate(Request& request, bool moves_data, Extent& extent);
  /// Holds on to the namespace the command names; false: there is none.
  [[nodiscard]] bool pin(Request& request);
  /// The extent of a command that locate() has accepted before.
  [[nodiscard]] Extent extent_of(const Request& request);

  Step read(Request& request);
  Step begin_write(Request& request);
  Step execute_write(Request& request);
  Step flush(Request& request);
  Step write_zeroes(Request& request);
  Step begin_dsm(Request& request);
  Step execute_dsm(Request& request);
  Step begin_compare(Request& request);
  Step execute_compare(Request& request);
  Step verify(Request& request);
  [[nodiscard]] bool must_flush(const Request& request, const Extent& extent) const;

  Session& session_;
};

}  // namespace leap::target

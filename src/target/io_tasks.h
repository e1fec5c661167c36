// The I/O commands that take time, as tasks: everything that goes through a BlockChannel, and memory work too long for
// one turn of the poller. Each returns the status to answer with.
//
// References outlive the tasks: a session is not destroyed while one runs. Poller thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "nvme/nvm_command.h"
#include "poller/task.h"
#include "target/session.h"

namespace leap::target {

/// Memory is filled this much per turn, so that other connections are not kept waiting.
inline constexpr std::uint64_t kMemoryWorkPerTurn = 1U << 20;

struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

Task<NvmeStatusCode> read_device(Session& session, Request& request, NamespaceAccess& access, ByteRange range);
/// Writes request.buffer, then flushes if asked to.
Task<NvmeStatusCode> write_device(Request& request, NamespaceAccess& access, std::uint64_t offset, bool then_flush);
Task<NvmeStatusCode> flush_device(NamespaceAccess& access, nvme::NvmOpcode opcode);
/// Flush with NSID FFFFFFFFh.
Task<NvmeStatusCode> flush_all(Session& session);
Task<NvmeStatusCode> zero_device(Session& session, NamespaceAccess& access, ByteRange range, bool then_flush);
Task<NvmeStatusCode> discard_device(Session& session, NamespaceAccess& access, std::vector<ByteRange> ranges);
/// Compares request.buffer with the device.
Task<NvmeStatusCode> compare_device(Session& session, Request& request, NamespaceAccess& access, std::uint64_t offset);
/// Reads the range for its errors alone.
Task<NvmeStatusCode> verify_device(Session& session, NamespaceAccess& access, ByteRange range);

}  // namespace leap::target

// PollerContext: a poller and the buffer pool that belongs to it. What a component needs to do I/O somewhere.
#pragma once

namespace leap {

class DmaPool;
class NvmePoller;

struct PollerContext {
  NvmePoller* poller = nullptr;
  DmaPool* pool = nullptr;
};

}  // namespace leap

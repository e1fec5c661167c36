// What BlockStore shows to any thread.
#include <fmt/format.h>

#include "store/store_core.h"

namespace leap {

bool BlockStore::contains(BlockId id) const {
  const BlockIndex::Locked block = core_->index.lock(id);
  return block.find() != nullptr;
}

Result<BlockInfo> BlockStore::stat(BlockId id) const {
  const BlockIndex::Locked block = core_->index.lock(id);
  const BlockEntry* const entry = block.find();
  if (entry == nullptr || (entry->live != nullptr && entry->live->removing)) {
    return Error(Errc::kNotFound, fmt::format("block {} not exists", id)).in(ErrorDomain::kStore);
  }
  return entry->info();
}

BlockStore::ListPage BlockStore::list(std::uint32_t cursor, std::size_t limit) const {
  ListPage page;
  std::size_t shard = cursor;
  while (shard < BlockIndex::kShards && page.blocks.size() < limit) core_->index.collect(shard++, page.blocks);
  if (shard < BlockIndex::kShards) page.next = static_cast<std::uint32_t>(shard);
  return page;
}

SpaceInfo BlockStore::space() const { return core_->space(); }
const StoreProbe& BlockStore::probe() const { return core_->probe; }
const RecoveryReport& BlockStore::recovery() const { return core_->recovery; }
const Superblock& BlockStore::superblock() const { return core_->superblock; }
const BlockStore::Config& BlockStore::config() const { return core_->config; }
bool BlockStore::healthy() const { return !core_->fenced() && core_->device.online() && core_->meta->writable(); }

StoreTotals BlockStore::totals() const {
  StoreTotals totals;
  for (const std::unique_ptr<StorePoller>& at : core_->pollers) {
    totals.bytes_read += at->bytes_read.value();
    totals.bytes_written += at->bytes_written.value();
  }
  totals.meta_commits = core_->queue->probe().commits.value();
  totals.meta_syncs = core_->queue->probe().syncs.value();
  return totals;
}

void BlockStore::write_metrics(MetricsText& page) const {
  const MetricLabels labels = {{"dir", core_->config.name}};
  const SpaceInfo space = this->space();
  const StoreTotals totals = this->totals();
  const StoreProbe& p = core_->probe;
  const auto level = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    page.gauge(name, help, static_cast<std::int64_t>(value), labels);
  };
  const auto count = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    page.counter(name, help, value, labels);
  };
  level("leap_store_capacity_bytes", "Bytes for blocks", space.capacity);
  level("leap_store_allocated_bytes", "Bytes in extents", space.allocated);
  level("leap_store_reserved_bytes", "Bytes promised to open writers", space.reserved);
  level("leap_store_available_bytes", "Bytes the next writer may ask for", space.available);
  level("leap_store_largest_free_extent_bytes", "Largest contiguous free space", space.largest_free_extent);
  level("leap_store_draining_bytes", "Bytes a lost command may still write", space.draining);
  level("leap_store_quarantined_bytes", "Bytes claimed by damaged metadata", space.quarantined);
  level("leap_store_blocks", "Finalized blocks", space.blocks);
  level("leap_store_blocks_writing", "Blocks that were never committed", space.blocks_writing);
  level("leap_store_index_bytes", "Memory of the block index", core_->index.memory_bytes());
  level("leap_store_crc_cache_bytes", "Memory of cached checksums", core_->crc_cache.bytes());
  page.gauge_real("leap_store_fragmentation_ratio", "0: free space in one piece", space.fragmentation, labels);
  count("leap_store_committed_total", "Blocks and generations committed", p.blocks_committed.value());
  count("leap_store_removed_total", "Blocks removed", p.blocks_removed.value());
  count("leap_store_cancelled_total", "Write sessions given up", p.blocks_cancelled.value());
  count("leap_store_read_bytes_total", "Bytes read from the device", totals.bytes_read);
  count("leap_store_written_bytes_total", "Bytes written to the device", totals.bytes_written);
  count("leap_store_merged_pages_total", "Partial overwrites that read a page first", p.pages_merged.value());
  count("leap_store_device_flushes_total", "Flush commands", p.device_flushes.value());
  count("leap_store_meta_commits_total", "Changes made durable", totals.meta_commits);
  count("leap_store_meta_syncs_total", "Synced metadata batches", totals.meta_syncs);
  count("leap_store_checksum_errors_total", "Pages that failed their checksum", p.checksum_errors.value());
  count("leap_store_commit_failures_total", "Commits that failed", p.commit_failures.value());
  count("leap_store_crc_loads_total", "Checksum segments fetched from the metadata", p.crc_loads.value());
  count("leap_store_spills_total", "Staged buffers written early for lack of memory", p.spills.value());
}

}  // namespace leap

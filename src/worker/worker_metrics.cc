#include "worker/worker_metrics.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

namespace leap {
namespace {

std::uint64_t sum(const BlockServer& server, Counter SessionProbe::*member) {
  std::uint64_t total = 0;
  for (const SessionProbe* probe : server.probes()) total += (probe->*member).value();
  return total;
}

std::int64_t signed_value(std::uint64_t value) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX));
}

/// Total minus available memory of the machine, bytes.
std::uint64_t host_memory_in_use() {
  std::ifstream file("/proc/meminfo");
  std::uint64_t total = 0, available = 0, value = 0;
  std::string name, unit;
  while (file >> name >> value && std::getline(file, unit)) {
    if (name == "MemTotal:") total = value * 1024;
    if (name == "MemAvailable:") available = value * 1024;
  }
  return total > available ? total - available : 0;
}

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

void write_session_metrics(MetricsText& page, const BlockServer& server) {
  const MetricLabels remote{{"type", "remote"}}, local{{"type", "local"}};
  page.counter("write_bytes", "Bytes of blocks received from clients", sum(server, &SessionProbe::write_bytes));
  page.counter("write_time_us", "Time spent on write requests, without waiting for clients",
               sum(server, &SessionProbe::write_time_us));
  page.counter("write_count", "Write requests", sum(server, &SessionProbe::write_count));
  page.counter("write_blocks", "Write sessions opened", sum(server, &SessionProbe::write_blocks), remote);
  page.counter("write_blocks", "Write sessions opened", 0, local);  // local files are not handed out
  page.counter("read_bytes", "Bytes of blocks sent to clients", sum(server, &SessionProbe::read_bytes));
  page.counter("read_time_us", "Time spent on read requests, replies included",
               sum(server, &SessionProbe::read_time_us));
  page.counter("read_count", "Read requests", sum(server, &SessionProbe::read_count));
  page.counter("read_blocks", "Read sessions opened", sum(server, &SessionProbe::read_blocks), remote);
  page.counter("read_blocks", "Read sessions opened", 0, local);

  page.gauge("leap_worker_sessions", "Open client connections", signed_value(server.sessions()));
  page.counter("leap_worker_sessions_opened_total", "Client connections accepted", sum(server, &SessionProbe::opened));
  page.counter("leap_worker_sessions_refused_total", "Client connections closed for want of room",
               sum(server, &SessionProbe::refused));
  page.gauge("leap_worker_header_memory_bytes", "Memory of large request headers being received or served",
             signed_value(server.header_memory_in_use()));
  std::int64_t receiving = 0;
  for (const SessionProbe* probe : server.probes()) receiving += probe->receiving_bytes.value();
  page.gauge("leap_worker_receive_memory_bytes", "Buffers of frames that clients are sending", receiving);
  page.counter("leap_worker_receive_waits_total", "Frames that waited because too many were being received",
               sum(server, &SessionProbe::receive_waits));
  page.counter("leap_worker_protocol_errors_total", "Connections closed for frames that make no sense",
               sum(server, &SessionProbe::protocol_errors));
  page.counter("leap_worker_error_replies_total", "Requests answered with an error",
               sum(server, &SessionProbe::error_replies));
  page.counter("leap_worker_writers_taken_over_total",
               "Write sessions ended because another connection opened the block",
               sum(server, &SessionProbe::taken_over));
}

void write_storage_metrics(MetricsText& page, const StoreSet& store, std::size_t configured_disks) {
  const SpaceInfo space = store.space();
  std::size_t healthy = 0;
  for (const StoreSet::Directory& directory : store.directories()) healthy += directory.store->healthy() ? 1 : 0;
  const std::size_t total = std::max(configured_disks, store.directories().size());
  page.gauge("capacity", "Bytes that blocks can use", signed_value(space.capacity));
  page.gauge("available", "Bytes that new blocks can get", signed_value(space.available));
  page.gauge("fs_used", "Bytes in extents", signed_value(space.allocated));
  page.gauge("failed_disks", "Data directories that are not served", signed_value(total - healthy));
  page.gauge("total_disks", "Data directories", signed_value(total));
  page.gauge("num_blocks", "Blocks", signed_value(space.blocks + space.blocks_writing));
  page.gauge("num_blocks_to_delete", "Blocks waiting to be deleted", 0);
  store.write_metrics(page);
}

void write_host_metrics(MetricsText& page) {
  page.gauge("used_memory_bytes", "Memory in use on this host", signed_value(host_memory_in_use()));
  page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", signed_value(resident_bytes()));
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    page.gauge_real("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
                    seconds(usage.ru_utime) + seconds(usage.ru_stime));
  }
}

}  // namespace leap

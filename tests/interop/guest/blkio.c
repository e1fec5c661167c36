// Block I/O with contents that name their position, for a guest that holds nothing but busybox.
//
//   blkio write|check|swap DEVICE OFFSET BYTES BLOCK DEPTH JOBS SEED
//   blkio discard|zero|zeros|stamps DEVICE OFFSET BYTES
//
// write    every block of the range, DEPTH in flight per job, in an order that jumps
// check    reads every block and compares
// swap     reads and compares every block, then writes it with SEED + 1: reads and writes at the same time
// discard  (BLKDISCARD), zero (BLKZEROOUT): through the block layer
// zeros    the range reads as zeros
// stamps   the second word of every 4 KiB is its offset, as in what `leap bench io --verify` writes
//
// Every 8 bytes hold SEED << 48 | their offset on the device. Direct and asynchronous (Linux AIO): BLOCK goes to the
// driver as it is, so one above the driver's limit is split there. `write` and `swap` end with fsync, a Flush.
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kMaxDepth = 256, kSeedShift = 48, kStride = 7919, kUnit = 4096 };

typedef enum { kWrite, kCheck, kSwap } Mode;

typedef struct {
  Mode mode;
  int fd;
  uint64_t offset;
  uint64_t blocks;
  uint64_t block;
  uint64_t depth;
  uint64_t seed;
} Job;

// One of the blocks in flight.
typedef struct {
  struct iocb io;
  uint64_t* words;
  uint64_t at;
} Slot;

static _Noreturn void fail(const char* what, uint64_t at, int error) {
  fprintf(stderr, "blkio: %s at %llu: %s\n", what, (unsigned long long)at, strerror(error));
  exit(1);
}

static uint64_t word_at(uint64_t seed, uint64_t offset) { return seed << kSeedShift | offset; }

static void fill(const Job* job, Slot* slot, uint64_t seed) {
  for (uint64_t i = 0; i < job->block / 8; i++) slot->words[i] = word_at(seed, slot->at + 8 * i);
}

static void compare(const Job* job, const Slot* slot) {
  for (uint64_t i = 0; i < job->block / 8; i++) {
    const uint64_t expected = word_at(job->seed, slot->at + 8 * i);
    if (slot->words[i] == expected) continue;
    fprintf(stderr, "blkio: MISCOMPARE at %llu: expected %016llx, found %016llx\n",
            (unsigned long long)(slot->at + 8 * i), (unsigned long long)expected, (unsigned long long)slot->words[i]);
    exit(1);
  }
}

static void submit(const Job* job, aio_context_t context, Slot* slot, uint16_t opcode) {
  struct iocb* list = &slot->io;
  memset(list, 0, sizeof *list);
  list->aio_fildes = (uint32_t)job->fd;
  list->aio_lio_opcode = opcode;
  list->aio_buf = (uintptr_t)slot->words;
  list->aio_nbytes = job->block;
  list->aio_offset = (int64_t)slot->at;
  list->aio_data = (uintptr_t)slot;
  if (syscall(SYS_io_submit, context, 1L, &list) != 1) fail("io_submit", slot->at, errno);
}

static void start(const Job* job, aio_context_t context, Slot* slot, uint64_t number) {
  // A step that shares no factor with the number of blocks visits each once.
  slot->at = job->offset + number * kStride % job->blocks * job->block;
  if (job->mode == kWrite) fill(job, slot, job->seed);
  submit(job, context, slot, job->mode == kWrite ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD);
}

// True when the block of `slot` is done with; false when `slot` is in flight again.
static bool finish(const Job* job, aio_context_t context, Slot* slot, int64_t result) {
  const bool was_read = slot->io.aio_lio_opcode == IOCB_CMD_PREAD;
  if (result != (int64_t)job->block) fail(was_read ? "read" : "write", slot->at, result < 0 ? (int)-result : EIO);
  if (was_read) compare(job, slot);
  if (!was_read || job->mode != kSwap) return true;
  fill(job, slot, job->seed + 1);
  submit(job, context, slot, IOCB_CMD_PWRITE);
  return false;
}

static void run(const Job* job) {
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, job->depth, &context) != 0) fail("io_setup", 0, errno);
  Slot slots[kMaxDepth];
  uint64_t started = 0;
  uint64_t in_flight = 0;
  for (; started < job->depth && started < job->blocks; started++, in_flight++) {
    void* memory = NULL;
    if (posix_memalign(&memory, kUnit, job->block) != 0) fail("memory", 0, ENOMEM);
    slots[started].words = memory;
    start(job, context, &slots[started], started);
  }
  while (in_flight > 0) {
    struct io_event events[kMaxDepth];
    const long count = syscall(SYS_io_getevents, context, 1L, (long)kMaxDepth, events, NULL);
    if (count < 0) fail("io_getevents", 0, errno);
    for (long i = 0; i < count; i++) {
      Slot* slot = (Slot*)(uintptr_t)events[i].data;
      if (!finish(job, context, slot, events[i].res)) continue;
      if (started < job->blocks) {
        start(job, context, slot, started++);
      } else {
        in_flight--;
      }
    }
  }
  if (job->mode != kCheck && fsync(job->fd) != 0) fail("fsync", 0, errno);
}

// Runs `jobs` processes, each on its own part of the range; the number of those that failed.
static int run_jobs(Job job, uint64_t jobs) {
  job.blocks /= jobs;
  if (job.blocks == 0 || job.depth == 0 || job.depth > kMaxDepth || job.blocks % kStride == 0) fail("range", 0, EINVAL);
  for (uint64_t i = 0; i < jobs; i++, job.offset += job.blocks * job.block) {
    const pid_t child = fork();
    if (child < 0) fail("fork", 0, errno);
    if (child == 0) {
      run(&job);
      exit(0);
    }
  }
  int failed = 0;
  for (int status = 0; wait(&status) > 0;) failed += status != 0;
  return failed;
}

static void expect(int fd, uint64_t offset, uint64_t bytes, bool stamps) {
  static uint64_t words[kUnit / 8] __attribute__((aligned(kUnit)));
  for (uint64_t at = offset; at < offset + bytes; at += kUnit) {
    if (pread(fd, words, kUnit, (off_t)at) != kUnit) fail("read", at, errno);
    if (stamps && words[1] != at) fail("another position's stamp", at, EIO);
    for (unsigned i = 0; !stamps && i < kUnit / 8; i++) {
      if (words[i] != 0) fail("not zero", at + 8 * i, EIO);
    }
  }
}

int main(int count, char** arguments) {
  if (count != 5 && count != 9) {
    fprintf(stderr,
            "usage: blkio write|check|swap DEVICE OFFSET BYTES BLOCK DEPTH JOBS SEED\n"
            "       blkio discard|zero|zeros|stamps DEVICE OFFSET BYTES\n");
    return 2;
  }
  const char* what = arguments[1];
  const int fd = open(arguments[2], O_RDWR | O_DIRECT);
  if (fd < 0) fail(arguments[2], 0, errno);
  uint64_t number[9] = {0};
  for (int i = 3; i < count; i++) number[i] = strtoull(arguments[i], NULL, 10);
  uint64_t range[2] = {number[3], number[4]};
  if (count == 5) {
    const bool stamps = strcmp(what, "stamps") == 0;
    if (stamps || strcmp(what, "zeros") == 0) {
      expect(fd, range[0], range[1], stamps);
    } else if (ioctl(fd, strcmp(what, "discard") == 0 ? BLKDISCARD : BLKZEROOUT, range) != 0) {
      fail(what, range[0], errno);
    }
    return 0;
  }
  const Mode mode = strcmp(what, "write") == 0 ? kWrite : strcmp(what, "swap") == 0 ? kSwap : kCheck;
  const Job job = {mode, fd, range[0], range[1] / number[5], number[5], number[6], number[8]};
  return run_jobs(job, number[7]) == 0 ? 0 : 1;
}

// Model: what the device may hold, as its user is entitled to believe.
//
// The device is divided into cells of kCell bytes, smaller than a device block, so that unaligned writers share blocks.
// Every write fills its cells with a stamp of its own: position, generation and a pattern made of both; generation 0 is
// zeros. For each cell the model keeps
//
//   now    the generations that a reader may find: one after an acknowledged write or a read that saw which; more after
//          a write that failed but may have executed, after a discard, after power loss
//   past   those that power loss may bring back: all since the last write that a later, acknowledged Flush covers
//   lurk   those that may still appear on their own, because a command that failed may still be on its way. Only until
//          the fence: the target has let go of every dead connection and the device has finished what came from them.
//          An unaligned write carries its neighbours' bytes along: they lurk too.
//
// At most one writer per cell at a time; readers and flushes are free. One cell's outcome never depends on another's.
//
// Threading: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace leap::sim {

inline constexpr std::uint32_t kCell = 256;

using Generation = std::uint32_t;
inline constexpr Generation kZeros = 0;
inline constexpr Generation kAnything = UINT32_MAX;  ///< bytes nobody can predict (torn memory)

/// Fills a cell. Position in cells.
void write_cell(std::span<std::byte> cell, std::uint64_t position, Generation generation);
/// The generation a cell carries; kAnything when it is no stamp, or that of another place.
[[nodiscard]] Generation read_cell(std::span<const std::byte> cell, std::uint64_t position);
/// What a cell that carries none looks like, for messages.
[[nodiscard]] std::string describe_cell(std::span<const std::byte> cell);

class Model {
 public:
  struct Config {
    std::uint64_t cells = 0;
    std::uint32_t block_cells = 2;  ///< cells of a device block
    bool volatile_cache = true;
    bool trusting = false;  ///< nothing lurks: right only if a failed command is over when its error arrives
    bool tears = false;     ///< the device is memory: a write that fails leaves anything
  };
  /// Cells [begin, end).
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    [[nodiscard]] std::uint64_t size() const { return end - begin; }
  };
  enum class Change : std::uint8_t { kWrite, kZeroes, kDiscard };
  enum class Outcome : std::uint8_t { kDone, kNotExecuted, kMayHaveExecuted };

  /// A write, zeroing or discard in flight.
  struct Writer {
    Change change = Change::kWrite;
    Range range;
    Generation generation = 0;
    bool exclusive = false;
    std::uint64_t crashes = 0;
  };
  /// A read in flight.
  struct Reader {
    Range range;
    std::vector<std::vector<Generation>> seen;  // what each cell might have held when it began
    std::vector<std::size_t> begun;             // writes begun on each cell until then
    std::uint64_t crashes = 0;
    std::uint64_t changes = 0;
  };
  struct Flusher {
    std::uint64_t at = 0;
    std::uint64_t crashes = 0;
  };

  explicit Model(Config config);

  /// Whether a writer may take this range now: nobody else writes these cells, nobody exclusively their blocks (and the
  /// other way round), and no failed command may still touch the blocks.
  [[nodiscard]] bool may_write(Range range, bool exclusive) const;
  /// Fills in writer.generation.
  void begin(Writer& writer);
  void end(const Writer& writer, Outcome outcome);

  [[nodiscard]] Reader begin_read(Range range) const;
  /// Empty, or what is wrong with what a read brought. Remembers what it saw where that settles a doubt.
  [[nodiscard]] std::string end_read(const Reader& reader, std::span<const std::byte> data);

  [[nodiscard]] Flusher begin_flush() const { return {.at = sequence_, .crashes = crashes_}; }
  void end_flush(const Flusher& flusher);

  /// The device lost power (or, `power` false, the target's process died: nothing comes back, in-flight writes may land).
  void crash(bool power);
  /// What failed before this number can do nothing more.
  [[nodiscard]] std::uint64_t doubts() const { return doubts_; }
  void fence(std::uint64_t doubts);
  [[nodiscard]] bool in_doubt() const { return tainted_ > 0; }

 private:
  struct Past {
    Generation generation;
    std::uint64_t superseded;  // sequence of the acknowledged write that replaced it
  };
  struct Cell {
    std::vector<Generation> now{1};
    std::vector<Past> past{{1, UINT64_MAX}};
    std::vector<Generation> lurk;
    std::vector<Generation> begun;
    std::uint64_t doubt = 0;  // 0: no failed command may still touch it
    Generation writing = 0;
    bool busy = false;
    bool exclusive = false;
  };

  [[nodiscard]] Range blocks_of(Range range) const;
  [[nodiscard]] static std::vector<Generation> possible(const Cell& cell);
  void settle(Cell& cell, Generation generation);
  void doubt(const Writer& writer);

  const Config config_;
  std::vector<Cell> cells_;
  Generation next_generation_ = 2;
  std::uint64_t sequence_ = 1;
  std::uint64_t crashes_ = 0;
  std::uint64_t changes_ = 0;  // anything that makes a read's findings worthless for settling doubts
  std::uint64_t doubts_ = 0;
  std::size_t tainted_ = 0;
};

}  // namespace leap::sim

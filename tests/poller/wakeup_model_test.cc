// A small explicit-state model checker for the handshake of poller/wakeup.h: every interleaving of its steps, with
// every thread's stores held back in a FIFO store buffer for as long as the hardware may (total store order, x86).
// Weaker machines reorder more; there the same fences order the same pairs.
//
//   producer, per post                         poller
//   kClaim     tail++ (locked)                 kPop       look at the head cell, take it
//   kPublish   cell = 1                        kAnnounce  sleeping = 1
//   kFence     (may be left out)               kFence     (may be left out)
//   kCheck     sleeping?                       kLook      head cell again (may be left out)
//   kExchange  clear it (locked)               kWait      block until the event is signalled, reset it
//   kSignal    event++                         kAwake     sleeping = 0
//
// System calls are not taken for fences. A wake-up is lost in a state without successors, everything published, in
// which the poller waits although its queue is not empty.
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace {

constexpr int kMaxProducers = 2;
constexpr int kMaxPosts = 4;
constexpr int kMaxStores = 4;                  // more than any thread here ever has between two fences
constexpr std::uint8_t kSleeping = kMaxPosts;  // address of the flag; cells are 0..kMaxPosts-1

struct Model {
  int producers = 1;
  int posts_each = 1;
  bool producer_fence = true;
  bool poller_fence = true;
  bool looks_again = true;
  [[nodiscard]] int total() const { return producers * posts_each; }
};

enum Pc : std::uint8_t {
  kClaim,
  kPublish,
  kProducerFence,
  kCheck,
  kExchange,
  kSignal,
  kFinished,
  kPop,
  kAnnounce,
  kPollerFence,
  kLook,
  kWait,
  kAwake,
};
constexpr const char* kPcNames[] = {"claim a cell", "publish it", "fence", "check sleeping", "clear sleeping",
                                    "signal",       "",           "pop",   "announce sleep", "fence",
                                    "look again",   "wait",       "awake"};

struct Thread {
  Pc pc = kClaim;
  std::uint8_t posted = 0;
  std::uint8_t cell = 0;
  std::uint8_t stores = 0;  // in the buffer, oldest first
  std::array<std::uint8_t, kMaxStores> address{};
  std::array<std::uint8_t, kMaxStores> value{};
};

struct State {
  std::array<std::uint8_t, kMaxPosts + 1> memory{};
  std::uint8_t tail = 0;
  std::uint8_t head = 0;
  std::uint8_t event = 0;
  std::array<Thread, kMaxProducers + 1> threads{};  // the poller is the last

  [[nodiscard]] std::string key() const {
    static_assert(std::has_unique_object_representations_v<State>);
    return {reinterpret_cast<const char*>(this), sizeof *this};
  }
};

/// Loads see the thread's own buffered stores first, the newest of them.
std::uint8_t load(const State& state, const Thread& thread, std::uint8_t address) {
  for (int i = thread.stores; i-- > 0;) {
    if (thread.address[static_cast<std::size_t>(i)] == address) return thread.value[static_cast<std::size_t>(i)];
  }
  return state.memory[address];
}

/// False when the buffer is full: the thread waits until its oldest store has become visible.
bool store(Thread& thread, std::uint8_t address, std::uint8_t value) {
  if (thread.stores == kMaxStores) return false;
  thread.address[thread.stores] = address;
  thread.value[thread.stores] = value;
  ++thread.stores;
  return true;
}

void drain_one(State& state, Thread& thread) {
  state.memory[thread.address[0]] = thread.value[0];
  --thread.stores;
  for (std::size_t i = 0; i < thread.stores; ++i) {
    thread.address[i] = thread.address[i + 1];
    thread.value[i] = thread.value[i + 1];
  }
  thread.address[thread.stores] = thread.value[thread.stores] = 0;  // equal states must look equal
}

/// One step of a producer; false when it cannot move.
bool step_producer(const Model& model, State& state, Thread& self) {
  switch (self.pc) {
    case kClaim:
      if (self.stores > 0) return false;  // locked instructions wait for the buffer
      self.cell = state.tail++;
      self.pc = kPublish;
      return true;
    case kPublish:
      if (!store(self, self.cell, 1)) return false;
      self.pc = model.producer_fence ? kProducerFence : kCheck;
      return true;
    case kProducerFence:
      if (self.stores > 0) return false;
      self.pc = kCheck;
      return true;
    case kCheck: self.pc = load(state, self, kSleeping) != 0 ? kExchange : kFinished; break;
    case kExchange:
      if (self.stores > 0) return false;
      self.pc = state.memory[kSleeping] != 0 ? kSignal : kFinished;
      state.memory[kSleeping] = 0;
      break;
    case kSignal:
      ++state.event;
      self.pc = kFinished;
      break;
    default: return false;
  }
  if (self.pc == kFinished && ++self.posted < model.posts_each) self.pc = kClaim;
  return true;
}

bool step_poller(const Model& model, State& state, Thread& self) {
  const bool work = state.head < model.total() && load(state, self, state.head) != 0;
  switch (self.pc) {
    case kPop:
      if (work)
        ++state.head;
      else
        self.pc = kAnnounce;
      return true;
    case kAnnounce:
      if (!store(self, kSleeping, 1)) return false;
      self.pc = model.poller_fence ? kPollerFence : model.looks_again ? kLook : kWait;
      return true;
    case kPollerFence:
      if (self.stores > 0) return false;
      self.pc = model.looks_again ? kLook : kWait;
      return true;
    case kLook: self.pc = work ? kAwake : kWait; return true;
    case kWait:
      if (state.event == 0) return false;
      state.event = 0;
      self.pc = kAwake;
      return true;
    case kAwake:
      if (!store(self, kSleeping, 0)) return false;
      self.pc = kPop;
      return true;
    default: return false;
  }
}

struct Outcome {
  std::size_t states = 0;
  std::size_t ends = 0;
  std::optional<std::string> loss;  // the shortest schedule that loses a wake-up
};

class Explorer {
 public:
  explicit Explorer(const Model& model) : model_(model) {}

  /// Breadth first, so that the first loss found is a shortest one.
  Outcome run() {
    State start;
    start.threads[poller()].pc = kPop;
    for (std::size_t i = static_cast<std::size_t>(model_.producers); i < poller(); ++i) start.threads[i].pc = kFinished;
    visit(start, -1, "");
    Outcome outcome;
    for (std::size_t at = 0; at < states_.size(); ++at) {
      const bool moved = expand(at);
      if (moved) continue;
      ++outcome.ends;
      if (states_[at].head < model_.total() && !outcome.loss) outcome.loss = schedule(at);
    }
    outcome.states = states_.size();
    return outcome;
  }

 private:
  static constexpr std::size_t poller() { return kMaxProducers; }

  bool expand(std::size_t at) {
    bool moved = false;
    for (std::size_t i = 0; i <= poller(); ++i) {
      const std::string who = i == poller() ? "poller: " : "producer " + std::to_string(i) + ": ";
      State next = states_[at];
      Thread& self = next.threads[i];
      const Pc pc = self.pc;
      if (i == poller() ? step_poller(model_, next, self) : step_producer(model_, next, self)) {
        visit(next, static_cast<int>(at), who + kPcNames[pc]);
        moved = true;
      }
      if (states_[at].threads[i].stores > 0) {
        State drained = states_[at];
        drain_one(drained, drained.threads[i]);
        visit(drained, static_cast<int>(at), who + "(a store becomes visible)");
        moved = true;
      }
    }
    return moved;
  }

  void visit(const State& state, int from, std::string how) {
    if (!seen_.emplace(state.key(), states_.size()).second) return;
    states_.push_back(state);
    from_.emplace_back(from, std::move(how));
  }

  std::string schedule(std::size_t at) const {
    std::string text;
    for (int i = static_cast<int>(at); i > 0; i = from_[static_cast<std::size_t>(i)].first) {
      text = "  " + from_[static_cast<std::size_t>(i)].second + "\n" + text;
    }
    return text;
  }

  const Model model_;
  std::deque<State> states_;
  std::deque<std::pair<int, std::string>> from_;
  std::map<std::string, std::size_t> seen_;
};

Outcome explore(const Model& model) { return Explorer(model).run(); }

struct Size {
  int producers;
  int posts_each;
};

class SleepGateModel : public ::testing::TestWithParam<Size> {
 protected:
  [[nodiscard]] Model model() const { return {.producers = GetParam().producers, .posts_each = GetParam().posts_each}; }
};

TEST_P(SleepGateModel, LosesNoWakeUpInAnyInterleaving) {
  const Outcome outcome = explore(model());
  EXPECT_FALSE(outcome.loss.has_value()) << "lost wake-up after\n" << *outcome.loss;
  EXPECT_GT(outcome.ends, 0U) << "the model never comes to rest: it proves nothing";
  EXPECT_GT(outcome.states, 20U);
  RecordProperty("states", static_cast<int>(outcome.states));
}

TEST_P(SleepGateModel, LosesOneWithoutTheProducersFence) {
  Model broken = model();
  broken.producer_fence = false;
  const Outcome outcome = explore(broken);
  ASSERT_TRUE(outcome.loss.has_value()) << "the model cannot see what it is for";
  EXPECT_NE(outcome.loss->find("check sleeping"), std::string::npos) << *outcome.loss;
}

TEST_P(SleepGateModel, LosesOneWithoutThePollersFence) {
  Model broken = model();
  broken.poller_fence = false;
  EXPECT_TRUE(explore(broken).loss.has_value()) << "the model cannot see what it is for";
}

TEST_P(SleepGateModel, LosesOneWithoutTheSecondLook) {
  Model broken = model();
  broken.looks_again = false;
  EXPECT_TRUE(explore(broken).loss.has_value()) << "the model cannot see what it is for";
}

INSTANTIATE_TEST_SUITE_P(Sizes, SleepGateModel,
                         ::testing::Values(Size{1, 1}, Size{1, 2}, Size{1, 3}, Size{2, 1}, Size{2, 2}),
                         [](const auto& size) {
                           return std::to_string(size.param.producers) + "Producers" +
                                  std::to_string(size.param.posts_each) + "PostsEach";
                         });

}  // namespace

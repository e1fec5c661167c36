#include "store/generation.h"

#include <utility>

namespace leap {
namespace {

// Chains of superseded generations can be long (a block rewritten for hours under one reader), so they are not taken
// apart by recursion: the outermost destructor collects what the inner ones let go.
thread_local std::vector<std::shared_ptr<Generation>>* t_letting_go = nullptr;

void let_go(std::shared_ptr<Generation> next) {
  if (t_letting_go != nullptr) {
    t_letting_go->push_back(std::move(next));
    return;
  }
  std::vector<std::shared_ptr<Generation>> chain;
  t_letting_go = &chain;
  chain.push_back(std::move(next));
  while (!chain.empty()) {
    const std::shared_ptr<Generation> generation = std::move(chain.back());
    chain.pop_back();
  }
  t_letting_go = nullptr;
}

}  // namespace

Generation::~Generation() {
  if (!freed_.empty() || !garbage_.empty()) reclaimer_.reclaim(std::move(freed_), std::move(garbage_));
  if (next_ != nullptr) let_go(std::move(next_));
}

void Generation::retire(std::vector<Extent> freed, MetaBatch garbage, std::shared_ptr<Generation> next) {
  freed_ = std::move(freed);
  garbage_ = std::move(garbage);
  next_ = std::move(next);
}

}  // namespace leap

#include "fsal/posix-door/answered_nodes.h"

namespace filer::posix_door {

AnsweredNodes::~AnsweredNodes() {
  {
    const MutexLock lock(mutex_);
    is_stopping_ = true;
    changed_.NotifyAll();
  }
  releaser_.join();
  for (const auto& [inode, answered] : nodes_) engine_.Release(answered.node);
}

bool AnsweredNodes::Hold(engine::NodeId node) {
  {
    const MutexLock lock(mutex_);
    const auto at = nodes_.find(node.inode);
    if (at != nodes_.end()) {
      ++at->second.count;
      at->second.tick = tick_;
      return true;
    }
    if (nodes_.size() >= kNodesMax) return true;
  }
  const auto held = engine_.Hold(node);
  if (!held.has_value()) return held.error() != Errc::kStaleHandle;
  bool is_new = false;
  {
    const MutexLock lock(mutex_);
    const auto [at, is_inserted] = nodes_.try_emplace(node.inode, Answered{node, 0, 0});
    ++at->second.count;
    at->second.tick = tick_;
    is_new = is_inserted;
    if (nodes_.size() == 1) changed_.NotifyAll();
  }
  if (!is_new) engine_.Release(node);
  return true;
}

void AnsweredNodes::Forget(engine::NodeId node, std::uint64_t count) {
  {
    const MutexLock lock(mutex_);
    const auto at = nodes_.find(node.inode);
    if (at == nodes_.end()) return;
    if (at->second.count > count) {  // others are on their way to the kernel
      at->second.count -= count;
      return;
    }
    nodes_.erase(at);
  }
  engine_.Release(node);
}

std::vector<engine::NodeId> AnsweredNodes::TakeOlderThan(std::uint64_t tick) {
  std::vector<engine::NodeId> old;
  for (auto at = nodes_.begin(); at != nodes_.end();) {
    if (at->second.tick < tick) {
      old.push_back(at->second.node);
      at = nodes_.erase(at);
    } else {
      ++at;
    }
  }
  return old;
}

void AnsweredNodes::Run() {
  engine::SetDoor(engine::kDoorPosix);
  using Clock = std::chrono::steady_clock;
  Clock::time_point next_tick = Clock::now();
  MutexLock lock(mutex_);
  while (!is_stopping_) {
    if (nodes_.empty()) {
      changed_.Wait(lock);
      next_tick = Clock::now() + kTick;
      continue;
    }
    const auto left = next_tick - Clock::now();
    if (left > left.zero()) {
      changed_.WaitFor(lock, left);
      continue;
    }
    next_tick += kTick;
    ++tick_;
    const auto old = TakeOlderThan(tick_ - kTicksHeld);
    lock.Unlock();
    for (const engine::NodeId node : old) engine_.Release(node);
    lock.Lock();
  }
}

}  // namespace filer::posix_door

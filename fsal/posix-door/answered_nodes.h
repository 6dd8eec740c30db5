// answered_nodes.h: files that a lookup has just answered live on for a moment.
//
// A program's open(2) is a LOOKUP and then an OPEN. When another file is renamed over the name in
// between, POSIX promises the program the old file; the engine would have reclaimed it, and the
// kernel looks a path up only once more after ESTALE. So what a lookup answered is held in the
// engine (Hold) until the kernel forgets it, which it does at once for what is removed through this
// mount, or for kHoldTime. After that, space that another door freed is free: the kernel remembers
// inodes for as long as it has memory, so its FORGET alone would be too late.
//
// Threads: any. No call waits for another one's work in the engine. Errors: none; what cannot be
// held is answered as before.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/thread_annotations.h"
#include "fsal/engine/engine.h"

namespace filer::posix_door {

class AnsweredNodes {
 public:
  // Since the last lookup of the node; up to half as much again.
  static constexpr std::chrono::milliseconds kHoldTime{2000};
  // Nodes that are held pin memory of the engine. Beyond, lookups hold nothing.
  static constexpr std::size_t kNodesMax = 1 << 16;

  // The engine must outlive it.
  explicit AnsweredNodes(engine::Engine& engine) : engine_(engine) {}
  ~AnsweredNodes();
  AnsweredNodes(const AnsweredNodes&) = delete;
  AnsweredNodes& operator=(const AnsweredNodes&) = delete;

  // False: the node has gone since it was found, and is to be looked up again.
  bool Hold(engine::NodeId node);
  // The kernel gives back what `count` answers gave it.
  void Forget(engine::NodeId node, std::uint64_t count);

 private:
  struct Answered {
    engine::NodeId node;
    std::uint64_t count = 0;  // answers
    std::uint64_t tick = 0;   // of the last one
  };
  static constexpr std::uint64_t kTicksHeld = 2;
  static constexpr std::chrono::milliseconds kTick = kHoldTime / kTicksHeld;

  void Run();
  std::vector<engine::NodeId> TakeOlderThan(std::uint64_t tick) FILER_REQUIRES(mutex_);

  engine::Engine& engine_;
  Mutex mutex_;
  CondVar changed_;
  std::unordered_map<std::uint64_t, Answered> nodes_ FILER_GUARDED_BY(mutex_);  // by inode
  std::uint64_t tick_ FILER_GUARDED_BY(mutex_) = kTicksHeld;
  bool is_stopping_ FILER_GUARDED_BY(mutex_) = false;
  std::thread releaser_{[this] { Run(); }};  // last: uses the others
};

}  // namespace filer::posix_door

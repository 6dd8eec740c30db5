// lock_table.h: byte-range locks of all doors, in memory. POSIX: an owner's new lock replaces what
// it had in the range, splitting what sticks out; adjacent ranges of one kind merge; unlocking
// cuts. Never waits. Threads: any; watchers are called without locks.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "fsal/engine/engine.h"

namespace filer::engine {

class LockTable {
 public:
  // kInvalidArgument: offset + length passes 2^64.
  Result<std::optional<LockConflict>> Lock(NodeId node, std::string_view owner,
                                           const LockRange& range);
  Result<std::optional<LockConflict>> Test(NodeId node, std::string_view owner,
                                           const LockRange& range) const;
  Result<void> Unlock(NodeId node, std::string_view owner, std::uint64_t offset_bytes,
                      std::uint64_t length_bytes);
  void UnlockAll(NodeId node, std::string_view owner);
  std::uint64_t Watch(NodeId node, std::function<void()> wake);
  void CancelWatch(std::uint64_t registration);

 private:
  struct Held {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  // inclusive; UINT64_MAX: to the end
    LockKind kind = LockKind::kRead;
    std::string owner;
  };
  struct Watcher {
    NodeId node;
    std::shared_ptr<std::function<void()>> wake;
  };
  std::optional<LockConflict> FindConflict(NodeId node, std::string_view owner,
                                           const Held& wanted) const;
  // Cuts [first, last] out of the owner's locks; true if there was something.
  static bool Cut(std::vector<Held>& locks, std::string_view owner, std::uint64_t first,
                  std::uint64_t last);
  static void Merge(std::vector<Held>& locks, Held fresh);
  void Wake(NodeId node);

  mutable std::mutex mutex_;
  std::map<NodeId, std::vector<Held>> locks_;  // by first byte, per node
  std::map<std::uint64_t, Watcher> watchers_;
  std::uint64_t next_registration_ = 1;
};

}  // namespace filer::engine

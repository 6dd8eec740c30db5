#include "fsal/engine/fs/lock_table.h"

#include <algorithm>
#include <memory>

namespace filer::engine {
namespace {

Result<std::uint64_t> LastByte(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (length_bytes == 0) return UINT64_MAX;
  if (length_bytes - 1 > UINT64_MAX - offset_bytes) return Errc::kInvalidArgument;
  return offset_bytes + length_bytes - 1;
}

}  // namespace

std::optional<LockConflict> LockTable::FindConflict(NodeId node, std::string_view owner,
                                                    const Held& wanted) const {
  const auto found = locks_.find(node);
  if (found == locks_.end()) return std::nullopt;
  for (const Held& held : found->second) {
    const bool overlaps = held.first <= wanted.last && wanted.first <= held.last;
    const bool excludes = held.kind == LockKind::kWrite || wanted.kind == LockKind::kWrite;
    if (!overlaps || !excludes || held.owner == owner) continue;
    const std::uint64_t length = held.last == UINT64_MAX ? 0 : held.last - held.first + 1;
    return LockConflict{{held.first, length, held.kind}, held.owner};
  }
  return std::nullopt;
}

bool LockTable::Cut(std::vector<Held>& locks, std::string_view owner, std::uint64_t first,
                    std::uint64_t last) {
  bool was_there = false;
  std::vector<Held> kept;
  for (Held& held : locks) {
    if (held.owner != owner || held.last < first || held.first > last) {
      kept.push_back(std::move(held));
      continue;
    }
    was_there = true;
    if (held.first < first) kept.push_back({held.first, first - 1, held.kind, held.owner});
    if (held.last > last) kept.push_back({last + 1, held.last, held.kind, held.owner});
  }
  locks = std::move(kept);
  return was_there;
}

// Its own range was cut out before. Neighbours of the same owner and kind join it.
void LockTable::Merge(std::vector<Held>& locks, Held fresh) {
  std::erase_if(locks, [&](const Held& held) {
    if (held.owner != fresh.owner || held.kind != fresh.kind) return false;
    if (held.last != UINT64_MAX && held.last + 1 == fresh.first) {
      fresh.first = held.first;
      return true;
    }
    if (fresh.last != UINT64_MAX && fresh.last + 1 == held.first) {
      fresh.last = held.last;
      return true;
    }
    return false;
  });
  const auto at =
      std::upper_bound(locks.begin(), locks.end(), fresh.first,
                       [](std::uint64_t first, const Held& held) { return first < held.first; });
  locks.insert(at, std::move(fresh));
}

Result<std::optional<LockConflict>> LockTable::Lock(NodeId node, std::string_view owner,
                                                    const LockRange& range) {
  Held wanted{range.offset_bytes, 0, range.kind, std::string(owner)};
  wanted.last = FILER_TRY(LastByte(range.offset_bytes, range.length_bytes));
  bool has_released = false;
  {
    const std::lock_guard lock(mutex_);
    auto conflict = FindConflict(node, owner, wanted);
    if (conflict.has_value()) return conflict;
    std::vector<Held>& locks = locks_[node];
    // A write lock that becomes a read lock lets others in.
    has_released = Cut(locks, owner, wanted.first, wanted.last) && range.kind == LockKind::kRead;
    Merge(locks, std::move(wanted));
  }
  if (has_released) Wake(node);
  return std::optional<LockConflict>();
}

Result<std::optional<LockConflict>> LockTable::Test(NodeId node, std::string_view owner,
                                                    const LockRange& range) const {
  Held wanted{range.offset_bytes, 0, range.kind, {}};
  wanted.last = FILER_TRY(LastByte(range.offset_bytes, range.length_bytes));
  const std::lock_guard lock(mutex_);
  return FindConflict(node, owner, wanted);
}

Result<void> LockTable::Unlock(NodeId node, std::string_view owner, std::uint64_t offset_bytes,
                               std::uint64_t length_bytes) {
  const std::uint64_t last = FILER_TRY(LastByte(offset_bytes, length_bytes));
  {
    const std::lock_guard lock(mutex_);
    const auto found = locks_.find(node);
    if (found == locks_.end() || !Cut(found->second, owner, offset_bytes, last)) return Ok();
    if (found->second.empty()) locks_.erase(found);
  }
  Wake(node);
  return Ok();
}

void LockTable::UnlockAll(NodeId node, std::string_view owner) {
  static_cast<void>(Unlock(node, owner, 0, 0));  // the whole range is always valid
}

std::uint64_t LockTable::Watch(NodeId node, std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t registration = next_registration_++;
  watchers_[registration] = {node, std::make_shared<std::function<void()>>(std::move(wake))};
  return registration;
}

void LockTable::CancelWatch(std::uint64_t registration) {
  const std::lock_guard lock(mutex_);
  watchers_.erase(registration);
}

void LockTable::Wake(NodeId node) {
  std::vector<std::shared_ptr<std::function<void()>>> called;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [registration, watcher] : watchers_) {
      if (watcher.node == node) called.push_back(watcher.wake);
    }
  }
  for (const auto& wake : called) (*wake)();
}

}  // namespace filer::engine

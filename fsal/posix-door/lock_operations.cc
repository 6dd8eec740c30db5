// Byte-range locks (fcntl F_SETLK, F_SETLKW, F_GETLK; open file description locks, too), in the
// engine's table, where NFS locks are.
#include <cerrno>
#include <cstring>
#include <string>

#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

constexpr std::string_view kOwnerPrefix = "posix:";

std::string OwnerName(std::uint64_t lock_owner) {
  std::string name(kOwnerPrefix);
  name.append(reinterpret_cast<const char*>(&lock_owner), sizeof(lock_owner));
  return name;
}

void RememberPid(DoorState& state, std::uint64_t lock_owner, pid_t pid) {
  const MutexLock lock(state.owner_mutex);
  if (state.owner_pids.size() >= DoorState::kOwnerPidsMax) state.owner_pids.clear();
  state.owner_pids[lock_owner] = pid;
}

// 0 for owners that came through another door.
pid_t PidOf(DoorState& state, std::string_view owner_name) {
  std::uint64_t lock_owner = 0;
  if (!owner_name.starts_with(kOwnerPrefix) ||
      owner_name.size() != kOwnerPrefix.size() + sizeof(lock_owner)) {
    return 0;
  }
  std::memcpy(&lock_owner, owner_name.data() + kOwnerPrefix.size(), sizeof(lock_owner));
  const MutexLock lock(state.owner_mutex);
  const auto found = state.owner_pids.find(lock_owner);
  return found == state.owner_pids.end() ? 0 : found->second;
}

void GetLock(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info,
             struct flock* wanted) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto range = ToLockRange(*wanted);
    if (!range.has_value()) return ReplyError(request, range.error());
    const auto conflict =
        state.engine.TestLock(state.Node(inode), OwnerName(info->lock_owner), range.value());
    if (!conflict.has_value()) return ReplyError(request, conflict.error());
    struct flock answer = *wanted;
    answer.l_type = F_UNLCK;
    if (conflict.value()) {
      answer = ToFlock(conflict.value()->range, PidOf(state, conflict.value()->owner));
    }
    fuse_reply_lock(request, &answer);
  });
}

void TryToLock(fuse_req_t request, DoorState& state, const LockWaiters::Request& wanted) {
  const auto conflict = state.engine.Lock(wanted.node, wanted.owner, wanted.range);
  if (!conflict.has_value()) return ReplyError(request, conflict.error());
  fuse_reply_err(request, conflict.value() ? EAGAIN : 0);
}

// What an interrupt needs to find the parked request. Lives until the request is answered.
struct Parked {
  LockWaiters* waiters = nullptr;
  std::uint64_t ticket = 0;
};

void Interrupt(fuse_req_t, void* data) noexcept {
  const auto* parked = static_cast<const Parked*>(data);
  parked->waiters->Cancel(parked->ticket);
}

void WaitToLock(fuse_req_t request, DoorState& state, const LockWaiters::Request& wanted) {
  auto parked = std::make_shared<Parked>();
  parked->waiters = &state.waiters;
  const auto answer = [request, parked](Result<void> outcome) {
    // Waits for an interrupt that is being delivered, so that `parked` is not used after this.
    fuse_req_interrupt_func(request, nullptr, nullptr);
    return fuse_reply_err(request, outcome.has_value() ? 0 : ToErrno(outcome.error())) != -ENOENT;
  };
  state.waiters.LockOrWait(wanted, answer, [request, parked](std::uint64_t ticket) {
    parked->ticket = ticket;
    fuse_req_interrupt_func(request, Interrupt, parked.get());
  });
}

void SetLock(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info, struct flock* wanted,
             int may_sleep) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto range = ToLockRange(*wanted);
    if (!range.has_value()) return ReplyError(request, range.error());
    const LockWaiters::Request lock = {
        .node = state.Node(inode), .owner = OwnerName(info->lock_owner), .range = range.value()};
    if (wanted->l_type == F_UNLCK) {
      ReplyStatus(request, state.engine.Unlock(lock.node, lock.owner, lock.range.offset_bytes,
                                               lock.range.length_bytes));
      return;
    }
    RememberPid(state, info->lock_owner, wanted->l_pid);
    if (may_sleep == 0) return TryToLock(request, state, lock);
    WaitToLock(request, state, lock);
  });
}

}  // namespace

void DropPosixLocks(DoorState& state, engine::NodeId node, std::uint64_t lock_owner) {
  state.engine.UnlockAll(node, OwnerName(lock_owner));
}

void AddLockOperations(fuse_lowlevel_ops& operations) {
  operations.getlk = GetLock;
  operations.setlk = SetLock;
}

}  // namespace filer::posix_door

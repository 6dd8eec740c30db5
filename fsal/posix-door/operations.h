// operations.h: the FUSE requests, each answered by one call of the engine on libfuse's thread.
//
// NFS clients change the same files through the same engine. So the kernel keeps names and
// attributes for a moment only and is told of changes (kernel_cache.h), and file data goes past the
// page cache (direct I/O).
// Access by mode bits and POSIX lists is checked by the kernel (mount option default_permissions)
// with the attributes it just asked for, so the engine is called as a trusted caller; what NFSv4
// lists forbid is asked of the engine (access.h). An open file or
// directory is held in the engine (Hold) until its release, so it outlives its last name, and so
// is, for a moment, what a lookup answered (answered_nodes.h). The answer for a node that has gone
// is ESTALE, which makes the kernel look the path up again, once. flock(2) stays with the kernel,
// which keeps those locks among the programs of this mount, as on a local disk, apart from
// byte-range locks (which do reach the engine). Errors: every callback answers exactly once and is
// noexcept.
#pragma once

#include <array>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "base/thread_annotations.h"
#include "fsal/engine/engine.h"
#include "fsal/posix-door/answered_nodes.h"
#include "fsal/posix-door/convert.h"
#include "fsal/posix-door/fuse_api.h"
#include "fsal/posix-door/kernel_cache.h"
#include "fsal/posix-door/lock_waiters.h"

namespace filer::posix_door {

// What all operations share; the session's user data.
struct DoorState {
  DoorState(engine::Engine& of_engine, bool with_page_cache)
      : engine(of_engine),
        root(of_engine.Root()),
        uses_page_cache(with_page_cache),
        waiters(of_engine),
        answered(of_engine) {}

  engine::Engine& engine;
  const engine::NodeId root;
  const bool uses_page_cache;
  LockWaiters waiters;
  KernelCache kernel;
  AnsweredNodes answered;

  // Appends (O_APPEND) take the end of the file from the engine; one at a time per stripe.
  static constexpr std::size_t kAppendStripes = 64;
  std::array<Mutex, kAppendStripes> append_mutexes;

  // For F_GETLK: which process a lock owner was last seen in. Bounded; unknown is 0.
  static constexpr std::size_t kOwnerPidsMax = 4096;
  Mutex owner_mutex;
  std::unordered_map<std::uint64_t, pid_t> owner_pids FILER_GUARDED_BY(owner_mutex);

  engine::NodeId Node(fuse_ino_t inode) const {
    return {.fileset = root.fileset,
            .snapshot = root.snapshot,
            .inode = ToEngineInode(inode, root.inode)};
  }
  // Not of another fileset, nor of a snapshot.
  bool Has(engine::NodeId node) const {
    return node.fileset == root.fileset && node.snapshot == root.snapshot;
  }
  fuse_ino_t Inode(engine::NodeId node) const { return ToFuseInode(node.inode, root.inode); }
};

inline DoorState& StateOf(fuse_req_t request) {
  return *static_cast<DoorState*>(fuse_req_userdata(request));
}

inline engine::Caller CallerOf(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {.uid = context->uid, .gid = context->gid, .groups = {}, .is_trusted = true};
}

inline void ReplyError(fuse_req_t request, const Error& error) {
  fuse_reply_err(request, ToErrno(error));
}

inline void ReplyStatus(fuse_req_t request, const Result<void>& result) {
  if (result.has_value()) {
    fuse_reply_err(request, 0);
  } else {
    ReplyError(request, result.error());
  }
}

// Runs one operation: `body` answers last, so that what it throws is answered here.
template <typename Body>
void Answer(fuse_req_t request, Body&& body) noexcept {
  engine::SetDoor(engine::kDoorPosix);
  try {
    std::forward<Body>(body)(StateOf(request));
  } catch (const std::bad_alloc&) {
    fuse_reply_err(request, ENOMEM);
  } catch (const std::exception& exception) {
    FILER_LOG_ERROR("posix door: {}", exception.what());
    fuse_reply_err(request, EIO);
  }
}

// What the kernel learns of entry `name` of `parent`. `begin`: kernel.Begin(), before the engine
// was asked.
fuse_entry_param ToEntry(DoorState& state, std::uint64_t begin, fuse_ino_t parent, const char* name,
                         const engine::Attributes& attributes);

// Each part enters its callbacks.
void AddNameOperations(fuse_lowlevel_ops& operations);
void AddDirectoryOperations(fuse_lowlevel_ops& operations);
void AddFileOperations(fuse_lowlevel_ops& operations);
void AddAttributeOperations(fuse_lowlevel_ops& operations);
void AddLockOperations(fuse_lowlevel_ops& operations);

// For release and flush: the locks that this owner has on the file.
void DropPosixLocks(DoorState& state, engine::NodeId node, std::uint64_t lock_owner);

}  // namespace filer::posix_door

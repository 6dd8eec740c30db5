// lock_operations.cc: byte-range locks. Ganesha keeps its own list of NFS locks; the engine's table
// is shared with the other doors.
//
// Blocking locks are not waited for here: lock_support_async_block is off, so the core asks for a
// plain lock and NFSv4 clients poll.
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

namespace {

// Unique among all doors while the owner has locks: Ganesha keeps the owner's record in place until
// its last lock is gone.
std::string OwnerOf(const void* owner) {
  std::string bytes = "nfs:";
  bytes.append(reinterpret_cast<const char*>(&owner), sizeof(owner));
  return bytes;
}

void FillConflict(const std::optional<engine::LockConflict>& conflict, fsal_lock_param_t* out) {
  if (out == nullptr) return;
  if (!conflict.has_value()) {
    out->lock_type = FSAL_NO_LOCK;
    out->lock_start = 0;
    out->lock_length = 0;
    return;
  }
  out->lock_type = conflict->range.kind == engine::LockKind::kWrite ? FSAL_LOCK_W : FSAL_LOCK_R;
  out->lock_start = conflict->range.offset_bytes;
  out->lock_length = conflict->range.length_bytes;
}

fsal_status_t Lock(fsal_obj_handle* object, state_t* /*state*/, void* owner,
                   fsal_lock_op_t operation, fsal_lock_param_t* request,
                   fsal_lock_param_t* conflict_out) noexcept {
  return Guarded("lock_op2", [&] {
    engine::LockRange range;
    range.offset_bytes = request->lock_start;
    range.length_bytes = request->lock_length;  // 0: to the end, for both sides
    range.kind =
        request->lock_type == FSAL_LOCK_W ? engine::LockKind::kWrite : engine::LockKind::kRead;
    const std::string owner_bytes = OwnerOf(owner);
    const engine::NodeId node = NodeOf(object);
    switch (operation) {
      case FSAL_OP_UNLOCK:
        FILER_TRY_STATUS(
            TheEngine().Unlock(node, owner_bytes, range.offset_bytes, range.length_bytes));
        return Success();
      case FSAL_OP_CANCEL:
        return Success();  // nothing ever waits here
      case FSAL_OP_LOCK:
      case FSAL_OP_LOCKB:
      case FSAL_OP_LOCKT: {
        if (request->lock_type != FSAL_LOCK_R && request->lock_type != FSAL_LOCK_W) {
          return Status(ERR_FSAL_NOTSUPP);
        }
        const auto conflict = FILER_TRY_STATUS(operation == FSAL_OP_LOCKT
                                                   ? TheEngine().TestLock(node, owner_bytes, range)
                                                   : TheEngine().Lock(node, owner_bytes, range));
        FillConflict(conflict, conflict_out);
        // state_error_convert makes a lock conflict of this (STATE_LOCK_CONFLICT).
        return conflict.has_value() ? Status(ERR_FSAL_DELAY) : Success();
      }
      default:
        return Status(ERR_FSAL_NOTSUPP);
    }
  });
}

}  // namespace

void InstallLockOperations(fsal_obj_ops& operations) noexcept { operations.lock_op2 = Lock; }

}  // namespace filer::ganesha

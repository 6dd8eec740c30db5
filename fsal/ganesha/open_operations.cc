// open_operations.cc: open states. There are no file descriptors here: an open is a share
// reservation in the handle, the flags in the state, and a hold on the node in the engine (NFSv4
// only: an NFSv3 CREATE comes without a state).
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

namespace {

bool IsShareState(const state_t& state) noexcept {
  return state.state_type == STATE_TYPE_SHARE || state.state_type == STATE_TYPE_NLM_SHARE ||
         state.state_type == STATE_TYPE_9P_FID;
}

// Moves the state's reservation from what it has to `wanted`, or changes nothing.
fsal_status_t MoveReservation(fsal_obj_handle* object, OpenState& open, fsal_openflags_t wanted) {
  fsal_share& share = ToHandle(object).share;
  const ObjectLock lock(object);
  // Its own reservation must not be in its way.
  update_share_counters(&share, open.open_flags, FSAL_O_CLOSED);
  const fsal_status_t conflict = check_share_conflict(&share, wanted, false);
  if (!IsError(conflict)) open.open_flags = FSAL_O_NFS_FLAGS(wanted);
  update_share_counters(&share, FSAL_O_CLOSED, open.open_flags);
  return conflict;
}

// Reservation and hold, or nothing.
fsal_status_t Reserve(fsal_obj_handle* object, state_t* state, fsal_openflags_t wanted) {
  OpenState& open = ToOpenState(state);
  if (!open.is_held) FILER_TRY_STATUS(TheEngine().Hold(NodeOf(object)));
  const fsal_status_t status = MoveReservation(object, open, wanted);
  if (IsError(status) && !open.is_held) {
    TheEngine().Release(NodeOf(object));
    return status;
  }
  open.is_held = true;
  return status;
}

void Unreserve(fsal_obj_handle* object, state_t* state) {
  OpenState& open = ToOpenState(state);
  if (IsShareState(*state)) {
    update_share_counters_locked(object, &ToHandle(object).share, open.open_flags, FSAL_O_CLOSED);
  }
  open.open_flags = FSAL_O_CLOSED;
  if (std::exchange(open.is_held, false)) TheEngine().Release(NodeOf(object));
}

fsal_status_t Truncate(fsal_obj_handle* object) {
  // Asked here, because the core asks after the open, when the data would be gone. The owner may:
  // NFSv3 has no open, so a file made with mode 0444 is written by its maker.
  FILER_CHECK_STATUS(CheckAccess(object, Access::kWrite, true));
  engine::AttributeChange change;
  change.size_bytes = 0;
  engine::Caller caller = ToCaller(op_ctx->creds);
  caller.is_trusted = true;
  FILER_TRY_STATUS(TheEngine().SetAttributes(caller, NodeOf(object), change));
  return Success();
}

// The verifier of an exclusive create lies in atime and mtime, as in Ganesha's other file systems.
bool HasVerifier(fsal_obj_handle* object, fsal_verifier_t verifier) {
  return object->obj_ops->check_verifier(object, verifier);
}

bool IsExclusive(fsal_create_mode mode) noexcept {
  return mode == FSAL_EXCLUSIVE || mode == FSAL_EXCLUSIVE_41;
}

// Opens a node that is known: reservation, then what may still fail, undone if it does.
fsal_status_t OpenHandle(fsal_obj_handle* object, state_t* state, fsal_openflags_t flags,
                         fsal_create_mode mode, fsal_verifier_t verifier,
                         fsal_attrlist* attributes_out) {
  if (object->type == DIRECTORY) return Status(ERR_FSAL_ISDIR);
  if (object->type != REGULAR_FILE) return Status(ERR_FSAL_SYMLINK);
  if (IsExclusive(mode) && !HasVerifier(object, verifier)) return Status(ERR_FSAL_EXIST);
  const bool was_closed = state == nullptr || ToOpenState(state).open_flags == FSAL_O_CLOSED;
  if (state != nullptr) FILER_CHECK_STATUS(Reserve(object, state, flags));
  fsal_status_t status = (flags & FSAL_O_TRUNC) != 0 ? Truncate(object) : Success();
  if (!IsError(status) && attributes_out != nullptr) {
    status = object->obj_ops->getattrs(object, attributes_out);
  }
  if (IsError(status) && state != nullptr && was_closed) Unreserve(object, state);
  return status;
}

Result<engine::CreateOptions> ToCreateOptions(const fsal_attrlist* attributes,
                                              fsal_create_mode mode, fsal_verifier_t verifier) {
  engine::CreateOptions options;
  fsal_attrlist settable{};
  if (attributes != nullptr) {
    settable = *attributes;
    settable.valid_mask &= kSettableAttributes;
  }
  if (mode >= FSAL_EXCLUSIVE) {
    set_common_verifier(&settable, verifier, false);
    settable.valid_mask &= ~static_cast<attrmask_t>(ATTR_ATIME_SERVER | ATTR_MTIME_SERVER);
    std::memcpy(options.exclusive_verifier.emplace().data(), verifier, sizeof(fsal_verifier_t));
  }
  options.attributes = FILER_TRY(ToChange(settable));
  // Without a mode (NFSv3 EXCLUSIVE) nobody but the owner, until the client's SETATTR.
  if (!options.attributes.mode.has_value()) options.attributes.mode = 0600;
  return options;
}

struct OpenedByName {
  engine::Attributes node;
  bool is_new = false;
};

Result<OpenedByName> FindOrCreate(fsal_obj_handle* directory, const char* name,
                                  fsal_create_mode mode, const fsal_attrlist* attributes,
                                  fsal_verifier_t verifier) {
  engine::Engine& engine = TheEngine();
  if (mode == FSAL_NO_CREATE)
    return OpenedByName{FILER_TRY(engine.Lookup(NodeOf(directory), name))};
  if (IsError(CheckAccess(directory, Access::kAdd))) {
    // Opening what is there needs no right to make it.
    auto found = engine.Lookup(NodeOf(directory), name);
    if (!found.has_value() || mode != FSAL_UNCHECKED) return Error(Errc::kAccessDenied);
    return OpenedByName{found.assume_value()};
  }
  const auto options = FILER_TRY(ToCreateOptions(attributes, mode, verifier));
  auto created = engine.Create(ToCaller(op_ctx->creds), NodeOf(directory), name, options);
  if (created.has_value()) {
    return OpenedByName{created.assume_value().node, !created.assume_value().existed};
  }
  if (created.assume_error() == Errc::kExists && mode == FSAL_UNCHECKED) {
    return OpenedByName{FILER_TRY(engine.Lookup(NodeOf(directory), name))};
  }
  return std::move(created).assume_error();
}

fsal_status_t OpenByName(fsal_obj_handle* directory, state_t* state, fsal_openflags_t flags,
                         fsal_create_mode mode, const char* name, const fsal_attrlist* attributes,
                         fsal_verifier_t verifier, fsal_obj_handle** handle_out,
                         fsal_attrlist* attributes_out, bool* is_check_needed) {
  if (directory->type != DIRECTORY) return Status(ERR_FSAL_NOTDIR);
  const auto opened = FILER_TRY_STATUS(FindOrCreate(directory, name, mode, attributes, verifier));
  if (opened.is_new) flags &= static_cast<fsal_openflags_t>(~FSAL_O_TRUNC);
  fsal_obj_handle* object = MakeHandle(opened.node);
  // What FindOrCreate answered for an exclusive create is ours by its verifier already.
  const auto open_mode = opened.is_new || IsExclusive(mode) ? FSAL_NO_CREATE : mode;
  const fsal_status_t status =
      OpenHandle(object, state, flags, open_mode, verifier, attributes_out);
  if (IsError(status)) {
    object->obj_ops->release(object);
    return status;
  }
  *handle_out = object;
  *is_check_needed = !opened.is_new;
  return Success();
}

fsal_status_t Open(fsal_obj_handle* object, state_t* state, fsal_openflags_t flags,
                   fsal_create_mode mode, const char* name, fsal_attrlist* attributes,
                   fsal_verifier_t verifier, fsal_obj_handle** handle_out,
                   fsal_attrlist* attributes_out, bool* is_check_needed,
                   fsal_attrlist* /*parent_before*/, fsal_attrlist* /*parent_after*/) noexcept {
  return Guarded("open2", [&] {
    if (name != nullptr) {
      return OpenByName(object, state, flags, mode, name, attributes, verifier, handle_out,
                        attributes_out, is_check_needed);
    }
    FILER_CHECK_STATUS(OpenHandle(object, state, flags, mode, verifier, attributes_out));
    *is_check_needed = true;
    return Success();
  });
}

fsal_status_t Reopen(fsal_obj_handle* object, state_t* state, fsal_openflags_t flags) noexcept {
  return Guarded("reopen2", [&] {
    return OpenHandle(object, state, flags, FSAL_NO_CREATE, nullptr, nullptr);
  });
}

fsal_openflags_t OpenFlags(fsal_obj_handle* /*object*/, state_t* state) noexcept {
  return state == nullptr ? static_cast<fsal_openflags_t>(FSAL_O_CLOSED)
                          : ToOpenState(state).open_flags;
}

// There is no descriptor outside states.
fsal_status_t Close(fsal_obj_handle* /*object*/) noexcept { return Status(ERR_FSAL_NOT_OPENED); }

fsal_status_t CloseState(fsal_obj_handle* object, state_t* state) noexcept {
  return Guarded("close2", [&] {
    Unreserve(object, state);
    return Success();
  });
}

void FreeState(state_t* state) noexcept { delete &ToOpenState(state); }

}  // namespace

state_t* AllocateState(fsal_export* /*base*/, state_type type, state_t* related) noexcept {
  auto* open = new OpenState{};
  return init_state(&open->state, FreeState, type, related);
}

void InstallOpenOperations(fsal_obj_ops& operations) noexcept {
  operations.open2 = Open;
  operations.reopen2 = Reopen;
  operations.status2 = OpenFlags;
  operations.close = Close;
  operations.close2 = CloseState;
}

}  // namespace filer::ganesha

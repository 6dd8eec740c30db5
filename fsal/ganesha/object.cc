// object.cc: making, naming and freeing object handles.
#include "fsal/ganesha/object.h"

#include <algorithm>

#include "fsal/ganesha/acl.h"
#include "fsal/ganesha/attributes.h"

namespace filer::ganesha {

fsal_obj_ops& HandleOperations() noexcept {
  static fsal_obj_ops operations;
  return operations;
}

fsal_obj_handle* MakeHandle(const engine::Attributes& node) {
  auto* handle = new NodeHandle{};
  handle->key = ToKey(node.id);
  handle->generation = node.generation;
  handle->object.fsid.major = node.fsid;
  handle->object.fsid.minor = 0;
  handle->object.fileid = node.id.inode;
  handle->object.obj_ops = &HandleOperations();
  fsal_obj_handle_init(&handle->object, op_ctx->fsal_export, ToFileType(node.kind), true);
  return &handle->object;
}

fsal_status_t ReturnHandle(const engine::Attributes& node, fsal_obj_handle** handle_out,
                           fsal_attrlist* attributes_out) {
  if (attributes_out != nullptr) FILER_TRY_STATUS(FillAll(node, *attributes_out));
  *handle_out = MakeHandle(node);
  return Success();
}

Result<void> FillAll(const engine::Attributes& node, fsal_attrlist& out) {
  FillAttributes(node, out);
  if ((out.request_mask & ATTR_ACL) == 0) return Ok();
  engine::Acl acl;
  if (node.acl != engine::AclKind::kNone) acl = FILER_TRY(TheEngine().GetAcl(node.id));
  // Also where there is none: MDCACHE keeps the list that it had until it gets another one, and
  // would obey one that is gone. ToNfs4 takes what a POSIX list does not say from the mode.
  if (acl.kind == engine::AclKind::kNone) acl.kind = engine::AclKind::kPosix;
  acl = engine::ToNfs4(acl, node.mode, node.kind == engine::NodeKind::kDirectory);
  const std::vector<fsal_ace_t> entries = ToFsalAces(acl);
  out.valid_mask |= ATTR_ACL;
  fsal_acl_data_t data{};
  data.naces = static_cast<std::uint32_t>(entries.size());
  data.aces = nfs4_ace_alloc(static_cast<int>(entries.size()));
  if (data.aces == nullptr) return Errc::kNoMemory;
  std::copy(entries.begin(), entries.end(), data.aces);
  fsal_acl_status_t status = 0;
  out.acl = nfs4_acl_new_entry(&data, &status);  // takes the entries; lists alike are one
  return out.acl == nullptr ? Result<void>(Errc::kNoMemory) : Result<void>(Ok());
}

fsal_status_t CheckAccess(fsal_obj_handle* object, Access access, bool is_owner_allowed) {
  std::uint32_t rights = 0;
  switch (access) {
    case Access::kRead:
      rights = engine::kAceReadData;
      break;
    case Access::kWrite:
      rights = engine::kAceWriteData;
      break;
    case Access::kAdd:
      rights = engine::kAceWriteData | engine::kAceExecute;
      break;
    case Access::kAddDirectory:
      rights = engine::kAceAppendData | engine::kAceExecute;
      break;
  }
  const engine::NodeId node = NodeOf(object);
  const engine::Caller caller = ToCaller(op_ctx->creds);
  if (is_owner_allowed) {
    const auto attributes = FILER_TRY_STATUS(TheEngine().GetAttributes(node));
    if (attributes.uid == caller.uid) return Success();
  }
  FILER_TRY_STATUS(TheEngine().Access(caller, node, rights));
  return Success();
}

fsal_status_t CheckRemoval(fsal_obj_handle* directory, const char* name) {
  const auto node = TheEngine().Lookup(NodeOf(directory), name);
  if (!node.has_value()) return Success();
  FILER_TRY_STATUS(TheEngine().AccessToRemove(ToCaller(op_ctx->creds), NodeOf(directory),
                                              node.assume_value().id));
  return Success();
}

namespace {

void Release(fsal_obj_handle* object) noexcept {
  NodeHandle* handle = &ToHandle(object);
  fsal_obj_handle_fini(object, true);
  delete handle;
}

// Ganesha made a second handle for a cached node; its share reservations move to the first.
fsal_status_t Merge(fsal_obj_handle* original, fsal_obj_handle* duplicate) noexcept {
  if (original == duplicate || original->type != REGULAR_FILE || duplicate->type != REGULAR_FILE) {
    return Success();
  }
  return merge_share(original, &ToHandle(original).share, &ToHandle(duplicate).share);
}

fsal_status_t HandleToWire(const fsal_obj_handle* object, fsal_digesttype_t type,
                           gsh_buffdesc* bytes_out) noexcept {
  return Guarded("handle_to_wire", [&] {
    if (type != FSAL_DIGEST_NFSV3 && type != FSAL_DIGEST_NFSV4) return Status(ERR_FSAL_SERVERFAULT);
    if (bytes_out->len < engine::kHandleBytes) return Status(ERR_FSAL_TOOSMALL);
    const NodeHandle& handle = ToHandle(object);
    const auto bytes =
        ToWire(TheEngine(), {handle.key, handle.generation}, ToExport(op_ctx->fsal_export).id);
    std::memcpy(bytes_out->addr, bytes.data(), bytes.size());
    bytes_out->len = bytes.size();
    return Success();
  });
}

void HandleToKey(fsal_obj_handle* object, gsh_buffdesc* key_out) noexcept {
  key_out->addr = &ToHandle(object).key;
  key_out->len = sizeof(NodeKey);
}

}  // namespace

void InstallHandleOperations(fsal_obj_ops& operations) noexcept {
  operations.release = Release;
  operations.merge = Merge;
  operations.handle_to_wire = HandleToWire;
  operations.handle_to_key = HandleToKey;
}

}  // namespace filer::ganesha

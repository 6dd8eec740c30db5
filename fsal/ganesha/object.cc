// object.cc: making, naming and freeing object handles.
#include "fsal/ganesha/object.h"

#include <algorithm>

#include "fsal/ganesha/attributes.h"

namespace filer::ganesha {

fsal_obj_ops& HandleOperations() noexcept {
  static fsal_obj_ops operations;
  return operations;
}

fsal_obj_handle* MakeHandle(const engine::Attributes& node, fsal_attrlist* attributes_out) {
  auto* handle = new NodeHandle{};
  handle->key = ToKey(node.id);
  handle->generation = node.generation;
  handle->object.fsid.major = node.fsid;
  handle->object.fsid.minor = 0;
  handle->object.fileid = node.id.inode;
  handle->object.obj_ops = &HandleOperations();
  fsal_obj_handle_init(&handle->object, op_ctx->fsal_export, ToFileType(node.kind), true);
  if (attributes_out != nullptr) FillAttributes(node, *attributes_out);
  return &handle->object;
}

fsal_status_t ReturnHandle(const engine::Attributes& node, fsal_obj_handle** handle_out,
                           fsal_attrlist* attributes_out) {
  *handle_out = MakeHandle(node, attributes_out);
  return Success();
}

fsal_status_t CheckAccess(fsal_obj_handle* object, Access access, bool is_owner_allowed) {
  std::uint32_t wanted = 0;
  switch (access) {
    case Access::kRead:
      wanted = FSAL_R_OK;
      break;
    case Access::kWrite:
      wanted = FSAL_W_OK;
      break;
    case Access::kExecute:
      wanted = FSAL_X_OK;
      break;
    case Access::kChangeDirectory:
      wanted = FSAL_W_OK | FSAL_X_OK;
      break;
  }
  return fsal_test_access(object, static_cast<fsal_accessflags_t>(wanted), nullptr, nullptr,
                          is_owner_allowed);
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

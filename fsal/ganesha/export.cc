// export.cc: an EXPORT block: a directory inside the volume, with an id that is part of every
// handle given out under it.
#include "fsal/engine-control/volume_path.h"
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/change_listener.h"
#include "fsal/ganesha/object.h"
#include "fsal/ganesha/quotas.h"

#include "base/clock.h"
#include "base/log.h"

namespace filer::ganesha {

namespace {

std::span<const std::uint8_t> BytesOf(const gsh_buffdesc& bytes) {
  return {static_cast<const std::uint8_t*>(bytes.addr), bytes.len};
}

// Before the export goes: no up-call may use it from here on.
void PrepareUnexport(fsal_export* base) noexcept { RemoveUpcallExport(ToExport(base)); }

void ReleaseExport(fsal_export* base) noexcept {
  Export* exported = &ToExport(base);
  RemoveUpcallExport(*exported);
  EngineHost::Instance().ForgetExport(exported->id);
  fsal_detach_export(base->fsal, &base->exports);
  free_export_ops(base);
  delete exported;
}

fsal_status_t LookupPath(fsal_export* base, const char* path, fsal_obj_handle** handle_out,
                         fsal_attrlist* attributes_out) noexcept {
  return Guarded("lookup_path", [&] {
    *handle_out = nullptr;
    const Export& exported = ToExport(base);
    const bool is_root = exported.path == path;
    const auto node = FILER_TRY_STATUS(is_root ? TheEngine().GetAttributes(ToNodeId(exported.root))
                                               : control::FindDirectory(TheEngine(), path));
    return ReturnHandle(node, handle_out, attributes_out);
  });
}

// Wire and host handles are the same bytes: what a client sent is verified here, once.
fsal_status_t WireToHost(fsal_export* base, fsal_digesttype_t /*type*/, gsh_buffdesc* bytes,
                         int /*flags*/) noexcept {
  return Guarded("wire_to_host", [&] {
    FILER_TRY_STATUS(FromWire(TheEngine(), BytesOf(*bytes), ToExport(base).id));
    return Success();
  });
}

fsal_status_t HostToKey(fsal_export* /*base*/, gsh_buffdesc* bytes) noexcept {
  return Guarded("host_to_key", [&] {
    const auto handle = FILER_TRY_STATUS(FromHost(TheEngine(), BytesOf(*bytes)));
    std::memcpy(bytes->addr, &handle.key, sizeof(handle.key));
    bytes->len = sizeof(handle.key);
    return Success();
  });
}

fsal_status_t CreateHandle(fsal_export* /*base*/, gsh_buffdesc* bytes, fsal_obj_handle** handle_out,
                           fsal_attrlist* attributes_out) noexcept {
  return Guarded("create_handle", [&] {
    *handle_out = nullptr;
    const auto handle = FILER_TRY_STATUS(FromHost(TheEngine(), BytesOf(*bytes)));
    const auto node = FILER_TRY_STATUS(TheEngine().GetAttributes(ToNodeId(handle.key)));
    if (node.generation != handle.generation) return Status(ERR_FSAL_STALE);
    return ReturnHandle(node, handle_out, attributes_out);
  });
}

fsal_status_t GetDynamicInfo(fsal_export* /*base*/, fsal_obj_handle* object,
                             fsal_dynamicfsinfo_t* info) noexcept {
  return Guarded("get_fs_dynamic_info", [&] {
    const auto status = FILER_TRY_STATUS(
        TheEngine().GetStatus(object == nullptr ? engine::NodeId{} : NodeOf(object)));
    *info = {};
    info->total_bytes = status.total_bytes;
    info->free_bytes = status.free_bytes;
    info->avail_bytes = status.available_bytes;
    info->total_files = status.total_nodes;
    info->free_files = status.free_nodes;
    info->avail_files = status.free_nodes;
    info->time_delta.tv_nsec = 1;
    return Success();
  });
}

// The volume's quotas, whatever directory of it the export is.
fsal_status_t GetQuota(fsal_export* /*base*/, const char* /*path*/, int type, int id,
                       fsal_quota_t* quota) noexcept {
  return Guarded("get_quota", [&] {
    const auto kind = ToQuotaKind(type);
    const auto number = static_cast<std::uint32_t>(id);
    if (!kind) return Status(ERR_FSAL_NO_QUOTA);
    if (!MayAskAbout(ToCaller(op_ctx->creds), *kind, number)) return Status(ERR_FSAL_PERM);
    const auto found = FILER_TRY_STATUS(TheEngine().GetQuota(*kind, number));
    *quota = ToFsalQuota(found, SystemClock().RealtimeNs());
    return Success();
  });
}

fsal_status_t SetQuota(fsal_export* base, const char* path, int type, int id, fsal_quota_t* quota,
                       fsal_quota_t* set) noexcept {
  return Guarded("set_quota", [&] {
    const auto kind = ToQuotaKind(type);
    if (!kind) return Status(ERR_FSAL_NO_QUOTA);
    FILER_TRY_STATUS(TheEngine().SetQuota(ToCaller(op_ctx->creds), *kind,
                                          static_cast<std::uint32_t>(id), ToQuotaLimits(*quota)));
    if (set == nullptr) return Success();
    return GetQuota(base, path, type, id, set);
  });
}

void GetWriteVerifier(fsal_export* /*base*/, gsh_buffdesc* verifier_out) noexcept {
  (void)Guarded("get_write_verifier", [&] {
    const engine::WriteVerifier verifier = TheEngine().Verifier();
    std::memcpy(verifier_out->addr, verifier.data(), std::min(verifier_out->len, verifier.size()));
    return Success();
  });
}

Result<Export*> NewExport(fsal_module* module, std::uint16_t id, const std::string& path) {
  EngineHost& host = EngineHost::Instance();
  if (host.engine() == nullptr) {
    return Error(Errc::kNotRunning, "no volume: " + host.error());
  }
  const auto root = FILER_TRY(control::FindDirectory(*host.engine(), path));
  auto exported = std::make_unique<Export>();
  exported->id = id;
  exported->path = path;
  exported->root = ToKey(root.id);
  fsal_export_init(&exported->base);
  InstallExportOperations(exported->base.exp_ops);
  if (const int error = fsal_attach_export(module, &exported->base.exports); error != 0) {
    free_export_ops(&exported->base);
    return Error::System(error, "fsal_attach_export");
  }
  exported->base.fsal = module;
  return exported.release();
}

}  // namespace

void InstallExportOperations(export_ops& operations) noexcept {
  operations.prepare_unexport = PrepareUnexport;
  operations.release = ReleaseExport;
  operations.lookup_path = LookupPath;
  operations.wire_to_host = WireToHost;
  operations.host_to_key = HostToKey;
  operations.create_handle = CreateHandle;
  operations.get_fs_dynamic_info = GetDynamicInfo;
  operations.get_quota = GetQuota;
  operations.set_quota = SetQuota;
  operations.get_write_verifier = GetWriteVerifier;
  operations.alloc_state = AllocateState;
}

fsal_status_t CreateExport(fsal_module* module, void* parse_node, config_error_type* errors,
                           const fsal_up_vector* up_operations) noexcept {
  return Guarded("create_export", [&] {
    const std::string path = CTX_FULLPATH(op_ctx);
    const std::uint16_t id = op_ctx->ctx_export->export_id;
    if (!nearmetal_check_export_block(parse_node, errors)) return Status(ERR_FSAL_INVAL);
    auto exported = NewExport(module, id, path);
    if (!exported.has_value()) {
      const std::string message = exported.assume_error().message();
      FILER_LOG_ERROR("export {} ({}) is not served: {}", id, path, message);
      EngineHost::Instance().RecordExport(id, path, message);
      return ToStatus(exported.assume_error());
    }
    exported.assume_value()->base.up_ops = up_operations;
    op_ctx->fsal_export = &exported.assume_value()->base;
    AddUpcallExport(*exported.assume_value(), up_operations);
    EngineHost::Instance().RecordExport(id, path, "");
    return Success();
  });
}

}  // namespace filer::ganesha

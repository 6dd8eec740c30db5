// module.cc: the plug-in as Ganesha loads it: registration, static abilities, configuration, end.
//
// Order of a server's life: dlopen -> Init (a constructor; runs before this library's own static
// initialisers, so nothing here may rely on them) -> init_config -> create_export... -> shutdown:
// exports released -> unload. The end is hung on `unload`, not on a destructor: only there all
// exports and handles are gone and all of C++ is still alive. The library is linked with -z
// nodelete, because EAL's threads and thread-local data must stay mapped.
#include "base/log.h"
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/change_listener.h"
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

namespace {

constexpr std::uint64_t kTransferBytesMax = 1 << 20;  // what the engine answers at full speed

fsal_module& Module() noexcept {
  static fsal_module module;
  return module;
}

int (*default_unload)(fsal_module* module);

void SetAbilities(fsal_staticfsinfo_t& info) noexcept {
  info.maxfilesize = engine::kFileBytesMax;
  info.maxlink = engine::kLinksMax;
  info.maxnamelen = engine::kNameBytesMax;
  info.maxpathlen = MAXPATHLEN;
  info.no_trunc = true;
  info.chown_restricted = true;
  info.case_preserving = true;
  info.link_support = true;
  info.symlink_support = true;
  info.lock_support = true;
  info.unique_handles = true;
  info.cansettime = true;
  info.homogenous = true;
  info.supported_attrs = kSupportedAttributes;
  info.acl_support = FSAL_ACLSUPPORT_ALLOW | FSAL_ACLSUPPORT_DENY;
  info.maxread = kTransferBytesMax;
  info.maxwrite = kTransferBytesMax;
  info.readdir_plus = true;
  info.compliant_eof_behavior = true;
  info.xattr_support = true;
  info.allocate_own_read_buffer = true;
  info.expire_time_parent = -1;
}

fsal_status_t InitConfig(fsal_module* /*module*/, config_file_t file,
                         config_error_type* errors) noexcept {
  return Guarded("init_config", [&] {
    UseGaneshaLog();
    static nearmetal_config config;  // its strings stay Ganesha's
    if (!nearmetal_read_config(file, &config, errors)) return Status(ERR_FSAL_INVAL);
    const auto started = EngineHost::Instance().Start(config);
    if (!started.has_value()) {
      FILER_LOG_ERROR("NEARMETAL: {}", started.assume_error().message());
      return Status(ERR_FSAL_BAD_INIT);
    }
    ListenForChanges(TheEngine());
    return Success();
  });
}

int Unload(fsal_module* module) noexcept {
  EngineHost::Instance().Stop();
  const int result = default_unload(module);
  if (result == 0) (void)unregister_fsal(module);
  return result;
}

__attribute__((constructor)) void Init() noexcept {
  fsal_module& module = Module();
  SetAbilities(module.fs_info);
  if (register_fsal(&module, "NEARMETAL", FSAL_MAJOR_VERSION, FSAL_MINOR_VERSION,
                    FSAL_ID_NO_PNFS) != 0) {
    nearmetal_log(NEARMETAL_ERROR, "the NEARMETAL module could not be registered");
    return;
  }
  default_unload = module.m_ops.unload;
  module.m_ops.unload = Unload;
  module.m_ops.init_config = InitConfig;
  module.m_ops.create_export = CreateExport;

  fsal_obj_ops& operations = HandleOperations();
  fsal_default_obj_ops_init(&operations);
  InstallHandleOperations(operations);
  InstallDirectoryOperations(operations);
  InstallAttributeOperations(operations);
  InstallOpenOperations(operations);
  InstallDataOperations(operations);
  InstallLockOperations(operations);
}

}  // namespace

}  // namespace filer::ganesha

// directory_operations.cc: names. Ganesha's core checks what it can check before; whether the
// caller may change a directory is left to us.
#include "fsal/engine/filesets.h"
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

namespace {

fsal_status_t Lookup(fsal_obj_handle* directory, const char* name, fsal_obj_handle** handle_out,
                     fsal_attrlist* attributes_out) noexcept {
  return Guarded("lookup", [&] {
    const std::string_view wanted = name;
    *handle_out = nullptr;
    if (directory->type != DIRECTORY) return Status(ERR_FSAL_NOTDIR);
    if (wanted == "..") {
      // The parent of an export's root is not in the export.
      const engine::NodeId node = NodeOf(directory);
      const engine::NodeId root = ToNodeId(ToExport(op_ctx->fsal_export).root);
      if (node == root) return Status(ERR_FSAL_NOENT);
      // Nor is that of the root as it was at a snapshot.
      const bool is_snapshot_of_root = node.fileset == root.fileset && node.inode == root.inode &&
                                       node.snapshot != engine::kSnapshotsFolder;
      if (is_snapshot_of_root) {
        return ReturnHandle(
            FILER_TRY_STATUS(TheEngine().GetAttributes(engine::SnapshotsFolderOf(node))),
            handle_out, attributes_out);
      }
      return ReturnHandle(FILER_TRY_STATUS(TheEngine().LookupParent(NodeOf(directory))), handle_out,
                          attributes_out);
    }
    if (wanted == ".") {
      return ReturnHandle(FILER_TRY_STATUS(TheEngine().GetAttributes(NodeOf(directory))),
                          handle_out, attributes_out);
    }
    return ReturnHandle(FILER_TRY_STATUS(TheEngine().Lookup(NodeOf(directory), wanted)), handle_out,
                        attributes_out);
  });
}

// Hands entries after `whence` to MDCACHE until it has enough. The callback takes over each handle.
fsal_status_t ReadDirectory(fsal_obj_handle* directory, fsal_cookie_t* whence, void* state,
                            fsal_readdir_cb callback, attrmask_t wanted, bool* is_end) noexcept {
  return Guarded("readdir", [&] {
    if (directory->type != DIRECTORY) return Status(ERR_FSAL_NOTDIR);
    *is_end = false;
    fsal_status_t status = Success();
    const auto visit = [&](const engine::DirectoryEntry& entry) {
      const auto node = TheEngine().GetAttributes(entry.id);
      if (!node.has_value()) {
        if (node.assume_error() == Errc::kStaleHandle) return true;  // removed since it was listed
        status = ToStatus(node.assume_error());
        return false;
      }
      fsal_attrlist attributes;
      fsal_prepare_attrs(&attributes, wanted);
      if (const auto filled = FillAll(node.assume_value(), attributes); !filled.has_value()) {
        status = ToStatus(filled.assume_error());
        return false;
      }
      fsal_obj_handle* handle = MakeHandle(node.assume_value());
      const fsal_dir_result result =
          callback(entry.name.c_str(), handle, &attributes, state, entry.cookie);
      fsal_release_attrs(&attributes);
      return result < DIR_READAHEAD;
    };
    const bool reached_end = FILER_TRY_STATUS(
        TheEngine().ReadDirectory(NodeOf(directory), whence == nullptr ? 0 : *whence, visit));
    *is_end = reached_end && !IsError(status);
    return status;
  });
}

// Common end of mkdir, mknode and symlink.
fsal_status_t CreateNode(fsal_obj_handle* directory, const char* name,
                         const fsal_attrlist* attributes, engine::CreateOptions options,
                         fsal_obj_handle** handle_out, fsal_attrlist* attributes_out) {
  *handle_out = nullptr;
  if (directory->type != DIRECTORY) return Status(ERR_FSAL_NOTDIR);
  const bool is_directory = options.kind == engine::NodeKind::kDirectory;
  FILER_CHECK_STATUS(CheckAccess(directory, is_directory ? Access::kAddDirectory : Access::kAdd));
  if (attributes != nullptr) {
    fsal_attrlist settable = *attributes;
    settable.valid_mask &= kSettableAttributes & ~static_cast<attrmask_t>(ATTR_SIZE);
    options.attributes = FILER_TRY_STATUS(ToChange(settable));
  }
  const auto created = FILER_TRY_STATUS(
      TheEngine().Create(ToCaller(op_ctx->creds), NodeOf(directory), name, options));
  return ReturnHandle(created.node, handle_out, attributes_out);
}

fsal_status_t MakeDirectory(fsal_obj_handle* directory, const char* name, fsal_attrlist* attributes,
                            fsal_obj_handle** handle_out, fsal_attrlist* attributes_out,
                            fsal_attrlist* /*parent_before*/,
                            fsal_attrlist* /*parent_after*/) noexcept {
  return Guarded("mkdir", [&] {
    engine::CreateOptions options;
    options.kind = engine::NodeKind::kDirectory;
    return CreateNode(directory, name, attributes, options, handle_out, attributes_out);
  });
}

fsal_status_t MakeNode(fsal_obj_handle* directory, const char* name, object_file_type_t type,
                       fsal_attrlist* attributes, fsal_obj_handle** handle_out,
                       fsal_attrlist* attributes_out, fsal_attrlist* /*parent_before*/,
                       fsal_attrlist* /*parent_after*/) noexcept {
  return Guarded("mknode", [&] {
    const auto kind = ToNodeKind(type);
    if (!kind.has_value() || *kind == engine::NodeKind::kDirectory ||
        *kind == engine::NodeKind::kSymlink) {
      return Status(ERR_FSAL_INVAL);
    }
    engine::CreateOptions options;
    options.kind = *kind;
    if (type == BLOCK_FILE || type == CHARACTER_FILE) {
      if (attributes == nullptr || (attributes->valid_mask & ATTR_RAWDEV) == 0) {
        return Status(ERR_FSAL_INVAL);
      }
      options.device_major = static_cast<std::uint32_t>(attributes->rawdev.major);
      options.device_minor = static_cast<std::uint32_t>(attributes->rawdev.minor);
    }
    return CreateNode(directory, name, attributes, options, handle_out, attributes_out);
  });
}

fsal_status_t MakeSymlink(fsal_obj_handle* directory, const char* name, const char* target,
                          fsal_attrlist* attributes, fsal_obj_handle** handle_out,
                          fsal_attrlist* attributes_out, fsal_attrlist* /*parent_before*/,
                          fsal_attrlist* /*parent_after*/) noexcept {
  return Guarded("symlink", [&] {
    engine::CreateOptions options;
    options.kind = engine::NodeKind::kSymlink;
    options.symlink_target = target;
    if (options.symlink_target.size() > engine::kSymlinkBytesMax)
      return Status(ERR_FSAL_NAMETOOLONG);
    return CreateNode(directory, name, attributes, options, handle_out, attributes_out);
  });
}

// Ganesha frees the text with free().
fsal_status_t ReadLink(fsal_obj_handle* object, gsh_buffdesc* text_out, bool /*refresh*/) noexcept {
  return Guarded("readlink", [&] {
    if (object->type != SYMBOLIC_LINK) return Status(ERR_FSAL_INVAL);
    const std::string target = FILER_TRY_STATUS(TheEngine().ReadLink(NodeOf(object)));
    text_out->addr = ::strdup(target.c_str());
    if (text_out->addr == nullptr) return Status(ERR_FSAL_NOMEM);
    text_out->len = target.size() + 1;
    return Success();
  });
}

fsal_status_t Link(fsal_obj_handle* object, fsal_obj_handle* directory, const char* name,
                   fsal_attrlist* /*directory_before*/,
                   fsal_attrlist* /*directory_after*/) noexcept {
  return Guarded("link", [&] {
    FILER_CHECK_STATUS(CheckAccess(directory, Access::kAdd));
    FILER_TRY_STATUS(
        TheEngine().Link(ToCaller(op_ctx->creds), NodeOf(object), NodeOf(directory), name));
    return Success();
  });
}

fsal_status_t Rename(fsal_obj_handle* object, fsal_obj_handle* from_directory,
                     const char* from_name, fsal_obj_handle* to_directory, const char* to_name,
                     fsal_attrlist* /*from_before*/, fsal_attrlist* /*from_after*/,
                     fsal_attrlist* /*to_before*/, fsal_attrlist* /*to_after*/) noexcept {
  return Guarded("rename", [&] {
    const bool is_directory = object->type == DIRECTORY;
    FILER_CHECK_STATUS(CheckRemoval(from_directory, from_name));
    FILER_CHECK_STATUS(
        CheckAccess(to_directory, is_directory ? Access::kAddDirectory : Access::kAdd));
    FILER_CHECK_STATUS(CheckRemoval(to_directory, to_name));
    FILER_TRY_STATUS(TheEngine().Rename(ToCaller(op_ctx->creds), NodeOf(from_directory), from_name,
                                        NodeOf(to_directory), to_name, engine::kRenameReplace));
    return Success();
  });
}

fsal_status_t Unlink(fsal_obj_handle* directory, fsal_obj_handle* object, const char* name,
                     fsal_attrlist* /*parent_before*/, fsal_attrlist* /*parent_after*/) noexcept {
  return Guarded("unlink", [&] {
    FILER_CHECK_STATUS(CheckRemoval(directory, name));
    const auto kind = object->type == DIRECTORY ? engine::RemoveKind::kDirectory
                                                : engine::RemoveKind::kNotDirectory;
    FILER_TRY_STATUS(TheEngine().Remove(ToCaller(op_ctx->creds), NodeOf(directory), name, kind));
    return Success();
  });
}

}  // namespace

void InstallDirectoryOperations(fsal_obj_ops& operations) noexcept {
  operations.lookup = Lookup;
  operations.readdir = ReadDirectory;
  operations.mkdir = MakeDirectory;
  operations.mknode = MakeNode;
  operations.symlink = MakeSymlink;
  operations.readlink = ReadLink;
  operations.link = Link;
  operations.rename = Rename;
  operations.unlink = Unlink;
}

}  // namespace filer::ganesha

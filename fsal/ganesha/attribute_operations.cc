// attribute_operations.cc: attributes and extended attributes. Ganesha's core has checked who may
// set attributes (fsal_setattr), but not who may touch extended ones.
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

namespace {

constexpr std::string_view kUserNamespace =
    "user.";  // NFSv4.2 shows clients this namespace only (RFC 8276)

fsal_status_t GetAttributes(fsal_obj_handle* object, fsal_attrlist* attributes_out) noexcept {
  return Guarded("getattrs", [&] {
    const auto attributes = TheEngine().GetAttributes(NodeOf(object));
    if (!attributes.has_value()) {
      if ((attributes_out->request_mask & ATTR_RDATTR_ERR) != 0) {
        attributes_out->valid_mask = ATTR_RDATTR_ERR;
      }
      return ToStatus(attributes.assume_error());
    }
    const auto filled = FillAll(attributes.assume_value(), *attributes_out);
    return filled.has_value() ? Success() : ToStatus(filled.assume_error());
  });
}

fsal_status_t SetAttributes(fsal_obj_handle* object, bool bypass, state_t* state,
                            fsal_attrlist* attributes) noexcept {
  return Guarded("setattr2", [&] {
    const auto change = FILER_TRY_STATUS(ToChange(*attributes));
    if (change.size_bytes.has_value()) {
      if (object->type != REGULAR_FILE) return Status(ERR_FSAL_INVAL);
      if (state == nullptr) {
        const ObjectLock lock(object);
        FILER_CHECK_STATUS(check_share_conflict(&ToHandle(object).share, FSAL_O_WRITE, bypass));
      }
    }
    engine::Caller caller = ToCaller(op_ctx->creds);
    caller.is_trusted = true;  // fsal_setattr has asked fsal_check_setattr_perms
    FILER_TRY_STATUS(TheEngine().SetAttributes(caller, NodeOf(object), change));
    return Success();
  });
}

Result<std::string> FullName(const xattrkey4& name) {
  if (name.utf8string_len == 0) return Error(Errc::kInvalidArgument);
  std::string full(kUserNamespace);
  full.append(name.utf8string_val, name.utf8string_len);
  if (full.size() > engine::kXattrNameBytesMax) return Error(Errc::kNameTooLong);
  if (full.find('\0') != std::string::npos) return Error(Errc::kInvalidArgument);
  return full;
}

// The core gives a buffer of `value->utf8string_len` bytes, or length 0 to ask for the size.
fsal_status_t GetXattr(fsal_obj_handle* object, xattrkey4* name, xattrvalue4* value) noexcept {
  return Guarded("getxattrs", [&] {
    FILER_CHECK_STATUS(CheckAccess(object, Access::kRead));
    const std::string full = FILER_TRY_STATUS(FullName(*name));
    const std::string found = FILER_TRY_STATUS(TheEngine().GetXattr(NodeOf(object), full));
    if (value->utf8string_len != 0 || value->utf8string_val != nullptr) {
      if (found.size() > value->utf8string_len) return Status(ERR_FSAL_XATTR2BIG);
      std::memcpy(value->utf8string_val, found.data(), found.size());
    }
    value->utf8string_len = static_cast<u_int>(found.size());
    return Success();
  });
}

fsal_status_t SetXattr(fsal_obj_handle* object, setxattr_option4 option, xattrkey4* name,
                       xattrvalue4* value) noexcept {
  return Guarded("setxattrs", [&] {
    FILER_CHECK_STATUS(CheckAccess(object, Access::kWrite));
    const std::string full = FILER_TRY_STATUS(FullName(*name));
    if (value->utf8string_len > engine::kXattrValueBytesMax) return Status(ERR_FSAL_XATTR2BIG);
    auto mode = engine::Engine::XattrMode::kCreateOrReplace;
    if (option == SETXATTR4_CREATE) mode = engine::Engine::XattrMode::kCreate;
    if (option == SETXATTR4_REPLACE) mode = engine::Engine::XattrMode::kReplace;
    engine::Caller caller = ToCaller(op_ctx->creds);
    caller.is_trusted = true;  // asked above: write access is what user.* needs
    FILER_TRY_STATUS(
        TheEngine().SetXattr(caller, NodeOf(object), full,
                             std::string_view(value->utf8string_val, value->utf8string_len), mode));
    return Success();
  });
}

fsal_status_t RemoveXattr(fsal_obj_handle* object, xattrkey4* name) noexcept {
  return Guarded("removexattrs", [&] {
    FILER_CHECK_STATUS(CheckAccess(object, Access::kWrite));
    const std::string full = FILER_TRY_STATUS(FullName(*name));
    engine::Caller caller = ToCaller(op_ctx->creds);
    caller.is_trusted = true;
    FILER_TRY_STATUS(TheEngine().RemoveXattr(caller, NodeOf(object), full));
    return Success();
  });
}

fsal_status_t ListXattrs(fsal_obj_handle* object, count4 bytes_max, nfs_cookie4* cookie,
                         bool_t* is_end, xattrlist4* names_out) noexcept {
  return Guarded("listxattrs", [&] {
    FILER_CHECK_STATUS(CheckAccess(object, Access::kRead));
    std::string packed;  // each name ends in NUL; the helper keeps user.*
    for (const std::string& name : FILER_TRY_STATUS(TheEngine().ListXattrs(NodeOf(object)))) {
      packed.append(name).push_back('\0');
    }
    return fsal_listxattr_helper(packed.data(), packed.size(), bytes_max, cookie, is_end,
                                 names_out);
  });
}

}  // namespace

void InstallAttributeOperations(fsal_obj_ops& operations) noexcept {
  operations.getattrs = GetAttributes;
  operations.setattr2 = SetAttributes;
  operations.getxattrs = GetXattr;
  operations.setxattrs = SetXattr;
  operations.removexattrs = RemoveXattr;
  operations.listxattrs = ListXattrs;
}

}  // namespace filer::ganesha

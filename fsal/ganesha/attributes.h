// attributes.h: the engine's attributes and callers as Ganesha's, and back. Pure functions.
#pragma once

#include <cstdint>
#include <ctime>

#include "base/result.h"
#include "fsal/engine/engine.h"
#include "fsal/ganesha/ganesha_headers.h"

namespace filer::ganesha {

// What getattrs fills.
inline constexpr attrmask_t kSupportedAttributes =
    static_cast<attrmask_t>(ATTRS_POSIX) | static_cast<attrmask_t>(ATTR_CREATION) |
    static_cast<attrmask_t>(ATTR_GENERATION) | static_cast<attrmask_t>(ATTR4_XATTR) |
    static_cast<attrmask_t>(ATTR_ACL);
// What setattr2 and the creating operations take.
inline constexpr attrmask_t kSettableAttributes =
    static_cast<attrmask_t>(ATTR_MODE) | static_cast<attrmask_t>(ATTR_OWNER) |
    static_cast<attrmask_t>(ATTR_GROUP) | static_cast<attrmask_t>(ATTR_SIZE) |
    static_cast<attrmask_t>(ATTR_ATIME) | static_cast<attrmask_t>(ATTR_MTIME) |
    static_cast<attrmask_t>(ATTR_ATIME_SERVER) | static_cast<attrmask_t>(ATTR_MTIME_SERVER) |
    static_cast<attrmask_t>(ATTR_CREATION) | static_cast<attrmask_t>(ATTR_ACL);

object_file_type_t ToFileType(engine::NodeKind kind) noexcept;
// nullopt for what no node of ours can be.
std::optional<engine::NodeKind> ToNodeKind(object_file_type_t type) noexcept;

// Exact for every instant, also before 1970 (tv_nsec stays within 0 to 999999999).
timespec ToTimespec(std::int64_t since_epoch_ns) noexcept;
// Clamped to what 64-bit nanoseconds can say (the years 1677 to 2262).
std::int64_t ToNanoseconds(const timespec& time) noexcept;

// Fills `out` and its valid_mask; leaves request_mask as it is. The list is not among them: it
// takes a question to the engine, and memory of the server's (object.h).
void FillAttributes(const engine::Attributes& from, fsal_attrlist& out) noexcept;

// What is set in `from` and makes sense to the engine. Errors: kInvalidArgument for ids beyond 32
// bits and sizes beyond kFileBytesMax (kFileTooBig); attributes that are not in kSettableAttributes
// are refused with kNotSupported.
Result<engine::AttributeChange> ToChange(const fsal_attrlist& from);

// Borrows the group list: valid as long as `credentials`.
engine::Caller ToCaller(const user_cred& credentials) noexcept;

}  // namespace filer::ganesha

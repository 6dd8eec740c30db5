// convert.h: between the engine's words and the kernel's: errors, attributes, locks. Pure
// functions.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::posix_door {

// The errno that a program sees. Never 0.
int ToErrno(const Error& error) noexcept;

// FUSE calls the root 1 (FUSE_ROOT_ID); all other numbers are the engine's.
std::uint64_t ToFuseInode(std::uint64_t engine_inode, std::uint64_t engine_root) noexcept;
std::uint64_t ToEngineInode(std::uint64_t fuse_inode, std::uint64_t engine_root) noexcept;

struct stat ToStat(const engine::Attributes& attributes) noexcept;
// S_IFREG and its kin.
mode_t ToFileType(engine::NodeKind kind) noexcept;
// nullopt for a type that does not exist.
std::optional<engine::NodeKind> ToNodeKind(mode_t mode) noexcept;

timespec ToTimespec(std::int64_t since_epoch_ns) noexcept;
// Saturates outside of the years 1677 to 2262.
std::int64_t ToNanoseconds(const timespec& time) noexcept;

// The range of a struct flock with l_whence == SEEK_SET, as the kernel sends it. Errors:
// kInvalidArgument. F_UNLCK has no kind: kRead.
Result<engine::LockRange> ToLockRange(const struct flock& lock) noexcept;
struct flock ToFlock(const engine::LockRange& range, pid_t pid) noexcept;

// Attributes that this door keeps in the engine; the two of POSIX lists are among them.
bool IsStoredXattr(std::string_view name) noexcept;
// 0 for those, else the errno: of a namespace without a name, or of another namespace.
int RefusalOfXattr(std::string_view name) noexcept;
bool IsPosixAclXattr(std::string_view name) noexcept;
// trusted.* is only for root to see (xattr(7)).
bool IsListedXattr(std::string_view name, std::uint32_t uid) noexcept;

}  // namespace filer::posix_door

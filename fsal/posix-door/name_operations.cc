// Names: lookup, make, link, remove, rename, and directories.
#include <linux/fs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <span>
#include <string_view>
#include <vector>

#include "fsal/posix-door/access.h"
#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

constexpr int kLookupTriesMax = 8;  // of a name that is renamed over all the time

// Names that not everybody may find by a list that the kernel does not know are asked each time.
double NameLifetime(DoorState& state, std::uint64_t begin, fuse_ino_t parent, const char* name) {
  return HasNfs4List(state, parent) ? 0 : state.kernel.NameLifetime(begin, parent, name);
}

void ReplyEntry(fuse_req_t request, DoorState& state, std::uint64_t begin, fuse_ino_t parent,
                const char* name, const Result<engine::Attributes>& found) {
  if (!found.has_value()) return ReplyError(request, found.error());
  const fuse_entry_param entry = ToEntry(state, begin, parent, name, found.value());
  fuse_reply_entry(request, &entry);
}

// Directories are held while they are open, which is enough: they are not renamed over in passing.
Result<engine::Attributes> FindAndHold(DoorState& state, engine::NodeId directory,
                                       std::string_view name) {
  for (int tries = 1;; ++tries) {
    auto found = state.engine.Lookup(directory, name);
    // The kernel knows a node by its number alone, and that is the live file's: through a
    // snapshot's name it would be changed.
    if (found.has_value() && !state.Has(found.value().id)) return Errc::kNotFound;
    const bool is_held = !found.has_value() || found.value().kind == engine::NodeKind::kDirectory ||
                         state.answered.Hold(found.value().id);
    if (is_held || tries == kLookupTriesMax) return found;
  }
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
  Answer(request, [&](DoorState& state) {
    if (!MayByList(request, state, parent, engine::kAceExecute)) return;
    const std::uint64_t begin = state.kernel.Begin();
    const auto found = FindAndHold(state, state.Node(parent), name);
    if (!found.has_value() && found.error() == Errc::kNotFound) {
      // Inode 0: that there is none may be remembered, too.
      fuse_entry_param none = {};
      none.entry_timeout = NameLifetime(state, begin, parent, name);
      if (none.entry_timeout > 0) {
        fuse_reply_entry(request, &none);
        return;
      }
    }
    ReplyEntry(request, state, begin, parent, name, found);
  });
}

// Takes no answer.
void Forget(fuse_req_t request, fuse_ino_t inode, std::uint64_t count) noexcept {
  engine::SetDoor(engine::kDoorPosix);
  DoorState& state = StateOf(request);
  state.answered.Forget(state.Node(inode), count);
  fuse_reply_none(request);
}
void ForgetMulti(fuse_req_t request, std::size_t count, fuse_forget_data* forgotten) noexcept {
  engine::SetDoor(engine::kDoorPosix);
  DoorState& state = StateOf(request);
  for (const fuse_forget_data& one : std::span(forgotten, count)) {
    state.answered.Forget(state.Node(one.ino), one.nlookup);
  }
  fuse_reply_none(request);
}

Result<engine::Attributes> Make(fuse_req_t request, DoorState& state, fuse_ino_t parent,
                                const char* name, engine::CreateOptions options) {
  options.umask = fuse_req_ctx(request)->umask;
  const bool is_directory = options.kind == engine::NodeKind::kDirectory;
  FILER_TRY(AskList(request, state, parent, is_directory ? kMakeDirectory : kMakeFile));
  auto created =
      FILER_TRY(state.engine.Create(CallerOf(request), state.Node(parent), name, options));
  return std::move(created.node);
}

void Mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
           dev_t device) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto kind = ToNodeKind(mode);
    if (!kind || *kind == engine::NodeKind::kDirectory || *kind == engine::NodeKind::kSymlink) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    engine::CreateOptions options;
    options.kind = *kind;
    options.attributes.mode = mode & 07777;
    options.device_major = major(device);
    options.device_minor = minor(device);
    const std::uint64_t begin = state.kernel.Begin();
    ReplyEntry(request, state, begin, parent, name, Make(request, state, parent, name, options));
  });
}

void Mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) noexcept {
  Answer(request, [&](DoorState& state) {
    engine::CreateOptions options;
    options.kind = engine::NodeKind::kDirectory;
    options.attributes.mode = mode & 07777;
    const std::uint64_t begin = state.kernel.Begin();
    ReplyEntry(request, state, begin, parent, name, Make(request, state, parent, name, options));
  });
}

void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) noexcept {
  Answer(request, [&](DoorState& state) {
    engine::CreateOptions options;
    options.kind = engine::NodeKind::kSymlink;
    options.attributes.mode = 0777;
    options.symlink_target = target;
    const std::uint64_t begin = state.kernel.Begin();
    ReplyEntry(request, state, begin, parent, name, Make(request, state, parent, name, options));
  });
}

void Link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t parent, const char* name) noexcept {
  Answer(request, [&](DoorState& state) {
    if (!MayByList(request, state, parent, kMakeFile)) return;
    const std::uint64_t begin = state.kernel.Begin();
    ReplyEntry(request, state, begin, parent, name,
               state.engine.Link(CallerOf(request), state.Node(inode), state.Node(parent), name));
  });
}

void RemoveName(fuse_req_t request, fuse_ino_t parent, const char* name,
                engine::RemoveKind kind) noexcept {
  Answer(request, [&](DoorState& state) {
    if (const auto may = AskListsToRemove(request, state, parent, name); !may.has_value()) {
      return ReplyError(request, may.error());
    }
    const auto removed = state.engine.Remove(CallerOf(request), state.Node(parent), name, kind);
    if (!removed.has_value()) return ReplyError(request, removed.error());
    fuse_reply_err(request, 0);
  });
}

void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
  RemoveName(request, parent, name, engine::RemoveKind::kNotDirectory);
}

void Rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
  RemoveName(request, parent, name, engine::RemoveKind::kDirectory);
}

void Rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) noexcept {
  Answer(request, [&](DoorState& state) {
    std::uint32_t engine_flags = engine::kRenameReplace;
    if (flags == RENAME_NOREPLACE) {
      engine_flags = engine::kRenameNoReplace;
    } else if (flags == RENAME_EXCHANGE) {
      engine_flags = engine::kRenameExchange;
    } else if (flags != 0) {
      fuse_reply_err(request, EINVAL);
      return;
    }
    const auto may = AskListsToRename(request, state, {parent, name}, {new_parent, new_name},
                                      engine_flags == engine::kRenameExchange);
    if (!may.has_value()) return ReplyError(request, may.error());
    ReplyStatus(request, state.engine.Rename(CallerOf(request), state.Node(parent), name,
                                             state.Node(new_parent), new_name, engine_flags));
  });
}

void ReadLink(fuse_req_t request, fuse_ino_t inode) noexcept {
  Answer(request, [&](DoorState& state) {
    const auto target = state.engine.ReadLink(state.Node(inode));
    if (!target.has_value()) return ReplyError(request, target.error());
    fuse_reply_readlink(request, target.value().c_str());
  });
}

}  // namespace

fuse_entry_param ToEntry(DoorState& state, std::uint64_t begin, fuse_ino_t parent, const char* name,
                         const engine::Attributes& attributes) {
  fuse_entry_param entry = {};
  entry.ino = state.Inode(attributes.id);
  entry.generation = attributes.generation;
  entry.attr = ToStat(attributes);
  entry.attr_timeout = state.kernel.AttributeLifetime(begin, entry.ino);
  // A file's name may be renamed over at any moment, and the open of a node that has gone costs the
  // program one of its two attempts (operations.h). Directories stay, and are most of every path.
  const bool is_directory = attributes.kind == engine::NodeKind::kDirectory;
  entry.entry_timeout = is_directory ? NameLifetime(state, begin, parent, name) : 0;
  return entry;
}

void AddNameOperations(fuse_lowlevel_ops& operations) {
  operations.lookup = Lookup;
  operations.forget = Forget;
  operations.forget_multi = ForgetMulti;
  operations.mknod = Mknod;
  operations.mkdir = Mkdir;
  operations.symlink = Symlink;
  operations.link = Link;
  operations.unlink = Unlink;
  operations.rmdir = Rmdir;
  operations.rename = Rename;
  operations.readlink = ReadLink;
}

}  // namespace filer::posix_door

// rename.cc: Namespace::Rename. All of it is one transaction; a move of a directory into another
// directory is serialised, because only so the ancestor check stays true.
#include <algorithm>

#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/namespace.h"

namespace filer::engine {
namespace {
constexpr int kRenameRetries = 64;
constexpr int kDepthMax = 1 << 16;
}  // namespace

struct Namespace::RenamePlan {
  NodePtr from, to, source, target;  // directories, what is moved, what it meets (or null)
  std::string_view from_name, to_name;
  FoundEntry source_entry;
  std::optional<FoundEntry> target_entry;
  std::uint32_t flags = 0;
  bool is_done = false;  // both names lead to one file: nothing to do
  bool target_died = false;
};

// Is `directory` the same as, or anywhere under `ancestor`? rename_mutex held.
Result<bool> Namespace::IsBelow(std::uint64_t directory, std::uint64_t ancestor) {
  for (int depth = 0; depth < kDepthMax; ++depth) {
    if (directory == ancestor) return true;
    if (directory == kRootInode) return false;
    const NodePtr node = FILER_TRY(volume_.nodes.Get(*volume_.store, directory));
    const std::lock_guard lock(node->mutex);
    if (node->is_dead) return Errc::kStaleHandle;
    directory = node->record.parent;
  }
  return Error(Errc::kCorrupt, "directories form a ring");
}

// Everything is locked: the rules of rename(2).
Result<void> Namespace::PrepareRename(const Caller& caller, RenamePlan& plan) {
  if (plan.from->record.links == 0 || plan.to->record.links == 0) return Errc::kNotFound;
  const bool is_exchange = (plan.flags & kRenameExchange) != 0;
  if (!PassesSticky(caller, plan.from->record, plan.source->record)) return Errc::kNotPermitted;
  if (!IsSameProject(plan.to->record, plan.source->record)) return Errc::kCrossesFileset;
  if (plan.target == nullptr) {
    if (is_exchange) return Errc::kNotFound;
    const bool gains_link = plan.source->IsDirectory() && plan.from != plan.to;
    if (gains_link && plan.to->record.links >= kLinksMax) return Errc::kTooManyLinks;
    return Ok();
  }
  if ((plan.flags & kRenameNoReplace) != 0) return Errc::kExists;
  if (plan.target == plan.source) {
    plan.is_done = true;
    return Ok();
  }
  if (!PassesSticky(caller, plan.to->record, plan.target->record)) return Errc::kNotPermitted;
  if (is_exchange) {
    if (!IsSameProject(plan.from->record, plan.target->record)) return Errc::kCrossesFileset;
    return Ok();
  }
  if (plan.target->IsDirectory() && !plan.source->IsDirectory()) return Errc::kIsDirectory;
  if (!plan.target->IsDirectory() && plan.source->IsDirectory()) return Errc::kNotDirectory;
  if (plan.target->IsDirectory() && plan.target->record.entries != 0) return Errc::kNotEmpty;
  return Ok();
}

Result<void> Namespace::MoveEntry(Transaction& transaction, RenamePlan& plan, Staged& from,
                                  Staged& to, Staged& source) {
  EraseEntry(transaction, from, plan.source_entry);
  const EntryValue entry{plan.source->inode, plan.source->record.kind, {}};
  const std::uint64_t cookie = FILER_TRY(AddEntry(transaction, to, plan.to_name, entry));
  if (!plan.source->IsDirectory() && plan.source->record.links > 1) {
    transaction.Erase(
        ParentKey(plan.source->inode, plan.from->inode, plan.source_entry.value.cookie));
    transaction.Put(ParentKey(plan.source->inode, plan.to->inode, cookie), "");
  } else {
    source.record.parent = plan.to->inode;
    source.record.parent_cookie = cookie;
  }
  volume_.TouchChange(source.record);
  return Ok();
}

Result<Lsn> Namespace::CommitRename(RenamePlan& plan) {
  Transaction transaction;
  Staged from(*plan.from);
  Staged other(*plan.to);
  Staged& to = plan.from == plan.to ? from : other;
  Staged source(*plan.source);
  std::optional<Staged> target;
  if (plan.target != nullptr) {
    target.emplace(*plan.target);
    EraseEntry(transaction, to, *plan.target_entry);
    if (plan.target->IsDirectory()) {
      target->record.links = 0;
    } else {
      FILER_TRY(DropLink(transaction, *target, plan.to->inode, plan.target_entry->value.cookie));
    }
    volume_.TouchChange(target->record);
    plan.target_died = target->record.links == 0;
    if (plan.target_died) transaction.Put(OrphanKey(plan.target->inode), "");
  }
  FILER_TRY(MoveEntry(transaction, plan, from, to, source));
  const Lsn lsn = FILER_TRY(volume_.Commit(
      std::move(transaction),
      {&from, plan.from == plan.to ? nullptr : &other, &source, target ? &*target : nullptr}));
  if (plan.target_died && plan.target->holds == 0) plan.target->is_dead = true;
  return lsn;
}

// The two entries keep their places (cookies) and swap what they lead to.
Result<Lsn> Namespace::CommitExchange(RenamePlan& plan) {
  Transaction transaction;
  Staged from(*plan.from);
  Staged other(*plan.to);
  Staged& to = plan.from == plan.to ? from : other;
  Staged source(*plan.source);
  Staged target(*plan.target);
  const auto lead = [&](Staged& directory, const FoundEntry& entry, Staged& child,
                        const Staged& old_directory, std::uint64_t old_cookie) {
    NameValue value = entry.value;
    if (value.entry.kind == NodeKind::kDirectory) --directory.record.links;
    value.entry.child = child.node->inode;
    value.entry.kind = child.record.kind;
    if (value.entry.kind == NodeKind::kDirectory) ++directory.record.links;
    transaction.Put(EntryKey(directory.node->inode, value.cookie), EncodeEntry(value.entry));
    transaction.Put(NameKey(directory.node->inode, entry.hash, entry.ordinal), EncodeName(value));
    if (child.record.kind != NodeKind::kDirectory && child.record.links > 1) {
      transaction.Erase(ParentKey(child.node->inode, old_directory.node->inode, old_cookie));
      transaction.Put(ParentKey(child.node->inode, directory.node->inode, value.cookie), "");
    } else {
      child.record.parent = directory.node->inode;
      child.record.parent_cookie = value.cookie;
    }
    volume_.TouchContent(directory.record);
    volume_.TouchChange(child.record);
  };
  lead(to, *plan.target_entry, source, from, plan.source_entry.value.cookie);
  lead(from, plan.source_entry, target, to, plan.target_entry->value.cookie);
  return volume_.Commit(std::move(transaction),
                        {&from, plan.from == plan.to ? nullptr : &other, &source, &target});
}

Result<void> Namespace::Rename(const Caller& caller, NodeId from_directory,
                               std::string_view from_name, NodeId to_directory,
                               std::string_view to_name, std::uint32_t flags) {
  FILER_TRY(volume_.CheckWritable());
  FILER_TRY(ValidateName(from_name));
  FILER_TRY(ValidateName(to_name));
  if ((flags & ~3U) != 0 || flags == 3U) return Errc::kInvalidArgument;
  RenamePlan plan;
  plan.flags = flags;
  plan.from_name = from_name;
  plan.to_name = to_name;
  plan.from = FILER_TRY(GetDirectory(from_directory));
  plan.to = FILER_TRY(GetDirectory(to_directory));
  std::unique_lock<std::mutex> moving(volume_.rename_mutex, std::defer_lock);
  if (plan.from != plan.to) moving.lock();
  for (int attempt = 0; attempt < kRenameRetries; ++attempt) {
    const auto source = FILER_TRY(Find(plan.from->inode, from_name));
    if (!source.has_value()) return Errc::kNotFound;
    const auto target = FILER_TRY(Find(plan.to->inode, to_name));
    const auto source_node = volume_.nodes.Get(*volume_.store, source->value.entry.child);
    if (!source_node.has_value()) {
      if (source_node.error() == Errc::kStaleHandle) continue;
      return source_node.error();
    }
    plan.source = source_node.value();
    plan.target.reset();
    if (target.has_value()) {
      const auto target_node = volume_.nodes.Get(*volume_.store, target->value.entry.child);
      if (!target_node.has_value()) {
        if (target_node.error() == Errc::kStaleHandle) continue;
        return target_node.error();
      }
      plan.target = target_node.value();
    }
    if (plan.from != plan.to) {
      if (plan.source->IsDirectory() && FILER_TRY(IsBelow(plan.to->inode, plan.source->inode))) {
        return Errc::kLoop;
      }
      const bool target_moves =
          plan.target != nullptr && plan.target->IsDirectory() && (flags & kRenameExchange) != 0;
      if (target_moves && FILER_TRY(IsBelow(plan.from->inode, plan.target->inode))) {
        return Errc::kLoop;
      }
    }
    NodeLocks locks{plan.from.get(), plan.to.get(), plan.source.get(), plan.target.get()};
    if (plan.from->is_dead || plan.to->is_dead) return Errc::kStaleHandle;
    // What was found without locks must still be so.
    const auto source_now = FILER_TRY(Find(plan.from->inode, from_name));
    const auto target_now = FILER_TRY(Find(plan.to->inode, to_name));
    const bool is_same =
        source_now.has_value() && source_now->value.entry.child == plan.source->inode &&
        target_now.has_value() == (plan.target != nullptr) &&
        (plan.target == nullptr || target_now->value.entry.child == plan.target->inode);
    if (!is_same) continue;
    plan.source_entry = *source_now;
    plan.target_entry = target_now;
    FILER_TRY(PrepareRename(caller, plan));
    if (plan.is_done) return Ok();
    Lsn lsn = (flags & kRenameExchange) != 0 ? FILER_TRY(CommitExchange(plan))
                                             : FILER_TRY(CommitRename(plan));
    locks.Unlock();
    if (moving.owns_lock()) moving.unlock();
    if (plan.target_died) lsn = std::max(lsn, data_.ReclaimIfDead(plan.target));
    FILER_TRY(volume_.Sync(lsn));
    const NodeId replaced = plan.target == nullptr ? NodeId{} : volume_.IdOf(*plan.target);
    volume_.NotifyChange({{from_directory, from_name},
                          {to_directory, to_name},
                          {volume_.IdOf(*plan.source), {}, true},
                          {replaced, {}, true}});
    return Ok();
  }
  return Errc::kBusy;
}

}  // namespace filer::engine

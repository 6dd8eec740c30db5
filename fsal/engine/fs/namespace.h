// namespace.h: names: lookup, create, link, remove, rename, read a directory, paths; and the rules
// of who may.
//
// Every change is one transaction that is built and committed while the nodes concerned are locked,
// then waited for without locks. Threads: any.
#pragma once

#include "fsal/engine/fs/volume.h"

namespace filer::engine {

// One entry, as found in the index of names.
struct FoundEntry {
  NameValue value;
  std::uint64_t hash = 0;
  std::uint32_t ordinal = 0;
};

class FileData;

class Namespace {
 public:
  Namespace(Volume& volume, FileData& data) : volume_(volume), data_(data) {}

  Result<Attributes> Lookup(NodeId directory, std::string_view name);
  Result<Attributes> LookupParent(NodeId directory);
  Result<Created> Create(const Caller& caller, NodeId directory, std::string_view name,
                         const CreateOptions& options);
  Result<Attributes> Link(const Caller& caller, NodeId node, NodeId directory,
                          std::string_view name);
  Result<Removed> Remove(const Caller& caller, NodeId directory, std::string_view name,
                         RemoveKind kind);
  Result<void> Rename(const Caller& caller, NodeId from_directory, std::string_view from_name,
                      NodeId to_directory, std::string_view to_name, std::uint32_t flags);
  Result<std::string> ReadLink(NodeId node);
  Result<bool> ReadDirectory(NodeId directory, std::uint64_t after,
                             const std::function<bool(const DirectoryEntry& entry)>& visit);
  Result<std::string> PathOf(NodeId node);
  Result<void> Hold(NodeId node);
  void Release(NodeId node);

 private:
  struct RenamePlan;

  Result<NodePtr> GetDirectory(NodeId id);
  // The directory's mutex need not be held; the answer is then a snapshot. next_ordinal: for an
  // entry to be added.
  Result<std::optional<FoundEntry>> Find(std::uint64_t directory, std::string_view name,
                                         std::uint32_t* next_ordinal = nullptr) const;
  // Directory locked and staged. Puts D and N, counts, touches; returns the cookie.
  Result<std::uint64_t> AddEntry(Transaction& transaction, Staged& directory, std::string_view name,
                                 const EntryValue& entry);
  void EraseEntry(Transaction& transaction, Staged& directory, const FoundEntry& entry);
  // Keeps P keys and the record's own parent right. `child` is a file with one link more or less
  // than its record says so far.
  void AddLink(Transaction& transaction, Staged& child, std::uint64_t parent, std::uint64_t cookie);
  Result<void> DropLink(Transaction& transaction, Staged& child, std::uint64_t parent,
                        std::uint64_t cookie);
  // What a new node inherits, or has been given.
  Result<void> StageNewAcl(const InodeRecord& directory, const CreateOptions& options,
                           Staged& child) const;
  Result<InodeRecord> NewRecord(const Caller& caller, const InodeRecord& directory,
                                const CreateOptions& options) const;
  Result<Created> MetExisting(NodePtr directory, const FoundEntry& found,
                              const CreateOptions& options);
  Result<void> PrepareRename(const Caller& caller, RenamePlan& plan);
  Result<Lsn> CommitRename(RenamePlan& plan);
  Result<Lsn> CommitExchange(RenamePlan& plan);
  Result<void> MoveEntry(Transaction& transaction, RenamePlan& plan, Staged& from, Staged& to,
                         Staged& source);
  Result<bool> IsBelow(std::uint64_t directory, std::uint64_t ancestor);

  Volume& volume_;
  FileData& data_;
};

// May the caller remove or rename this entry of a sticky directory?
bool PassesSticky(const Caller& caller, const InodeRecord& directory, const InodeRecord& child);
// May the child get a name there? A tree that passes its project on holds nothing of others.
bool IsSameProject(const InodeRecord& directory, const InodeRecord& child);
bool IsPrivileged(const Caller& caller);

}  // namespace filer::engine

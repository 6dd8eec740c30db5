// acl_table.h: the ACLs of a volume, each stored once however many inodes have it, with the number
// of those inodes. Lists are few and decide about every open, so those lately used are in memory.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

using AclPtr = std::shared_ptr<const Acl>;  // never null; of kind kNone where there is no list

class AclTable {
 public:
  AclTable(const std::unique_ptr<Store>& store, const SipKey& key) : store_(store), key_(key) {}

  // The list of an inode, whose mutex is held: it keeps the id from meaning another list. Id 0: of
  // kind kNone. May block for a read. Errors: kCorrupt (also: not there), the device's.
  Result<AclPtr> Get(std::uint64_t id);

  // To be held from Replace until its transaction was committed: counts are read before they are
  // written. Comes after the mutexes of nodes, before those of the store.
  std::mutex& change_mutex() { return change_mutex_; }
  // One inode that had list `old_id` will have `wanted`; its new id. An old list that cannot be
  // read is let go of: check tells of it. Errors: kNoSpace (more lists of one hash than are looked
  // for), the device's.
  Result<std::uint64_t> Replace(Transaction& transaction, std::uint64_t old_id, const Acl& wanted);

 private:
  Result<AclRecord> Load(std::uint64_t id) const;
  Result<std::uint64_t> Take(Transaction& transaction, const Acl& wanted);
  Result<void> Drop(Transaction& transaction, std::uint64_t id);
  void Forget(std::uint64_t id);

  static constexpr std::size_t kListsInMemory = 4096;

  const std::unique_ptr<Store>& store_;
  const SipKey& key_;
  std::mutex change_mutex_;
  std::mutex memory_mutex_;
  std::unordered_map<std::uint64_t, AclPtr> memory_;
};

}  // namespace filer::engine

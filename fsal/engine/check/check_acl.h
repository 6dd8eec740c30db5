// check_acl.h: the part of the check that holds the table of ACLs against the inodes: every list is
// referred to as often as it says, is found under the hash of what it says, and agrees with the
// mode of whoever has it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

struct AclHolderInode {
  std::uint64_t number = 0;
  const InodeRecord* record = nullptr;
};
using FindAcl = std::function<void(std::string what, std::string where, std::uint64_t inode)>;

// Errors: what could not be read.
Result<void> CheckAcls(const Store& store, const SipKey& key,
                       const std::vector<AclHolderInode>& inodes, const FindAcl& find);

// `inodes`: a map from numbers to what has a `record`.
template <typename Inodes>
Result<void> CheckAclsOf(const Store& store, const SipKey& key, const Inodes& inodes,
                         const FindAcl& find) {
  std::vector<AclHolderInode> holders;
  for (const auto& [number, inode] : inodes) {
    if (inode.record.acl != 0) holders.push_back({number, &inode.record});
  }
  return CheckAcls(store, key, holders, find);
}

}  // namespace filer::engine

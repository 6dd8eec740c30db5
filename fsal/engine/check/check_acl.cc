#include "fsal/engine/check/check_acl.h"

#include <map>
#include <optional>

#include "fsal/engine/fs/acl.h"

namespace filer::engine {
namespace {

struct Listed {
  std::optional<AclRecord> record;  // none: it does not decode
  std::uint64_t holders = 0;
};

std::string At(const char* what, std::uint64_t number) {
  return std::string(what) + " " + std::to_string(number);
}

// The id may lie some steps behind the hash.
bool IsFoundUnder(const SipKey& key, const Acl& acl, std::uint64_t id) {
  const std::uint64_t distance = id - AclIdOf(key, acl);
  return distance % kAclIdStep == 0 && distance / kAclIdStep < kAclIdsTried;
}

void CheckHolder(const AclHolderInode& inode, const Acl& acl, const FindAcl& find) {
  const InodeRecord& record = *inode.record;
  const std::string where = At("inode", inode.number);
  if (record.kind == NodeKind::kSymlink) find("a symbolic link has an ACL", where, inode.number);
  if (!acl.default_entries.empty() && record.kind != NodeKind::kDirectory) {
    find("default entries of what is no directory", where, inode.number);
  }
  if (ModeOf(acl, record.mode) != record.mode) {
    find("mode and ACL do not say the same", where, inode.number);
  }
}

}  // namespace

Result<void> CheckAcls(const Store& store, const SipKey& key,
                       const std::vector<AclHolderInode>& inodes, const FindAcl& find) {
  std::map<std::uint64_t, Listed> lists;
  FILER_TRY(store.Scan(StartOfLetter('A'), EndOfLetter('A'),
                       [&](std::string_view bytes, std::string_view value) {
                         const auto id = KeyInteger(bytes, 0);
                         if (!id.has_value() || bytes.size() != 9) {
                           find("a key is malformed", "letter A", 0);
                           return true;
                         }
                         auto record = DecodeAcl(value);
                         Listed& listed = lists[id.value()];
                         if (record.has_value()) {
                           listed.record = std::move(record).value();
                         } else {
                           find("an ACL does not decode", At("ACL", id.value()), 0);
                         }
                         return true;
                       }));
  for (const AclHolderInode& inode : inodes) {
    const auto found = lists.find(inode.record->acl);
    if (found == lists.end()) {
      find("the ACL of an inode is missing", At("inode", inode.number), inode.number);
      continue;
    }
    ++found->second.holders;
    if (found->second.record) CheckHolder(inode, found->second.record->acl, find);
  }
  for (const auto& [id, listed] : lists) {
    if (!listed.record) continue;
    if (!IsFoundUnder(key, listed.record->acl, id)) {
      find("an ACL is filed under a wrong hash", At("ACL", id), 0);
    }
    if (listed.record->references != listed.holders) {
      find(std::to_string(listed.holders) + " inodes have an ACL, recorded are " +
               std::to_string(listed.record->references),
           At("ACL", id), 0);
    }
  }
  return Ok();
}

}  // namespace filer::engine

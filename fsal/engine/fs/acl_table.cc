#include "fsal/engine/fs/acl_table.h"

#include "base/log.h"

namespace filer::engine {

Result<AclRecord> AclTable::Load(std::uint64_t id) const {
  const auto value = store_->Get(AclKey(id));
  if (!value.has_value()) return value.error();
  AclRecord record = FILER_TRY(DecodeAcl(value.value()));
  if (record.acl.kind != AclKindOf(id)) return Error(Errc::kCorrupt, "an ACL of another kind");
  return record;
}

Result<AclPtr> AclTable::Get(std::uint64_t id) {
  static const AclPtr none = std::make_shared<const Acl>();
  if (id == 0) return none;
  {
    const std::lock_guard lock(memory_mutex_);
    const auto found = memory_.find(id);
    if (found != memory_.end()) return found->second;
  }
  auto record = Load(id);
  if (!record.has_value()) {
    if (record.error() == Errc::kNotFound) return Error(Errc::kCorrupt, "an ACL is missing");
    return std::move(record).error();
  }
  auto acl = std::make_shared<const Acl>(std::move(record.value().acl));
  const std::lock_guard lock(memory_mutex_);
  if (memory_.size() >= kListsInMemory) memory_.clear();
  return memory_.emplace(id, std::move(acl)).first->second;
}

void AclTable::Forget(std::uint64_t id) {
  const std::lock_guard lock(memory_mutex_);
  memory_.erase(id);
}

Result<std::uint64_t> AclTable::Take(Transaction& transaction, const Acl& wanted) {
  if (wanted.kind == AclKind::kNone) return 0;
  std::uint64_t id = AclIdOf(key_, wanted);
  for (std::uint64_t tried = 0; tried < kAclIdsTried; ++tried, id += kAclIdStep) {
    if (id == 0) continue;
    auto record = Load(id);
    if (record.has_value()) {
      if (record.value().acl != wanted) continue;
      ++record.value().references;
      transaction.Put(AclKey(id), EncodeAcl(record.value()));
      return id;
    }
    if (record.error() == Errc::kCorrupt) continue;  // its readers keep their error
    if (!(record.error() == Errc::kNotFound)) return std::move(record).error();
    transaction.Put(AclKey(id), EncodeAcl({1, wanted}));
    return id;
  }
  return Error(Errc::kNoSpace, "too many ACLs of one hash");
}

Result<void> AclTable::Drop(Transaction& transaction, std::uint64_t id) {
  if (id == 0) return Ok();
  auto record = Load(id);
  if (!record.has_value()) {
    const bool is_damaged = record.error() == Errc::kCorrupt || record.error() == Errc::kNotFound;
    if (!is_damaged) return std::move(record).error();
    FILER_LOG_ERROR("an ACL is damaged or missing: {}", record.error().message());
    return Ok();
  }
  if (--record.value().references > 0) {
    transaction.Put(AclKey(id), EncodeAcl(record.value()));
  } else {
    transaction.Erase(AclKey(id));
    Forget(id);  // should the transaction fail, it is only read again
  }
  return Ok();
}

Result<std::uint64_t> AclTable::Replace(Transaction& transaction, std::uint64_t old_id,
                                        const Acl& wanted) {
  if (old_id != 0 && wanted.kind == AclKindOf(old_id)) {
    const auto old = Load(old_id);
    if (old.has_value() && old.value().acl == wanted) return old_id;
  }
  const std::uint64_t id = FILER_TRY(Take(transaction, wanted));
  FILER_TRY(Drop(transaction, old_id));
  return id;
}

}  // namespace filer::engine

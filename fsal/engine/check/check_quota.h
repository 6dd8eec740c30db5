// check_quota.h: the check of quotas: usage as recorded against the inodes.
// Threads: none.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/fs/quota_keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {

class QuotaCheck {
 public:
  using Find = std::function<void(std::string what, std::string where)>;

  // Every inode, once.
  void Count(const InodeRecord& record);
  // Then: each key of the letter decodes, and says what was counted. Errors: the store's.
  Result<void> Compare(const Store& store, const Find& find);

 private:
  void CompareUsage(QuotaId of, std::string_view value, const Find& find);

  std::map<QuotaId, QuotaUsage> counted_;
};

}  // namespace filer::engine

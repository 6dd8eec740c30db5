// quota_operations.h: what engine.h offers about quotas and projects, over quota.h.
// Threads: any.
#pragma once

#include "fsal/engine/fs/file_data.h"

namespace filer::engine {

class QuotaOperations {
 public:
  QuotaOperations(Volume& volume, FileData& data) : volume_(volume), data_(data) {}

  Result<Quota> Get(QuotaId of) const;
  Result<void> Set(const Caller& caller, QuotaId of, const QuotaLimits& limits);
  Result<void> List(QuotaKind kind, std::uint32_t first_id,
                    const std::function<bool(const Quota& quota)>& visit) const;
  Result<void> SetGrace(const Caller& caller, QuotaKind kind, QuotaGrace grace);
  // The volume's size as the limits of the directory's project make it, if they do.
  Result<void> Narrow(NodeId below, FileSystemStatus& status) const;

  Result<void> SetProject(const Caller& caller, NodeId id, std::uint32_t project, bool inherits);
  Result<void> SetProjectBelow(const Caller& caller, NodeId directory, std::uint32_t project,
                               std::size_t nodes_max, ProjectWalk& walk);

 private:
  // Nothing durable yet. 0: it was so already.
  Result<Lsn> Assign(const Caller& caller, NodeId id, std::uint32_t project,
                     std::optional<bool> inherits);
  Result<std::optional<DirectoryEntry>> NextEntry(const ProjectWalk::Level& level) const;

  Volume& volume_;
  FileData& data_;
};

}  // namespace filer::engine

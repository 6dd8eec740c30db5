// file_system.h: one fileset or snapshot, opened: all parts of the engine that work on one tree.
#pragma once

#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/fs/attributes.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/namespace.h"
#include "fsal/engine/fs/quota_operations.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {

struct FileSystem {
  FileSystem(SharedVolume& shared, const TreeRecord& record, std::unique_ptr<Store> view,
             std::size_t nodes_max, BufferSource& buffers)
      : tree(record.id),
        volume(shared, record, std::move(view), nodes_max),
        data(volume, buffers),
        names(volume, data),
        attributes(volume, data),
        quotas(volume, data) {}

  const TreeId tree;
  Volume volume;
  FileData data;
  Namespace names;
  AttributeOps attributes;
  QuotaOperations quotas;
};

}  // namespace filer::engine

// attributes.h: attributes and extended attributes, and who may change them. Threads: any.
#pragma once

#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {

class AttributeOps {
 public:
  AttributeOps(Volume& volume, FileData& data) : volume_(volume), data_(data) {}

  Result<Attributes> Get(NodeId id);
  Result<Attributes> Set(const Caller& caller, NodeId id, const AttributeChange& change);
  Result<void> DropPrivileges(const Caller& caller, NodeId id);
  Result<std::string> GetXattr(NodeId id, std::string_view name);
  Result<void> SetXattr(const Caller& caller, NodeId id, std::string_view name,
                        std::string_view value, Engine::XattrMode mode);
  Result<void> RemoveXattr(const Caller& caller, NodeId id, std::string_view name);
  Result<std::vector<std::string>> ListXattrs(NodeId id);

 private:
  Volume& volume_;
  FileData& data_;
};

}  // namespace filer::engine

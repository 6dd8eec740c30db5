// attributes.h: attributes and extended attributes, and who may change them. Threads: any.
#pragma once

#include "fsal/engine/fs/acl.h"
#include "fsal/engine/fs/file_data.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {

class AttributeOps {
 public:
  AttributeOps(Volume& volume, FileData& data) : volume_(volume), data_(data) {}

  Result<Attributes> Get(NodeId id);
  Result<Attributes> Set(const Caller& caller, NodeId id, const AttributeChange& change);
  Result<void> DropPrivileges(const Caller& caller, NodeId id);
  Result<Acl> GetAcl(NodeId id);
  Result<void> Access(const Caller& caller, NodeId id, std::uint32_t mask);
  Result<void> AccessToRemove(const Caller& caller, NodeId directory, NodeId id);
  Result<std::string> GetXattr(NodeId id, std::string_view name);
  Result<void> SetXattr(const Caller& caller, NodeId id, std::string_view name,
                        std::string_view value, Engine::XattrMode mode);
  Result<void> RemoveXattr(const Caller& caller, NodeId id, std::string_view name);
  Result<std::vector<std::string>> ListXattrs(NodeId id);

 private:
  Result<Attributes> SetInTurns(const Caller& caller, NodeId id, const AttributeChange& change);
  Result<std::string> GetPosixXattr(NodeId id, std::string_view name);
  Result<void> ChangePosixXattr(const Caller& caller, NodeId id, std::string_view name,
                                std::optional<std::string_view> value, Engine::XattrMode mode);

  Volume& volume_;
  FileData& data_;
};

inline constexpr std::string_view kPosixAccessXattr = "system.posix_acl_access";
inline constexpr std::string_view kPosixDefaultXattr = "system.posix_acl_default";
bool IsPosixAclName(std::string_view name);

AclSubject SubjectOf(const InodeRecord& record);
// What a change of mode and list, whose mode is in the record already, makes of the list and the
// mode. The node's mutex is held. Errors: as ValidateAcl and AclTable::Get.
Result<void> StageAcl(Volume& volume, const AttributeChange& change, const Caller& caller,
                      Staged& staged);

}  // namespace filer::engine

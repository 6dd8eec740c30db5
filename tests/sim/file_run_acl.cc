// file_run_acl.cc: POSIX lists in random runs. A handful of lists for all nodes, so that they are
// shared, and their counts go up and down with every operation that ends an inode.
#include "tests/sim/file_run.h"

namespace filer::engine::sim {
namespace {

const Caller kRoot{};
constexpr const char* kList = "system.posix_acl_access";
constexpr std::size_t kHeaderBytes = 4, kEntryBytes = 8;
constexpr std::size_t kOwnerAt = 0, kMaskAt = 3, kOtherAt = 4;

// Linux's format: owner, one user, group, mask, others.
std::string ListOf(std::uint64_t draw) {
  std::string bytes("\2\0\0\0", kHeaderBytes);
  const char user = static_cast<char>(draw % 3);
  const auto add = [&](char tag, std::uint64_t permissions, const std::string& id) {
    bytes += std::string{tag, '\0', static_cast<char>(permissions % 8), '\0'} + id;
  };
  const std::string none(4, '\xff');
  add(0x01, 7, none);
  add(0x02, draw / 3 % 8, std::string{user, '\0', '\0', '\0'});
  add(0x04, 5, none);
  add(0x10, 6, none);
  add(0x20, 4, none);
  return bytes;
}

char& PermissionsAt(std::string& list, std::size_t entry) {
  return list[kHeaderBytes + entry * kEntryBytes + 2];
}

}  // namespace

void FileRun::SetMode(std::uint64_t inode, std::uint32_t mode) {
  ModelNode& node = model_.nodes.at(inode);
  node.mode = mode;
  const auto list = node.xattrs.find(kList);
  if (list == node.xattrs.end()) return;
  PermissionsAt(list->second, kOwnerAt) = static_cast<char>(mode >> 6 & 7);
  PermissionsAt(list->second, kMaskAt) = static_cast<char>(mode >> 3 & 7);
  PermissionsAt(list->second, kOtherAt) = static_cast<char>(mode & 7);
}

std::string FileRun::SetPosixList(const Operation& operation) {
  const std::uint64_t inode = NodeAt(operation);
  ModelNode& node = model_.nodes.at(inode);
  std::string wrong;
  if (operation.draw % 4 == 0) {
    const bool exists = node.xattrs.contains(kList);
    wrong = Met(engine_->RemoveXattr(kRoot, Id(inode), kList),
                exists ? std::nullopt : std::optional<Errc>(Errc::kNoAttribute));
    if (!wrong.empty() || !is_done_) return wrong;
    node.xattrs.erase(kList);
    return CheckChanged(inode);
  }
  std::string list = ListOf(operation.draw / 128);
  std::optional<Errc> expected;
  if (node.kind == NodeKind::kSymlink) expected = Errc::kNotSupported;
  wrong = Met(engine_->SetXattr(kRoot, Id(inode), kList, list, Engine::XattrMode::kCreateOrReplace),
              expected);
  if (!wrong.empty() || !is_done_) return wrong;
  node.mode = (node.mode & ~0777U) | static_cast<std::uint32_t>(PermissionsAt(list, kOwnerAt) << 6 |
                                                                PermissionsAt(list, kMaskAt) << 3 |
                                                                PermissionsAt(list, kOtherAt));
  node.xattrs[kList] = std::move(list);
  return CheckChanged(inode);
}

}  // namespace filer::engine::sim

// file_model.h: the file system's semantics in memory, by inode number, with what a crash may leave
// of unstable data; read from an engine, and compared.
//
// A model is a value: copies share the contents of blocks. After a crash a file may have, in each
// block, the current content or one of `older`; nothing else; and a size between size_min and
// size_max.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fsal/engine/engine.h"

namespace filer::engine::sim {

inline constexpr std::uint64_t kModelBlockBytes = 4096;

struct ModelNode {
  using Block = std::shared_ptr<const std::string>;  // kModelBlockBytes long; null: zeroes

  NodeKind kind = NodeKind::kFile;
  std::uint32_t mode = 0, uid = 0, gid = 0, links = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::int64_t mtime_ns = 0;
  std::set<std::int64_t> older_mtimes;  // that a crash may bring back
  std::string symlink;
  std::map<std::string, std::string> xattrs;
  struct Entry {
    std::uint64_t inode = 0;
    std::uint64_t cookie = 0;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::map<std::string, Entry> entries;  // directories

  std::uint64_t size = 0, size_min = 0, size_max = 0;  // files; bytes
  std::map<std::uint64_t, Block> blocks;
  std::map<std::uint64_t, std::vector<Block>> older;

  // What reads return now.
  std::string Content(std::uint64_t offset, std::uint64_t length) const;
  Block BlockAt(std::uint64_t block) const;
  // The bytes are so now; what was there before may come back unless Settle says otherwise.
  void Put(std::uint64_t offset, std::string_view bytes);
  void Resize(std::uint64_t new_size);  // durable, at once
  // Blocks [first, end): nothing older comes back. And the size, as far as they reach.
  void Settle(std::uint64_t first, std::uint64_t end);
  void SettleAll();  // and times
  // Content and size are those of `now`; what was here may come back.
  void Show(const ModelNode& now);

 private:
  void Replace(std::uint64_t block, std::string content);
};

struct FileModel {
  std::map<std::uint64_t, ModelNode> nodes;
  std::map<std::uint64_t, std::uint32_t>
      holds;  // by inode; of nodes that may have no link any more

  // Without names and not held: gone.
  void DropIfGone(std::uint64_t inode);
  bool IsBelow(std::uint64_t inode, std::uint64_t ancestor) const;
  void ForgetHolds();  // a mount: what had no names is gone
};

// All that can be reached from the root, every block read. Errors: the engine's, and kCorrupt when
// what it says does not fit together.
Result<FileModel> ReadModel(Engine& engine);

// What of `found` (read from an engine after a crash) `allowed` does not allow; empty: nothing.
// Nodes without names are not looked at. With `is_exact` nothing older is allowed.
std::string Difference(const FileModel& found, const FileModel& allowed, bool is_exact);

}  // namespace filer::engine::sim

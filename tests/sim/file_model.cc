#include "tests/sim/file_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kBlock = kModelBlockBytes;
constexpr std::uint64_t kReadBytes = 1 << 20;
const std::string kZeroes(kBlock, '\0');

const std::string& BytesOf(const ModelNode::Block& block) {
  return block == nullptr ? kZeroes : *block;
}

ModelNode::Block MakeBlock(std::string_view bytes) {
  if (bytes == std::string_view(kZeroes).substr(0, bytes.size())) return nullptr;
  std::string content(bytes);
  content.resize(kBlock, '\0');
  return std::make_shared<const std::string>(std::move(content));
}

std::uint64_t BlocksOf(std::uint64_t bytes) { return (bytes + kBlock - 1) / kBlock; }

}  // namespace

ModelNode::Block ModelNode::BlockAt(std::uint64_t block) const {
  const auto found = blocks.find(block);
  return found == blocks.end() ? nullptr : found->second;
}

std::string ModelNode::Content(std::uint64_t offset, std::uint64_t length) const {
  if (offset >= size) return {};
  const std::uint64_t end = offset + std::min(length, size - offset);
  std::string content;
  content.reserve(end - offset);
  while (offset < end) {
    const std::uint64_t within = offset % kBlock;
    const std::uint64_t some = std::min(kBlock - within, end - offset);
    content.append(BytesOf(BlockAt(offset / kBlock)), within, some);
    offset += some;
  }
  return content;
}

void ModelNode::Replace(std::uint64_t block, std::string content) {
  auto& before = older[block];
  const Block now = BlockAt(block);
  if (std::find(before.begin(), before.end(), now) == before.end()) before.push_back(now);
  blocks[block] = MakeBlock(content);
}

void ModelNode::Put(std::uint64_t offset, std::string_view bytes) {
  const std::uint64_t end = offset + bytes.size();
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t within = at % kBlock;
    const std::uint64_t some = std::min(kBlock - within, end - at);
    std::string content = BytesOf(BlockAt(at / kBlock));
    content.replace(within, some, bytes.substr(at - offset, some));
    Replace(at / kBlock, std::move(content));
    at += some;
  }
  size = std::max(size, end);
  size_max = std::max(size_max, size);
}

void ModelNode::Resize(std::uint64_t new_size) {
  const std::uint64_t first_gone = BlocksOf(new_size);
  if (new_size < size) {
    blocks.erase(blocks.lower_bound(first_gone), blocks.end());
    older.erase(older.lower_bound(first_gone), older.end());
    const std::uint64_t keep = new_size % kBlock;
    const auto cut = [keep](const Block& block) {
      return MakeBlock(std::string_view(BytesOf(block)).substr(0, keep));
    };
    if (keep != 0) {
      const auto tail = blocks.find(new_size / kBlock);
      if (tail != blocks.end()) tail->second = cut(tail->second);
      const auto before = older.find(new_size / kBlock);
      if (before != older.end()) {
        for (Block& block : before->second) block = cut(block);
      }
    }
  }
  size = size_min = size_max = new_size;
}

void ModelNode::Settle(std::uint64_t first, std::uint64_t end) {
  older.erase(older.lower_bound(first), older.lower_bound(end));
  const bool is_all = end > std::numeric_limits<std::uint64_t>::max() / kBlock;
  size_min = std::max(size_min, is_all ? size : std::min(size, end * kBlock));
  if (older.empty() && size_min == size) size_max = size;
}

void ModelNode::SettleAll() {
  older.clear();
  older_mtimes.clear();
  size_min = size_max = size;
}

void ModelNode::Show(const ModelNode& now) {
  const std::uint64_t end = BlocksOf(std::max(size, now.size));
  for (std::uint64_t block = 0; block < end; ++block) {
    if (BytesOf(BlockAt(block)) != BytesOf(now.BlockAt(block))) {
      Replace(block, BytesOf(now.BlockAt(block)));
    }
  }
  size_min = std::min(size_min, now.size);
  size_max = std::max({size_max, size, now.size});
  size = now.size;
}

void FileModel::DropIfGone(std::uint64_t inode) {
  const auto found = nodes.find(inode);
  if (found != nodes.end() && found->second.links == 0 && !holds.contains(inode)) {
    nodes.erase(found);
  }
}

bool FileModel::IsBelow(std::uint64_t inode, std::uint64_t ancestor) const {
  if (inode == ancestor) return true;
  for (const auto& [name, entry] : nodes.at(ancestor).entries) {
    const bool is_directory = nodes.at(entry.inode).kind == NodeKind::kDirectory;
    if (is_directory && IsBelow(inode, entry.inode)) return true;
  }
  return false;
}

void FileModel::ForgetHolds() {
  holds.clear();
  std::erase_if(nodes, [](const auto& entry) { return entry.second.links == 0; });
}

namespace {

class ModelReader {
 public:
  explicit ModelReader(Engine& engine) : engine_(engine) {}

  Result<FileModel> Read() {
    std::vector<std::uint64_t> open{kRootInode};
    while (!open.empty()) {
      const std::uint64_t inode = open.back();
      open.pop_back();
      if (model_.nodes.contains(inode)) continue;
      ModelNode& node = model_.nodes[inode];
      FILER_TRY(ReadNode({kRootFileset, 0, inode}, node));
      for (const auto& [name, entry] : node.entries) open.push_back(entry.inode);
    }
    return std::move(model_);
  }

 private:
  Result<void> ReadNode(NodeId id, ModelNode& node) {
    const Attributes attributes = FILER_TRY(engine_.GetAttributes(id));
    if (attributes.id != id) return Error(Errc::kCorrupt, "a node says that it is another");
    node.kind = attributes.kind;
    node.mode = attributes.mode;
    node.uid = attributes.uid;
    node.gid = attributes.gid;
    node.links = attributes.links;
    node.device_major = attributes.device_major;
    node.device_minor = attributes.device_minor;
    node.mtime_ns = attributes.mtime_ns;
    for (const std::string& name : FILER_TRY(engine_.ListXattrs(id))) {
      node.xattrs[name] = FILER_TRY(engine_.GetXattr(id, name));
    }
    if (node.kind == NodeKind::kFile) return ReadContent(id, attributes.size_bytes, node);
    if (node.kind == NodeKind::kSymlink) node.symlink = FILER_TRY(engine_.ReadLink(id));
    if (node.kind == NodeKind::kDirectory) return ReadEntries(id, node);
    return Ok();
  }

  Result<void> ReadContent(NodeId id, std::uint64_t size, ModelNode& node) {
    node.size = node.size_min = node.size_max = size;
    for (std::uint64_t at = 0; at < size;) {
      const ReadResult read = FILER_TRY(engine_.Read(id, at, kReadBytes));
      if (read.length_bytes != std::min(size - at, kReadBytes)) {
        return Error(Errc::kCorrupt, "a read is shorter than the file");
      }
      std::string bytes;
      for (const iovec& segment : read.segments) {
        bytes.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
      }
      for (std::uint64_t done = 0; done < bytes.size(); done += kBlock) {
        auto block = MakeBlock(std::string_view(bytes).substr(done, kBlock));
        if (block != nullptr) node.blocks[(at + done) / kBlock] = std::move(block);
      }
      at += bytes.size();
    }
    return Ok();
  }

  Result<void> ReadEntries(NodeId id, ModelNode& node) {
    bool is_sound = true;
    std::uint64_t last = 2;
    const bool is_end = FILER_TRY(engine_.ReadDirectory(id, 0, [&](const DirectoryEntry& entry) {
      const bool is_new =
          node.entries.emplace(entry.name, ModelNode::Entry{entry.id.inode, entry.cookie}).second;
      is_sound = is_sound && is_new && entry.cookie > last;
      last = entry.cookie;
      return true;
    }));
    if (!is_sound || !is_end) return Error(Errc::kCorrupt, "a directory lists a name twice");
    for (const auto& [name, entry] : node.entries) {
      const Attributes found = FILER_TRY(engine_.Lookup(id, name));
      if (found.id.inode != entry.inode) return Error(Errc::kCorrupt, name + " leads elsewhere");
      if (found.kind != NodeKind::kDirectory) continue;
      const Attributes parent = FILER_TRY(engine_.LookupParent(found.id));
      if (parent.id != id) return Error(Errc::kCorrupt, name + " has another parent");
    }
    return Ok();
  }

  Engine& engine_;
  FileModel model_;
};

std::string FileDifference(const ModelNode& found, const ModelNode& allowed, bool is_exact) {
  const std::uint64_t low = is_exact ? allowed.size : allowed.size_min;
  const std::uint64_t high = is_exact ? allowed.size : allowed.size_max;
  if (found.size < low || found.size > high) {
    return fmt::format("size {}, allowed {} to {}", found.size, low, high);
  }
  for (std::uint64_t block = 0; block < BlocksOf(found.size); ++block) {
    const std::uint64_t length = std::min(kBlock, found.size - block * kBlock);
    const std::string& bytes = BytesOf(found.BlockAt(block));
    const auto is_same = [&](const ModelNode::Block& other) {
      return std::memcmp(bytes.data(), BytesOf(other).data(), length) == 0;
    };
    bool is_allowed = is_same(allowed.BlockAt(block));
    const auto older = allowed.older.find(block);
    if (!is_exact && !is_allowed && older != allowed.older.end()) {
      is_allowed = std::any_of(older->second.begin(), older->second.end(), is_same);
    }
    if (!is_allowed) return fmt::format("block {} has a content that it may not have", block);
  }
  return {};
}

std::string NodeDifference(const ModelNode& found, const ModelNode& allowed, bool is_exact) {
  const auto number = [](const char* what, std::uint64_t is, std::uint64_t should) {
    return is == should ? std::string() : fmt::format("{} is {}, not {}", what, is, should);
  };
  for (const std::string& text :
       {number("kind", static_cast<std::uint64_t>(found.kind),
               static_cast<std::uint64_t>(allowed.kind)),
        number("mode", found.mode, allowed.mode), number("uid", found.uid, allowed.uid),
        number("gid", found.gid, allowed.gid), number("links", found.links, allowed.links),
        number("device", found.device_major, allowed.device_major),
        number("device", found.device_minor, allowed.device_minor)}) {
    if (!text.empty()) return text;
  }
  if (found.symlink != allowed.symlink) return "another symlink target";
  if (found.xattrs != allowed.xattrs) return "other extended attributes";
  const bool is_old_time = !is_exact && allowed.older_mtimes.contains(found.mtime_ns);
  if (found.mtime_ns != allowed.mtime_ns && !is_old_time) {
    return fmt::format("mtime is {}, not {}", found.mtime_ns, allowed.mtime_ns);
  }
  for (const auto& [name, entry] : allowed.entries) {
    const auto there = found.entries.find(name);
    if (there == found.entries.end()) return "the entry " + name + " is missing";
    if (!(there->second == entry)) {
      return fmt::format("the entry {} is inode {} cookie {}, not inode {} cookie {}", name,
                         there->second.inode, there->second.cookie, entry.inode, entry.cookie);
    }
  }
  for (const auto& [name, entry] : found.entries) {
    if (!allowed.entries.contains(name)) return "there is an entry " + name;
  }
  return found.kind == NodeKind::kFile ? FileDifference(found, allowed, is_exact) : std::string();
}

}  // namespace

Result<FileModel> ReadModel(Engine& engine) { return ModelReader(engine).Read(); }

std::string Difference(const FileModel& found, const FileModel& allowed, bool is_exact) {
  for (const auto& [inode, node] : allowed.nodes) {
    if (node.links == 0) continue;
    const auto there = found.nodes.find(inode);
    if (there == found.nodes.end()) return fmt::format("inode {} is missing", inode);
    const std::string difference = NodeDifference(there->second, node, is_exact);
    if (!difference.empty()) return fmt::format("inode {}: {}", inode, difference);
  }
  for (const auto& [inode, node] : found.nodes) {
    const auto there = allowed.nodes.find(inode);
    if (there == allowed.nodes.end() || there->second.links == 0) {
      return fmt::format("there is an inode {}", inode);
    }
  }
  return {};
}

}  // namespace filer::engine::sim

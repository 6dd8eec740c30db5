#include "tests/unit/fsal/engine/fs/model.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kBlock = 4096;

std::string BlockOf(const std::string& content, std::uint64_t block) {
  if (block * kBlock >= content.size()) return std::string(kBlock, '\0');
  std::string bytes = content.substr(block * kBlock, kBlock);
  bytes.resize(kBlock, '\0');
  return bytes;
}

}  // namespace

std::uint64_t ModelDriver::PickNode(NodeKind kind) {
  std::vector<std::uint64_t> all;
  for (const auto& [inode, node] : model.nodes) {
    if (node.kind == kind) all.push_back(inode);
  }
  return all.empty() ? 0 : all[Pick(static_cast<std::uint32_t>(all.size()))];
}

std::string ModelDriver::Bytes(std::size_t count) {
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random_());
  return bytes;
}

// True when it succeeded as expected.
template <typename R>
bool ModelDriver::Met(const R& result, std::optional<Errc> expected) {
  if (result.has_value()) {
    EXPECT_FALSE(expected.has_value()) << "succeeded, expected " << ErrcText(*expected);
    return !expected.has_value();
  }
  // kReadOnly: the log had failed before, in the background.
  if (result.error() == Errc::kDeviceGone || result.error() == Errc::kIo ||
      result.error() == Errc::kReadOnly) {
    was_cut = true;
    return !expected.has_value();  // it may have happened
  }
  EXPECT_TRUE(expected.has_value()) << "failed: " << result.error().message();
  if (expected.has_value()) {
    EXPECT_EQ(ErrcText(result.error().code()), ErrcText(*expected));
  }
  return false;
}

void ModelDriver::Create(NodeKind kind) {
  const std::uint64_t directory = PickNode(NodeKind::kDirectory);
  const std::string name = PickName();
  const bool exists = model.nodes[directory].entries.contains(name);
  if (kind == NodeKind::kDirectory && model.nodes.size() > 40) kind = NodeKind::kFile;
  const auto created = fs_.TryCreate(Id(directory), name, kind, 0640);
  const bool is_met =
      Met(created, exists ? std::optional<Errc>(Errc::kExists) : std::optional<Errc>());
  if (!is_met || !created.has_value()) {
    if (is_met && was_cut) {  // its number is unknown
      model.nodes[UINT64_MAX].kind = kind;
      model.nodes[directory].entries[name] = UINT64_MAX;
    }
    return;
  }
  ModelNode node;
  node.kind = kind;
  node.mode = 0640;
  model.nodes[created.value().node.id.inode] = node;
  model.nodes[directory].entries[name] = created.value().node.id.inode;
}

void ModelDriver::Link() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  const std::uint64_t directory = PickNode(NodeKind::kDirectory);
  const std::string name = PickName();
  if (file == 0) return;
  const bool exists = model.nodes[directory].entries.contains(name);
  if (Met(fs_->Link(kRootCaller, Id(file), Id(directory), name),
          exists ? std::optional<Errc>(Errc::kExists) : std::optional<Errc>())) {
    model.nodes[directory].entries[name] = file;
  }
}

void ModelDriver::Remove() {
  const std::uint64_t directory = PickNode(NodeKind::kDirectory);
  const std::string name = PickName();
  std::optional<Errc> expected;
  auto& entries = model.nodes[directory].entries;
  if (!entries.contains(name)) {
    expected = Errc::kNotFound;
  } else if (!model.nodes[entries[name]].entries.empty()) {
    expected = Errc::kNotEmpty;
  }
  if (!Met(fs_->Remove(kRootCaller, Id(directory), name, RemoveKind::kAny), expected)) return;
  const std::uint64_t child = entries[name];
  entries.erase(name);
  model.DropIfUnlinked(child);
}

void ModelDriver::Rename() {
  const std::uint64_t from = PickNode(NodeKind::kDirectory);
  const std::uint64_t to = PickNode(NodeKind::kDirectory);
  const std::string from_name = PickName();
  const std::string to_name = PickName();
  std::uint32_t flags = kRenameReplace;
  if (Pick(6) == 0) flags = Pick(2) == 0 ? kRenameNoReplace : kRenameExchange;
  auto& from_entries = model.nodes[from].entries;
  auto& to_entries = model.nodes[to].entries;
  const std::uint64_t source = from_entries.contains(from_name) ? from_entries[from_name] : 0;
  const std::uint64_t target = to_entries.contains(to_name) ? to_entries[to_name] : 0;
  const auto is_directory = [&](std::uint64_t inode) {
    return inode != 0 && model.nodes[inode].kind == NodeKind::kDirectory;
  };
  std::optional<Errc> expected;
  if (source == 0) {
    expected = Errc::kNotFound;
  } else if (is_directory(source) && from != to && model.IsBelow(to, source)) {
    expected = Errc::kLoop;
  } else if (flags == kRenameExchange && is_directory(target) && from != to &&
             model.IsBelow(from, target)) {
    expected = Errc::kLoop;
  } else if (target == 0) {
    if (flags == kRenameExchange) expected = Errc::kNotFound;
  } else if (flags == kRenameNoReplace) {
    expected = Errc::kExists;
  } else if (flags == 0 && source != target) {
    if (is_directory(target) && !is_directory(source)) expected = Errc::kIsDirectory;
    if (!is_directory(target) && is_directory(source)) expected = Errc::kNotDirectory;
    if (is_directory(target) && is_directory(source) && !model.nodes[target].entries.empty()) {
      expected = Errc::kNotEmpty;
    }
  }
  const auto renamed = fs_->Rename(kRootCaller, Id(from), from_name, Id(to), to_name, flags);
  if (!Met(renamed, expected) || source == target) return;
  if (flags == kRenameExchange) {
    std::swap(from_entries[from_name], to_entries[to_name]);
    return;
  }
  from_entries.erase(from_name);
  to_entries[to_name] = source;
  if (target != 0) model.DropIfUnlinked(target);
}

void ModelDriver::Remember(ModelNode& node, std::uint64_t first, std::uint64_t end) {
  for (std::uint64_t block = first; block < end; ++block) {
    node.block_versions[block].push_back(BlockOf(node.content, block));
  }
}

void ModelDriver::Stabilize(ModelNode& node, std::uint64_t first, std::uint64_t end) {
  node.block_versions.erase(node.block_versions.lower_bound(first),
                            node.block_versions.lower_bound(end));
  const std::uint64_t size = node.content.size();
  node.size_min = std::max(node.size_min, std::min<std::uint64_t>(size, end * kBlock));
}

void ModelDriver::Write() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  if (file == 0) return;
  ModelNode& node = model.nodes[file];
  const std::uint64_t offset = Pick(4) == 0 ? Pick(40) * kBlock : Pick(150'000);
  const std::string bytes = Bytes(1 + (Pick(3) == 0 ? Pick(60'000) : Pick(6'000)));
  const auto stability = Pick(4) == 0 ? Stability::kFileSync : Stability::kUnstable;
  const std::uint64_t first = offset / kBlock;
  const std::uint64_t end = (offset + bytes.size() + kBlock - 1) / kBlock;
  Remember(node, std::min<std::uint64_t>(first, node.content.size() / kBlock), end);
  const auto written = fs_.TryWrite(Id(file), offset, bytes, stability);
  if (!Met(written, {})) return;
  if (node.content.size() < offset + bytes.size()) node.content.resize(offset + bytes.size());
  node.content.replace(offset, bytes.size(), bytes);
  node.size_max = std::max<std::uint64_t>(node.size_max, node.content.size());
  if (written.has_value() && stability == Stability::kFileSync) {
    Stabilize(node, first, end);
  }
}

void ModelDriver::Truncate() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  if (file == 0) return;
  ModelNode& node = model.nodes[file];
  const std::uint64_t size = Pick(3) == 0 ? Pick(50) * kBlock : Pick(200'000);
  AttributeChange change;
  change.size_bytes = size;
  const std::uint64_t old_size = node.content.size();
  if (was_cut) return;
  const auto changed = fs_->SetAttributes(kRootCaller, Id(file), change);
  if (!Met(changed, {})) return;
  if (!changed.has_value()) {  // cut: old or new
    Remember(node, std::min(size, old_size) / kBlock, std::max(size, old_size) / kBlock + 1);
    node.size_min = std::min(node.size_min, size);
    node.size_max = std::max(node.size_max, size);
    return;
  }
  node.content.resize(size);
  node.size_min = node.size_max = size;
  // What was cut off is gone for good; the block of the new end is stable up to it.
  node.block_versions.erase(node.block_versions.lower_bound((size + kBlock - 1) / kBlock),
                            node.block_versions.end());
  if (size < old_size && size % kBlock != 0) {
    auto& versions = node.block_versions[size / kBlock];
    for (std::string& version : versions) {
      version.replace(size % kBlock, kBlock, std::string(kBlock - size % kBlock, '\0'));
    }
  }
}

void ModelDriver::Punch() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  if (file == 0) return;
  ModelNode& node = model.nodes[file];
  const std::uint64_t offset = Pick(150'000);
  const std::uint64_t length = 1 + Pick(50'000);
  if (Pick(3) == 0) {
    Met(fs_->Allocate(kRootCaller, Id(file), offset, length, true), {});
    return;
  }
  const std::uint64_t first = offset / kBlock;
  const std::uint64_t end = (offset + length + kBlock - 1) / kBlock;
  const auto punched = fs_->Deallocate(kRootCaller, Id(file), offset, length);
  Remember(node, first, end);
  if (!Met(punched, {})) return;
  const std::uint64_t size = node.content.size();
  if (offset < size) {
    const std::uint64_t some = std::min(length, size - offset);
    node.content.replace(offset, some, std::string(some, '\0'));
  }
  if (punched.has_value()) {
    node.block_versions.erase(node.block_versions.lower_bound(first),
                              node.block_versions.lower_bound(end));
  }
}

void ModelDriver::Read() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  if (file == 0) return;
  const std::string& content = model.nodes[file].content;
  const std::uint64_t offset = Pick(200'000);
  const std::uint64_t length = 1 + Pick(100'000);
  const auto read = fs_->Read(Id(file), offset, length);
  if (!Met(read, {}) || !read.has_value()) return;
  const std::string expected = offset < content.size() ? content.substr(offset, length) : "";
  EXPECT_EQ(TestEngine::Text(read.value()) == expected, true)
      << "inode " << file << " offset " << offset << " length " << length;
  EXPECT_EQ(read.value().is_end_of_file, offset + length >= content.size());
}

void ModelDriver::Commit() {
  const std::uint64_t file = PickNode(NodeKind::kFile);
  if (file == 0) return;
  ModelNode& node = model.nodes[file];
  const auto committed = fs_->Commit(Id(file), 0, 0);
  if (!Met(committed, {}) || !committed.has_value()) return;
  node.block_versions.clear();
  node.size_min = node.size_max = node.content.size();
}

void ModelDriver::SetMode() {
  const std::uint64_t inode = PickNode(Pick(2) == 0 ? NodeKind::kFile : NodeKind::kDirectory);
  if (inode == 0) return;
  AttributeChange change;
  change.mode = Pick(01000);
  if (Met(fs_->SetAttributes(kRootCaller, Id(inode), change), {})) {
    model.nodes[inode].mode = *change.mode;
  }
}

void ModelDriver::SetXattr() {
  const std::uint64_t inode = PickNode(Pick(2) == 0 ? NodeKind::kFile : NodeKind::kDirectory);
  if (inode == 0) return;
  auto& xattrs = model.nodes[inode].xattrs;
  const std::string name = "user." + PickName();
  if (Pick(3) == 0) {
    const bool exists = xattrs.contains(name);
    if (Met(fs_->RemoveXattr(kRootCaller, Id(inode), name),
            exists ? std::optional<Errc>() : std::optional<Errc>(Errc::kNoAttribute))) {
      xattrs.erase(name);
    }
    return;
  }
  const std::string value = Bytes(Pick(300));
  if (Met(fs_->SetXattr(kRootCaller, Id(inode), name, value, Engine::XattrMode::kCreateOrReplace),
          {})) {
    xattrs[name] = value;
  }
}

bool ModelDriver::Step() {
  ++operations;
  before = model;
  switch (Pick(20)) {
    case 0:
    case 1:
      Create(NodeKind::kFile);
      break;
    case 2:
      Create(NodeKind::kDirectory);
      break;
    case 3:
      Create(NodeKind::kSymlink);
      break;
    case 4:
      Link();
      break;
    case 5:
      Remove();
      break;
    case 6:
    case 7:
      Rename();
      break;
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
      Write();
      break;
    case 13:
      Truncate();
      break;
    case 14:
      Punch();
      break;
    case 15:
    case 16:
      Read();
      break;
    case 17:
      Commit();
      break;
    case 18:
      SetMode();
      break;
    default:
      SetXattr();
      break;
  }
  return !was_cut;
}

namespace {

std::string FileDifference(const std::string& found, const ModelNode& node, bool is_after_crash,
                           const std::string& path) {
  if (!is_after_crash) return found == node.content ? "" : path + ": content differs";
  if (found.size() < node.size_min || found.size() > node.size_max) {
    return path + ": size " + std::to_string(found.size()) + ", allowed " +
           std::to_string(node.size_min) + " to " + std::to_string(node.size_max);
  }
  for (std::uint64_t block = 0; block * kBlock < found.size(); ++block) {
    const std::string bytes = found.substr(block * kBlock, kBlock);
    bool is_allowed = BlockOf(node.content, block).starts_with(bytes);
    const auto versions = node.block_versions.find(block);
    if (versions != node.block_versions.end()) {
      for (const std::string& version : versions->second) {
        is_allowed = is_allowed || version.starts_with(bytes);
      }
    }
    if (!is_allowed) return path + ": block " + std::to_string(block) + " has a wrong content";
  }
  return "";
}

std::string NodeDifference(TestEngine& fs, const Model& model, std::uint64_t inode,
                           bool is_after_crash, const std::string& path) {
  const NodeId id{kRootFileset, 0, inode};
  const ModelNode& node = model.nodes.at(inode);
  const auto attributes = fs->GetAttributes(id);
  if (!attributes.has_value()) return path + ": " + attributes.error().message();
  if (attributes.value().kind != node.kind) return path + ": kind";
  if (attributes.value().mode != node.mode) return path + ": mode";
  if (attributes.value().links != model.LinksOf(inode)) return path + ": links";
  const auto names = fs->ListXattrs(id);
  if (!names.has_value() || names.value().size() != node.xattrs.size()) return path + ": xattrs";
  for (const auto& [name, value] : node.xattrs) {
    const auto found = fs->GetXattr(id, name);
    if (!found.has_value() || found.value() != value) return path + ": xattr " + name;
  }
  if (node.kind == NodeKind::kFile) {
    const auto read = fs->Read(id, 0, 16 << 20);
    if (!read.has_value()) return path + ": read: " + read.error().message();
    return FileDifference(TestEngine::Text(read.value()), node, is_after_crash, path);
  }
  if (node.kind != NodeKind::kDirectory) return "";
  std::set<std::string> listed;
  for (const std::string& name : fs.List(id)) {
    if (!listed.insert(name).second) return path + ": listed twice: " + name;
  }
  if (listed.size() != node.entries.size()) return path + ": number of entries";
  for (const auto& [name, child] : node.entries) {
    const auto found = fs->Lookup(id, name);
    if (!listed.contains(name) || !found.has_value()) return path + ": entry " + name + " missing";
    if (child == UINT64_MAX) continue;  // made by the interrupted operation
    if (found.value().id.inode != child) return path + ": entry " + name + " leads elsewhere";
    const std::string difference =
        NodeDifference(fs, model, child, is_after_crash, path + "/" + name);
    if (!difference.empty()) return difference;
  }
  return "";
}

}  // namespace

std::string ModelDriver::Difference(TestEngine& fs, const Model& model, bool is_after_crash) {
  return NodeDifference(fs, model, kRootInode, is_after_crash, "");
}

void ModelDriver::Compare(TestEngine& fs, const Model& model, bool is_after_crash) {
  EXPECT_EQ(Difference(fs, model, is_after_crash), "");
}

}  // namespace filer::engine

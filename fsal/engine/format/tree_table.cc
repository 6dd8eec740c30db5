#include "fsal/engine/format/tree_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace filer::engine {
namespace {

constexpr std::uint64_t kCounterMax = 1ULL << 62;

struct TableHeader {
  le32 version;  // kFormatVersion
  le32 record_count;
  le32 next_id;
  le32 reserved;  // zero
  le64 next_list;
};
static_assert(DiskStruct<TableHeader> && sizeof(TableHeader) == 24);

struct DiskRecord {
  le32 id;
  le32 kind;
  le32 fileset;
  le32 origin;
  NodePointer root;
  le32 level;
  le64 key_count;
  le64 key_bytes;
  le64 file_count;
  le64 epoch;
  le64 shared_epoch;
  le64 list;
  le64 target_list;
  le64 made_ns;
  le32 holds;
  le32 reserved;          // zero
  std::uint8_t name[64];  // padded with zeroes, at least one
};
static_assert(DiskStruct<DiskRecord> && sizeof(DiskRecord) == 176);

Error Corrupt(std::string_view what) {
  return Error(Errc::kCorrupt,
               fmt::format("table of trees: {}; restore the volume from a backup", what));
}

DiskRecord ToDisk(const TreeRecord& record) {
  DiskRecord disk{};
  disk.id = record.id;
  disk.kind = static_cast<std::uint32_t>(record.kind);
  disk.fileset = record.fileset;
  disk.origin = record.origin;
  disk.root = record.root;
  disk.level = record.level;
  disk.key_count = record.key_count;
  disk.key_bytes = record.key_bytes;
  disk.file_count = record.file_count;
  disk.epoch = record.epoch;
  disk.shared_epoch = record.shared_epoch;
  disk.list = record.list;
  disk.target_list = record.target_list;
  disk.made_ns = static_cast<std::uint64_t>(record.made_ns);
  disk.holds = record.holds;
  std::memcpy(disk.name, record.name.data(), std::min(record.name.size(), kTreeNameBytesMax));
  return disk;
}

Result<TreeRecord> FromDisk(const DiskRecord& disk, const VolumeLayout& layout,
                            std::uint64_t tree_epoch) {
  TreeRecord record;
  if (disk.kind < 1 || disk.kind > static_cast<std::uint32_t>(TreeKind::kDeadList)) {
    return Corrupt("a tree of an unknown kind");
  }
  record.id = disk.id;
  record.kind = static_cast<TreeKind>(disk.kind.value());
  record.fileset = disk.fileset;
  record.origin = disk.origin;
  record.root = disk.root;
  record.level = disk.level;
  record.key_count = disk.key_count;
  record.key_bytes = disk.key_bytes;
  record.file_count = disk.file_count;
  record.epoch = disk.epoch;
  record.shared_epoch = disk.shared_epoch;
  record.list = disk.list;
  record.target_list = disk.target_list;
  record.made_ns = static_cast<std::int64_t>(disk.made_ns.value());
  record.holds = disk.holds;
  const auto* end = std::find(std::begin(disk.name), std::end(disk.name), 0);
  if (end == std::end(disk.name) || disk.reserved != 0) return Corrupt("a record is not valid");
  record.name.assign(std::begin(disk.name), end);
  const auto node_end = layout.node_first_block + layout.node_block_count;
  const bool is_root_possible =
      record.root.block == 0 ||
      (record.root.block >= layout.node_first_block && record.root.block <= node_end - kNodeBlocks);
  if (!is_root_possible || record.root.birth_epoch > tree_epoch || record.level > kNodeLevelMax ||
      record.epoch > tree_epoch || record.shared_epoch > tree_epoch ||
      record.file_count > kCounterMax || record.list > kCounterMax ||
      record.target_list > kCounterMax || (record.root.block == 0) != (record.key_count == 0)) {
    return Corrupt(fmt::format("tree {} does not fit the volume", record.id));
  }
  const bool has_name = record.kind == TreeKind::kLive || record.kind == TreeKind::kSnapshot;
  if (has_name && (!IsTreeName(record.name) || record.fileset == 0)) {
    return Corrupt(fmt::format("tree {} has no valid name", record.id));
  }
  return record;
}

}  // namespace

bool IsTreeName(std::string_view name) noexcept {
  constexpr std::string_view kOthers = "._:@+-";
  return !name.empty() && name.size() <= kTreeNameBytesMax && name.front() != '.' &&
         name.front() != '-' && std::ranges::all_of(name, [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  kOthers.find(c) != std::string_view::npos;
         });
}

std::size_t EncodedTreeTableBytes(std::size_t record_count) noexcept {
  return sizeof(TableHeader) + record_count * sizeof(DiskRecord);
}

std::string EncodeTreeTable(const TreeTable& table) {
  TableHeader header{};
  header.version = kFormatVersion;
  header.record_count = static_cast<std::uint32_t>(table.records.size());
  header.next_id = table.next_id;
  header.next_list = table.next_list;
  std::string bytes;
  bytes.reserve(EncodedTreeTableBytes(table.records.size()));
  bytes.append(reinterpret_cast<const char*>(&header), sizeof(header));
  for (const auto& record : table.records) {
    const auto disk = ToDisk(record);
    bytes.append(reinterpret_cast<const char*>(&disk), sizeof(disk));
  }
  return bytes;
}

Result<TreeTable> DecodeTreeTable(std::string_view bytes, const VolumeLayout& layout,
                                  std::uint64_t tree_epoch) {
  TableHeader header;
  if (bytes.size() < sizeof(header)) return Corrupt("cut short");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.version > kFormatVersion) {
    return Error(Errc::kNewerVersion, "table of trees: written by a newer release");
  }
  if (header.version != kFormatVersion || header.reserved != 0 || header.record_count > kTreesMax ||
      bytes.size() != EncodedTreeTableBytes(header.record_count)) {
    return Corrupt("its length is not what it says");
  }
  bytes.remove_prefix(sizeof(header));
  TreeTable table;
  table.next_id = header.next_id;
  table.next_list = header.next_list;
  std::set<std::pair<std::uint32_t, std::string>> names;  // filesets under 0
  for (std::uint32_t at = 0; at < header.record_count; ++at) {
    DiskRecord disk;
    std::memcpy(&disk, bytes.data() + at * sizeof(disk), sizeof(disk));
    auto record = FILER_TRY(FromDisk(disk, layout, tree_epoch));
    const bool is_in_order = at == 0 ? record.id == kListTree : record.id > table.records.back().id;
    if (!is_in_order || (record.id == kListTree) != (record.kind == TreeKind::kLists) ||
        record.id >= table.next_id || record.list >= table.next_list ||
        record.target_list >= table.next_list) {
      return Corrupt("a tree is listed out of order");
    }
    const bool is_live = record.kind == TreeKind::kLive;
    if ((is_live || record.kind == TreeKind::kSnapshot) &&
        !names.emplace(is_live ? 0 : record.fileset, record.name).second) {
      return Corrupt("two trees have one name: " + record.name);
    }
    table.records.push_back(std::move(record));
  }
  if (table.records.empty()) return Corrupt("there is no tree");
  return table;
}

}  // namespace filer::engine

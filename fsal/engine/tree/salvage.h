// salvage.h: all that can be read of the keys of a volume that nobody serves, whatever is damaged,
// and a new tree of them.
//
// Open reads the newest checkpoint's tree and the log behind it and passes over what does not
// verify: of a leaf, its range of keys is lost; below an inner node, the leaves are found by the
// map of used space, which knows which places the tree uses. Nothing is written before Write, which
// puts new nodes (those leaves that changed, and all above them) into places that nothing refers
// to, and leads to them by one uberblock: until that is durable the volume is as it was. Memory: a
// few bytes a leaf, and the keys of the log. One thread; nothing else may use the volume.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/format/tree_table.h"
#include "fsal/engine/tree/node_io.h"
#include "fsal/engine/tree/space_map.h"
#include "fsal/engine/tree/store.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

class TreeBuilder;

class Salvage {
 public:
  // Keys in [low, high) are gone (`high` empty: no end), or the end of the log.
  struct Loss {
    std::string what, where;
    std::string low, high;
    bool is_log = false;
  };
  // Damaged, but what it held is known from elsewhere.
  struct Mend {
    std::string what, where;
  };

  // Errors: as Store::Open, but for damage that it can live with; kCorrupt for what would be made
  // worse (an inner node and the map of used space are both damaged).
  static Result<std::unique_ptr<Salvage>> Open(BlockDevice& device, const Clock& clock);

  const std::vector<Loss>& losses() const { return losses_; }
  const std::vector<Mend>& mends() const { return mends_; }
  StoreGeometry Geometry() const;
  std::vector<std::uint8_t> HandleKey() const;
  std::uint64_t MountEpoch() const { return root_.mount_epoch; }
  // nullopt: that was lost.
  std::optional<std::uint64_t> recorded_files() const {
    return is_table_lost_ ? std::nullopt : std::optional(file_count_);
  }
  // Whether the map of used space says the same; a bit for each block of the data area.
  bool DoesMapSay(std::span<const std::uint64_t> data_words) const;

  // Every key in order, as Put and Erase have left it. Errors: the device's.
  using Visit = std::function<void(std::string_view key, std::string_view value)>;
  Result<void> Scan(const Visit& visit);
  void Put(std::string key, std::string value);
  void Erase(std::string key);
  bool has_changes() const { return has_changes_; }

  // The new tree. Errors: kNoSpace (the node region cannot hold it beside the old one), the
  // device's; the volume is as it was then.
  Result<void> Write(std::span<const std::uint64_t> data_words, std::uint64_t file_count);

 private:
  struct Leaf {
    std::string first_key, last_key;
    NodePointer pointer;
    std::uint64_t key_count = 0, key_bytes = 0;
    std::vector<std::uint64_t> pieces;  // their blocks
  };
  struct LostInner {
    std::string low, high;
    std::uint64_t block = 0;
    std::string what;
  };
  using Changes = std::map<std::string, std::optional<std::string>, std::less<>>;

  Salvage(BlockDevice& device, const Clock& clock, const LoadedLabel& label);

  Result<void> Load();
  Result<void> ReadTable();
  Result<void> TakeTable(std::string_view bytes);
  Result<void> Walk(const NodePointer& pointer, std::uint32_t level, std::string_view low,
                    std::string_view high);
  Result<void> TakeLeaf(const Page& page, const NodePointer& pointer);
  Result<void> TakePieces(const LeafCell& cell, Leaf& leaf);
  Result<void> FindLostLeaves();
  Result<std::optional<Leaf>> FoundLeaf(std::uint64_t block);
  Result<void> DropOverlaps();
  Result<void> ReadLog();
  Result<void> TakeGroup(const GroupHeader& header, std::string_view payload);
  Result<void> TakeTransactionOf(std::string_view& payload);
  Result<std::string> ValueOf(const LeafCell& cell);
  Result<void> BuildTree(TreeBuilder& builder);
  Result<void> MergeLeaf(const Leaf& leaf, Changes::const_iterator from, Changes::const_iterator to,
                         TreeBuilder& builder);
  Result<NodePointer> WriteTable(const TreeRecord& first, std::uint64_t epoch,
                                 const RunBuffers& buffers);
  void SetMap(std::span<const std::uint64_t> unit_words, std::span<const std::uint64_t> data_words);

  BlockDevice& device_;
  const Clock& clock_;
  const LoadedLabel label_;
  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  NodeReader reader_;
  SpaceMap map_;
  NodeSpace space_;  // what must not be overwritten before the new tree is durable
  Uberblock root_{};
  TreeTable table_;   // two records: the lists, and
  TreeRecord first_;  // the first fileset
  bool is_table_lost_ = false;
  std::uint64_t unreadable_units_ = 0;  // in use, and who knows what they held
  bool is_map_sound_ = false;
  std::vector<Leaf> leaves_;
  std::vector<LostInner> lost_inner_;
  std::uint64_t walked_units_ = 0;
  Changes changes_;
  bool has_changes_ = false;
  std::uint64_t file_count_ = 0;
  Lsn last_lsn_ = 0;
  std::vector<Loss> losses_;
  std::vector<Mend> mends_;
};

}  // namespace filer::engine

// repair_state.h: what repair knows of a volume: all inodes, entries and extents in memory, as they
// were read (repair_state.cc), and as they are to be (repair_names.cc, repair_extents.cc).
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "fsal/engine/device/block_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/fs/quota_keys.h"
#include "fsal/engine/tree/salvage.h"

namespace filer::engine {

class Repairer {
 public:
  Repairer(BlockDevice& device, Salvage& salvage, std::int64_t now_ns,
           const RepairOptions& options);
  Result<RepairReport> Run();

 private:
  struct Entry {
    EntryValue value;
    bool is_changed = false;  // its D key has to be written
  };
  struct Index {  // of N
    std::string key;
    NameValue value;
    bool is_hash_right = false;
  };
  struct Place {
    std::uint64_t directory = 0;
    std::uint64_t cookie = 0;
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  struct Inode {
    InodeRecord record;
    std::string stored;  // as it was read; empty: made now
    std::vector<Place> names;
    std::uint64_t blocks = 0;
    bool is_orphan = false;
    bool is_truncating = false;
    bool is_reached = false;
    std::map<std::uint64_t, Entry> entries;  // directories, by cookie
  };
  struct Placed {  // of E
    std::uint64_t inode = 0;
    std::uint64_t file_block = 0;
    std::uint64_t physical = 0;
    std::uint32_t length = 0;
    bool is_unwritten = false;
    bool is_contested = false;
    bool is_sound = true;  // its data matches
    bool is_dropped = false;
  };

  // repair_state.cc
  Result<void> Read();
  void ReadPair(std::string_view key, std::string_view value);
  bool ReadName(std::uint64_t directory, std::string_view key, std::string_view value);
  bool ReadExtent(std::uint64_t inode, std::string_view key, std::string_view value);
  Inode* Known(std::uint64_t number);
  bool IsLost(char letter, std::uint64_t inode) const;  // some keys of it may be in a lost range
  std::string PathOf(std::uint64_t inode) const;
  void Mended(std::string what, std::string where, std::uint64_t inode = 0);
  void Damaged(std::string what, std::uint64_t inode);
  void Put(std::string key, std::string value);
  void Erase(std::string key, std::string what, std::uint64_t inode);

  // repair_names.cc
  void RestoreEntries();
  void MakeLostInodes();
  Inode& MakeInode(std::uint64_t number, NodeKind kind, const std::string& why);
  void CheckEntries();
  bool IsEntryRight(std::uint64_t directory, std::uint64_t cookie, Entry& entry);
  void SeparateTwins();
  void PlaceDirectories();
  void CollectNames();
  void CheckMarks();
  void Reach(std::uint64_t from);
  void AttachUnreached();
  void Attach(std::uint64_t number);
  std::uint64_t LostAndFound();
  std::uint64_t NewInode();
  void AddEntry(std::uint64_t directory, std::uint64_t child, std::string name);
  void DropEntry(std::uint64_t directory, std::uint64_t cookie, const std::string& why);
  void WriteEntries();
  void WriteIndex();
  void WriteParents();
  void WriteInodes();
  bool Correct(std::uint64_t number, Inode& inode, std::string& what);

  // repair_extents.cc
  void CheckExtents();
  void SettleOverlaps();
  Result<std::vector<std::uint64_t>> DamagedBlocks(const Extent& extent);
  Result<void> VerifyData(bool only_contested);
  void DropExtent(Placed& extent, const std::string& why);
  void CountBlocks();
  void DropWithoutInode();
  std::vector<std::uint64_t> UsedWords() const;

  // repair_counts.cc
  bool ReadAcl(std::string_view key, std::string_view value);
  bool ReadQuota(std::string_view key, std::string_view value);
  void SettleAcls();
  void WriteUsage();

  // repair.cc
  void ListLosses();
  void FinishReport();

  BlockDevice& device_;
  Salvage& salvage_;
  const StoreGeometry geometry_;
  const std::int64_t now_ns_;
  const RepairOptions options_;
  SipKey key_{};
  RepairReport report_;

  std::map<std::uint64_t, Inode> inodes_;
  std::map<std::uint64_t, std::map<std::uint64_t, Entry>> loose_entries_;  // as read, by directory
  std::map<std::uint64_t, std::multimap<std::uint64_t, Index>> index_;     // by directory, cookie
  std::vector<Placed> extents_;  // in the order of their keys
  std::set<std::pair<std::uint64_t, Place>> parents_;
  std::set<std::uint64_t> orphans_, truncations_;
  std::vector<std::pair<std::uint64_t, std::string>> xattrs_;  // keys
  std::map<std::uint64_t, AclRecord> acls_;
  std::map<QuotaId, QuotaUsage> usage_;  // as recorded
  std::map<std::uint64_t, std::set<std::string>> damaged_;
  std::optional<Error> unreadable_;
  std::vector<std::string> unsound_;                            // keys
  std::vector<std::pair<CheckFinding, std::uint64_t>> mended_;  // with the inode concerned
  std::vector<CheckFinding> gone_;  // files of which not even the inode is left; path: the name
  std::vector<std::uint64_t> gone_directories_;  // as many: where that name was
  std::uint64_t next_inode_ = 0;
  bool has_counter_ = false;
  std::uint64_t lost_and_found_ = 0;
};

}  // namespace filer::engine

#include "fsal/engine/check/check.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/crc32c.h"
#include "base/units.h"
#include "fsal/engine/check/check_acl.h"
#include "fsal/engine/check/check_quota.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/trees.h"

namespace filer::engine {
namespace {

constexpr std::size_t kFindingsMax = 1000;
constexpr int kDepthMax = 4096;
constexpr std::uint32_t kReadBlocks = 256;

struct Entry {
  std::uint64_t cookie = 0;
  EntryValue value;
  bool is_indexed = false;
};

struct Inode {
  InodeRecord record;
  std::uint64_t names = 0;           // entries that lead here
  std::uint64_t recorded_names = 0;  // P keys that match an entry
  std::uint64_t subdirectories = 0;
  std::uint64_t blocks = 0;
  bool is_orphan = false;
  bool is_truncating = false;
  bool is_reached = false;
  bool has_parent_entry = false;  // the record's own parent and cookie are an entry that leads here
  std::map<std::uint64_t, Entry> entries;  // directories, by cookie
};

// The blocks of the data area: what the volume says is in use, and what trees were found to use.
struct SpaceFound {
  explicit SpaceFound(const Store& store)
      : first(store.Geometry().data_first_block),
        marked(store.UsedBlocks()),
        used(marked.size()),
        verified(marked.size()) {}

  static bool Has(const std::vector<std::uint64_t>& words, std::uint64_t bit) {
    return (words[bit / 64] >> bit % 64 & 1) != 0;
  }
  static void Set(std::vector<std::uint64_t>& words, std::uint64_t bit) {
    words[bit / 64] |= 1ULL << bit % 64;
  }

  std::uint64_t first;
  std::vector<std::uint64_t> marked, used, verified;
};

// One tree: a fileset or a snapshot.
class Checker {
 public:
  Checker(BlockDevice& device, const Store& store, std::string of, SpaceFound& space,
          CheckReport& report)
      : device_(device), store_(store), of_(std::move(of)), space_(space), report_(report) {
    const std::vector<std::uint8_t> secret = store.HandleKey();
    std::copy_n(secret.begin(), std::min(secret.size(), key_.size()), key_.begin());
  }

  Result<void> Run(bool verify_data) {
    ReadInodes();
    ReadEntries();
    ReadNames();
    ReadParents();
    ReadMarks();
    ReadExtents();
    ReadXattrs();
    ReadCounters();
    ReadForeign();
    Keep(CheckAclsOf(store_, key_, inodes_, [this](auto... finding) { Find(finding...); }));
    // What could not be read is neither there nor missing.
    if (unreadable_) return *unreadable_;
    CheckReached();
    CheckInodes();
    CheckOverlaps();
    CheckSpace();
    FILER_TRY(CheckQuotas());
    if (verify_data) FILER_TRY(VerifyData());
    report_.inodes += inodes_.size();
    return Ok();
  }

 private:
  void Find(std::string what, std::string where, std::uint64_t inode = 0) {
    if (report_.findings.size() >= kFindingsMax) return;
    report_.findings.push_back({std::move(what), of_ + std::move(where), PathOf(inode)});
  }
  static std::string At(const char* what, std::uint64_t number) {
    return std::string(what) + " " + std::to_string(number);
  }

  // Any one path; empty when the inode is not connected to the root. Put together only once the
  // root is reached: many findings may lie in a ring.
  std::string PathOf(std::uint64_t inode) const {
    std::vector<const std::string*> names;
    for (int depth = 0; inode != 0 && depth < kDepthMax; ++depth) {
      if (inode == kRootInode) return JoinUpwards(names);
      const auto up = place_of_.find(inode);
      if (up == place_of_.end()) return {};
      names.push_back(&up->second.second);
      inode = up->second.first;
    }
    return {};
  }
  static std::string JoinUpwards(const std::vector<const std::string*>& names) {
    if (names.empty()) return "/";
    std::string path;
    for (auto at = names.rbegin(); at != names.rend(); ++at) path.append("/").append(**at);
    return path;
  }

  // Each key of a letter with its first integer; keys of another length than `key_bytes` (if not 0)
  // are findings.
  template <typename Visit>
  void Each(char letter, std::size_t key_bytes, const Visit& visit) {
    const auto scanned =
        store_.Scan(StartOfLetter(letter), EndOfLetter(letter),
                    [&](std::string_view key, std::string_view value) {
                      const auto inode = KeyInteger(key, 0);
                      if (!inode.has_value() || (key_bytes != 0 && key.size() != key_bytes)) {
                        Find("a key is malformed", std::string("letter ") + letter);
                      } else {
                        visit(inode.value(), key, value);
                      }
                      return true;
                    });
    Keep(scanned);
  }
  void Keep(const Result<void>& scanned) {
    if (!scanned.has_value() && !unreadable_) unreadable_ = scanned.error();
  }
  Inode* Known(std::uint64_t inode) {
    const auto found = inodes_.find(inode);
    return found == inodes_.end() ? nullptr : &found->second;
  }

  void ReadInodes();
  void ReadEntries();
  void ReadNames();
  void ReadParents();
  void ReadMarks();
  void ReadExtents();
  void ReadXattrs();
  void ReadCounters();
  void ReadForeign();
  void CheckReached();
  void CheckInodes();
  void CheckDirectory(std::uint64_t number, const Inode& inode);
  void CheckLinks(std::uint64_t number, const Inode& inode);
  void CheckOverlaps();
  void CheckSpace();
  Result<void> CheckQuotas() {
    QuotaCheck quotas;
    for (const auto& [number, inode] : inodes_) quotas.Count(inode.record);
    return quotas.Compare(store_, [this](std::string what, std::string where) {
      Find(std::move(what), std::move(where));
    });
  }
  Result<void> VerifyData();
  bool IsVerified(const Extent& extent);

  struct Placed {
    std::uint64_t inode = 0;
    Extent extent;
  };

  BlockDevice& device_;
  const Store& store_;
  const std::string of_;  // before each place; empty: the first fileset
  SpaceFound& space_;
  CheckReport& report_;
  SipKey key_{};
  std::optional<Error> unreadable_;
  std::map<std::uint64_t, Inode> inodes_;
  std::unordered_map<std::uint64_t, std::pair<std::uint64_t, std::string>> place_of_;
  std::vector<Placed> extents_;
};

void Checker::ReadInodes() {
  Each('I', 9, [&](std::uint64_t number, std::string_view, std::string_view value) {
    auto record = DecodeInode(value);
    if (!record.has_value()) return Find("the inode record does not decode", At("inode", number));
    inodes_[number].record = std::move(record).value();
  });
  const Inode* root = Known(kRootInode);
  if (root == nullptr || root->record.kind != NodeKind::kDirectory) {
    Find("there is no root directory", At("inode", kRootInode));
  }
}

void Checker::ReadEntries() {
  Each('D', 17, [&](std::uint64_t number, std::string_view key, std::string_view value) {
    const std::uint64_t cookie = KeyInteger(key, 1).value();
    const std::string where = At("directory", number) + At(" cookie", cookie);
    auto entry = DecodeEntry(value);
    if (!entry.has_value()) return Find("a directory entry does not decode", where, number);
    Inode* directory = Known(number);
    if (directory == nullptr || directory->record.kind != NodeKind::kDirectory) {
      return Find("an entry of what is no directory", where, number);
    }
    if (cookie <= 2 || cookie >= directory->record.next_cookie) {
      Find("a cookie that was never issued", where, number);
    }
    Inode* child = Known(entry.value().child);
    if (child == nullptr) {
      Find("an entry leads to no inode: " + entry.value().name, where, number);
    } else {
      if (child->record.kind != entry.value().kind) {
        Find("an entry tells another kind than its inode", where, number);
      }
      ++child->names;
      if (child->record.parent == number && child->record.parent_cookie == cookie) {
        child->has_parent_entry = true;
      }
      if (child->record.kind == NodeKind::kDirectory) ++directory->subdirectories;
      place_of_.emplace(entry.value().child, std::make_pair(number, entry.value().name));
    }
    directory->entries[cookie] = {cookie, std::move(entry).value(), false};
  });
}

void Checker::ReadNames() {
  Each('N', 21, [&](std::uint64_t number, std::string_view key, std::string_view value) {
    const std::string where = At("name index of directory", number);
    const auto name = DecodeName(value);
    if (!name.has_value()) return Find("an index entry does not decode", where, number);
    const NameValue& found = name.value();
    if (KeyInteger(key, 1).value() != NameHash(key_, found.entry.name)) {
      Find("a name is indexed under a wrong hash: " + found.entry.name, where, number);
    }
    Inode* directory = Known(number);
    const auto entry = directory == nullptr ? std::map<std::uint64_t, Entry>::iterator{}
                                            : directory->entries.find(found.cookie);
    if (directory == nullptr || entry == directory->entries.end()) {
      return Find("a name leads to no entry: " + found.entry.name, where, number);
    }
    Entry& listed = entry->second;
    if (listed.value.child != found.entry.child || listed.value.name != found.entry.name ||
        listed.value.kind != found.entry.kind) {
      Find("a name and its entry differ: " + found.entry.name, where, number);
    }
    if (listed.is_indexed) Find("an entry is indexed twice: " + found.entry.name, where, number);
    listed.is_indexed = true;
  });
  for (auto& [number, inode] : inodes_) {
    std::set<std::string_view> names;
    for (const auto& [cookie, entry] : inode.entries) {
      if (!entry.is_indexed) {
        Find("an entry is not in the index: " + entry.value.name, At("directory", number), number);
      }
      if (!names.insert(entry.value.name).second) {
        Find("a name twice: " + entry.value.name, At("directory", number), number);
      }
    }
  }
}

void Checker::ReadParents() {
  Each('P', 25, [&](std::uint64_t number, std::string_view key, std::string_view) {
    const std::uint64_t parent = KeyInteger(key, 1).value();
    const std::uint64_t cookie = KeyInteger(key, 2).value();
    Inode* child = Known(number);
    Inode* directory = Known(parent);
    const bool has_entry = directory != nullptr && directory->entries.contains(cookie) &&
                           directory->entries[cookie].value.child == number;
    if (child == nullptr || !has_entry) {
      return Find("a recorded name of a file does not exist", At("inode", number), number);
    }
    ++child->recorded_names;
  });
}

void Checker::ReadMarks() {
  Each('O', 9, [&](std::uint64_t number, std::string_view, std::string_view) {
    Inode* inode = Known(number);
    if (inode == nullptr) return Find("an orphan without an inode", At("inode", number));
    inode->is_orphan = true;
  });
  Each('T', 9, [&](std::uint64_t number, std::string_view, std::string_view) {
    Inode* inode = Known(number);
    if (inode == nullptr) return Find("a truncation without an inode", At("inode", number));
    inode->is_truncating = true;
  });
}

void Checker::ReadExtents() {
  const StoreGeometry geometry = store_.Geometry();
  std::uint64_t last_inode = 0;
  std::uint64_t last_end = 0;
  Each('E', 17, [&](std::uint64_t number, std::string_view key, std::string_view value) {
    const std::string where = At("inode", number) + At(" file block", KeyInteger(key, 1).value());
    auto decoded = DecodeExtent(key, value);
    if (!decoded.has_value()) return Find("an extent does not decode", where, number);
    const Extent& extent = decoded.value();
    Inode* inode = Known(number);
    if (inode == nullptr || inode->record.kind != NodeKind::kFile) {
      return Find("an extent of what is no file", where, number);
    }
    if (number == last_inode && extent.file_block < last_end) {
      Find("two extents hold one block of the file", where, number);
    }
    last_inode = number;
    last_end = extent.end();
    const std::uint64_t size_blocks = RoundUp(inode->record.size, kBlockBytes) / kBlockBytes;
    if (extent.end() > size_blocks && !extent.is_unwritten && !inode->is_truncating &&
        !inode->is_orphan) {
      Find("data past the end of the file", where, number);
    }
    inode->blocks += extent.length;
    const bool is_inside =
        extent.physical >= geometry.data_first_block &&
        extent.physical - geometry.data_first_block < geometry.data_block_count &&
        extent.length <= geometry.data_block_count - (extent.physical - geometry.data_first_block);
    if (!is_inside) return Find("an extent lies outside of the data area", where, number);
    extents_.push_back({number, extent});
  });
}

void Checker::ReadXattrs() {
  Each('X', 0, [&](std::uint64_t number, std::string_view key, std::string_view value) {
    const std::size_t name_bytes = key.size() - 9;
    if (Known(number) == nullptr) Find("an attribute without an inode", At("inode", number));
    if (name_bytes == 0 || name_bytes > kXattrNameBytesMax || value.size() > kXattrValueBytesMax) {
      Find("an extended attribute has an impossible size", At("inode", number), number);
    }
  });
}

void Checker::ReadCounters() {
  const auto value = store_.Get(CounterKey(kInodeCounter));
  const auto next =
      value.has_value() ? DecodeCounter(value.value()) : Result<std::uint64_t>(Errc::kNotFound);
  if (!next.has_value()) return Find("the counter of inode numbers is gone", "counters");
  if (!inodes_.empty() && inodes_.rbegin()->first >= next.value()) {
    Find("an inode number is above the counter", At("inode", inodes_.rbegin()->first),
         inodes_.rbegin()->first);
  }
}

void Checker::ReadForeign() {
  const std::string_view known = "ACDEINOPQTX";
  bool has_foreign = false;
  const auto scanned = store_.Scan("", "", [&](std::string_view key, std::string_view) {
    has_foreign = key.empty() || known.find(key.front()) == std::string_view::npos;
    return !has_foreign;
  });
  Keep(scanned);
  if (has_foreign) Find("a key of an unknown kind", "store");
}

// Everything that hangs below the root. A ring of directories hangs below nothing.
void Checker::CheckReached() {
  std::vector<std::uint64_t> open{kRootInode};
  while (!open.empty()) {
    Inode* inode = Known(open.back());
    open.pop_back();
    if (inode == nullptr || inode->is_reached) continue;
    inode->is_reached = true;
    for (const auto& [cookie, entry] : inode->entries) open.push_back(entry.value.child);
  }
}

void Checker::CheckDirectory(std::uint64_t number, const Inode& inode) {
  ++report_.directories;
  const std::string where = At("directory", number);
  if (inode.record.entries != inode.entries.size()) {
    Find("the number of entries is " + std::to_string(inode.entries.size()) + ", recorded is " +
             std::to_string(inode.record.entries),
         where, number);
  }
  if (inode.is_orphan) return;
  if (inode.record.links != 2 + inode.subdirectories) {
    Find("the link count of a directory is wrong", where, number);
  }
  if (number != kRootInode && (inode.names != 1 || !inode.has_parent_entry)) {
    Find("a directory is not where its record says, or in two places", where, number);
  }
}

void Checker::CheckLinks(std::uint64_t number, const Inode& inode) {
  const std::string where = At("inode", number);
  if (inode.record.links != inode.names) {
    Find(std::to_string(inode.names) + " names, recorded are " + std::to_string(inode.record.links),
         where, number);
  }
  const std::uint64_t recorded = inode.record.links > 1 ? inode.record.links : 0;
  if (inode.recorded_names != recorded) {
    Find("the list of a file's names is wrong", where, number);
  }
  if (inode.record.links == 1 && !inode.has_parent_entry) {
    Find("a file is not where its record says", where, number);
  }
}

void Checker::CheckInodes() {
  for (const auto& [number, inode] : inodes_) {
    const std::string where = At("inode", number);
    if (!inode.is_reached && !inode.is_orphan) Find("not reachable from the root", where, number);
    if (inode.is_orphan && (inode.names != 0 || inode.record.links != 0)) {
      Find("an orphan has names", where, number);
    }
    if (inode.record.blocks != inode.blocks) {
      Find(std::to_string(inode.blocks) + " blocks, recorded are " +
               std::to_string(inode.record.blocks),
           where, number);
    }
    if (inode.record.kind == NodeKind::kDirectory) {
      CheckDirectory(number, inode);
    } else if (!inode.is_orphan) {
      CheckLinks(number, inode);
    }
  }
}

void Checker::CheckOverlaps() {
  std::sort(extents_.begin(), extents_.end(), [](const Placed& left, const Placed& right) {
    return left.extent.physical < right.extent.physical;
  });
  std::uint64_t end = 0;
  std::uint64_t owner = 0;
  for (const Placed& placed : extents_) {
    if (placed.extent.physical < end) {
      Find("a block belongs to two extents (the other: inode " + std::to_string(owner) + ")",
           At("block", placed.extent.physical), placed.inode);
    }
    if (placed.extent.physical + placed.extent.length > end) {
      end = placed.extent.physical + placed.extent.length;
      owner = placed.inode;
    }
  }
}

// What is used and not marked would be overwritten one day.
void Checker::CheckSpace() {
  const std::uint64_t files = store_.Counters().files;
  if (files != inodes_.size()) {
    Find(std::to_string(inodes_.size()) + " inodes, recorded are " + std::to_string(files),
         "store");
  }
  for (const Placed& placed : extents_) {
    const std::uint64_t end = placed.extent.physical + placed.extent.length;
    for (std::uint64_t block = placed.extent.physical; block < end; ++block) {
      const std::uint64_t bit = block - space_.first;
      if (!SpaceFound::Has(space_.marked, bit)) {
        Find("a block is in use and not marked so", At("block", block), placed.inode);
      }
      SpaceFound::Set(space_.used, bit);
    }
  }
}

Result<void> Checker::VerifyData() {
  std::vector<std::byte> bytes(kReadBlocks * kBlockBytes);
  for (const Placed& placed : extents_) {
    if (placed.extent.is_unwritten || IsVerified(placed.extent)) continue;
    const std::span<std::byte> some(bytes.data(), placed.extent.length * kBlockBytes);
    const auto read = ReadBlocking(device_, placed.extent.physical * kBlockBytes, some);
    if (!read.has_value()) {
      Find("data cannot be read: " + read.error().message(), At("block", placed.extent.physical),
           placed.inode);
      continue;
    }
    for (std::uint32_t index = 0; index < placed.extent.length; ++index) {
      const auto block = some.subspan(index * kBlockBytes, kBlockBytes);
      if (Crc32c(block) != placed.extent.checksums[index]) {
        Find("data does not match its checksum, file block " +
                 std::to_string(placed.extent.file_block + index),
             At("block", placed.extent.physical + index), placed.inode);
      }
    }
    report_.bytes_verified += some.size();
  }
  return Ok();
}

// Whether another tree had all of it; marks it.
bool Checker::IsVerified(const Extent& extent) {
  bool is_verified = true;
  for (std::uint64_t at = 0; at < extent.length; ++at) {
    const std::uint64_t bit = extent.physical + at - space_.first;
    is_verified = is_verified && SpaceFound::Has(space_.verified, bit);
    SpaceFound::Set(space_.verified, bit);
  }
  return is_verified;
}

// The map of used space: what is marked and not used is lost.
Result<void> CheckMarked(const Store& store, SpaceFound& space, CheckReport& report) {
  const auto find = [&](std::string what, std::string where) {
    if (report.findings.size() < kFindingsMax) {
      report.findings.push_back({std::move(what), std::move(where), {}});
    }
  };
  const SpaceReport map = store.Space();
  if (map.was_remade) {
    find("the map of used space is damaged; the next mount makes it anew", "map of used space");
  }
  if (map.differs_from_tree) {
    find("the map of used space does not match the metadata", "map of used space");
  }
  const std::uint64_t count = store.Geometry().data_block_count;
  for (const BlockRun& run : FILER_TRY(store.AllTrees().DeadRuns())) {
    const bool is_inside = run.first >= space.first && run.first - space.first < count &&
                           run.count <= count - (run.first - space.first);
    if (!is_inside) {
      find("a dropped block lies outside of the data area", "block " + std::to_string(run.first));
      continue;
    }
    for (std::uint64_t at = 0; at < run.count; ++at) {
      const std::uint64_t bit = run.first + at - space.first;
      if (!SpaceFound::Has(space.marked, bit)) {
        find("a block that a snapshot needs is not marked as in use",
             "block " + std::to_string(run.first + at));
      }
      SpaceFound::Set(space.used, bit);
    }
  }
  for (std::size_t at = 0; at < space.marked.size(); ++at) {
    report.used_blocks += static_cast<std::uint64_t>(std::popcount(space.used[at]));
    const std::uint64_t lost = space.marked[at] & ~space.used[at];
    if (lost == 0) continue;
    const auto bit = static_cast<std::uint64_t>(std::countr_zero(lost));
    find(std::to_string(std::popcount(lost)) + " blocks are marked as in use and are not",
         "block " + std::to_string(space.first + at * 64 + bit));
  }
  return Ok();
}

}  // namespace

Result<CheckReport> CheckVolume(BlockDevice& device, Store& store, bool verify_data) {
  CheckReport report;
  SpaceFound space(store);
  std::map<std::uint32_t, std::string> filesets;
  const auto trees = store.AllTrees().List();
  for (const TreeRecord& tree : trees) {
    if (tree.kind == TreeKind::kLive) filesets[tree.fileset] = tree.name;
  }
  for (const TreeRecord& tree : trees) {
    if (tree.kind != TreeKind::kLive && tree.kind != TreeKind::kSnapshot) continue;
    std::string of;
    if (tree.fileset != kFirstTree) of = "fileset " + filesets[tree.fileset] + ", ";
    if (tree.kind == TreeKind::kSnapshot) of += "snapshot " + tree.name + ", ";
    const auto view = FILER_TRY(store.AllTrees().Open(tree.id));
    FILER_TRY(Checker(device, *view, std::move(of), space, report).Run(verify_data));
  }
  FILER_TRY(CheckMarked(store, space, report));
  return report;
}

}  // namespace filer::engine

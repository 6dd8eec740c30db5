// repair_names.cc: entries, inodes and what follows from them: index, names, links, orphans.
#include <fmt/format.h>

#include <algorithm>

#include "fsal/engine/check/repair_state.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kFirstCookie = 3;
// As Volume::NextCookie and NextChange: above what any mount before has issued.
constexpr unsigned kCookieEpochShift = 36;
constexpr unsigned kChangeEpochShift = 40;
constexpr std::string_view kLostAndFoundName = "lost+found";

bool IsSame(const EntryValue& left, const EntryValue& right) {
  return left.child == right.child && left.kind == right.kind && left.name == right.name;
}

// A name that nobody in the directory has.
template <typename Entries>
std::string FreeName(const Entries& entries, std::string name) {
  const auto is_taken = [&] {
    return std::ranges::any_of(entries,
                               [&](const auto& pair) { return pair.second.value.name == name; });
  };
  while (is_taken()) {
    name.resize(std::min(name.size(), kNameBytesMax - 1));
    name.push_back('~');
    if (name.size() == kNameBytesMax && is_taken()) name.resize(name.size() / 2);
  }
  return name;
}

}  // namespace

// Entries that only the index still has.
void Repairer::RestoreEntries() {
  for (const auto& [directory, names] : index_) {
    for (const auto& [cookie, index] : names) {
      auto& entries = loose_entries_[directory];
      if (entries.contains(cookie)) continue;
      const EntryValue& value = index.value.entry;
      const Inode* child = Known(value.child);
      const bool is_named = child != nullptr && child->record.parent == directory &&
                            child->record.parent_cookie == cookie;
      if (!is_named && !parents_.contains({value.child, {directory, cookie}}) &&
          !IsLost('D', directory)) {
        continue;
      }
      entries[cookie] = {value, true};
      Mended("an entry was lost, and is made again from the index: " + value.name,
             fmt::format("directory {}", directory), directory);
    }
    if (loose_entries_[directory].empty()) loose_entries_.erase(directory);
  }
}

Repairer::Inode& Repairer::MakeInode(std::uint64_t number, NodeKind kind, const std::string& why) {
  Inode& inode = inodes_[number];
  InodeRecord& record = inode.record;
  record = {};
  record.kind = kind;
  record.mode = kind == NodeKind::kDirectory ? 0700 : 0600;
  record.generation = salvage_.MountEpoch() + 1;
  record.change = record.generation << kChangeEpochShift;
  record.atime_ns = record.mtime_ns = record.ctime_ns = record.btime_ns = now_ns_;
  if (kind == NodeKind::kDirectory) record.next_cookie = kFirstCookie;
  if (!why.empty()) Damaged(why, number);
  return inode;
}

void Repairer::MakeLostInodes() {
  const std::string why = "its inode was lost: owner, mode, times and size are made up";
  if (Known(kRootInode) == nullptr || Known(kRootInode)->record.kind != NodeKind::kDirectory) {
    MakeInode(kRootInode, NodeKind::kDirectory, why);
  }
  for (const auto& [directory, entries] : loose_entries_) {
    if (Known(directory) == nullptr) MakeInode(directory, NodeKind::kDirectory, why);
  }
  for (const Placed& extent : extents_) {
    if (Known(extent.inode) == nullptr) MakeInode(extent.inode, NodeKind::kFile, why);
  }
  for (const auto& [directory, entries] : loose_entries_) {
    for (const auto& [cookie, entry] : entries) {
      const auto [child, kind, name] = entry.value;
      const bool is_kept = kind == NodeKind::kFile || kind == NodeKind::kDirectory;
      if (Known(child) == nullptr && is_kept && child != 0 && IsLost('I', child)) {
        MakeInode(child, kind, why);
      }
    }
  }
  for (auto& [directory, entries] : loose_entries_) {
    Inode& inode = *Known(directory);
    if (inode.record.kind == NodeKind::kDirectory) {
      inode.entries = std::move(entries);
      continue;
    }
    for (const auto& [cookie, entry] : entries) {
      Erase(EntryKey(directory, cookie), "an entry of what is no directory: " + entry.value.name,
            directory);
    }
  }
  loose_entries_.clear();
}

void Repairer::DropEntry(std::uint64_t directory, std::uint64_t cookie, const std::string& why) {
  auto& entries = inodes_.at(directory).entries;
  Mended(why + ": " + entries.at(cookie).value.name, fmt::format("directory {}", directory),
         directory);
  salvage_.Erase(EntryKey(directory, cookie));
  entries.erase(cookie);
}

// Mends its kind; false: it has to go.
bool Repairer::IsEntryRight(std::uint64_t directory, std::uint64_t cookie, Entry& entry) {
  if (cookie < kFirstCookie || cookie == UINT64_MAX || entry.value.child == kRootInode)
    return false;
  const Inode* child = Known(entry.value.child);
  if (child == nullptr) {
    gone_.push_back({"its inode was lost: the name is removed",
                     fmt::format("inode {}", entry.value.child), entry.value.name});
    gone_directories_.push_back(directory);
    return false;
  }
  if (child->record.kind != entry.value.kind) {
    entry.value.kind = child->record.kind;
    entry.is_changed = true;
    Mended("an entry tells another kind than its inode: " + entry.value.name,
           fmt::format("directory {}", directory), directory);
  }
  return true;
}

void Repairer::CheckEntries() {
  for (auto& [number, inode] : inodes_) {
    std::vector<std::uint64_t> wrong;
    for (auto& [cookie, entry] : inode.entries) {
      if (!IsEntryRight(number, cookie, entry)) wrong.push_back(cookie);
    }
    for (const auto cookie : wrong) DropEntry(number, cookie, "an entry leads to no inode");
  }
}

void Repairer::SeparateTwins() {
  for (auto& [number, inode] : inodes_) {
    std::set<std::string> names;
    for (auto& [cookie, entry] : inode.entries) {
      if (names.insert(entry.value.name).second) continue;
      const std::string before = entry.value.name;
      entry.value.name = FreeName(inode.entries, before);
      entry.is_changed = true;
      names.insert(entry.value.name);
      Mended("a name twice, one is now " + entry.value.name + ": " + before,
             fmt::format("directory {}", number), number);
      Damaged("its name was there twice: it has another one now", entry.value.child);
    }
  }
}

// A directory has one place: the one that its record tells, if it is there.
void Repairer::PlaceDirectories() {
  std::map<std::uint64_t, std::vector<Place>> places;
  for (const auto& [number, inode] : inodes_) {
    for (const auto& [cookie, entry] : inode.entries) {
      if (entry.value.kind == NodeKind::kDirectory) {
        places[entry.value.child].push_back({number, cookie});
      }
    }
  }
  for (const auto& [child, all] : places) {
    if (all.size() < 2) continue;
    const InodeRecord& record = inodes_.at(child).record;
    const Place told{record.parent, record.parent_cookie};
    const bool is_there = std::ranges::find(all, told) != all.end();
    const Place kept = is_there ? told : all.front();
    for (const Place& place : all) {
      if (place == kept) continue;
      DropEntry(place.directory, place.cookie, "a second name of a directory");
    }
  }
}

void Repairer::CollectNames() {
  for (const auto& [number, inode] : inodes_) {
    for (const auto& [cookie, entry] : inode.entries) {
      inodes_.at(entry.value.child).names.push_back({number, cookie});
    }
  }
}

void Repairer::CheckMarks() {
  for (const auto number : orphans_) {
    Inode* inode = Known(number);
    if (inode == nullptr || number == kRootInode || !inode->names.empty() ||
        !inode->entries.empty()) {
      Erase(OrphanKey(number), "an orphan that is none", number);
    } else {
      inode->is_orphan = true;
    }
  }
  for (auto& [number, inode] : inodes_) {
    const bool is_dead = !inode.is_orphan && !inode.stored.empty() && inode.names.empty() &&
                         inode.entries.empty() && inode.record.links == 0 && number != kRootInode;
    if (!is_dead) continue;
    inode.is_orphan = true;
    Mended("an orphan was not marked", fmt::format("inode {}", number), number);
    Put(OrphanKey(number), {});
  }
  for (const auto number : truncations_) {
    Inode* inode = Known(number);
    if (inode == nullptr || inode->record.kind != NodeKind::kFile) {
      Erase(TruncateKey(number), "a truncation of what is no file", number);
    } else {
      inode->is_truncating = true;
    }
  }
}

void Repairer::Reach(std::uint64_t from) {
  std::vector<std::uint64_t> open{from};
  while (!open.empty()) {
    Inode& inode = inodes_.at(open.back());
    open.pop_back();
    if (std::exchange(inode.is_reached, true)) continue;
    for (const auto& [cookie, entry] : inode.entries) open.push_back(entry.value.child);
  }
}

std::uint64_t Repairer::NewInode() {
  const auto number = next_inode_++;
  Put(CounterKey(kInodeCounter), EncodeCounter(next_inode_));
  return number;
}

void Repairer::AddEntry(std::uint64_t directory, std::uint64_t child, std::string name) {
  Inode& parent = inodes_.at(directory);
  std::uint64_t& next = parent.record.next_cookie;
  next = std::max(next, ((salvage_.MountEpoch() + 1) << kCookieEpochShift) | kFirstCookie);
  if (!parent.entries.empty()) next = std::max(next, parent.entries.rbegin()->first + 1);
  const auto cookie = next++;
  Inode& inode = inodes_.at(child);
  parent.entries[cookie] = {{child, inode.record.kind, FreeName(parent.entries, std::move(name))},
                            true};
  inode.names = {{directory, cookie}};
}

std::uint64_t Repairer::LostAndFound() {
  if (lost_and_found_ != 0) return lost_and_found_;
  for (const auto& [cookie, entry] : inodes_.at(kRootInode).entries) {
    if (entry.value.name == kLostAndFoundName && entry.value.kind == NodeKind::kDirectory) {
      return lost_and_found_ = entry.value.child;
    }
  }
  lost_and_found_ = NewInode();
  MakeInode(lost_and_found_, NodeKind::kDirectory, {});
  AddEntry(kRootInode, lost_and_found_, std::string(kLostAndFoundName));
  inodes_.at(lost_and_found_).is_reached = true;
  return lost_and_found_;
}

void Repairer::Attach(std::uint64_t number) {
  AddEntry(LostAndFound(), number, fmt::format("inode-{}", number));
  Reach(number);
  Mended("nothing led to it: it is under /lost+found now", fmt::format("inode {}", number), number);
  Damaged("its name was lost", number);
}

void Repairer::AttachUnreached() {
  std::vector<std::uint64_t> unreached;
  for (const auto& [number, inode] : inodes_) {
    if (!inode.is_reached && !inode.is_orphan) unreached.push_back(number);
  }
  for (const auto number : unreached) {
    const Inode& inode = inodes_.at(number);
    if (!inode.is_reached && inode.names.empty()) Attach(number);
  }
  // What is left hangs below rings of directories: one of each ring loses its place.
  for (const auto number : unreached) {
    if (inodes_.at(number).is_reached) continue;
    std::set<std::uint64_t> seen;
    auto at = number;
    while (seen.insert(at).second) at = inodes_.at(at).names.front().directory;
    const auto [directory, cookie] = inodes_.at(at).names.front();
    DropEntry(directory, cookie, "directories form a ring");
    Attach(at);
  }
}

void Repairer::WriteEntries() {
  for (const auto& [number, inode] : inodes_) {
    for (const auto& [cookie, entry] : inode.entries) {
      if (entry.is_changed) Put(EntryKey(number, cookie), EncodeEntry(entry.value));
    }
  }
}

void Repairer::WriteIndex() {
  std::set<Place> indexed;
  std::set<std::string> keys;
  for (const auto& [directory, names] : index_) {
    const Inode* inode = Known(directory);
    for (const auto& [cookie, index] : names) {
      const bool has_entry = inode != nullptr && inode->entries.contains(cookie);
      if (has_entry && index.is_hash_right && !indexed.contains({directory, cookie}) &&
          IsSame(inode->entries.at(cookie).value, index.value.entry)) {
        indexed.insert({directory, cookie});
        keys.insert(index.key);
      } else {
        Erase(index.key, "a name in the index that is not right: " + index.value.entry.name,
              directory);
      }
    }
  }
  for (const auto& [number, inode] : inodes_) {
    for (const auto& [cookie, entry] : inode.entries) {
      if (indexed.contains({number, cookie})) continue;
      const auto hash = NameHash(key_, entry.value.name);
      std::uint32_t ordinal = 0;
      while (!keys.insert(NameKey(number, hash, ordinal)).second) ++ordinal;
      Put(NameKey(number, hash, ordinal), EncodeName({cookie, entry.value}));
      Mended("an entry was not in the index: " + entry.value.name,
             fmt::format("directory {}", number), number);
    }
  }
}

void Repairer::WriteParents() {
  std::set<std::pair<std::uint64_t, Place>> wanted;
  for (const auto& [number, inode] : inodes_) {
    if (inode.record.kind == NodeKind::kDirectory || inode.names.size() < 2) continue;
    for (const Place& place : inode.names) wanted.insert({number, place});
  }
  for (const auto& [child, place] : parents_) {
    if (wanted.contains({child, place})) continue;
    Erase(ParentKey(child, place.directory, place.cookie), "a recorded name that does not exist",
          child);
  }
  for (const auto& [child, place] : wanted) {
    if (parents_.contains({child, place})) continue;
    Put(ParentKey(child, place.directory, place.cookie), {});
    Mended("the list of a file's names is wrong", fmt::format("inode {}", child), child);
  }
}

// What of the record follows from other things. False: nothing was wrong.
bool Repairer::Correct(std::uint64_t number, Inode& inode, std::string& what) {
  InodeRecord& record = inode.record;
  const auto set = [&](auto& value, std::uint64_t right, const char* name) {
    if (value == right) return;
    if (!what.empty()) what += ", ";
    what += fmt::format("{} {} instead of {}", name, right, value);
    value = static_cast<std::remove_reference_t<decltype(value)>>(right);
  };
  std::uint64_t links = inode.names.size();
  if (record.kind == NodeKind::kDirectory) {
    links = inode.is_orphan ? 0 : 2;
    for (const auto& [cookie, entry] : inode.entries) {
      if (entry.value.kind == NodeKind::kDirectory) ++links;
    }
    set(record.entries, inode.entries.size(), "entries");
    const auto above = inode.entries.empty() ? kFirstCookie : inode.entries.rbegin()->first + 1;
    set(record.next_cookie, std::max(record.next_cookie, above), "next cookie");
  }
  set(record.links, links, "links");
  set(record.blocks, inode.blocks, "blocks");
  const bool is_told = record.kind == NodeKind::kDirectory || inode.names.size() == 1;
  if (number == kRootInode) {
    set(record.parent, kRootInode, "parent");
  } else if (is_told && !inode.names.empty()) {
    set(record.parent, inode.names.front().directory, "parent");
    set(record.parent_cookie, inode.names.front().cookie, "cookie in the parent");
  }
  return !what.empty();
}

void Repairer::WriteInodes() {
  for (auto& [number, inode] : inodes_) {
    std::string what;
    Correct(number, inode, what);
    std::string bytes = EncodeInode(inode.record);
    if (bytes == inode.stored) continue;
    Mended(inode.stored.empty() ? "the inode is made anew" : what, fmt::format("inode {}", number),
           number);
    Put(InodeKey(number), std::move(bytes));
  }
}

}  // namespace filer::engine

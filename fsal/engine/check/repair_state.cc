#include "fsal/engine/check/repair_state.h"

#include <fmt/format.h>

#include <algorithm>

namespace filer::engine {
namespace {

constexpr std::uint64_t kNumbersPassedOver = 1 << 20;
constexpr int kDepthMax = 4096;
constexpr std::size_t kInodeKeyBytes = 9;

// Separators are cut short: what is missing is zero.
std::uint64_t InodeOf(std::string key) {
  key.resize(std::max(key.size(), kInodeKeyBytes));
  return KeyInteger(key, 0).value();
}

}  // namespace

Repairer::Repairer(BlockDevice& device, Salvage& salvage, std::int64_t now_ns,
                   const RepairOptions& options)
    : device_(device),
      salvage_(salvage),
      geometry_(salvage.Geometry()),
      now_ns_(now_ns),
      options_(options) {
  const std::vector<std::uint8_t> secret = salvage.HandleKey();
  std::copy_n(secret.begin(), std::min(secret.size(), key_.size()), key_.begin());
}

Repairer::Inode* Repairer::Known(std::uint64_t number) {
  const auto found = inodes_.find(number);
  return found == inodes_.end() ? nullptr : &found->second;
}

bool Repairer::IsLost(char letter, std::uint64_t inode) const {
  return std::ranges::any_of(salvage_.losses(), [&](const Salvage::Loss& loss) {
    if (loss.is_log) return false;
    if (!loss.high.empty() && loss.high <= StartOfLetter(letter)) return false;
    if (loss.low >= EndOfLetter(letter)) return false;
    const bool begins_inside = !loss.low.empty() && loss.low.front() == letter;
    const bool ends_inside = !loss.high.empty() && loss.high.front() == letter;
    return (!begins_inside || inode >= InodeOf(loss.low)) &&
           (!ends_inside || inode <= InodeOf(loss.high));
  });
}

std::string Repairer::PathOf(std::uint64_t inode) const {
  std::vector<const std::string*> names;
  for (int depth = 0; depth < kDepthMax; ++depth) {
    if (inode == kRootInode) {
      if (names.empty()) return "/";
      std::string path;
      for (auto name = names.rbegin(); name != names.rend(); ++name)
        path.append("/").append(**name);
      return path;
    }
    const auto found = inodes_.find(inode);
    if (found == inodes_.end() || found->second.names.empty()) return {};
    const auto [directory, cookie] = found->second.names.front();
    const auto parent = inodes_.find(directory);
    if (parent == inodes_.end()) return {};
    const auto entry = parent->second.entries.find(cookie);
    if (entry == parent->second.entries.end()) return {};
    names.push_back(&entry->second.value.name);
    inode = directory;
  }
  return {};
}

void Repairer::Mended(std::string what, std::string where, std::uint64_t inode) {
  mended_.emplace_back(CheckFinding{std::move(what), std::move(where), {}}, inode);
}

void Repairer::Damaged(std::string what, std::uint64_t inode) {
  damaged_[inode].insert(std::move(what));
}

void Repairer::Put(std::string key, std::string value) {
  salvage_.Put(std::move(key), std::move(value));
}

void Repairer::Erase(std::string key, std::string what, std::uint64_t inode) {
  Mended(std::move(what), fmt::format("inode {}", inode), inode);
  salvage_.Erase(std::move(key));
}

bool Repairer::ReadName(std::uint64_t directory, std::string_view key, std::string_view value) {
  auto name = DecodeName(value);
  if (!name.has_value() || key.size() != 21) return false;
  Index index{std::string(key), std::move(name).value(), false};
  index.is_hash_right = KeyInteger(key, 1).value() == NameHash(key_, index.value.entry.name);
  const auto cookie = index.value.cookie;
  index_[directory].emplace(cookie, std::move(index));
  return true;
}

bool Repairer::ReadExtent(std::uint64_t inode, std::string_view key, std::string_view value) {
  const auto extent = DecodeExtent(key, value);
  if (!extent.has_value()) {
    Damaged("an extent did not decode and was removed: there is a hole now", inode);
    return false;
  }
  Placed placed;
  placed.inode = inode;
  placed.file_block = extent.value().file_block;
  placed.physical = extent.value().physical;
  placed.length = extent.value().length;
  placed.is_unwritten = extent.value().is_unwritten;
  extents_.push_back(placed);
  return true;
}

// Keys of other letters are somebody else's: they stay.
void Repairer::ReadPair(std::string_view key, std::string_view value) {
  const char letter = key.front();
  if (letter == 'C') {
    if (key != CounterKey(kInodeCounter)) return;
    const auto counter = DecodeCounter(value);
    has_counter_ = counter.has_value();
    if (has_counter_) next_inode_ = counter.value();
    return;
  }
  if (letter == 'A' || letter == 'Q') {
    if (letter == 'A' ? ReadAcl(key, value) : ReadQuota(key, value)) return;
    Mended(fmt::format("a key or value of kind {} does not decode: removed", letter), "store");
    unsound_.push_back(std::string(key));
    return;
  }
  if (std::string_view("DEINOPTX").find(letter) == std::string_view::npos) return;
  const auto number = KeyInteger(key, 0);
  bool is_sound = number.has_value();
  const std::uint64_t inode = is_sound ? number.value() : 0;
  if (is_sound && letter == 'D') {
    auto entry = DecodeEntry(value);
    is_sound = entry.has_value() && key.size() == 17;
    if (is_sound) {
      loose_entries_[inode][KeyInteger(key, 1).value()] = {std::move(entry).value(), false};
    }
  } else if (is_sound && letter == 'E') {
    is_sound = ReadExtent(inode, key, value);
  } else if (is_sound && letter == 'I') {
    auto record = DecodeInode(value);
    is_sound = record.has_value() && key.size() == kInodeKeyBytes;
    if (is_sound) {
      inodes_[inode].record = std::move(record).value();
      inodes_[inode].stored = value;
    }
  } else if (is_sound && letter == 'N') {
    is_sound = ReadName(inode, key, value);
  } else if (is_sound && letter == 'P') {
    is_sound = key.size() == 25;
    if (is_sound) {
      parents_.insert({inode, {KeyInteger(key, 1).value(), KeyInteger(key, 2).value()}});
    }
  } else if (is_sound && letter == 'X') {
    const auto name_bytes = key.size() - kInodeKeyBytes;
    is_sound =
        name_bytes >= 1 && name_bytes <= kXattrNameBytesMax && value.size() <= kXattrValueBytesMax;
    if (is_sound) xattrs_.emplace_back(inode, key);
  } else if (is_sound) {
    is_sound = key.size() == kInodeKeyBytes;
    if (is_sound) (letter == 'O' ? orphans_ : truncations_).insert(inode);
  }
  if (is_sound) return;
  Mended(fmt::format("a key or value of kind {} does not decode: removed", letter),
         fmt::format("inode {}", inode), inode);
  unsound_.push_back(std::string(key));
}

Result<void> Repairer::Read() {
  FILER_TRY(salvage_.Scan(
      [this](std::string_view key, std::string_view value) { ReadPair(key, value); }));
  for (std::string& key : unsound_) salvage_.Erase(std::move(key));
  const bool had_counter = has_counter_;
  const auto before = next_inode_;
  const auto above = [&](std::uint64_t number) {
    if (number < UINT64_MAX / 2) next_inode_ = std::max(next_inode_, number + 1);
  };
  above(kFirstFreeInode - 1);
  if (!inodes_.empty()) above(inodes_.rbegin()->first);
  if (!extents_.empty()) above(extents_.back().inode);
  for (const auto& [directory, entries] : loose_entries_) {
    above(directory);
    for (const auto& [cookie, entry] : entries) above(entry.value.child);
  }
  // Numbers that were issued and whose files are gone must not come again.
  if (!had_counter) next_inode_ += kNumbersPassedOver;
  if (!had_counter || next_inode_ != before) {
    Mended("the counter of inode numbers is wrong", "counters");
    Put(CounterKey(kInodeCounter), EncodeCounter(next_inode_));
  }
  return Ok();
}

}  // namespace filer::engine

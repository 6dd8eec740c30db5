// repair_extents.cc: where data lies, whose it is, and whether it is still there.
#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/units.h"
#include "fsal/engine/check/repair_state.h"

namespace filer::engine {

void Repairer::DropExtent(Placed& extent, const std::string& why) {
  extent.is_dropped = true;
  Erase(ExtentKey(extent.inode, extent.file_block), why, extent.inode);
}

void Repairer::CheckExtents() {
  const Placed* before = nullptr;
  for (Placed& extent : extents_) {
    const Inode* inode = Known(extent.inode);
    if (inode == nullptr || inode->record.kind != NodeKind::kFile) {
      DropExtent(extent, "an extent of what is no file");
      continue;
    }
    const bool is_inside =
        extent.physical >= geometry_.data_first_block &&
        extent.physical - geometry_.data_first_block < geometry_.data_block_count &&
        extent.length <=
            geometry_.data_block_count - (extent.physical - geometry_.data_first_block);
    const std::uint64_t size_blocks = RoundUp(inode->record.size, kBlockBytes) / kBlockBytes;
    const bool is_past_end = extent.file_block + extent.length > size_blocks &&
                             !extent.is_unwritten && !inode->is_truncating && !inode->is_orphan &&
                             !inode->stored.empty();
    if (!is_inside) {
      DropExtent(extent, "an extent outside of the data area");
      Damaged("an extent lay outside of the data area: there is a hole now", extent.inode);
    } else if (before != nullptr && before->inode == extent.inode &&
               before->file_block + before->length > extent.file_block) {
      DropExtent(extent, "two extents held one block of the file");
      Damaged("two extents held one block of it: one is removed", extent.inode);
    } else if (is_past_end) {
      DropExtent(extent, "data past the end of the file");
      if (extent.file_block < size_blocks) {
        Damaged("an extent reached past its end: there is a hole now", extent.inode);
      }
    } else {
      before = &extent;
    }
  }
  SettleOverlaps();
}

// Of two that claim a block, the one whose data is there keeps it.
void Repairer::SettleOverlaps() {
  std::vector<Placed*> order;
  for (Placed& extent : extents_) {
    if (!extent.is_dropped) order.push_back(&extent);
  }
  std::ranges::sort(order, {}, &Placed::physical);
  Placed* reaches_furthest = nullptr;
  for (Placed* extent : order) {
    if (reaches_furthest != nullptr &&
        reaches_furthest->physical + reaches_furthest->length > extent->physical) {
      reaches_furthest->is_contested = extent->is_contested = true;
    }
    if (reaches_furthest == nullptr ||
        extent->physical + extent->length > reaches_furthest->physical + reaches_furthest->length) {
      reaches_furthest = extent;
    }
  }
  std::erase_if(order, [](const Placed* extent) { return !extent->is_contested; });
  if (order.empty()) return;
  const auto verified = VerifyData(true);
  if (!verified.has_value()) unreadable_ = verified.error();
  std::ranges::stable_sort(order, {}, [](const Placed* extent) {
    return std::pair(!extent->is_sound, extent->is_unwritten);
  });
  std::map<std::uint64_t, std::uint64_t> kept;  // first block to end
  for (Placed* extent : order) {
    const auto end = extent->physical + extent->length;
    const auto after = kept.lower_bound(extent->physical);
    const bool is_free = (after == kept.end() || after->first >= end) &&
                         (after == kept.begin() || std::prev(after)->second <= extent->physical);
    if (is_free) {
      kept[extent->physical] = end;
      continue;
    }
    DropExtent(*extent, "its blocks belong to another extent");
    Damaged("its blocks belonged to another file, too: there is a hole now", extent->inode);
  }
}

// One extent's data; says which blocks are damaged. Errors: the device is gone.
Result<std::vector<std::uint64_t>> Repairer::DamagedBlocks(const Extent& extent) {
  std::vector<std::byte> bytes(extent.length * kBlockBytes);
  const auto read = [&](std::uint64_t index, std::uint64_t count) {
    return ReadBlocking(device_, (extent.physical + index) * kBlockBytes,
                        std::span(bytes).subspan(index * kBlockBytes, count * kBlockBytes));
  };
  std::vector<std::uint64_t> damaged;
  const auto all = read(0, extent.length);
  if (!all.has_value() && all.error() == Errc::kDeviceGone) return all.error();
  for (std::uint64_t index = 0; index < extent.length; ++index) {
    const bool is_there = all.has_value() || read(index, 1).has_value();
    const auto block = std::span(bytes).subspan(index * kBlockBytes, kBlockBytes);
    if (!is_there || Crc32c(block) != extent.checksums[index]) damaged.push_back(index);
  }
  return damaged;
}

// Reads what is written, or only what two extents claim. Errors: the device's.
Result<void> Repairer::VerifyData(bool only_contested) {
  Result<void> outcome = Ok();
  const auto verify = [&](std::string_view key, std::string_view value) -> Result<void> {
    if (key.front() != 'E') return Ok();
    const auto inode = KeyInteger(key, 0);
    const auto extent = DecodeExtent(key, value);
    if (!inode.has_value() || !extent.has_value() || extent.value().is_unwritten) return Ok();
    const auto place = std::pair(inode.value(), extent.value().file_block);
    const auto placed = std::ranges::lower_bound(extents_, place, {}, [](const Placed& candidate) {
      return std::pair(candidate.inode, candidate.file_block);
    });
    if (placed == extents_.end() || placed->is_dropped) return Ok();
    if (only_contested && !placed->is_contested) return Ok();
    const auto damaged = FILER_TRY(DamagedBlocks(extent.value()));
    placed->is_sound = damaged.empty();
    if (only_contested) return Ok();
    report_.bytes_verified += extent.value().length * kBlockBytes;
    if (damaged.empty()) return Ok();
    Damaged(fmt::format("data is damaged, and reading it fails: {} of the {} blocks from file "
                        "block {} on",
                        damaged.size(), extent.value().length, extent.value().file_block),
            inode.value());
    return Ok();
  };
  FILER_TRY(salvage_.Scan([&](std::string_view key, std::string_view value) {
    if (outcome.has_value()) outcome = verify(key, value);
  }));
  return outcome;
}

void Repairer::CountBlocks() {
  std::map<std::uint64_t, std::uint64_t> ends;
  for (const Placed& extent : extents_) {
    if (extent.is_dropped) continue;
    inodes_.at(extent.inode).blocks += extent.length;
    if (!extent.is_unwritten) ends[extent.inode] = extent.file_block + extent.length;
    report_.used_blocks += extent.length;
  }
  for (auto& [number, inode] : inodes_) {
    if (inode.record.kind != NodeKind::kFile) continue;
    if (inode.stored.empty()) {
      inode.record.size = ends[number] * kBlockBytes;
    } else if (inode.blocks < inode.record.blocks && IsLost('E', number)) {
      Damaged(fmt::format("{} blocks of its data were lost: there are holes now",
                          inode.record.blocks - inode.blocks),
              number);
    }
  }
}

void Repairer::DropWithoutInode() {
  for (const auto& [number, key] : xattrs_) {
    if (Known(number) == nullptr) Erase(key, "an attribute without an inode", number);
  }
}

std::vector<std::uint64_t> Repairer::UsedWords() const {
  std::vector<std::uint64_t> words((geometry_.data_block_count + 63) / 64);
  for (const Placed& extent : extents_) {
    if (extent.is_dropped) continue;
    const auto first = extent.physical - geometry_.data_first_block;
    for (auto bit = first; bit < first + extent.length; ++bit) {
      words[bit / 64] |= std::uint64_t{1} << bit % 64;
    }
  }
  return words;
}

}  // namespace filer::engine

#include "fsal/engine/format/node.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "fsal/engine/format/label.h"

namespace filer::engine {
namespace {

Error Corrupt(const NodePointer& pointer, std::string_view what) {
  return Error(Errc::kCorrupt,
               fmt::format("metadata node in block {}: {}; restore the volume from a backup",
                           pointer.block.value(), what));
}

std::size_t SlotAt(const std::byte* bytes, std::size_t at) noexcept {
  le16 slot;
  std::memcpy(&slot, bytes + sizeof(NodeHeader) + at * kSlotBytes, sizeof(slot));
  return slot;
}

// Bytes of the cell at `offset`; 0 if they cannot be.
std::size_t CheckedCellBytes(std::span<const std::byte> node, std::size_t offset, bool is_leaf) {
  const auto rest = node.subspan(offset);
  if (is_leaf) {
    if (rest.size() < sizeof(LeafCellHeader)) return 0;
    const auto header = LoadStruct<LeafCellHeader>(rest);
    if (header.key_bytes == 0 || header.key_bytes > kNodeKeyBytesMax ||
        header.value_bytes > kNodeValueBytesMax) {
      return 0;
    }
    return sizeof(header) + header.key_bytes + StoredValueBytes(header.value_bytes);
  }
  if (rest.size() < sizeof(InnerCellHeader)) return 0;
  const auto header = LoadStruct<InnerCellHeader>(rest);
  if (header.key_bytes > kNodeKeyBytesMax) return 0;
  return sizeof(header) + header.key_bytes;
}

// A node is copied when something below it changes: no child is younger than its parent.
bool HasYoungerChild(const NodeView& view, std::size_t at, std::uint64_t birth_epoch) {
  if (!view.is_leaf()) return view.child(at).birth_epoch > birth_epoch;
  const auto cell = view.leaf(at);
  for (std::size_t piece = 0; piece < PiecesOf(cell.value_bytes); ++piece) {
    if (PieceAt(cell, piece).birth_epoch > birth_epoch) return true;
  }
  return false;
}

Result<void> CheckCells(std::span<const std::byte> node, const NodeHeader& header,
                        const NodePointer& pointer) {
  const auto slots_end = sizeof(NodeHeader) + header.count * kSlotBytes;
  if (slots_end > header.heap_offset || header.heap_offset > kNodeBytes) {
    return Corrupt(pointer, "slots and cells overlap");
  }
  const bool is_leaf = header.level == 0;
  const NodeView view(node.data());
  std::size_t used = 0;
  for (std::size_t at = 0; at < header.count; ++at) {
    const auto offset = SlotAt(node.data(), at);
    if (offset < header.heap_offset || offset >= kNodeBytes) return Corrupt(pointer, "slot");
    const auto bytes = CheckedCellBytes(node, offset, is_leaf);
    if (bytes == 0 || bytes > kNodeBytes - offset) return Corrupt(pointer, "cell length");
    used += bytes + kSlotBytes;
    const auto key = view.key(at);
    if (at > 0 && view.key(at - 1) >= key) return Corrupt(pointer, "keys out of order");
    if (!is_leaf && at == 0 && !key.empty()) return Corrupt(pointer, "first key is not empty");
    if (HasYoungerChild(view, at, header.birth_epoch)) {
      return Corrupt(pointer, "points to what is younger than itself");
    }
  }
  if (used > kNodeBodyBytes) return Corrupt(pointer, "cells overlap");
  return Ok();
}

}  // namespace

NodePointer PieceAt(const LeafCell& cell, std::size_t at) noexcept {
  NodePointer pointer;
  std::memcpy(&pointer, cell.stored.data() + at * sizeof(pointer), sizeof(pointer));
  return pointer;
}

const std::byte* NodeView::CellBytes(std::size_t at) const noexcept {
  return bytes_ + SlotAt(bytes_, at);
}

std::string_view NodeView::key(std::size_t at) const noexcept {
  const auto* cell = CellBytes(at);
  le16 key_bytes;
  std::memcpy(&key_bytes, cell, sizeof(key_bytes));
  const auto skipped = is_leaf() ? sizeof(LeafCellHeader) : sizeof(InnerCellHeader);
  return {reinterpret_cast<const char*>(cell) + skipped, key_bytes};
}

LeafCell NodeView::leaf(std::size_t at) const noexcept {
  const auto* bytes = CellBytes(at);
  LeafCellHeader header;
  std::memcpy(&header, bytes, sizeof(header));
  const auto* text = reinterpret_cast<const char*>(bytes) + sizeof(header);
  return {{text, header.key_bytes},
          header.value_bytes,
          {text + header.key_bytes, StoredValueBytes(header.value_bytes)}};
}

NodePointer NodeView::child(std::size_t at) const noexcept {
  InnerCellHeader header;
  std::memcpy(&header, CellBytes(at), sizeof(header));
  return header.child;
}

std::string_view NodeView::cell(std::size_t at) const noexcept {
  const auto* bytes = reinterpret_cast<const char*>(CellBytes(at));
  if (!is_leaf()) return {bytes, sizeof(InnerCellHeader) + key(at).size()};
  const auto parts = leaf(at);
  return {bytes, sizeof(LeafCellHeader) + parts.key.size() + parts.stored.size()};
}

std::string_view NodeView::piece() const noexcept {
  return {reinterpret_cast<const char*>(bytes_) + sizeof(NodeHeader), count()};
}

std::size_t NodeView::LowerBound(std::string_view key_wanted) const noexcept {
  std::size_t low = 0;
  std::size_t high = count();
  while (low < high) {
    const auto middle = (low + high) / 2;
    if (key(middle) < key_wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::size_t NodeView::ChildFor(std::string_view key_wanted) const noexcept {
  std::size_t low = 1;  // the first child takes what is below the second's key
  std::size_t high = count();
  while (low < high) {
    const auto middle = (low + high) / 2;
    if (key(middle) <= key_wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

std::uint32_t SealNode(std::span<std::byte> node) noexcept {
  FILER_ASSERT(node.size() == kNodeBytes);
  auto header = LoadStruct<NodeHeader>(node);
  header.payload_crc32c = Crc32c(node.subspan(sizeof(header)));
  Seal(header);
  StoreStruct(node, header);
  return header.crc32c;
}

Result<void> CheckNode(std::span<const std::byte> node, const VolumeUuid& uuid,
                       const NodePointer& pointer, std::uint32_t level_wanted) {
  FILER_ASSERT(node.size() == kNodeBytes);
  const auto header = LoadStruct<NodeHeader>(node);
  if (header.magic != kNodeMagic) return Corrupt(pointer, "no node is there");
  if (header.crc32c != ChecksumOf(header)) return Corrupt(pointer, "checksum does not match");
  if (!IsSameUuid(header.volume_uuid, uuid)) return Corrupt(pointer, "belongs to another volume");
  if (header.version != kFormatVersion) return Corrupt(pointer, "version");
  if (header.own_block != pointer.block) return Corrupt(pointer, "belongs to another block");
  if (header.birth_epoch != pointer.birth_epoch || header.crc32c != pointer.crc32c) {
    return Corrupt(pointer, "is not the one that its parent points to: a write was lost");
  }
  if (header.payload_crc32c != Crc32c(node.subspan(sizeof(header)))) {
    return Corrupt(pointer, "checksum of the cells does not match");
  }
  if (header.tree != kMetaTree || header.level != level_wanted || !IsZero(header.reserved)) {
    return Corrupt(pointer, "tree, level or reserved space is not right");
  }
  if (level_wanted == kPieceLevel) {
    if (header.count == 0 || header.count > kPieceBytesMax || header.heap_offset != 0) {
      return Corrupt(pointer, "length of a piece");
    }
    return Ok();
  }
  if (header.level > kNodeLevelMax || header.count == 0 || header.count > kNodeBodyBytes) {
    return Corrupt(pointer, "level or count is out of range");
  }
  return CheckCells(node, header, pointer);
}

}  // namespace filer::engine

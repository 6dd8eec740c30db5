#include "fsal/engine/tree/page.h"

#include <cstring>

#include "base/assert.h"
#include "fsal/engine/format/label.h"

namespace filer::engine {
namespace {

std::byte* SlotPlace(std::byte* bytes, std::size_t at) noexcept {
  return bytes + sizeof(NodeHeader) + at * kSlotBytes;
}

}  // namespace

Page::Page(const VolumeUuid& uuid, std::uint32_t level, std::uint64_t block,
           std::uint64_t birth_epoch) {
  bytes_.fill(std::byte{0});
  NodeHeader header{};
  header.magic = kNodeMagic;
  header.version = kFormatVersion;
  header.level = level;
  std::copy(uuid.begin(), uuid.end(), header.volume_uuid);
  header.tree = kMetaTree;
  header.birth_epoch = birth_epoch;
  header.own_block = block;
  header.heap_offset = level == kPieceLevel ? 0 : kNodeBytes;
  StoreStruct(bytes_, header);
}

Page::Page(const Page& other, std::uint64_t block, std::uint64_t birth_epoch)
    : bytes_(other.bytes_), used_bytes_(other.used_bytes_) {
  header().own_block = block;
  header().birth_epoch = birth_epoch;
}

void Page::Adopt() noexcept {
  used_bytes_ = 0;
  if (level() == kPieceLevel) return;
  for (std::size_t at = 0; at < view().count(); ++at) {
    used_bytes_ += kSlotBytes + view().cell(at).size();
  }
}

bool Page::Insert(std::size_t at, std::string_view cell) {
  const auto count = view().count();
  FILER_ASSERT(at <= count);
  if (used_bytes_ + kSlotBytes + cell.size() > kNodeBodyBytes) return false;
  const auto slots_end = sizeof(NodeHeader) + (count + 1) * kSlotBytes;
  if (slots_end + cell.size() > header().heap_offset) Tidy();
  const std::size_t offset = header().heap_offset - cell.size();
  FILER_ASSERT(offset >= slots_end);
  std::memcpy(bytes_.data() + offset, cell.data(), cell.size());
  auto* place = SlotPlace(bytes_.data(), at);
  std::memmove(place + kSlotBytes, place, (count - at) * kSlotBytes);
  const le16 slot(static_cast<std::uint16_t>(offset));
  std::memcpy(place, &slot, sizeof(slot));
  header().heap_offset = static_cast<std::uint32_t>(offset);
  header().count = static_cast<std::uint32_t>(count + 1);
  used_bytes_ += kSlotBytes + cell.size();
  return true;
}

void Page::Remove(std::size_t at) {
  const auto count = view().count();
  FILER_ASSERT(at < count);
  used_bytes_ -= kSlotBytes + view().cell(at).size();
  auto* place = SlotPlace(bytes_.data(), at);
  std::memmove(place, place + kSlotBytes, (count - at - 1) * kSlotBytes);
  header().count = static_cast<std::uint32_t>(count - 1);
}

// Cells without gaps between them; what they leave is zero.
void Page::Tidy() {
  std::array<std::byte, kNodeBytes> old;
  std::memcpy(old.data(), bytes_.data(), old.size());
  const NodeView cells(old.data());
  auto* const body = bytes_.data() + sizeof(NodeHeader);
  std::memset(body, 0, kNodeBodyBytes);
  std::size_t offset = kNodeBytes;
  for (std::size_t at = 0; at < cells.count(); ++at) {
    const auto cell = cells.cell(at);
    offset -= cell.size();
    std::memcpy(bytes_.data() + offset, cell.data(), cell.size());
    const le16 slot(static_cast<std::uint16_t>(offset));
    std::memcpy(SlotPlace(bytes_.data(), at), &slot, sizeof(slot));
  }
  header().heap_offset = static_cast<std::uint32_t>(offset);
}

void Page::MoveTail(std::size_t at, Page& to) {
  for (std::size_t from = at; from < view().count(); ++from) {
    const bool is_moved = to.Insert(to.view().count(), view().cell(from));
    FILER_ASSERT(is_moved);
  }
  while (view().count() > at) Remove(view().count() - 1);
  Tidy();
}

void Page::SetChild(std::size_t at, const NodePointer& pointer) {
  le16 slot;
  std::memcpy(&slot, SlotPlace(bytes_.data(), at), sizeof(slot));
  std::memcpy(bytes_.data() + slot + offsetof(InnerCellHeader, child), &pointer, sizeof(pointer));
}

void Page::SetPiece(std::string_view bytes) {
  FILER_ASSERT(bytes.size() <= kPieceBytesMax);
  std::memcpy(bytes_.data() + sizeof(NodeHeader), bytes.data(), bytes.size());
  header().count = static_cast<std::uint32_t>(bytes.size());
}

std::size_t Page::SplitPoint() const noexcept {
  const auto cells = view();
  std::size_t bytes = 0;
  std::size_t at = 0;
  while (bytes < used_bytes_ / 2) bytes += kSlotBytes + cells.cell(at++).size();
  FILER_ASSERT(at > 0 && at < cells.count());
  return at;
}

std::string LeafCellOf(std::string_view key, std::uint32_t value_bytes, std::string_view stored) {
  FILER_ASSERT(stored.size() == StoredValueBytes(value_bytes));
  LeafCellHeader header;
  header.key_bytes = static_cast<std::uint16_t>(key.size());
  header.value_bytes = value_bytes;
  std::string cell;
  cell.reserve(sizeof(header) + key.size() + stored.size());
  cell.append(reinterpret_cast<const char*>(&header), sizeof(header));
  return cell.append(key).append(stored);
}

std::string InnerCellOf(std::string_view key, const NodePointer& child) {
  InnerCellHeader header;
  header.key_bytes = static_cast<std::uint16_t>(key.size());
  header.child = child;
  std::string cell(reinterpret_cast<const char*>(&header), sizeof(header));
  return cell.append(key);
}

}  // namespace filer::engine

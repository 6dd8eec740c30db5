// node.h: a node of the metadata tree, 16 KiB: a header, slots (le16 offsets of cells) growing up,
// cells growing down.
//
//   cell of a leaf   le16 key_bytes, le32 value_bytes, key, then the value, or pointers to its
//   pieces if it is long cell of an inner le16 key_bytes, NodePointer of the child, key: no key
//   below the child is smaller piece            part of a long value; its bytes follow the header
// Keys ascend without equals. The key of an inner node's first cell is empty: it holds what is
// below the second, too. No child or piece is younger than the node that points to it. A pointer
// says where its target lies, when it was born and what its checksum is: a lost, stale or
// misdirected write is found by whoever follows the pointer. Decoders trust nothing: a NodeView is
// made of bytes that CheckNode has passed, or of our own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/checked.h"

namespace filer::engine {

inline constexpr std::uint64_t kNodeMagic = 0x45444F4E4C54454DULL;
inline constexpr std::uint64_t kNodeBytes = 16384;
inline constexpr std::uint64_t kNodeBlocks = kNodeBytes / kMetaBlockBytes;
inline constexpr std::uint32_t kNodeLevelMax = 15;    // leaves are level 0
inline constexpr std::uint32_t kPieceLevel = 0xFFFF;  // a piece of a long value
inline constexpr std::uint64_t kMetaTree = 1;         // the only tree so far
inline constexpr std::uint64_t kEpochMax = 1ULL << 62;

struct NodePointer {
  le64 block;  // 0: none
  le64 birth_epoch;
  le32 crc32c;  // of the target's header, which covers the rest
};
static_assert(DiskStruct<NodePointer> && sizeof(NodePointer) == 20);

inline bool operator==(const NodePointer& left, const NodePointer& right) noexcept {
  return left.block == right.block && left.birth_epoch == right.birth_epoch &&
         left.crc32c == right.crc32c;
}

struct NodeHeader {
  le64 magic;    // kNodeMagic
  le32 version;  // kFormatVersion
  le32 level;    // 0: leaf; kPieceLevel
  std::uint8_t volume_uuid[16];
  le64 tree;                  // kMetaTree
  le64 birth_epoch;           // of the checkpoint that wrote it first
  le64 own_block;             // where it lies
  le32 count;                 // cells; of a piece: bytes of the value
  le32 heap_offset;           // of the lowest cell; of a piece: 0
  std::uint8_t reserved[56];  // zero
  le32 payload_crc32c;        // of all behind the header
  le32 crc32c;                // of every byte above
};
static_assert(DiskStruct<NodeHeader>);
static_assert(sizeof(NodeHeader) == 128 && offsetof(NodeHeader, crc32c) == 124);

struct LeafCellHeader {
  le16 key_bytes;
  le32 value_bytes;
};
static_assert(DiskStruct<LeafCellHeader> && sizeof(LeafCellHeader) == 6);

struct InnerCellHeader {
  le16 key_bytes;
  NodePointer child;
};
static_assert(DiskStruct<InnerCellHeader> && sizeof(InnerCellHeader) == 22);

inline constexpr std::size_t kNodeBodyBytes = kNodeBytes - sizeof(NodeHeader);
inline constexpr std::size_t kSlotBytes = sizeof(le16);
inline constexpr std::size_t kInlineValueBytesMax = 2048;
inline constexpr std::size_t kPieceBytesMax = kNodeBodyBytes;
inline constexpr std::size_t kNodeKeyBytesMax = 512;
inline constexpr std::size_t kNodeValueBytesMax = 128 * 1024;
inline constexpr std::size_t kLeafCellBytesMax =
    sizeof(LeafCellHeader) + kNodeKeyBytesMax + kInlineValueBytesMax;
inline constexpr std::size_t kInnerCellBytesMax = sizeof(InnerCellHeader) + kNodeKeyBytesMax;
// A node that was split in the middle takes any cell, whichever half it belongs to.
static_assert(kLeafCellBytesMax + kSlotBytes <= kNodeBodyBytes / 4);

constexpr bool IsLongValue(std::size_t value_bytes) noexcept {
  return value_bytes > kInlineValueBytesMax;
}
constexpr std::size_t PiecesOf(std::size_t value_bytes) noexcept {
  return IsLongValue(value_bytes) ? (value_bytes + kPieceBytesMax - 1) / kPieceBytesMax : 0;
}
// Bytes of the value, or of the pointers to its pieces, in a leaf's cell.
constexpr std::size_t StoredValueBytes(std::size_t value_bytes) noexcept {
  return IsLongValue(value_bytes) ? PiecesOf(value_bytes) * sizeof(NodePointer) : value_bytes;
}

struct LeafCell {
  std::string_view key;
  std::uint32_t value_bytes = 0;
  std::string_view stored;  // the value itself, or pointers
};

// The pointer to piece `at` of a long value. `at` < PiecesOf(cell.value_bytes).
NodePointer PieceAt(const LeafCell& cell, std::size_t at) noexcept;

// Reads a node that is known to be sound. Cheap to copy.
class NodeView {
 public:
  explicit NodeView(const std::byte* bytes) noexcept : bytes_(bytes) {}

  const NodeHeader& header() const noexcept { return *reinterpret_cast<const NodeHeader*>(bytes_); }
  std::uint32_t level() const noexcept { return header().level; }
  bool is_leaf() const noexcept { return level() == 0; }
  std::size_t count() const noexcept { return header().count; }
  std::string_view key(std::size_t at) const noexcept;
  LeafCell leaf(std::size_t at) const noexcept;          // leaves only
  NodePointer child(std::size_t at) const noexcept;      // inner nodes only
  std::string_view cell(std::size_t at) const noexcept;  // all of its bytes
  std::string_view piece() const noexcept;               // pieces only

  // Index of the first cell with a key >= `key`.
  std::size_t LowerBound(std::string_view key) const noexcept;
  // Index of the child that holds `key`. Inner nodes only, not empty.
  std::size_t ChildFor(std::string_view key) const noexcept;

 private:
  const std::byte* CellBytes(std::size_t at) const noexcept;
  const std::byte* bytes_;
};

// Writes both checksums of the node in `node`. Returns what a pointer to it must say.
std::uint32_t SealNode(std::span<std::byte> node) noexcept;

// Whether `node` is what `pointer` points to, and sound. `level_wanted`: what the parent implies.
// Errors: kCorrupt.
Result<void> CheckNode(std::span<const std::byte> node, const VolumeUuid& uuid,
                       const NodePointer& pointer, std::uint32_t level_wanted);

}  // namespace filer::engine

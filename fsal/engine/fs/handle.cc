#include "fsal/engine/fs/handle.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace filer::engine {
namespace {

constexpr std::uint8_t kHandleVersion = 1;

struct HandleDisk {
  std::uint8_t version;
  std::uint8_t reserved;  // zero
  le16 export_id;
  le32 fileset;
  le32 snapshot;
  std::uint8_t volume[12];
  le64 inode;
  le64 generation;
  le64 mac;  // of every byte above
};
static_assert(DiskStruct<HandleDisk> && sizeof(HandleDisk) == kHandleBytes);

std::uint64_t MacOf(const SipKey& key, const HandleDisk& handle) {
  return SipHash24(key,
                   {reinterpret_cast<const std::uint8_t*>(&handle), offsetof(HandleDisk, mac)});
}

}  // namespace

// The MAC's key is not the key of the hash of names: that one's outputs show in timing and order.
HandleCodec::HandleCodec(const SipKey& key, std::span<const std::uint8_t, 16> volume_uuid) {
  std::copy_n(volume_uuid.begin(), volume_.size(), volume_.begin());
  for (std::uint8_t half = 0; half < 2; ++half) {
    const std::uint8_t label[] = {'h', 'a', 'n', 'd', 'l', 'e', half};
    const le64 part = SipHash24(key, label);
    std::memcpy(key_.data() + half * 8, &part, 8);
  }
}

Engine::HandleBytes HandleCodec::Encode(const Attributes& node, std::uint16_t export_id) const {
  HandleDisk disk{};
  disk.version = kHandleVersion;
  disk.export_id = export_id;
  disk.fileset = node.id.fileset;
  disk.snapshot = node.id.snapshot;
  std::memcpy(disk.volume, volume_.data(), volume_.size());
  disk.inode = node.id.inode;
  disk.generation = node.generation;
  disk.mac = MacOf(key_, disk);
  Engine::HandleBytes bytes;
  std::memcpy(bytes.data(), &disk, sizeof(disk));
  return bytes;
}

Result<Engine::DecodedHandle> HandleCodec::Decode(std::span<const std::uint8_t> bytes) const {
  HandleDisk disk;
  if (bytes.size() != sizeof(disk)) return Errc::kBadHandle;
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  // One comparison of one word: its time does not tell how many bytes were right.
  const std::uint64_t difference = MacOf(key_, disk) ^ disk.mac;
  if (difference != 0 || disk.version != kHandleVersion || disk.reserved != 0 ||
      std::memcmp(disk.volume, volume_.data(), volume_.size()) != 0) {
    return Errc::kBadHandle;
  }
  Engine::DecodedHandle handle;
  handle.node = {disk.fileset, disk.snapshot, disk.inode};
  handle.generation = disk.generation;
  handle.export_id = disk.export_id;
  return handle;
}

}  // namespace filer::engine

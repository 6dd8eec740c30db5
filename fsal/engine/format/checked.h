// checked.h: what all on-disk structs share: a volume's identity, and a CRC-32C in the last four
// bytes. Every release keeps magic in the first eight bytes, the version behind it and the CRC at
// the end, so that a structure of a newer release can be told from a damaged one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/crc32c.h"
#include "base/endian.h"

namespace filer::engine {

using VolumeUuid = std::array<std::uint8_t, 16>;

inline constexpr std::uint64_t kMetaBlockBytes = 4096;  // unit of labels, uberblocks and log groups

// The checksum of `value`, i.e. of every byte before its crc32c field, which is last.
template <DiskStruct T>
std::uint32_t ChecksumOf(const T& value) noexcept {
  static_assert(offsetof(T, crc32c) == sizeof(T) - 4);
  return Crc32c(std::as_bytes(std::span(&value, 1)).first(sizeof(T) - 4));
}

template <DiskStruct T>
void Seal(T& value) noexcept {
  value.crc32c = ChecksumOf(value);
}

inline bool IsZero(std::span<const std::byte> bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

template <std::size_t N>
bool IsZero(const std::uint8_t (&bytes)[N]) noexcept {
  return IsZero(std::as_bytes(std::span(bytes)));
}

inline bool IsSameUuid(const std::uint8_t (&left)[16], const VolumeUuid& right) noexcept {
  return std::memcmp(left, right.data(), right.size()) == 0;
}

inline VolumeUuid ToUuid(const std::uint8_t (&bytes)[16]) noexcept {
  VolumeUuid uuid;
  std::memcpy(uuid.data(), bytes, uuid.size());
  return uuid;
}

// Copies the first bytes of `bytes` into a struct; the caller has checked that there are enough.
template <DiskStruct T>
T LoadStruct(std::span<const std::byte> bytes) noexcept {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

template <DiskStruct T>
void StoreStruct(std::span<std::byte> bytes, const T& value) noexcept {
  std::memcpy(bytes.data(), &value, sizeof(T));
}

}  // namespace filer::engine

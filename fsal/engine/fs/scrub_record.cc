#include "fsal/engine/fs/scrub_record.h"

#include <fmt/format.h>

#include <cstring>

#include "base/endian.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine {
namespace {

constexpr std::uint8_t kValueVersion = 1;
constexpr std::size_t kTextBytesMax = 4096;
enum Flags : std::uint8_t { kRunning = 1, kAtStart = 2, kYields = 4, kMoreFindings = 8 };

struct CursorDisk {
  std::uint8_t version;
  std::uint8_t flags;
  std::uint8_t phase;
  std::uint8_t reserved;  // zero
  le64 passes;
  le64 nodes;
  le64 bytes;
  le64 bytes_per_second;
  le64 started_ns;
  le64 finished_ns;
  le32 tree;
};
static_assert(DiskStruct<CursorDisk> && sizeof(CursorDisk) == 56);

struct FindingDisk {
  std::uint8_t version;
  std::uint8_t reserved;  // zero
  le64 pass;
  le16 what_bytes;  // of the texts that follow
  le16 where_bytes;
  le16 path_bytes;
};
static_assert(DiskStruct<FindingDisk> && sizeof(FindingDisk) == 16);

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string_view Cut(const std::string& text) {
  return std::string_view(text).substr(0, kTextBytesMax);
}

}  // namespace

std::string EncodeScrubCursor(const ScrubCursor& cursor) {
  CursorDisk disk{};
  disk.version = kValueVersion;
  disk.flags = static_cast<std::uint8_t>(
      (cursor.is_running ? kRunning : 0) | (cursor.is_at_start ? kAtStart : 0) |
      (cursor.yields_to_clients ? kYields : 0) | (cursor.has_more_findings ? kMoreFindings : 0));
  disk.phase = static_cast<std::uint8_t>(cursor.phase);
  disk.passes = cursor.passes;
  disk.nodes = cursor.nodes;
  disk.bytes = cursor.bytes;
  disk.bytes_per_second = cursor.bytes_per_second;
  disk.started_ns = static_cast<std::uint64_t>(cursor.started_ns);
  disk.finished_ns = static_cast<std::uint64_t>(cursor.finished_ns);
  disk.tree = cursor.tree;
  std::string bytes(BytesOf(disk));
  bytes.append(cursor.key);
  return bytes;
}

Result<ScrubCursor> DecodeScrubCursor(std::string_view bytes) {
  CursorDisk disk;
  if (bytes.size() < sizeof(disk) || bytes.size() > sizeof(disk) + kKeyBytesMax + 1) {
    return Error(Errc::kCorrupt, "the cursor of the scrub does not decode");
  }
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  if (disk.version != kValueVersion || disk.flags > 15 || disk.phase > 1 || disk.reserved != 0) {
    return Error(Errc::kCorrupt, "the cursor of the scrub does not decode");
  }
  ScrubCursor cursor;
  cursor.is_running = (disk.flags & kRunning) != 0;
  cursor.is_at_start = (disk.flags & kAtStart) != 0;
  cursor.yields_to_clients = (disk.flags & kYields) != 0;
  cursor.has_more_findings = (disk.flags & kMoreFindings) != 0;
  cursor.phase = static_cast<ScrubPhase>(disk.phase);
  cursor.passes = disk.passes;
  cursor.nodes = disk.nodes;
  cursor.bytes = disk.bytes;
  cursor.bytes_per_second = disk.bytes_per_second;
  cursor.started_ns = static_cast<std::int64_t>(disk.started_ns.value());
  cursor.finished_ns = static_cast<std::int64_t>(disk.finished_ns.value());
  cursor.tree = disk.tree;
  cursor.key.assign(bytes.substr(sizeof(disk)));
  return cursor;
}

std::string EncodeScrubFinding(const ScrubFinding& finding) {
  const auto& [what, where, path] = finding.finding;
  FindingDisk disk{};
  disk.version = kValueVersion;
  disk.pass = finding.pass;
  disk.what_bytes = static_cast<std::uint16_t>(Cut(what).size());
  disk.where_bytes = static_cast<std::uint16_t>(Cut(where).size());
  disk.path_bytes = static_cast<std::uint16_t>(Cut(path).size());
  std::string bytes(BytesOf(disk));
  bytes.append(Cut(what)).append(Cut(where)).append(Cut(path));
  return bytes;
}

Result<ScrubFinding> DecodeScrubFinding(std::string_view bytes) {
  FindingDisk disk;
  if (bytes.size() < sizeof(disk)) return Error(Errc::kCorrupt, "a finding does not decode");
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  bytes.remove_prefix(sizeof(disk));
  const std::size_t what = disk.what_bytes;
  const std::size_t where = disk.where_bytes;
  const std::size_t path = disk.path_bytes;
  if (disk.version != kValueVersion || disk.reserved != 0 || bytes.size() != what + where + path) {
    return Error(Errc::kCorrupt, "a finding does not decode");
  }
  ScrubFinding finding;
  finding.pass = disk.pass;
  finding.finding.what.assign(bytes.substr(0, what));
  finding.finding.where.assign(bytes.substr(what, where));
  finding.finding.path.assign(bytes.substr(what + where));
  return finding;
}

std::string ScrubFindingKey(std::size_t number) {
  return CounterKey(fmt::format("{}{:04}", kScrubFinding, number));
}

}  // namespace filer::engine

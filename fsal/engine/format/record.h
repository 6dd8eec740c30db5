// record.h: encoding of key-value pairs and transactions inside log groups.
//
//   pair         le16 key_bytes, le32 value_bytes (kErased: the key goes), key, value
//   transaction  le32 change_count, le32 bytes of the pairs, le32 run_count,
//                le32 files that came less those that went, le32 tree, le32 0, pairs, runs
//   run          le64 first block, le32 blocks, le32 kind, le64 epoch of birth (kRunBuried, else 0)
// Decoders trust nothing: every length is checked against what is left and against the limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/result.h"
#include "fsal/engine/format/block_run.h"

namespace filer::engine {

inline constexpr std::uint32_t kErased = 0xFFFFFFFFU;
inline constexpr std::size_t kRecordKeyBytesMax = 512;
inline constexpr std::size_t kRecordValueBytesMax = 128 * 1024;

struct PairHeader {
  le16 key_bytes;
  le32 value_bytes;
};
static_assert(DiskStruct<PairHeader> && sizeof(PairHeader) == 6);

struct TransactionHeader {
  le32 change_count;
  le32 pair_bytes;
  le32 run_count;
  le32 file_delta;  // two's complement
  le32 tree;        // whose keys these are
  le32 reserved;    // zero
};
static_assert(DiskStruct<TransactionHeader> && sizeof(TransactionHeader) == 24);

// Blocks of the data area that the transaction's keys began, or ceased, to refer to; buried: a
// snapshot may still do. Node units that a dead tree gave up.
inline constexpr std::uint32_t kRunUsed = 1;
inline constexpr std::uint32_t kRunDropped = 2;
inline constexpr std::uint32_t kRunBuried = 3;
inline constexpr std::uint32_t kRunNodes = 4;
struct RunRecord {
  le64 first;
  le32 count;
  le32 kind;
  le64 birth_epoch;
};
static_assert(DiskStruct<RunRecord> && sizeof(RunRecord) == 24);

inline constexpr std::size_t kPairBytesMax =
    sizeof(PairHeader) + kRecordKeyBytesMax + kRecordValueBytesMax;

constexpr std::uint64_t PairBytes(std::size_t key_bytes, std::size_t value_bytes) noexcept {
  return sizeof(PairHeader) + key_bytes + value_bytes;
}

void AppendRun(std::string& out, const BlockRun& run, std::uint32_t kind,
               std::uint64_t birth_epoch = 0);
void AppendPair(std::string& out, std::string_view key, std::optional<std::string_view> value);

struct Pair {
  std::string_view key;  // points into the input
  std::optional<std::string_view> value;
};

// Takes the first pair off `input`. nullopt: it is not complete yet (never for hostile lengths).
// Errors: kCorrupt.
Result<std::optional<Pair>> TakePair(std::string_view& input);

// Takes the first transaction off `input`. Errors: kCorrupt.
struct TransactionView {
  std::uint32_t change_count = 0;
  std::string_view pairs;
  std::vector<BlockRun> used, dropped, nodes;
  std::vector<DroppedRun> buried;
  std::int32_t file_delta = 0;
  std::uint32_t tree = 0;
};
Result<TransactionView> TakeTransaction(std::string_view& input);

}  // namespace filer::engine

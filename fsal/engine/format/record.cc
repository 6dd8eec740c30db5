#include "fsal/engine/format/record.h"

#include <cstring>

#include "base/assert.h"

namespace filer::engine {

void AppendPair(std::string& out, std::string_view key, std::optional<std::string_view> value) {
  FILER_ASSERT(!key.empty() && key.size() <= kRecordKeyBytesMax);
  FILER_ASSERT(!value || value->size() <= kRecordValueBytesMax);
  PairHeader header{};
  header.key_bytes = static_cast<std::uint16_t>(key.size());
  header.value_bytes = value ? static_cast<std::uint32_t>(value->size()) : kErased;
  out.append(reinterpret_cast<const char*>(&header), sizeof(header));
  out.append(key);
  if (value) out.append(*value);
}

void AppendRun(std::string& out, const BlockRun& run, std::uint32_t kind,
               std::uint64_t birth_epoch) {
  FILER_ASSERT(run.count <= UINT32_MAX);
  RunRecord record{};
  record.first = run.first;
  record.count = static_cast<std::uint32_t>(run.count);
  record.kind = kind;
  record.birth_epoch = birth_epoch;
  out.append(reinterpret_cast<const char*>(&record), sizeof(record));
}

Result<std::optional<Pair>> TakePair(std::string_view& input) {
  PairHeader header;
  if (input.size() < sizeof(header)) return std::optional<Pair>();
  std::memcpy(&header, input.data(), sizeof(header));
  const bool is_erased = header.value_bytes == kErased;
  const std::size_t key_bytes = header.key_bytes;
  const std::size_t value_bytes = is_erased ? 0 : header.value_bytes.value();
  if (key_bytes == 0 || key_bytes > kRecordKeyBytesMax || value_bytes > kRecordValueBytesMax) {
    return Error(Errc::kCorrupt, "record: a length is out of range");
  }
  if (input.size() - sizeof(header) < key_bytes + value_bytes) return std::optional<Pair>();
  Pair pair;
  pair.key = input.substr(sizeof(header), key_bytes);
  if (!is_erased) pair.value = input.substr(sizeof(header) + key_bytes, value_bytes);
  input.remove_prefix(sizeof(header) + key_bytes + value_bytes);
  return std::optional<Pair>(pair);
}

Result<TransactionView> TakeTransaction(std::string_view& input) {
  TransactionHeader header;
  if (input.size() < sizeof(header)) return Error(Errc::kCorrupt, "log transaction: cut short");
  std::memcpy(&header, input.data(), sizeof(header));
  input.remove_prefix(sizeof(header));
  if (header.pair_bytes > input.size()) {
    return Error(Errc::kCorrupt, "log transaction: longer than its group");
  }
  TransactionView view;
  view.change_count = header.change_count;
  view.pairs = input.substr(0, header.pair_bytes);
  view.tree = header.tree;
  view.file_delta = static_cast<std::int32_t>(header.file_delta.value());
  input.remove_prefix(header.pair_bytes);
  if (header.run_count > input.size() / sizeof(RunRecord)) {
    return Error(Errc::kCorrupt, "log transaction: longer than its group");
  }
  for (std::uint32_t at = 0; at < header.run_count; ++at) {
    RunRecord run;
    std::memcpy(&run, input.data(), sizeof(run));
    input.remove_prefix(sizeof(run));
    const BlockRun blocks{run.first, run.count};
    switch (run.kind) {
      case kRunUsed:
        view.used.push_back(blocks);
        break;
      case kRunDropped:
        view.dropped.push_back(blocks);
        break;
      case kRunNodes:
        view.nodes.push_back(blocks);
        break;
      case kRunBuried:
        view.buried.push_back({blocks, run.birth_epoch});
        break;
      default:
        return Error(Errc::kCorrupt, "log transaction: a run of an unknown kind");
    }
  }
  return view;
}

}  // namespace filer::engine

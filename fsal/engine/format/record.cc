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
  TransactionView view{header.change_count, input.substr(0, header.pair_bytes)};
  input.remove_prefix(header.pair_bytes);
  return view;
}

}  // namespace filer::engine

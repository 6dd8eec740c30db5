#include "fsal/engine/tree/additions.h"

#include <cstring>

#include "fsal/engine/format/record.h"

namespace filer::engine {
namespace {

std::uint64_t Plus(std::uint64_t sum, std::int64_t by) {
  if (by >= 0) return sum + static_cast<std::uint64_t>(by);
  const std::uint64_t magnitude = ~static_cast<std::uint64_t>(by) + 1;
  return sum > magnitude ? sum - magnitude : 0;
}

}  // namespace

Additions::Additions(const Transaction& transaction) {
  if (transaction.additions().empty()) return;
  std::size_t at = sizeof(TransactionHeader);
  for (const auto& change : transaction.changes()) {
    at += PairBytes(change.key.size(), change.value ? change.value->size() : 0);
  }
  places_.reserve(transaction.additions().size());
  for (const auto& addition : transaction.additions()) {
    at += PairBytes(addition.key.size(), sizeof(Sums));
    places_.push_back({&addition, at - sizeof(Sums), {}});
  }
}

Result<void> Additions::Encode(const Transaction& transaction, std::string& record) {
  const Sums zeroes{};
  for (const auto& addition : transaction.additions()) {
    if (addition.key.empty()) return Error(Errc::kInvalidArgument, "commit: empty key");
    if (addition.key.size() > kKeyBytesMax) {
      return Error(Errc::kTooBig, "commit: a key is longer than allowed");
    }
    AppendPair(record, addition.key,
               std::string_view(reinterpret_cast<const char*>(&zeroes), sizeof(zeroes)));
  }
  return Ok();
}

void Additions::AppendChanges(std::vector<TreeChange>& changes) const {
  for (const Place& place : places_) {
    changes.push_back(
        {place.addition->key,
         std::string_view(reinterpret_cast<const char*>(&place.value), sizeof(place.value))});
  }
}

Result<void> Additions::Settle(const NodeTree& tree, std::string& record) {
  if (places_.empty()) return Ok();
  std::string value;
  Misses misses;
  for (Place& place : places_) {
    const auto step = tree.Find(place.addition->key, value, misses);
    const bool is_there = step == NodeTree::Step::kDone;
    if ((!is_there && step != NodeTree::Step::kAbsent) ||
        (is_there && value.size() != sizeof(Sums))) {
      return Error(Errc::kCorrupt, "commit: a sum cannot be read; run volume check");
    }
    place.value = {};
    if (is_there) std::memcpy(&place.value, value.data(), sizeof(Sums));
    for (std::size_t at = 0; at < kSums; ++at) {
      place.value.sums[at] = Plus(place.value.sums[at], place.addition->by[at]);
    }
    std::memcpy(record.data() + place.value_at, &place.value, sizeof(Sums));
  }
  return Ok();
}

}  // namespace filer::engine

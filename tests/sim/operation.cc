#include "tests/sim/operation.h"

#include <fmt/format.h>

#include <cstring>
#include <random>

namespace filer::engine::sim {
namespace {

struct Weight {
  OperationKind kind;
  std::uint32_t weight;
  const char* name;
};
constexpr Weight kWeights[] = {
    {OperationKind::kCreate, 14, "create"},
    {OperationKind::kLink, 4, "link"},
    {OperationKind::kRemove, 7, "remove"},
    {OperationKind::kRename, 9, "rename"},
    {OperationKind::kWrite, 26, "write"},
    {OperationKind::kRead, 6, "read"},
    {OperationKind::kCommit, 7, "commit"},
    {OperationKind::kSetSize, 6, "set size"},
    {OperationKind::kSetAttributes, 4, "set attributes"},
    {OperationKind::kSetXattr, 4, "set xattr"},
    {OperationKind::kDeallocate, 3, "deallocate"},
    {OperationKind::kAllocate, 2, "allocate"},
    {OperationKind::kSeek, 1, "seek"},
    {OperationKind::kReadDirectory, 2, "read directory"},
    {OperationKind::kLookup, 2, "lookup"},
    {OperationKind::kHold, 3, "hold"},
    {OperationKind::kRelease, 2, "release"},
    {OperationKind::kSyncAll, 1, "sync all"},
    {OperationKind::kRemount, 1, "remount"},
};
constexpr std::uint64_t kBlock = 4096;
constexpr std::uint8_t kDirectoryNames = 3;
constexpr std::uint8_t kNames = 7;

std::uint64_t Mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

Operation::Place DrawPlace(std::mt19937_64& random) {
  Operation::Place place;
  for (auto& step : place.path) {
    step = static_cast<std::uint8_t>(random() % 2 == 0 ? 0 : 1 + random() % kDirectoryNames);
  }
  place.name = static_cast<std::uint8_t>(1 + random() % kNames);
  return place;
}

Operation DrawOperation(std::mt19937_64& random, std::uint32_t index, std::uint64_t bytes_max) {
  std::uint32_t sum = 0;
  for (const Weight& weight : kWeights) sum += weight.weight;
  auto dice = static_cast<std::uint32_t>(random() % sum);
  Operation operation;
  for (const Weight& weight : kWeights) {
    operation.kind = weight.kind;
    if (dice < weight.weight) break;
    dice -= weight.weight;
  }
  operation.index = index;
  operation.from = DrawPlace(random);
  operation.to = DrawPlace(random);
  operation.draw = random();
  operation.offset =
      random() % 3 == 0 ? random() % (bytes_max / kBlock) * kBlock : random() % bytes_max;
  switch (random() % 4) {
    case 0:
      operation.length = (1 + random() % 4) * kBlock;
      break;
    case 1:
      operation.length = 1 + random() % (bytes_max / 2);
      break;
    default:
      operation.length = 1 + random() % 5000;
  }
  if (operation.kind == OperationKind::kSetSize) operation.length = operation.offset;
  const auto stability = random() % 8;
  operation.stability = stability == 0   ? Stability::kDataSync
                        : stability <= 2 ? Stability::kFileSync
                                         : Stability::kUnstable;
  return operation;
}

}  // namespace

Sequence DrawSequence(std::uint64_t seed, std::uint32_t operations, std::uint32_t lives) {
  Sequence sequence;
  sequence.seed = seed;
  sequence.life_count = lives;
  sequence.operations_per_life = operations;
  std::mt19937_64 random(Mix(seed));
  const std::uint64_t bytes_max = seed % 5 == 0 ? 200'000 : 30'000;
  std::uint32_t index = 0;
  for (std::uint32_t life = 0; life < lives; ++life) {
    auto& drawn = sequence.lives.emplace_back();
    for (std::uint32_t at = 0; at < operations; ++at) {
      Operation operation = DrawOperation(random, index++, bytes_max);
      // A mount begins with an empty log: in one long life it is to fill.
      const bool is_remount = operation.kind == OperationKind::kRemount;
      if (lives == 1 && operations > 500 && is_remount) operation.kind = OperationKind::kSyncAll;
      drawn.push_back(operation);
    }
  }
  return sequence;
}

Sequence Subset(const Sequence& sequence, const std::vector<std::uint32_t>& indexes) {
  Sequence subset = sequence;
  std::size_t at = 0;
  for (auto& life : subset.lives) {
    std::erase_if(life, [&](const Operation& operation) {
      while (at < indexes.size() && indexes[at] < operation.index) ++at;
      return at == indexes.size() || indexes[at] != operation.index;
    });
  }
  return subset;
}

std::vector<std::uint32_t> IndexesOf(const Sequence& sequence) {
  std::vector<std::uint32_t> indexes;
  for (const auto& life : sequence.lives) {
    for (const Operation& operation : life) indexes.push_back(operation.index);
  }
  return indexes;
}

std::string Text(const Operation& operation) {
  const char* name = "?";
  for (const Weight& weight : kWeights) {
    if (weight.kind == operation.kind) name = weight.name;
  }
  const auto place = [](const Operation::Place& at) {
    std::string text;
    for (const auto step : at.path) {
      if (step != 0) text += fmt::format("/d{}", step);
    }
    return text + fmt::format("/n{}", at.name);
  };
  return fmt::format("{:4} {:14} {} -> {} offset {} length {} stability {} draw {}",
                     operation.index, name, place(operation.from), place(operation.to),
                     operation.offset, operation.length, static_cast<int>(operation.stability),
                     operation.draw);
}

std::string IndexesText(const std::vector<std::uint32_t>& indexes) {
  std::string text;
  for (std::size_t at = 0; at < indexes.size();) {
    std::size_t end = at + 1;
    while (end < indexes.size() && indexes[end] == indexes[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += std::to_string(indexes[at]);
    if (end - at > 1) text += '-' + std::to_string(indexes[end - 1]);
    at = end;
  }
  return text;
}

std::vector<std::uint32_t> ParseIndexes(const std::string& text) {
  std::vector<std::uint32_t> indexes;
  const char* at = text.c_str();
  while (*at != '\0') {
    char* end = nullptr;
    const auto first = static_cast<std::uint32_t>(std::strtoul(at, &end, 10));
    if (end == at) return {};
    auto last = first;
    if (*end == '-') {
      at = end + 1;
      last = static_cast<std::uint32_t>(std::strtoul(at, &end, 10));
      if (end == at || last < first) return {};
    }
    for (auto index = first; index <= last; ++index) indexes.push_back(index);
    if (*end != ',' && *end != '\0') return {};
    at = *end == ',' ? end + 1 : end;
  }
  return indexes;
}

std::string ContentOf(std::uint64_t seed, std::uint32_t index, std::uint64_t offset,
                      std::uint64_t length) {
  std::string content(length, '\0');
  const std::uint64_t own = Mix(seed ^ Mix(index));
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t word_at = (offset + done) / 8;
    const std::uint64_t word = Mix(own ^ word_at);
    const std::uint64_t within = (offset + done) % 8;
    const std::uint64_t some = std::min<std::uint64_t>(8 - within, length - done);
    std::memcpy(content.data() + done, reinterpret_cast<const char*>(&word) + within, some);
    done += some;
  }
  return content;
}

}  // namespace filer::engine::sim

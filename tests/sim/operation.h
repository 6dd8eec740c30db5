// operation.h: one file operation of a random sequence, drawn ahead of the run.
//
// What an operation names it names by path and by draws of its own, so that it means something
// whichever others were left out: a subset of a sequence is again a sequence (shrinking).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "fsal/engine/engine.h"

namespace filer::engine::sim {

enum class OperationKind : std::uint8_t {
  kCreate,  // file, directory, symlink, special; sometimes exclusive
  kLink,
  kRemove,
  kRename,
  kWrite,
  kRead,
  kCommit,
  kSetSize,
  kSetAttributes,
  kSetXattr,
  kDeallocate,
  kAllocate,
  kSeek,
  kReadDirectory,
  kLookup,
  kHold,
  kRelease,
  kSyncAll,
  kRemount,  // in order
};

struct Operation {
  OperationKind kind = OperationKind::kLookup;
  std::uint32_t index = 0;  // in its sequence, of all lives
  // Two places: up to two directories to walk down, then a name.
  struct Place {
    std::array<std::uint8_t, 2> path{};  // 0: stay
    std::uint8_t name = 0;
  };
  Place from, to;
  std::uint64_t draw = 0;    // which node, if the place has none of the kind; choices of the kind
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes; a size for kSetSize
  Stability stability = Stability::kUnstable;
};

// A run: lives of one volume, each but the last ended by a power cut.
struct Sequence {
  std::uint64_t seed = 0;
  std::uint32_t life_count = 1;
  std::uint32_t operations_per_life = 0;
  std::vector<std::vector<Operation>> lives;
};

// Deterministic. Errors: none.
Sequence DrawSequence(std::uint64_t seed, std::uint32_t operations, std::uint32_t lives);
// The same with these operations only (by index, ascending).
Sequence Subset(const Sequence& sequence, const std::vector<std::uint32_t>& indexes);
std::vector<std::uint32_t> IndexesOf(const Sequence& sequence);

// One line for a person.
std::string Text(const Operation& operation);
// "3,7,12-15" and back; an empty list for what is malformed.
std::string IndexesText(const std::vector<std::uint32_t>& indexes);
std::vector<std::uint32_t> ParseIndexes(const std::string& text);

// The bytes that operation `index` of run `seed` writes from `offset` on: nobody else's, and at no
// other offset.
std::string ContentOf(std::uint64_t seed, std::uint32_t index, std::uint64_t offset,
                      std::uint64_t length);

}  // namespace filer::engine::sim

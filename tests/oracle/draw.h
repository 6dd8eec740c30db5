// draw.h: random keys and values of the shapes at which a B+tree can go wrong.
// Threads: one.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace filer::engine::oracle {

using Random = std::mt19937_64;

// A key out of a set of about `spread` for each shape: short ones; neighbours that differ by zero
// bytes or 0xff at their end; dense directories; long common beginnings, up to kKeyBytesMax in all.
std::string DrawKey(Random& random, std::uint64_t spread);

// Bytes of which no two draws are the same; also of the lengths at which the store's way to keep a
// value changes.
class Values {
 public:
  explicit Values(std::uint64_t seed);
  // `big_percent`: how many are longer than what lies in a leaf.
  std::string Draw(Random& random, std::uint32_t big_percent);

 private:
  std::string noise_;
  std::uint64_t drawn_ = 0;
};

}  // namespace filer::engine::oracle

#include "tests/oracle/draw.h"

#include <algorithm>
#include <cstring>

#include "fsal/engine/format/node.h"
#include "fsal/engine/tree/store.h"

namespace filer::engine::oracle {
namespace {

void AppendBig(std::string& key, std::uint64_t number, int bytes) {
  for (int at = bytes; at-- > 0;) key.push_back(static_cast<char>(number >> (8 * at)));
}

std::size_t DrawLength(Random& random, std::uint32_t big_percent) {
  const auto below = [&](std::size_t limit) { return random() % limit; };
  if (random() % 100 < big_percent) {
    switch (random() % 8) {
      case 0:  // around whole pieces
        return (1 + below(8)) * kPieceBytesMax - 1 + below(3);
      case 1:
        return kValueBytesMax - below(2);
      case 2:
        return kInlineValueBytesMax + 1 + below(kValueBytesMax - kInlineValueBytesMax);
      default:
        return kInlineValueBytesMax + 1 + below(12 * 1024);
    }
  }
  switch (random() % 16) {
    case 0:
      return 0;
    case 1:  // around the longest that lies in a leaf
      return kInlineValueBytesMax - 1 + below(3);
    case 2:
    case 3:
      return below(kInlineValueBytesMax);
    default:
      return below(200);
  }
}

}  // namespace

std::string DrawKey(Random& random, std::uint64_t spread) {
  const std::uint64_t number = random() % spread;
  std::string key;
  switch (random() % 6) {
    case 0:  // short, any bytes
      AppendBig(key, number % 65'000, number % 256 == 0 ? 1 : 2);
      return key;
    case 1:  // each the beginning of others
      key = "n" + std::to_string(number / 16);
      key.append(number % 4, '\0');
      key.append(number / 4 % 4, '\xff');
      return key;
    case 2:
    case 3:  // as the file system's directories
      key = "D";
      AppendBig(key, number % 8, 8);
      AppendBig(key, number / 8, 8);
      return key;
    case 4:  // a common beginning of each length
      key.assign(1, 's');
      key.append(number % 32 * 15, 'p');
      AppendBig(key, number, 8);
      return key;
    default:  // the longest there are; they differ at the end, in the middle or at once
      key.assign(kKeyBytesMax, 'l');
      const std::size_t at = number % 3 == 0 ? 8 : number % 3 == 1 ? 250 : kKeyBytesMax - 8;
      for (int byte = 0; byte < 8; ++byte) {
        key[at + static_cast<std::size_t>(byte)] = static_cast<char>(number >> (8 * (7 - byte)));
      }
      return key;
  }
}

Values::Values(std::uint64_t seed) : noise_(2 * kValueBytesMax, '\0') {
  Random random(seed);
  for (auto& byte : noise_) byte = static_cast<char>(random());
}

std::string Values::Draw(Random& random, std::uint32_t big_percent) {
  const auto length = DrawLength(random, big_percent);
  std::string value = noise_.substr(random() % kValueBytesMax, length);
  ++drawn_;
  std::memcpy(value.data(), &drawn_, std::min(length, sizeof(drawn_)));
  return value;
}

}  // namespace filer::engine::oracle

// json_nesting.h: how deep a text of JSON nests, before a parser or a printer descends into it.
#pragma once

#include <cstddef>
#include <string_view>

namespace filer {

inline constexpr int kJsonNestingMax = 64;

// Depth of brackets outside strings.
constexpr bool NestsTooDeep(std::string_view line) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonNestingMax) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace filer

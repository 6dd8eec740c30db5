#include "configs/syntax.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace filer::configs {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }

// Bytes of the UTF-8 sequence at the start of `text` that is printable, 0 if there is none.
std::size_t PrintableSequence(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  std::uint32_t code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    code = code << 6 | (next & 0x3f);
  }
  constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10ffff) return 0;
  if ((code >= 0xd800 && code <= 0xdfff) || code < 0xa0) return 0;  // surrogates, C1 controls
  return length;
}

struct BinaryAddress {
  int family = 0;
  std::array<std::uint8_t, 16> bytes{};
  int Bits() const { return family == AF_INET ? 32 : 128; }
};

std::optional<BinaryAddress> ToBinary(std::string_view text) {
  const std::string terminated(text);
  BinaryAddress address;
  for (const int family : {AF_INET, AF_INET6}) {
    address.family = family;
    if (inet_pton(family, terminated.c_str(), address.bytes.data()) == 1) return address;
  }
  return std::nullopt;
}

std::string ToText(const BinaryAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(address.family, address.bytes.data(), text.data(), text.size());
  return text.data();
}

// Clears the bits behind the prefix.
BinaryAddress NetworkOf(BinaryAddress address, int prefix_bits) {
  for (int bit = prefix_bits; bit < address.Bits(); ++bit) {
    address.bytes[static_cast<std::size_t>(bit / 8)] &=
        static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
  }
  return address;
}

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, above + 1, row[j - 1] + 1});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

Result<std::uint64_t> ParseSize(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) return Errc::kTooBig;
  if (error != std::errc{}) return Errc::kInvalidArgument;
  std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  if (suffix.empty()) return number;
  const std::size_t power = std::string_view("KMGT").find(suffix[0]);
  if (power == std::string_view::npos) return Errc::kInvalidArgument;
  suffix.remove_prefix(1);
  if (!suffix.empty() && suffix != "B" && suffix != "iB") return Errc::kInvalidArgument;
  const std::size_t shift = 10 * (power + 1);
  if (number > (UINT64_MAX >> shift)) return Errc::kTooBig;
  return number << shift;
}

std::string FormatSize(std::uint64_t bytes) {
  constexpr std::string_view kSuffixes = "KMGT";
  for (std::size_t power = kSuffixes.size(); power > 0; --power) {
    const std::size_t shift = 10 * power;
    if (bytes != 0 && bytes % (1ULL << shift) == 0) {
      return fmt::format("{}{}", bytes >> shift, kSuffixes[power - 1]);
    }
  }
  return fmt::format("{}", bytes);
}

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > 63 || text == "." || text == ".." || text[0] == '-') {
    return false;
  }
  return std::all_of(text.begin(), text.end(), [](char c) {
    return IsDigit(c) || IsLower(c) || IsUpper(c) || c == '.' || c == '_' || c == '-';
  });
}

bool IsAccountName(std::string_view text) {
  if (text.empty() || text.size() > 32 || !(IsLower(text[0]) || text[0] == '_')) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsDigit(c) || IsLower(c) || c == '_' || c == '-'; });
}

std::optional<std::string> WhyNotPath(std::string_view text) {
  if (text.empty() || text[0] != '/') return "it does not start with '/'";
  if (text.size() > 1024) return "it is longer than 1024 bytes";
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t length = PrintableSequence(rest);
    if (length == 0) return "it holds a character that cannot be printed";
    if (std::string_view("\"\\%;#").find(rest[0]) != std::string_view::npos) {
      return fmt::format("it holds '{}', which the servers' own files give a meaning", rest[0]);
    }
    rest.remove_prefix(length);
  }
  if (text == "/") return std::nullopt;
  if (text.back() == '/') return "it ends with '/'";
  if (text.back() == ' ') return "it ends with a blank";
  for (std::string_view rest = text.substr(1);;) {
    const std::size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty()) return "it holds '//'";
    if (part == "." || part == "..") return fmt::format("it holds the part '{}'", part);
    if (part.size() > 255) return "a part of it is longer than 255 bytes";
    if (slash == std::string_view::npos) return std::nullopt;
    rest.remove_prefix(slash + 1);
  }
}

std::optional<std::string> WhyNotVolumePath(std::string_view text) {
  if (auto why = WhyNotPath(text)) return why;
  if (text.find(',') == std::string_view::npos) return std::nullopt;
  return "it holds ',', which would end it among the bridge's options";
}

bool IsIpv4(std::string_view text) {
  const auto address = ToBinary(text);
  return address.has_value() && address->family == AF_INET;
}

bool IsHostInNetwork(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || !IsIpv4(text.substr(0, slash))) return false;
  int bits = 0;
  const char* end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data() + slash + 1, end, bits);
  return error == std::errc() && parsed == end && bits >= 1 && bits <= 31;
}

bool IsInterfaceName(std::string_view text) {
  return !text.empty() && text.size() <= 15 && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return IsDigit(c) || IsLower(c) || IsUpper(c) || c == '_' || c == '-' || c == '.';
         });
}

bool IsPciAddress(std::string_view text) {
  constexpr std::string_view kForm = "hhhh:hh:hh.h";
  return text.size() == kForm.size() &&
         std::equal(text.begin(), text.end(), kForm.begin(), [](char c, char form) {
           const bool is_hex = IsDigit(c) || (c >= 'a' && c <= 'f');
           return form == 'h' ? is_hex : c == form;
         });
}

Result<std::string> ParseAddress(std::string_view text) {
  const auto address = ToBinary(text);
  if (!address) return Error(Errc::kInvalidArgument, "write an address such as 127.0.0.1 or ::1");
  return ToText(*address);
}

Result<std::string> ParseClientRule(std::string_view text) {
  if (text == "*") return std::string("*");
  const std::size_t slash = text.find('/');
  const auto address = ToBinary(text.substr(0, slash));
  if (!address) {
    return Error(Errc::kInvalidArgument,
                 "write \"*\", an address (192.168.1.7) or a network (192.168.1.0/24)");
  }
  if (slash == std::string_view::npos) return ToText(*address);

  const std::string_view digits = text.substr(slash + 1);
  int prefix_bits = -1;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), prefix_bits);
  if (error != std::errc{} || end != digits.data() + digits.size() || !IsDigit(digits[0]) ||
      prefix_bits > address->Bits()) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("write a prefix length of 1 to {} after the '/'", address->Bits()));
  }
  if (prefix_bits == 0) return Error(Errc::kInvalidArgument, "write \"*\" for everybody");
  const std::string network = ToText(NetworkOf(*address, prefix_bits));
  if (network != ToText(*address)) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("bits are set behind the prefix: write \"{}/{}\" for the network, or "
                             "\"{}\" for the one machine",
                             network, prefix_bits, ToText(*address)));
  }
  if (prefix_bits == address->Bits()) return network;
  // Ganesha's scanner takes prefix lengths of one or two digits (conf_lex.l, CIDR).
  if (prefix_bits > 99) {
    return Error(Errc::kInvalidArgument,
                 "the NFS server knows prefix lengths up to 99: list the addresses");
  }
  return fmt::format("{}/{}", network, prefix_bits);
}

std::optional<std::string_view> Nearest(std::string_view word,
                                        std::span<const std::string_view> candidates) {
  std::optional<std::string_view> best;
  std::size_t best_distance = word.size() / 3 + 2;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = EditDistance(word.substr(0, 128), candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace filer::configs

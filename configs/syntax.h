// syntax.h: the words that a configuration may contain: sizes, names, paths, addresses, client
// rules. Pure functions on untrusted text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace filer::configs {

// "512M", "8G", "4096": a decimal number with an optional K, M, G or T (powers of 1024; "GiB" and
// "GB" are taken for G). Errors: kInvalidArgument, kTooBig on overflow.
Result<std::uint64_t> ParseSize(std::string_view text);
// The shortest exact form that ParseSize reads back, e.g. "8G".
std::string FormatSize(std::uint64_t bytes);

// [A-Za-z0-9._-]{1,63}, but not "." and "..", and not starting with '-'.
bool IsName(std::string_view text);
// A name of a Unix account: [a-z_][a-z0-9_-]{0,31}.
bool IsAccountName(std::string_view text);

// Nothing if `text` can be used as a path, else why not. Absolute, no empty, "." or ".." parts,
// valid printable UTF-8 without the characters that Ganesha's or Samba's files give a meaning ("
// \ % ; #).
std::optional<std::string> WhyNotPath(std::string_view text);
// The same of a volume's file, whose path must also fit into host-bridge's key=value,key=value.
std::optional<std::string> WhyNotVolumePath(std::string_view text);

// An IPv4 or IPv6 address in its canonical form. Errors: kInvalidArgument.
Result<std::string> ParseAddress(std::string_view text);
// "192.0.2.5", and "192.0.2.5/24" with a prefix of 1 to 31 bits.
bool IsIpv4(std::string_view text);
bool IsHostInNetwork(std::string_view text);
// Of a network interface (Linux: 1 to 15 bytes), and of a PCI function, "0000:03:10.2".
bool IsInterfaceName(std::string_view text);
bool IsPciAddress(std::string_view text);
// "*", an address, or a network: canonical form. Errors: kInvalidArgument with what to write.
Result<std::string> ParseClientRule(std::string_view text);

// The candidate nearest to `word` (edits, at most a third of its length plus one), or nothing.
std::optional<std::string_view> Nearest(std::string_view word,
                                        std::span<const std::string_view> candidates);

}  // namespace filer::configs

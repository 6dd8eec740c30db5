// siphash.h: SipHash-2-4 (Aumasson, Bernstein), the keyed 64-bit hash of handles and of names. Any
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace filer::engine {

using SipKey = std::array<std::uint8_t, 16>;

std::uint64_t SipHash24(const SipKey& key, std::span<const std::uint8_t> bytes) noexcept;

}  // namespace filer::engine

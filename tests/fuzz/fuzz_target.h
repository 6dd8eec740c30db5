// fuzz_target.h: what a fuzz target defines, for libFuzzer and for the replay of its corpus.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define FILER_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FILER_HAS_ASAN 1
#endif
#endif
#ifdef FILER_HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace filer::fuzz {

// One input, start to end. Aborts when something is wrong with us; nothing is wrong with the input.
void FuzzOne(const std::uint8_t* data, std::size_t size);

// Nobody may touch these bytes from now on. Multiple of 8, aligned to 8.
inline void Poison([[maybe_unused]] void* at, [[maybe_unused]] std::size_t size) {
#ifdef FILER_HAS_ASAN
  __asan_poison_memory_region(at, size);
#endif
}

}  // namespace filer::fuzz

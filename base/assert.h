// assert.h: FILER_ASSERT stays on in release builds and aborts with file, line and condition. For
// our own mistakes only: what a disk, guest, client or file may contain is never asserted, always
// returned as an Error.
#pragma once

namespace filer::detail {
[[noreturn]] void AssertFailed(const char* condition, const char* file, int line) noexcept;
}

#define FILER_ASSERT(condition)       \
  ((condition) ? static_cast<void>(0) \
               : ::filer::detail::AssertFailed(#condition, __FILE__, __LINE__))

// Debug builds only; use it where a profile shows the cost of FILER_ASSERT.
#ifdef NDEBUG
#define FILER_DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define FILER_DCHECK(condition) FILER_ASSERT(condition)
#endif

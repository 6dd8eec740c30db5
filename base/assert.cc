#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace filer::detail {

void AssertFailed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace filer::detail

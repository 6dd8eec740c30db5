#include "base/thread_annotations.h"

#include "base/assert.h"

namespace filer {
namespace {
// Its address tells one thread from another.
const void* ThisThread() {
  static thread_local char marker;
  return &marker;
}
}  // namespace

void Reactor::Bind() { owner_ = ThisThread(); }

void Reactor::AssertCurrent() const { FILER_ASSERT(owner_ == nullptr || owner_ == ThisThread()); }

}  // namespace filer

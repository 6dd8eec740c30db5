#include "host-bridge/target/desk.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace filer::bridge {

Result<std::unique_ptr<Desk>> Desk::Create(std::uint32_t poller_index) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.is_open()) return Error::System(errno, "eventfd");
  return std::unique_ptr<Desk>(new Desk(poller_index, std::move(wake)));
}

void Desk::Send(Note note) {
  {
    const MutexLock lock(mutex_);
    notes_.push_back(note);
    has_notes_.store(true, std::memory_order_release);  // pairs with has_notes
  }
  Wake();
}

void Desk::Take(std::vector<Note>& notes) {
  notes.clear();
  const MutexLock lock(mutex_);
  notes.swap(notes_);
  has_notes_.store(false, std::memory_order_relaxed);
}

void Desk::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void Desk::DrainWake() {
  std::uint64_t wakes = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &wakes, sizeof(wakes));
}

}  // namespace filer::bridge

#include "host-bridge/target/closer.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <thread>

#include "base/thread_annotations.h"

namespace filer::bridge {
namespace {

constexpr std::chrono::milliseconds kLastWait{200};

}  // namespace

struct Closer::State {
  UniqueFd idle;
  std::atomic<std::size_t> backlog = 0;
  Mutex mutex;
  CondVar wake;  // things or is_ending
  CondVar over;  // is_over
  std::deque<std::unique_ptr<Thing>> things FILER_GUARDED_BY(mutex);
  bool is_ending FILER_GUARDED_BY(mutex) = false;
  bool is_over FILER_GUARDED_BY(mutex) = false;
};

Closer::Closer(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Closer>> Closer::Create() {
  auto state = std::make_shared<State>();
  state->idle = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state->idle.is_open()) return Error::System(errno, "eventfd");
  std::thread thread([state] { Run(*state); });
  ::pthread_setname_np(thread.native_handle(), "closer");
  thread.detach();
  return std::unique_ptr<Closer>(new Closer(std::move(state)));
}

Closer::~Closer() {
  const auto deadline = std::chrono::steady_clock::now() + kLastWait;
  MutexLock lock(state_->mutex);
  state_->is_ending = true;
  state_->wake.NotifyOne();
  while (!state_->is_over) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left.count() <= 0) return;
    state_->over.WaitFor(lock, left);
  }
}

void Closer::Push(std::unique_ptr<Thing> thing) {
  state_->backlog.fetch_add(1, std::memory_order_relaxed);
  const MutexLock lock(state_->mutex);
  state_->things.push_back(std::move(thing));
  state_->wake.NotifyOne();
}

std::size_t Closer::backlog() const {
  return state_->backlog.load(std::memory_order_acquire);  // pairs with Run
}

int Closer::idle_fd() const { return state_->idle.get(); }

void Closer::DrainIdle() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(state_->idle.get(), &count, sizeof(count));
}

void Closer::Run(State& state) {
  MutexLock lock(state.mutex);
  while (true) {
    while (state.things.empty() && !state.is_ending) state.wake.Wait(lock);
    if (state.things.empty()) break;
    std::unique_ptr<Thing> thing = std::move(state.things.front());
    state.things.pop_front();
    lock.Unlock();
    thing.reset();
    if (state.backlog.fetch_sub(1, std::memory_order_release) == 1) {  // pairs with backlog
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = ::write(state.idle.get(), &one, sizeof(one));
    }
    lock.Lock();
  }
  state.is_over = true;
  state.over.NotifyAll();
}

}  // namespace filer::bridge

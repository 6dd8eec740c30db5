#include <deque>
#include <thread>
#include <vector>

#include "base/json_rpc.h"
#include "base/thread_annotations.h"

namespace filer {

struct RpcWorkers::State {
  struct Call {
    RpcRequest request;
    std::function<void(std::string response)> answer;
  };

  State(std::size_t thread_max, std::size_t call_max)
      : thread_count_max(thread_max), call_count_max(call_max) {}

  void Work() {
    MutexLock lock(mutex);
    while (true) {
      ++idle_count;
      while (waiting.empty() && !is_stopping) changed.Wait(lock);
      --idle_count;
      if (is_stopping) return;
      Call call = std::move(waiting.front());
      waiting.pop_front();
      lock.Unlock();
      call.answer(RpcRun(call.request));
      call = {};  // what the answer held on to goes before the count does
      lock.Lock();
      --call_count;
    }
  }

  const std::size_t thread_count_max;
  const std::size_t call_count_max;
  Mutex mutex;
  CondVar changed;
  std::deque<Call> waiting FILER_GUARDED_BY(mutex);
  std::size_t call_count FILER_GUARDED_BY(mutex) = 0;  // waiting and running
  std::size_t idle_count FILER_GUARDED_BY(mutex) = 0;
  bool is_stopping FILER_GUARDED_BY(mutex) = false;
  std::vector<std::thread> threads FILER_GUARDED_BY(mutex);
};

RpcWorkers::RpcWorkers(std::size_t thread_count_max, std::size_t call_count_max)
    : state_(std::make_unique<State>(thread_count_max, call_count_max)) {}

RpcWorkers::~RpcWorkers() {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(state_->mutex);
    state_->is_stopping = true;
    threads.swap(state_->threads);
    state_->changed.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void RpcWorkers::Run(RpcRequest request, std::function<void(std::string response)> answer) {
  bool has_room = false;
  {
    const MutexLock lock(state_->mutex);
    has_room = state_->call_count < state_->call_count_max;
    if (has_room) {
      ++state_->call_count;
      state_->waiting.push_back({std::move(request), std::move(answer)});
      if (state_->waiting.size() > state_->idle_count &&
          state_->threads.size() < state_->thread_count_max) {
        state_->threads.emplace_back([state = state_.get()] { state->Work(); });
      }
      state_->changed.NotifyOne();
    }
  }
  if (has_room) return;
  answer(RpcFailure(request, Error(Errc::kBusy, "too many requests are waiting; try again")));
}

}  // namespace filer

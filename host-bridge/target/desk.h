// desk.h: where pollers leave notes for each other: a queue to run for somebody, a queue that is
// wanted back, a queue that comes back. A note wakes its reader; notes of one sender arrive in
// their order. Beside it stands how much its poller has to do, for others to look at.
// Threads: Take and DrainWake by its poller; the rest by any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "base/thread_annotations.h"

namespace filer::bridge {

class BlockQueue;
class Desk;
class Session;

// A queue that is on its way to another poller, there, or on its way back. Until it is back it is
// the other poller's to touch, and nobody else's. The session that it belongs to lives as long.
struct QueueLoan {
  Session* session = nullptr;
  BlockQueue* queue = nullptr;
  std::uint32_t volume_index = 0;
  std::uint32_t queue_index = 0;
  int kick_fd = -1;  // to sleep on, -1: none
  int wait_fd = -1;  // of the backend, likewise
  Desk* home = nullptr;
  Desk* borrower = nullptr;
};

enum class NoteKind : std::uint8_t {
  kLend,    // run this queue
  kRecall,  // give it back; it may have been given back already, then `loan` is only a name
  kReturn,  // here it is again
};

struct Note {
  NoteKind kind;
  QueueLoan* loan;
};

class Desk {
 public:
  // `poller_index`: whose it is. Errors: kSystem.
  static Result<std::unique_ptr<Desk>> Create(std::uint32_t poller_index);

  std::uint32_t poller_index() const { return poller_index_; }
  void Send(Note note) FILER_EXCLUDES(mutex_);
  // One load: for the polled path.
  bool has_notes() const { return has_notes_.load(std::memory_order_acquire); }  // pairs with Send
  // Replaces `notes` by what came since the last call.
  void Take(std::vector<Note>& notes) FILER_EXCLUDES(mutex_);

  // Its poller looks around soon, also when it sleeps.
  void Wake();
  int wake_fd() const { return wake_.get(); }  // readable after Wake, until DrainWake
  void DrainWake();

  // How many queues keep it busy. A guess by which others decide, and nothing else hangs on it.
  std::uint32_t busy_queues() const { return busy_queues_.load(std::memory_order_relaxed); }
  void SetBusyQueues(std::uint32_t count) { busy_queues_.store(count, std::memory_order_relaxed); }
  void AddBusyQueue() { busy_queues_.fetch_add(1, std::memory_order_relaxed); }

 private:
  Desk(std::uint32_t poller_index, UniqueFd wake)
      : poller_index_(poller_index), wake_(std::move(wake)) {}

  const std::uint32_t poller_index_;
  UniqueFd wake_;
  std::atomic<std::uint32_t> busy_queues_ = 0;
  alignas(64) std::atomic<bool> has_notes_ = false;  // written only when there are notes
  Mutex mutex_;
  std::vector<Note> notes_ FILER_GUARDED_BY(mutex_);
};

}  // namespace filer::bridge

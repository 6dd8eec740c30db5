// kernel_cache.h: what the kernel may remember of names and attributes, and for how long.
//
// smbd walks the path of a file some twenty times before it opens it; were every component asked
// for each time, one small file would cost 71 requests instead of 22. So the kernel may keep an
// answer (attributes, names of directories, that there is no such name) for kLifetime, and is told
// at once when another door changes what was answered lately. Our own changes need no word: the
// kernel asked for them and knows what they outdate.
//
// An answer that was overtaken by a change is given for 0 seconds: Begin is called before the
// engine is read, and the lifetime is 0 if any change by another door was announced since. What
// remains is an answer that was decided but not entered by the kernel yet when the change's word
// arrives: that one lives for kLifetime from its entry.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <thread>

#include "base/thread_annotations.h"
#include "fsal/posix-door/fuse_api.h"

namespace filer::posix_door {

class KernelCache {
 public:
  static constexpr std::chrono::milliseconds kLifetime{200};

  KernelCache() = default;
  ~KernelCache();
  KernelCache(const KernelCache&) = delete;
  KernelCache& operator=(const KernelCache&) = delete;

  // From now on the kernel is told through `session`. Before that, lifetimes are 0.
  void Start(fuse_session* session);
  // Lifetimes are 0 from now on.
  void GiveNoMore() noexcept;
  // Nothing uses the session after this; no OnChange may run or come any more. The session must
  // still be served: a word to the kernel may wait for an answer of the door. Also twice.
  void Stop() noexcept;

  // A moment before the engine is read. Lifetimes in seconds, as libfuse takes them. Any thread.
  std::uint64_t Begin() const noexcept { return changes_.load(); }
  double NameLifetime(std::uint64_t begin, fuse_ino_t directory, std::string_view name) noexcept;
  double AttributeLifetime(std::uint64_t begin, fuse_ino_t inode) noexcept;

  // Another door changed the attributes or content of `inode`, or with a name that entry of it. On
  // return the kernel has been told, or, should it have been busy with a directory, what it was
  // answered before has expired.
  void OnChange(fuse_ino_t inode, std::string_view name);

 private:
  // Answers of the last kLifetime, by hash: most changes meet none and cost no system call.
  using Stamps = std::array<std::atomic<std::int64_t>, 4096>;  // milliseconds of the steady clock
  struct Word {
    fuse_ino_t directory;
    std::string name;
  };

  double Lifetime(std::uint64_t begin, std::size_t hash) noexcept;
  bool WasAnswered(std::size_t hash) const noexcept;
  void TellOfName(fuse_ino_t directory, std::string_view name);
  void Run();

  std::atomic<std::uint64_t> changes_{0};
  Stamps stamps_{};
  std::atomic<fuse_session*> session_{nullptr};
  std::atomic<bool> is_giving_{false};

  // The kernel takes the directory's lock to forget an entry, which a program that waits for us may
  // hold. So a thread of its own tells it, and nobody waits for that without a bound.
  Mutex mutex_;
  CondVar changed_;
  std::deque<Word> words_ FILER_GUARDED_BY(mutex_);
  std::uint64_t entered_ FILER_GUARDED_BY(mutex_) = 0;
  std::uint64_t told_ FILER_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ FILER_GUARDED_BY(mutex_) = false;
  std::thread teller_;
};

}  // namespace filer::posix_door

// thread_annotations.h: clang's thread-safety attributes (empty under GCC), and a mutex that
// carries them.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define FILER_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define FILER_THREAD_ATTRIBUTE(x)
#endif
#define FILER_CAPABILITY(name) FILER_THREAD_ATTRIBUTE(capability(name))
#define FILER_SCOPED_CAPABILITY FILER_THREAD_ATTRIBUTE(scoped_lockable)
#define FILER_GUARDED_BY(x) FILER_THREAD_ATTRIBUTE(guarded_by(x))
#define FILER_REQUIRES(...) FILER_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define FILER_EXCLUDES(...) FILER_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define FILER_ACQUIRE(...) FILER_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define FILER_TRY_ACQUIRE(...) FILER_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define FILER_RELEASE(...) FILER_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define FILER_ASSERT_CAPABILITY(x) FILER_THREAD_ATTRIBUTE(assert_capability(x))
#define FILER_NO_THREAD_SAFETY_ANALYSIS FILER_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace filer {

class FILER_CAPABILITY("mutex") Mutex {
 public:
  void lock() FILER_ACQUIRE() { mutex_.lock(); }
  void unlock() FILER_RELEASE() { mutex_.unlock(); }
  bool try_lock() FILER_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

// Locks for its own lifetime; Unlock and Lock in between are allowed.
class FILER_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) FILER_ACQUIRE(mutex) : lock_(mutex) {}
  ~MutexLock() FILER_RELEASE() {}
  void Lock() FILER_ACQUIRE() { lock_.lock(); }
  void Unlock() FILER_RELEASE() { lock_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  friend class CondVar;
  std::unique_lock<Mutex> lock_;
};

// Waits on a MutexLock that is held.
class CondVar {
 public:
  void Wait(MutexLock& lock) FILER_NO_THREAD_SAFETY_ANALYSIS { condition_.wait(lock.lock_); }
  template <typename Duration>
  std::cv_status WaitFor(MutexLock& lock, Duration duration) FILER_NO_THREAD_SAFETY_ANALYSIS {
    return condition_.wait_for(lock.lock_, duration);
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable_any condition_;
};

// A thread of control that owns state: methods that only its thread may call are
// FILER_REQUIRES(reactor_).
class FILER_CAPABILITY("reactor") Reactor {
 public:
  // The calling thread becomes the owner.
  void Bind();
  // Aborts unless the calling thread is the owner (or none is bound yet).
  void AssertCurrent() const FILER_ASSERT_CAPABILITY(this);

 private:
  const void* owner_ = nullptr;
};

}  // namespace filer

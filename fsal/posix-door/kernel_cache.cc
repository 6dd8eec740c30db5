#include "fsal/posix-door/kernel_cache.h"

#include <functional>

namespace filer::posix_door {
namespace {

constexpr double kLifetimeSeconds = std::chrono::duration<double>(KernelCache::kLifetime).count();
// The kernel counts in ticks of up to 10 ms, from the answer's arrival.
constexpr std::int64_t kAnsweredMs =
    (KernelCache::kLifetime + std::chrono::milliseconds(100)).count();
// Then the answer has expired anyhow.
constexpr std::chrono::milliseconds kWordWait{kAnsweredMs};
constexpr std::size_t kWordsMax = 4096;  // beyond, the lifetime is the bound

std::int64_t NowMs() noexcept {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Attributes are the entry without a name.
std::size_t HashOf(fuse_ino_t inode, std::string_view name) noexcept {
  std::uint64_t hash = inode * 0x9E3779B97F4A7C15ULL;
  if (!name.empty()) hash += std::hash<std::string_view>{}(name)*0xC2B2AE3D27D4EB4FULL;
  return static_cast<std::size_t>(hash >> 40);
}

}  // namespace

KernelCache::~KernelCache() { Stop(); }

void KernelCache::Start(fuse_session* session) {
  session_ = session;
  teller_ = std::thread([this] { Run(); });
  is_giving_ = true;
}

void KernelCache::GiveNoMore() noexcept { is_giving_ = false; }

void KernelCache::Stop() noexcept {
  {
    const MutexLock lock(mutex_);
    is_stopping_ = true;
    changed_.NotifyAll();
  }
  if (teller_.joinable()) teller_.join();
  session_ = nullptr;
}

double KernelCache::Lifetime(std::uint64_t begin, std::size_t hash) noexcept {
  if (!is_giving_.load()) return 0;
  // In this order: a change that is announced after the stamp finds it.
  const std::int64_t now = NowMs();
  std::atomic<std::int64_t>& stamp = stamps_[hash % stamps_.size()];
  std::int64_t before = stamp.load();
  while (before < now && !stamp.compare_exchange_weak(before, now)) {
  }
  return changes_.load() == begin ? kLifetimeSeconds : 0;
}

double KernelCache::NameLifetime(std::uint64_t begin, fuse_ino_t directory,
                                 std::string_view name) noexcept {
  return Lifetime(begin, HashOf(directory, name));
}

double KernelCache::AttributeLifetime(std::uint64_t begin, fuse_ino_t inode) noexcept {
  return Lifetime(begin, HashOf(inode, {}));
}

bool KernelCache::WasAnswered(std::size_t hash) const noexcept {
  return NowMs() - stamps_[hash % stamps_.size()].load() <= kAnsweredMs;
}

void KernelCache::OnChange(fuse_ino_t inode, std::string_view name) {
  changes_.fetch_add(1);
  if (WasAnswered(HashOf(inode, {}))) {
    // A negative offset: attributes only. File data is not cached beside other doors. Failure: the
    // kernel does not know the inode.
    if (fuse_session* session = session_.load()) {
      fuse_lowlevel_notify_inval_inode(session, inode, -1, 0);
    }
  }
  if (!name.empty() && WasAnswered(HashOf(inode, name))) TellOfName(inode, name);
}

void KernelCache::TellOfName(fuse_ino_t directory, std::string_view name) {
  const auto deadline = std::chrono::steady_clock::now() + kWordWait;
  MutexLock lock(mutex_);
  if (is_stopping_ || words_.size() >= kWordsMax) return;
  words_.push_back({directory, std::string(name)});
  const std::uint64_t number = ++entered_;
  changed_.NotifyAll();
  while (told_ < number && !is_stopping_) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero() || changed_.WaitFor(lock, left) == std::cv_status::timeout) return;
  }
}

void KernelCache::Run() {
  MutexLock lock(mutex_);
  while (!is_stopping_) {
    if (words_.empty()) {
      changed_.Wait(lock);
      continue;
    }
    const Word word = std::move(words_.front());
    words_.pop_front();
    lock.Unlock();
    fuse_lowlevel_notify_inval_entry(session_.load(), word.directory, word.name.data(),
                                     word.name.size());
    lock.Lock();
    ++told_;
    changed_.NotifyAll();
  }
}

}  // namespace filer::posix_door

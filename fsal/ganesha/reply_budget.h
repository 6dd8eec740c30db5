// reply_budget.h: how much memory READ replies may take until the sockets took them.
//
// A reply keeps ("pins") the engine's pool buffers, so that nothing is copied. A client that does
// not take its answers would thereby take the pool from everybody, and neither Ganesha nor ntirpc
// bounds what waits for a socket. So pins are bounded; past that a reply is a copy in memory of its
// own; that is bounded, too, and past it the client is told to come again.
//
// Of each bound a connection may hold a quarter of what is left: alone a fifth of the whole, and
// after twenty that hold on to theirs a hundredth is left, which still passes many small READs of
// those who take them. Buffers are counted by their size and once, however many replies refer to
// them: small READs of one large buffer pin no more than that buffer.
// Threads: any; one short lock per call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_annotations.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::ganesha {

class ReplyBudget {
 public:
  using Connection = const void*;  // only compared

  struct Limits {
    std::uint64_t pinned_bytes_max = 0;
    std::uint64_t copied_bytes_max = 0;
  };
  struct Usage {
    std::uint64_t pinned_bytes = 0;
    std::uint64_t copied_bytes = 0;
    std::uint64_t refused = 0;  // READs since the start
  };

  // A READ that was let in and has no data yet. Ends with the object.
  class Entry {
   public:
    Entry() = default;
    Entry(Entry&& other) noexcept { *this = std::move(other); }
    Entry& operator=(Entry&& other) noexcept;
    ~Entry();
    explicit operator bool() const noexcept { return budget_ != nullptr; }

   private:
    friend class ReplyBudget;
    ReplyBudget* budget_ = nullptr;
    Connection connection_ = nullptr;
    std::uint64_t bytes_ = 0;
  };

  // What one reply takes. Given back with the object, which must not outlive the buffers.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept { *this = std::move(other); }
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();
    explicit operator bool() const noexcept { return budget_ != nullptr; }
    bool is_copy() const noexcept { return buffers_.empty(); }

   private:
    friend class ReplyBudget;
    struct Buffer {
      const std::byte* data;
      std::uint32_t size_bytes;
    };
    ReplyBudget* budget_ = nullptr;
    Connection connection_ = nullptr;
    std::vector<Buffer> buffers_;
    std::uint64_t copied_bytes_ = 0;
  };

  // Before the first READ.
  void SetLimits(const Limits& limits) FILER_EXCLUDES(mutex_);

  // A READ of `bytes` asks to be done. Empty: there is no room for its answer, do not even begin.
  Entry Enter(Connection connection, std::uint64_t bytes) FILER_EXCLUDES(mutex_);
  // Its answer of `bytes`, which lie in `buffers`. Empty: come again. With `must_copy` never pins.
  Hold Take(Connection connection, std::span<const engine::BufferRef> buffers, std::uint64_t bytes,
            bool must_copy) FILER_EXCLUDES(mutex_);

  Usage GetUsage() const FILER_EXCLUDES(mutex_);
  Limits GetLimits() const FILER_EXCLUDES(mutex_);

 private:
  struct Account {
    std::uint64_t entered_bytes = 0;
    std::uint64_t pinned_bytes = 0;
    std::uint64_t copied_bytes = 0;
    std::unordered_map<const std::byte*, std::uint32_t> buffers;  // replies that hold each
  };

  bool CanPin(const Account& account, std::uint64_t more) const FILER_REQUIRES(mutex_);
  bool CanCopy(const Account& account, std::uint64_t more) const FILER_REQUIRES(mutex_);
  void Leave(Connection connection, std::uint64_t bytes) noexcept FILER_EXCLUDES(mutex_);
  void GiveBack(const Hold& hold) noexcept FILER_EXCLUDES(mutex_);
  void ForgetIfIdle(Connection connection) FILER_REQUIRES(mutex_);

  mutable Mutex mutex_;
  Limits limits_ FILER_GUARDED_BY(mutex_);
  Usage usage_ FILER_GUARDED_BY(mutex_);
  // Those that hold something. A transport lives until its replies are gone, so its address names
  // it that long.
  std::unordered_map<Connection, Account> accounts_ FILER_GUARDED_BY(mutex_);
  std::unordered_map<const std::byte*, std::uint32_t> buffers_ FILER_GUARDED_BY(mutex_);
};

}  // namespace filer::ganesha

#include "fsal/ganesha/reply_budget.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace filer::ganesha {

namespace {

constexpr std::uint64_t kShareOfWhatIsLeft = 4;

bool IsWithinShare(std::uint64_t held, std::uint64_t more, std::uint64_t total, std::uint64_t max) {
  return total <= max && held + more <= (max - total) / kShareOfWhatIsLeft;
}

}  // namespace

ReplyBudget::Entry& ReplyBudget::Entry::operator=(Entry&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(connection_, other.connection_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

ReplyBudget::Entry::~Entry() {
  if (budget_ != nullptr) budget_->Leave(connection_, bytes_);
}

ReplyBudget::Hold& ReplyBudget::Hold::operator=(Hold&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(connection_, other.connection_);
  std::swap(buffers_, other.buffers_);
  std::swap(copied_bytes_, other.copied_bytes_);
  return *this;
}

ReplyBudget::Hold::~Hold() {
  if (budget_ != nullptr) budget_->GiveBack(*this);
}

void ReplyBudget::SetLimits(const Limits& limits) {
  MutexLock lock(mutex_);
  limits_ = limits;
}

bool ReplyBudget::CanPin(const Account& account, std::uint64_t more) const {
  return IsWithinShare(account.pinned_bytes, more, usage_.pinned_bytes, limits_.pinned_bytes_max);
}

bool ReplyBudget::CanCopy(const Account& account, std::uint64_t more) const {
  return IsWithinShare(account.copied_bytes, more, usage_.copied_bytes, limits_.copied_bytes_max);
}

ReplyBudget::Entry ReplyBudget::Enter(Connection connection, std::uint64_t bytes) {
  Entry entry;
  MutexLock lock(mutex_);
  Account& account = accounts_[connection];
  const std::uint64_t more = account.entered_bytes + bytes;
  if (!CanPin(account, more) && !CanCopy(account, more)) {
    ++usage_.refused;
    ForgetIfIdle(connection);
    return entry;
  }
  account.entered_bytes += bytes;
  entry.budget_ = this;
  entry.connection_ = connection;
  entry.bytes_ = bytes;
  return entry;
}

ReplyBudget::Hold ReplyBudget::Take(Connection connection,
                                    std::span<const engine::BufferRef> buffers, std::uint64_t bytes,
                                    bool must_copy) {
  Hold hold;
  if (!must_copy) {
    hold.buffers_.reserve(buffers.size());
    for (const engine::BufferRef& buffer : buffers) {
      if (buffer) hold.buffers_.push_back({buffer.data(), buffer.size()});
    }
    // A reply may refer to one buffer by several parts.
    auto& all = hold.buffers_;
    std::sort(all.begin(), all.end(),
              [](const auto& one, const auto& other) { return one.data < other.data; });
    all.erase(
        std::unique(all.begin(), all.end(),
                    [](const auto& one, const auto& other) { return one.data == other.data; }),
        all.end());
  }
  MutexLock lock(mutex_);
  Account& account = accounts_[connection];
  std::uint64_t more = 0;
  for (const Hold::Buffer& buffer : hold.buffers_) {
    if (!account.buffers.contains(buffer.data)) more += buffer.size_bytes;
  }
  if (!hold.buffers_.empty() && CanPin(account, more)) {
    for (const Hold::Buffer& buffer : hold.buffers_) {
      if (account.buffers[buffer.data]++ == 0) account.pinned_bytes += buffer.size_bytes;
      if (buffers_[buffer.data]++ == 0) usage_.pinned_bytes += buffer.size_bytes;
    }
  } else if (CanCopy(account, bytes)) {
    hold.buffers_.clear();
    hold.copied_bytes_ = bytes;
    account.copied_bytes += bytes;
    usage_.copied_bytes += bytes;
  } else {
    hold.buffers_.clear();
    ++usage_.refused;
    ForgetIfIdle(connection);
    return hold;
  }
  hold.budget_ = this;
  hold.connection_ = connection;
  return hold;
}

void ReplyBudget::Leave(Connection connection, std::uint64_t bytes) noexcept {
  MutexLock lock(mutex_);
  const auto account = accounts_.find(connection);
  FILER_ASSERT(account != accounts_.end() && account->second.entered_bytes >= bytes);
  account->second.entered_bytes -= bytes;
  ForgetIfIdle(connection);
}

void ReplyBudget::GiveBack(const Hold& hold) noexcept {
  MutexLock lock(mutex_);
  const auto found = accounts_.find(hold.connection_);
  FILER_ASSERT(found != accounts_.end());
  Account& account = found->second;
  for (const Hold::Buffer& buffer : hold.buffers_) {
    const auto mine = account.buffers.find(buffer.data);
    FILER_ASSERT(mine != account.buffers.end());
    if (--mine->second == 0) {
      account.buffers.erase(mine);
      account.pinned_bytes -= buffer.size_bytes;
    }
    const auto all = buffers_.find(buffer.data);
    FILER_ASSERT(all != buffers_.end());
    if (--all->second == 0) {
      buffers_.erase(all);
      usage_.pinned_bytes -= buffer.size_bytes;
    }
  }
  FILER_ASSERT(account.copied_bytes >= hold.copied_bytes_);
  account.copied_bytes -= hold.copied_bytes_;
  usage_.copied_bytes -= hold.copied_bytes_;
  ForgetIfIdle(hold.connection_);
}

void ReplyBudget::ForgetIfIdle(Connection connection) {
  const auto found = accounts_.find(connection);
  if (found == accounts_.end()) return;
  const Account& account = found->second;
  if (account.entered_bytes == 0 && account.copied_bytes == 0 && account.buffers.empty()) {
    accounts_.erase(found);
  }
}

ReplyBudget::Usage ReplyBudget::GetUsage() const {
  MutexLock lock(mutex_);
  return usage_;
}

ReplyBudget::Limits ReplyBudget::GetLimits() const {
  MutexLock lock(mutex_);
  return limits_;
}

}  // namespace filer::ganesha

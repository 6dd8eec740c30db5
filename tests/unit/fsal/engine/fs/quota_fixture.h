// quota_fixture.h: an engine with a clock that stands still, two users and two groups, and short
// ways to say what they use.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "base/units.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {

struct Usage {
  std::uint64_t blocks = 0, inodes = 0;
  friend bool operator==(const Usage&, const Usage&) = default;
  friend void PrintTo(const Usage& usage, std::ostream* out) {
    *out << usage.blocks << " blocks, " << usage.inodes << " inodes";
  }
};

// Moves only when told to, while the engine's own threads look at it.
class SteppedClock final : public Clock {
 public:
  std::int64_t RealtimeNs() const noexcept override { return now_ns_.load(); }
  std::int64_t MonotonicNs() const noexcept override { return now_ns_.load(); }
  void AdvanceNs(std::int64_t by_ns) noexcept { now_ns_ += by_ns; }

 private:
  std::atomic<std::int64_t> now_ns_{1'700'000'000'000'000'000};
};

class QuotaTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kAnn = 1001, kBob = 1002, kStaff = 50, kGuests = 60;
  static constexpr std::uint64_t kBlock = kBlockBytes;
  static constexpr std::int64_t kSecond = 1'000'000'000;

  void SetUp() override {
    device_ = SimDevice::Create(TestEngine::DefaultOptions()).value();
    fs_ = std::make_unique<TestEngine>(*device_);
    fs_->clock = &clock_;
    fs_->Format();
    fs_->Mount();
  }
  void TearDown() override {
    if (::testing::Test::HasFatalFailure()) return;
    fs_->Unmount();
    fs_->CheckIsSound();
  }
  TestEngine& fs() { return *fs_; }
  void Mount() { fs_->Mount(); }
  void Remount() { fs_->Remount(); }

  NodeId Make(const std::string& name) {
    return fs().TryCreate(fs().root(), name, NodeKind::kFile, 0666, ann_).value().node.id;
  }
  void Remove(const std::string& name) {
    const auto removed = fs()->Remove(kRootCaller, fs().root(), name, RemoveKind::kAny);
    ASSERT_TRUE(removed.has_value()) << removed.error().message();
  }
  // Blocks of the file, by somebody who is not root.
  Result<WriteResult> TryWriteAs(NodeId file, std::uint64_t block, std::uint64_t count,
                                 Stability stability = Stability::kUnstable) {
    const std::string bytes(count * kBlock, 'q');
    return fs().TryWrite(file, block * kBlock, bytes, stability);
  }
  void WriteAs(NodeId file, std::uint64_t block, std::uint64_t count, Stability stability) {
    const auto written = TryWriteAs(file, block, count, stability);
    ASSERT_TRUE(written.has_value()) << written.error().message();
  }
  Usage UsedBy(QuotaKind kind, std::uint32_t id) {
    const Quota quota = fs()->GetQuota(kind, id).value();
    return {quota.used_bytes / kBlock, quota.used_inodes};
  }
  void SetBlocks(QuotaKind kind, std::uint32_t id, std::uint64_t soft, std::uint64_t hard) {
    QuotaLimits limits = fs()->GetQuota(kind, id).value().limits;
    limits.bytes_soft = soft * kBlock;
    limits.bytes_hard = hard * kBlock;
    ASSERT_TRUE(fs()->SetQuota(kRootCaller, kind, id, limits).has_value());
  }
  void SetInodes(QuotaKind kind, std::uint32_t id, std::uint64_t soft, std::uint64_t hard) {
    QuotaLimits limits = fs()->GetQuota(kind, id).value().limits;
    limits.inodes_soft = soft;
    limits.inodes_hard = hard;
    ASSERT_TRUE(fs()->SetQuota(kRootCaller, kind, id, limits).has_value());
  }

  SteppedClock clock_;
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<TestEngine> fs_;
  const std::vector<std::uint32_t> groups_{kStaff, kGuests};
  const Caller ann_{kAnn, kStaff, groups_, false};
  std::string block_ = std::string(kBlock, 'q');
};

}  // namespace filer::engine

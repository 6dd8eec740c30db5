// null.cc: accepts everything and moves nothing: the bridge's own cost, measured.
#include <algorithm>
#include <vector>

#include "host-bridge/backend/backend.h"

namespace filer::bridge {
namespace {

class NullQueue final : public BackendQueue {
 public:
  explicit NullQueue(std::uint32_t depth_max) : cookies_(depth_max) {}

  bool Queue(const BackendRequest& request) override {
    if (count_ == cookies_.size()) return false;
    cookies_[count_++] = request.cookie;
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    const std::size_t taken = std::min(completions.size(), count_);
    for (std::size_t i = 0; i < taken; ++i) completions[i] = {cookies_[i], true};
    count_ -= taken;
    if (count_ > 0)
      std::copy_n(cookies_.begin() + static_cast<std::ptrdiff_t>(taken), count_, cookies_.begin());
    return taken;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec>) override {}
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  std::vector<std::uint64_t> cookies_;
  std::size_t count_ = 0;
};

class NullBackend final : public Backend {
 public:
  explicit NullBackend(std::uint64_t size_bytes) : size_bytes_(size_bytes) {}
  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = size_bytes_;
    info.can_discard = true;
    info.can_write_zeroes = true;
    return info;
  }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t depth_max) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<NullQueue>(depth_max));
  }

 private:
  std::uint64_t size_bytes_;
};

}  // namespace

Result<std::unique_ptr<Backend>> OpenNullBackend(std::uint64_t size_bytes) {
  if (size_bytes < 512 || size_bytes % 512 != 0) {
    return Error(Errc::kInvalidArgument, "null volume: size must be a multiple of 512 bytes");
  }
  return std::unique_ptr<Backend>(std::make_unique<NullBackend>(size_bytes));
}

}  // namespace filer::bridge

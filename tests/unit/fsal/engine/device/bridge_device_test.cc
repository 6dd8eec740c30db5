// The engine's device on a real bridge: the program host-bridge, started here, killed and started
// again.
#include "fsal/engine/device/bridge_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/device/open_device.h"

extern char** environ;

namespace filer::engine {
namespace {

constexpr std::uint64_t kVolumeBytes = 32 << 20;

class BridgeDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/filer-bridge-XXXXXX";
    folder_ = ::mkdtemp(name);
    UniqueFd fd(::open((folder_ + "/volume").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(fd.get(), kVolumeBytes), 0);
    StartBridge();
    for (int i = 0; i < 300 && !std::filesystem::exists(folder_ + "/v.sock"); ++i) ::usleep(20'000);
    auto opened = OpenVolumeDevice("vhost_user:" + folder_ + "/v.sock",
                                   {.memory_bytes = 64 << 20, .queue_count = 2});
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    opened_ = std::move(opened).assume_value();
  }

  void TearDown() override {
    opened_.device.reset();
    KillBridge();
    std::filesystem::remove_all(folder_);
  }

  void StartBridge() {
    std::vector<std::string> words = {
        FILER_HOST_BRIDGE,
        "--control",
        folder_ + "/c.sock",
        "--volume",
        "name=v,backend=file,path=" + folder_ + "/volume,socket=" + folder_ + "/v.sock",
        "--queues",
        "2",
        "--log-level",
        "error"};
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    ASSERT_EQ(
        ::posix_spawn(&bridge_, FILER_HOST_BRIDGE, nullptr, nullptr, pointers.data(), environ), 0);
  }

  void KillBridge() {
    if (bridge_ <= 0) return;
    ::kill(bridge_, SIGKILL);
    ::waitpid(bridge_, nullptr, 0);
    bridge_ = -1;
  }

  // Writes `word + offset` into each 8 bytes of [from, to), many requests in flight.
  void WriteWords(std::uint64_t from, std::uint64_t to, std::uint64_t word) {
    constexpr std::uint64_t kPiece = 16384;
    constexpr std::size_t kDepth = 24;
    struct Io {
      BufferRef buffer;
      iovec segment;
      BlockRequest request;
    };
    std::deque<Io> ios;
    BlockDevice& device = *opened_.device;
    const auto wait_for_first = [&] {
      while (!ios.front().request.is_done.load(std::memory_order_acquire)) {
        if (device.Poll(16) == 0) device.Relax();
      }
      ASSERT_TRUE(ios.front().request.is_ok);
      ios.pop_front();
    };
    for (std::uint64_t at = from; at < to; at += kPiece) {
      if (ios.size() == kDepth) wait_for_first();
      Io& io = ios.emplace_back();
      io.buffer = std::move(device.Pool().Allocate(kPiece)).assume_value();
      for (std::uint64_t i = 0; i < kPiece; i += 8) {
        const std::uint64_t value = word + at + i;
        std::memcpy(io.buffer.data() + i, &value, 8);
      }
      io.segment = {io.buffer.data(), kPiece};
      io.request.operation = BlockOperation::kWrite;
      io.request.offset_bytes = at;
      io.request.length_bytes = kPiece;
      io.request.segments = {&io.segment, 1};
      while (!device.Submit(io.request).has_value()) {
        if (device.Poll(16) == 0) device.Relax();
      }
    }
    while (!ios.empty()) wait_for_first();
  }

  std::uint64_t CountWrong(std::uint64_t word) {
    std::vector<std::uint64_t> words(kVolumeBytes / 8);
    auto read = ReadBlocking(*opened_.device, 0, std::as_writable_bytes(std::span(words)));
    EXPECT_TRUE(read.has_value());
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < words.size(); ++i) wrong += words[i] != word + i * 8 ? 1 : 0;
    return wrong;
  }

  std::string folder_;
  OpenedDevice opened_;
  pid_t bridge_ = -1;
};

TEST_F(BridgeDeviceTest, MovesDataThatTheVolumesFileThenHolds) {
  EXPECT_EQ(opened_.transport, "vhost_user");
  EXPECT_EQ(opened_.device->Info().size_bytes, kVolumeBytes);
  WriteWords(0, kVolumeBytes, 1000);
  ASSERT_TRUE(FlushBlocking(*opened_.device).has_value());
  EXPECT_EQ(CountWrong(1000), 0U);
  const std::string content =
      std::move(ReadWholeFile(folder_ + "/volume", 2 * kVolumeBytes)).assume_value();
  ASSERT_EQ(content.size(), kVolumeBytes);
  std::uint64_t word = 0;
  std::memcpy(&word, content.data() + kVolumeBytes - 8, 8);
  EXPECT_EQ(word, 1000 + kVolumeBytes - 8);
  EXPECT_GE(opened_.counters().requests, kVolumeBytes / 16384);
}

TEST_F(BridgeDeviceTest, ZeroesAndDiscardsWhatItIsTold) {
  WriteWords(0, 4 << 20, 5);
  BlockRequest request;
  request.operation = BlockOperation::kWriteZeroes;
  request.offset_bytes = 4096;
  request.length_bytes = 8192;
  const auto zeroed = opened_.device->SubmitAndWait(request);
  ASSERT_TRUE(zeroed.has_value());
  std::vector<std::uint64_t> words(4 * 512);
  ASSERT_TRUE(
      ReadBlocking(*opened_.device, 0, std::as_writable_bytes(std::span(words))).has_value());
  EXPECT_EQ(words[511], 5 + 4088U);
  EXPECT_EQ(words[512], 0U);
  EXPECT_EQ(words[1535], 0U);
  EXPECT_EQ(words[1536], 5 + 12288U);
  request.operation = BlockOperation::kDiscard;
  request.offset_bytes = 0;
  request.length_bytes = kVolumeBytes;
  ASSERT_TRUE(opened_.device->SubmitAndWait(request).has_value());
}

TEST_F(BridgeDeviceTest, LosesNothingWhenTheBridgeIsKilledUnderLoad) {
  std::atomic<bool> is_over{false};
  std::vector<std::thread> writers;
  std::atomic<std::uint64_t> rounds{0};
  for (std::uint64_t half = 0; half < 2; ++half) {
    writers.emplace_back([&, half] {
      while (!is_over.load(std::memory_order_relaxed)) {
        WriteWords(half * kVolumeBytes / 2, (half + 1) * kVolumeBytes / 2, 77);
        rounds.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (int kills = 0; kills < 4; ++kills) {
    ::usleep(200'000);
    KillBridge();
    StartBridge();
  }
  // The last start is answered before the end.
  const std::uint64_t before = rounds.load(std::memory_order_relaxed);
  while (rounds.load(std::memory_order_relaxed) < before + 3) ::usleep(10'000);
  is_over.store(true, std::memory_order_relaxed);
  for (auto& writer : writers) writer.join();
  EXPECT_TRUE(opened_.is_connected());
  EXPECT_EQ(CountWrong(77), 0U);
}

TEST_F(BridgeDeviceTest, SaysWhatIsWrongWithADeviceString) {
  EXPECT_TRUE(OpenVolumeDevice("nonsense").error() == Errc::kUsage);
  EXPECT_TRUE(OpenVolumeDevice("file:").error() == Errc::kUsage);
  EXPECT_TRUE(OpenVolumeDevice("vhost_user:" + folder_ + "/none").error() == Errc::kNotRunning);
  EXPECT_TRUE(OpenVolumeDevice("pci:0000:ff:1f.7").error() == Errc::kNotFound);
  EXPECT_TRUE(OpenVolumeDevice("pci:../../x").error() == Errc::kInvalidArgument);
}

}  // namespace
}  // namespace filer::engine

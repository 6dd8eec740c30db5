#include "fsal/engine/device/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "base/file.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {
namespace {

class FileDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/filer-file-device-XXXXXX";
    folder_ = ::mkdtemp(name);
    path_ = folder_ + "/volume";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void MakeFile(std::uint64_t size) {
    UniqueFd fd(::open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  }
  Result<std::unique_ptr<BlockDevice>> Open(bool is_read_only = false) {
    return OpenFileDevice({.path = path_, .is_read_only = is_read_only, .pool_bytes = 8 << 20});
  }

  std::string folder_;
  std::string path_;
};

TEST_F(FileDeviceTest, SaysInOneLineWhatIsWrong) {
  auto missing = Open();
  ASSERT_TRUE(missing.has_error());
  EXPECT_TRUE(missing.error() == Errc::kNotFound);
  EXPECT_NE(missing.error().message().find(path_), std::string::npos);
  MakeFile(1000);
  EXPECT_TRUE(Open().error() == Errc::kTooSmall);
  path_ = folder_;
  EXPECT_TRUE(Open(true).error() == Errc::kInvalidArgument);
}

TEST_F(FileDeviceTest, IsHeldByOneWriterOrManyReaders) {
  MakeFile(1 << 20);
  {
    auto first = Open();
    ASSERT_TRUE(first.has_value());
    EXPECT_TRUE(Open().error() == Errc::kBusy);
    EXPECT_TRUE(Open(true).error() == Errc::kBusy);
  }
  auto reader = Open(true);
  auto second_reader = Open(true);
  EXPECT_TRUE(reader.has_value() && second_reader.has_value());
  EXPECT_TRUE(Open().error() == Errc::kBusy);
}

TEST_F(FileDeviceTest, WritesToTheFileItself) {
  MakeFile(4 << 20);
  {
    auto device = std::move(Open()).assume_value();
    EXPECT_EQ(device->Info().size_bytes, 4U << 20);
    ASSERT_TRUE(
        WriteBlocking(*device, 8192, std::vector<std::byte>(8192, std::byte{'x'})).has_value());
    ASSERT_TRUE(FlushBlocking(*device).has_value());
    BlockRequest discard;
    discard.operation = BlockOperation::kDiscard;
    discard.offset_bytes = 12288;
    discard.length_bytes = 4096;
    ASSERT_TRUE(device->SubmitAndWait(discard).has_value());
  }
  const std::string content = std::move(ReadWholeFile(path_)).assume_value();
  EXPECT_EQ(content.substr(8191, 4098), std::string(1, '\0') + std::string(4096, 'x') + '\0');
}

// Several threads keep requests of random sizes in flight on disjoint parts; everything reads back.
TEST_F(FileDeviceTest, ServesThreadsAtDepth) {
  constexpr std::uint64_t kPart = 4 << 20;
  MakeFile(4 * kPart);
  auto device = std::move(Open()).assume_value();
  const auto work = [&device](std::uint64_t part) {
    std::mt19937_64 random(part);
    struct Io {
      BufferRef buffer;
      iovec segments[2];
      BlockRequest request;
    };
    std::deque<Io> all;
    for (std::uint64_t at = 0; at < kPart; at += 8192) {
      Io& io = all.emplace_back();
      auto buffer = device->Pool().Allocate(8192);
      while (!buffer.has_value()) {
        device->Poll(8);
        while (!all.empty() && all.front().request.is_done.load(std::memory_order_acquire)) {
          ASSERT_TRUE(all.front().request.is_ok);
          all.pop_front();
        }
        buffer = device->Pool().Allocate(8192);
      }
      io.buffer = std::move(buffer).assume_value();
      for (std::size_t i = 0; i < 8192; i += 8) {
        const std::uint64_t word = part * kPart + at + i;
        std::memcpy(io.buffer.data() + i, &word, 8);
      }
      io.segments[0] = {io.buffer.data(), 512};
      io.segments[1] = {io.buffer.data() + 512, 7680};
      io.request.operation = BlockOperation::kWrite;
      io.request.offset_bytes = part * kPart + at;
      io.request.length_bytes = 8192;
      io.request.segments = io.segments;
      while (!device->Submit(io.request).has_value()) device->Poll(8);
    }
    for (Io& io : all) {
      while (!io.request.is_done.load(std::memory_order_acquire)) device->Poll(8);
      ASSERT_TRUE(io.request.is_ok);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t part = 0; part < 4; ++part) threads.emplace_back(work, part);
  for (auto& thread : threads) thread.join();
  std::vector<std::uint64_t> words(4 * kPart / 8);
  ASSERT_TRUE(ReadBlocking(*device, 0, std::as_writable_bytes(std::span(words))).has_value());
  for (std::size_t i = 0; i < words.size(); ++i) ASSERT_EQ(words[i], i * 8);
}

}  // namespace
}  // namespace filer::engine

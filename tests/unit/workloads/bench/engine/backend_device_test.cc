#include "workloads/bench/engine/backend_device.h"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "workloads/bench/scratch.h"

namespace filer::bench {
namespace {

Result<std::unique_ptr<engine::BlockDevice>> Make() {
  return MakeBackendDevice(FILER_TRY(bridge::OpenMemoryBackend(64 << 20)), 4 << 20);
}

TEST(BackendDevice, KeepsWhatIsWritten) {
  auto device = Make();
  ASSERT_TRUE(device.has_value());
  std::vector<std::byte> written(8192);
  for (std::size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i * 7 >> 2);
  ASSERT_TRUE(engine::WriteBlocking(*device.value(), 1 << 20, written).has_value());
  ASSERT_TRUE(engine::FlushBlocking(*device.value()).has_value());
  std::vector<std::byte> read(8192);
  ASSERT_TRUE(engine::ReadBlocking(*device.value(), 1 << 20, read).has_value());
  EXPECT_EQ(read, written);
  ASSERT_TRUE(engine::ReadBlocking(*device.value(), (1 << 20) + 8192, read).has_value());
  EXPECT_EQ(read, std::vector<std::byte>(8192));
}

TEST(BackendDevice, TakesMoreRequestsOnlyWhenSomeWereDelivered) {
  auto made = Make();
  ASSERT_TRUE(made.has_value());
  engine::BlockDevice& device = *made.value();
  const std::uint32_t depth = device.Info().depth_max;
  std::vector<engine::BlockRequest> requests(depth + 1);
  for (engine::BlockRequest& request : requests) request.operation = engine::BlockOperation::kFlush;
  for (std::uint32_t i = 0; i < depth; ++i) ASSERT_TRUE(device.Submit(requests[i]).has_value());
  auto refused = device.Submit(requests[depth]);
  ASSERT_TRUE(refused.has_error());
  EXPECT_TRUE(refused.error() == Errc::kWouldBlock);
  EXPECT_EQ(device.Poll(1), 1U);
  EXPECT_TRUE(device.Submit(requests[depth]).has_value());
  while (device.Poll(1000) != 0) {
  }
  for (const engine::BlockRequest& request : requests)
    EXPECT_TRUE(request.is_done && request.is_ok);
}

TEST(BackendDevice, RefusesWhatIsOutsideOfIt) {
  auto device = Make();
  ASSERT_TRUE(device.has_value());
  std::vector<std::byte> bytes(4096);
  auto result = engine::WriteBlocking(*device.value(), 64 << 20, bytes);
  ASSERT_TRUE(result.has_error());
  EXPECT_TRUE(result.error() == Errc::kOutOfRange);
}

// Completions of the kernel come to whoever polls, also for requests of another thread.
TEST(BackendDevice, ServesAFileToSeveralThreads) {
  std::string folder = "/var/tmp/backend-device-test-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  ASSERT_TRUE(WriteVolume(folder + "/volume", 8 << 20).has_value());
  auto backend = bridge::OpenFileBackend({.path = folder + "/volume", .is_read_only = false});
  ASSERT_TRUE(backend.has_value());
  auto made = MakeBackendDevice(std::move(backend).value(), 8 << 20);
  ASSERT_TRUE(made.has_value());
  engine::BlockDevice& device = *made.value();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t i = 0; i < 16; ++i) {
        const std::uint64_t offset = (thread * 16 + i) * 8192;
        const std::vector<std::byte> written(8192, static_cast<std::byte>(thread * 16 + i));
        std::vector<std::byte> read(8192);
        const bool is_ok = engine::WriteBlocking(device, offset, written).has_value() &&
                           engine::FlushBlocking(device).has_value() &&
                           engine::ReadBlocking(device, offset, read).has_value();
        if (!is_ok || read != written) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  made.value().reset();
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace filer::bench

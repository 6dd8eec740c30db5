// session_test.h: two volumes of the memory backend on real pollers, for tests that come with a
// fake driver. With FILER_TEST_POLLERS=N in the environment there are N pollers, and every queue
// wanders from one to the next all the time.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "host-bridge/target/poller_group.h"
#include "tests/unit/host-bridge/target/fake_driver.h"

namespace filer::bridge {

inline constexpr std::uint64_t kVolumeBytes = 1 << 20;

inline PollerGroupOptions TestPollers() {
  PollerGroupOptions options;
  if (const char* count = std::getenv("FILER_TEST_POLLERS"); count != nullptr) {
    options.poller_count = static_cast<std::uint32_t>(std::stoul(count));
    options.is_restless_for_test = options.poller_count > 1;
  }
  return options;
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    std::string name = "/tmp/filer-session-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    std::vector<std::unique_ptr<Volume>> volumes;
    for (const char* volume : {"one", "two"}) {
      auto backend = OpenMemoryBackend(kVolumeBytes);
      volumes.push_back(
          Volume::Create({volume, folder_ + "/" + volume, 2}, std::move(backend).assume_value())
              .assume_value());
    }
    poller_ = PollerGroup::Create(TestPollers(), std::move(volumes)).assume_value();
    EXPECT_TRUE(poller_->Start().has_value());
  }
  ~SessionTest() override {
    poller_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string Path(const char* volume = "one") const { return folder_ + "/" + volume; }
  VolumeCounters counters() const { return poller_->volumes()[0]->counters(); }

  // A session of its own on the other volume still works.
  void ExpectOthersAreServed() {
    FakeDriver other(Path("two"));
    other.Start();
    EXPECT_EQ(other.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  }
  // This volume takes the next client.
  void ExpectNextClientIsServed() {
    FakeDriver next(Path());
    next.Start();
    EXPECT_EQ(next.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  }

  std::string folder_;
  std::unique_ptr<PollerGroup> poller_;
};

}  // namespace filer::bridge

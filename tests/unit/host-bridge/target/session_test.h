// session_test.h: two volumes of the memory backend on one real poller, for tests that come with a
// fake driver.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "host-bridge/target/poller.h"
#include "tests/unit/host-bridge/target/fake_driver.h"

namespace filer::bridge {

inline constexpr std::uint64_t kVolumeBytes = 1 << 20;

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
    poller_ = Poller::Create({}, std::move(volumes)).assume_value();
    EXPECT_TRUE(poller_->Start().has_value());
  }
  ~SessionTest() override {
    poller_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string Path(const char* volume = "one") const { return folder_ + "/" + volume; }
  const VolumeCounters& counters() const { return poller_->volumes()[0]->counters(); }

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
  std::unique_ptr<Poller> poller_;
};

}  // namespace filer::bridge

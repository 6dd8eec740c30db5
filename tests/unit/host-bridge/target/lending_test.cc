// Queues that other pollers run: they move by load, come home for whatever their session does, and
// lose nothing on the way.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

#include "host-bridge/target/session.h"
#include "tests/unit/host-bridge/target/session_test.h"

namespace filer::bridge {
namespace {

using virtio::VhostRequest;

constexpr auto kInTime = std::chrono::seconds(30);

bool WaitUntil(const std::function<bool()>& is_true) {
  const auto deadline = std::chrono::steady_clock::now() + kInTime;
  while (!is_true() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  return is_true();
}

// Completes one request per look, after a millisecond: a poller with two such queues has always
// something to do, and takes no processor from those who give it.
class SlowQueue final : public BackendQueue {
 public:
  bool Queue(const BackendRequest& request) override {
    cookies_.push_back(request.cookie);
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    if (cookies_.empty() || completions.empty()) return 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    completions[0] = {cookies_.back(), true};
    cookies_.pop_back();
    return 1;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec>) override {}
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  std::vector<std::uint64_t> cookies_;
};

class SlowBackend final : public Backend {
 public:
  BackendInfo Info() const override {
    BackendInfo info;
    info.size_bytes = kVolumeBytes;
    return info;
  }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<SlowQueue>());
  }
};

enum class Kind { kMemory, kFile, kSlow };

// Volumes "0" to "2" on two pollers: "0" and "2" are at home at the first, "1" at the second.
class LendingTest : public testing::Test {
 protected:
  LendingTest() {
    std::string name = "/tmp/filer-lending-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~LendingTest() override {
    group_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::string Path(int volume) const { return folder_ + "/" + std::to_string(volume); }
  std::string FilePath(int volume) const { return Path(volume) + ".img"; }
  std::unique_ptr<Backend> Open(Kind kind, int volume) const {
    if (kind == Kind::kSlow) return std::make_unique<SlowBackend>();
    if (kind == Kind::kMemory) return OpenMemoryBackend(kVolumeBytes).assume_value();
    const UniqueFd file(::open(FilePath(volume).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    FILER_ASSERT(::ftruncate(file.get(), kVolumeBytes) == 0);
    return OpenFileBackend({FilePath(volume), false}).assume_value();
  }
  void Serve(Kind kind, bool is_restless) {
    std::vector<std::unique_ptr<Volume>> volumes;
    for (int i = 0; i < 3; ++i) {
      volumes.push_back(
          Volume::Create({std::to_string(i), Path(i), 2}, Open(kind, i)).assume_value());
    }
    PollerGroupOptions options;
    options.poller_count = 2;
    options.is_restless_for_test = is_restless;
    // A load that this machine does not let run for a moment is no idle one.
    options.lent_idle_us = 3'000'000;
    group_ = PollerGroup::Create(options, std::move(volumes)).assume_value();
    ASSERT_TRUE(group_->Start().has_value());
  }
  Volume& volume(std::size_t index) const { return *group_->volumes()[index]; }
  std::uint64_t lent() const { return group_->counters().lent.Get(); }
  std::uint64_t returned() const { return group_->counters().returned.Get(); }
  // The only client's queue is elsewhere, and stays while nothing happens.
  bool WaitUntilAway() const {
    return WaitUntil([this] { return lent() == returned() + 1; });
  }
  void ExpectServed(int volume) const {
    FakeDriver driver(Path(volume));
    driver.Start();
    EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk) << volume;
  }

  std::string folder_;
  std::unique_ptr<PollerGroup> group_;
};

// Five requests at a time until told to stop; how many were answered.
std::uint64_t KeepBusy(FakeDriver& driver, const std::atomic<bool>& is_over) {
  std::uint64_t done = 0;
  for (std::uint32_t n = 0; n < 5; ++n) {
    driver.Publish(driver.Prepare(n, virtio::kRequestIn, n, 512));
  }
  std::uint16_t seen = 0;
  while (!is_over) {
    if (virtio::LoadAcquire(driver.used()->index) == seen) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      continue;
    }
    const std::uint32_t head = driver.used()->ring[seen++ % FakeDriver::kSize].id;
    ++done;
    driver.Publish(driver.Prepare(head / 3, virtio::kRequestIn, 0, 512));
  }
  driver.WaitUsed(static_cast<std::uint16_t>(seen + 5));
  return done;
}

class BusyTest : public LendingTest {
 protected:
  void StartLoad() {
    for (const int at : {0, 2}) {
      drivers_.push_back(std::make_unique<FakeDriver>(Path(at)));
      drivers_.back()->Start();
    }
    for (const auto& driver : drivers_) {
      threads_.emplace_back([this, &driver] { KeepBusy(*driver, is_over_); });
    }
  }
  void StopLoad() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  ~BusyTest() override { StopLoad(); }
  std::uint64_t Requests(std::size_t at) const { return volume(at).counters().requests.Get(); }

  std::vector<std::unique_ptr<FakeDriver>> drivers_;
  std::vector<std::thread> threads_;
  std::atomic<bool> is_over_ = false;
};

TEST_F(BusyTest, ABusyPollerLendsOneQueueAndGetsItBackWhenItIsIdle) {
  Serve(Kind::kSlow, false);
  StartLoad();
  ASSERT_TRUE(WaitUntil([this] { return group_->poller(1).counters().borrowed.Get() > 0; }));
  const std::uint64_t before = group_->poller(1).counters().busy_polls.Get();
  ASSERT_TRUE(
      WaitUntil([&] { return group_->poller(1).counters().busy_polls.Get() > before + 20; }));
  // One each: nothing is to be gained by another move, however long it goes on.
  const std::uint64_t first = Requests(0), second = Requests(2);
  ASSERT_TRUE(WaitUntil([&] { return Requests(0) > first + 500 && Requests(2) > second + 500; }));
  EXPECT_EQ(lent(), 1U);
  EXPECT_EQ(returned(), 0U);
  StopLoad();
  EXPECT_TRUE(WaitUntil([this] { return returned() == 1; }));
  ExpectServed(1);
  EXPECT_EQ(drivers_[0]->Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  EXPECT_EQ(drivers_[1]->Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  EXPECT_EQ(volume(0).counters().errors.Get() + volume(2).counters().errors.Get(), 0U);
}

TEST_F(BusyTest, QueuesOfLimitedVolumesStayAndComeHome) {
  Serve(Kind::kSlow, false);
  const VolumeLimits wide{1'000'000, 0};
  volume(0).SetLimits(wide);
  volume(2).SetLimits(wide);
  StartLoad();
  ASSERT_TRUE(WaitUntil([&] { return Requests(0) > 1000 && Requests(2) > 1000; }));
  EXPECT_EQ(lent(), 0U);
  volume(0).SetLimits({});
  volume(2).SetLimits({});
  ASSERT_TRUE(WaitUntil([this] { return lent() == 1; }));
  volume(0).SetLimits(wide);
  volume(2).SetLimits(wide);
  group_->Wake();
  EXPECT_TRUE(WaitUntil([this] { return returned() == 1; }));
  const std::uint64_t first = Requests(0), second = Requests(2);
  EXPECT_TRUE(WaitUntil([&] { return Requests(0) > first + 100 && Requests(2) > second + 100; }));
  EXPECT_EQ(lent(), 1U);
}

// --- queues that wander all the time

// Writes five blocks of their own and reads them back. Empty, or what was wrong.
std::string WriteAndReadBack(FakeDriver& driver, std::uint64_t stamp) {
  constexpr std::uint32_t kBytes = 4096;
  const auto first = static_cast<std::uint64_t>(stamp % 20) * 40;
  for (const std::uint32_t type : {virtio::kRequestOut, virtio::kRequestIn}) {
    const auto wanted = static_cast<std::uint16_t>(virtio::LoadAcquire(driver.used()->index) + 5);
    for (std::uint32_t n = 0; n < 5; ++n) {
      const auto byte = static_cast<int>((stamp + n) & 0xff);
      std::memset(driver.Data(n), type == virtio::kRequestOut ? byte : 0xee ^ byte, kBytes);
      driver.Publish(driver.Prepare(n, type, first + n * 8, kBytes));
    }
    if (!driver.WaitUsed(wanted, 20'000)) return "no answer";
    for (std::uint32_t n = 0; n < 5; ++n) {
      if (driver.Status(n) != virtio::kStatusOk) return "a request failed";
      for (std::uint32_t i = 0; i < kBytes; ++i) {
        if (driver.Data(n)[i] != ((stamp + n) & 0xff)) return "not what was written";
      }
    }
  }
  return "";
}

class WanderingTest : public LendingTest, public testing::WithParamInterface<Kind> {};

TEST_P(WanderingTest, MessagesUnderLoadLoseNothing) {
  Serve(GetParam(), true);
  std::vector<std::thread> threads;
  std::atomic<int> working = 2;
  for (const int at : {0, 1}) {
    threads.emplace_back([this, at, &working] {
      FakeDriver driver(Path(at));
      driver.Start();
      std::atomic<bool> is_over = false;
      std::thread sender([&] {
        for (std::uint32_t i = 0; !is_over; ++i) {
          driver.ShareMemory();  // waits for quiet, maps anew, finds the rings again
          driver.Send(VhostRequest::kSetVringCall, FakeDriver::U64(0), {driver.call().get()});
          driver.Send(VhostRequest::kSetVringEnable, FakeDriver::State(0, 0));
          driver.Send(VhostRequest::kSetVringEnable, FakeDriver::State(0, 1));
          EXPECT_NE(driver.Ask(VhostRequest::kGetFeatures), UINT64_MAX);
          std::this_thread::sleep_for(std::chrono::microseconds(i % 8 * 300));
        }
      });
      for (std::uint64_t i = 0; i < 150 && !testing::Test::HasFailure(); ++i) {
        EXPECT_EQ(WriteAndReadBack(driver, i * 7 + static_cast<std::uint64_t>(at)), "");
      }
      is_over = true;
      sender.join();
      --working;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(working, 0);
  EXPECT_GT(lent(), 10U);
  for (const std::size_t at : {0, 1}) {
    const VolumeCounters counters = volume(at).counters();
    EXPECT_EQ(counters.requests.Get(), 1500U) << "counted by whoever did it, once";
    EXPECT_EQ(counters.Of(BackendOperation::kRead).requests.Get() +
                  counters.Of(BackendOperation::kWrite).requests.Get(),
              1500U);
    EXPECT_EQ(counters.protocol_errors.Get(), 0U);
  }
}

TEST_P(WanderingTest, AClientThatDiesLeavesNothingBehind) {
  Serve(GetParam(), true);
  for (int i = 0; i < 30; ++i) {
    FakeDriver driver(Path(0));
    driver.Start();
    const std::uint64_t before = lent();
    ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
    ASSERT_TRUE(WaitUntil([&] { return lent() > before; }));
    for (std::uint32_t n = 0; n < 5; ++n) {
      driver.Publish(driver.Prepare(n, virtio::kRequestOut, n, 512));
    }
    if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100 * i));
    driver.Disconnect();
  }
  ExpectServed(0);
  EXPECT_TRUE(WaitUntil([this] { return lent() == returned(); }));
  EXPECT_EQ(volume(0).counters().sessions.Get(), 31U);
  EXPECT_EQ(volume(0).counters().protocol_errors.Get(), 0U);
}

TEST_P(WanderingTest, StopsWithQueuesAway) {
  for (int i = 0; i < 40; ++i) {
    Serve(GetParam(), true);
    FakeDriver first(Path(0)), second(Path(1));
    for (FakeDriver* driver : {&first, &second}) {
      driver->Start();
      for (std::uint32_t n = 0; n < 5; ++n) {
        driver->Publish(driver->Prepare(n, virtio::kRequestOut, n, 512));
      }
    }
    ASSERT_TRUE(i % 4 == 0 || WaitUntil([this] { return lent() > 0; }));
    std::this_thread::sleep_for(std::chrono::microseconds(37 * i));
    group_->Stop();
    EXPECT_EQ(lent(), returned());
    group_.reset();
    // The kernel gives back a ring, and the lock of its file, a little later.
    for (const int at : {0, 1, 2}) std::filesystem::remove(FilePath(at));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, WanderingTest, testing::Values(Kind::kMemory, Kind::kFile),
                         [](const auto& kind) {
                           return kind.param == Kind::kFile ? "File" : "Memory";
                         });

// It may have given the queue back before the kick came: then that does not count.
TEST_F(LendingTest, ASleepingBorrowerIsWokenByAKick) {
  Serve(Kind::kMemory, true);
  FakeDriver driver(Path(0));
  driver.Start(virtio::kFeatureRingEventIndex);
  const PollerCounters& borrower = group_->poller(1).counters();
  int woken = 0;
  for (int i = 0; i < 200 && woken < 5; ++i) {
    ASSERT_TRUE(WaitUntilAway());
    const std::uint64_t came_back = returned();
    const std::uint64_t slept = borrower.sleeps.Get();
    ASSERT_TRUE(WaitUntil([&] { return borrower.sleeps.Get() > slept; }));
    const std::uint64_t worked = borrower.busy_polls.Get();
    ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
    const auto has_worked = [&] { return borrower.busy_polls.Get() > worked; };
    ASSERT_TRUE(WaitUntil([&] { return has_worked() || returned() > came_back; }));
    if (has_worked()) ++woken;
  }
  EXPECT_EQ(woken, 5);
  EXPECT_GT(volume(0).counters().kicks.Get(), 0U);
}

// The home poller sleeps and would never look.
TEST_F(LendingTest, MemoryTruncatedWhileLentEndsTheSession) {
  Serve(Kind::kMemory, true);
  FakeDriver driver(Path(0));
  driver.Start();
  ASSERT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
  ASSERT_TRUE(WaitUntilAway());
  ASSERT_EQ(::ftruncate(driver.memory().fd(), 0), 0);
  driver.Kick();
  EXPECT_TRUE(driver.IsClosed());
  ExpectServed(0);
  ExpectServed(1);
}

TEST_F(LendingTest, AFaultAtTheBorrowerIsReportedFromHome) {
  Serve(Kind::kMemory, true);
  FakeDriver driver(Path(0));
  driver.Start();
  ASSERT_TRUE(WaitUntilAway());
  driver.descriptors()[0] = {0x1234, 16, 0, 0};  // outside guest memory
  driver.Publish(0);
  EXPECT_TRUE(driver.HasErrorSignal());
  EXPECT_TRUE(WaitUntil([this] { return lent() == returned(); })) << "a broken queue stays";
  EXPECT_EQ(volume(0).counters().protocol_errors.Get(), 1U);
  driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));  // the session goes on
  ASSERT_TRUE(driver.Receive().has_value());
  driver.avail()->index = 0;
  driver.SetRing(0, 0);
  EXPECT_EQ(driver.Do(virtio::kRequestIn, 0, 512), virtio::kStatusOk);
}

TEST_F(LendingTest, AVolumeGrowsWhileItsQueueIsAway) {
  Serve(Kind::kFile, true);
  FakeDriver driver(Path(0));
  driver.Start();
  constexpr std::uint64_t kEnd = kVolumeBytes / 512;
  EXPECT_EQ(driver.Do(virtio::kRequestOut, kEnd, 4096), virtio::kStatusIoError);
  ASSERT_TRUE(WaitUntilAway());
  std::filesystem::resize_file(FilePath(0), 2 * kVolumeBytes);
  ASSERT_TRUE(volume(0).Remeasure().has_value());
  group_->Wake();
  EXPECT_TRUE(
      WaitUntil([&] { return driver.Do(virtio::kRequestOut, kEnd, 4096) == virtio::kStatusOk; }));
}

// The front end forgets translations while requests are on their way, and gives them again when it
// is asked, whoever runs the queue then.
TEST_F(LendingTest, InvalidationsUnderLoadLoseNothing) {
  Serve(Kind::kMemory, true);
  FakeDriver driver(Path(0));
  driver.Negotiate(virtio::kFeatureAccessPlatform);
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd ours(pair[0]), theirs(pair[1]);
  driver.Send(VhostRequest::kSetBackendReqFd, {theirs.get()});
  driver.ShareMemory();
  driver.SetRing(0, 0, FakeDriver::kGuest);
  std::atomic<bool> is_over = false;
  std::uint64_t misses = 0, invalidations = 0;
  std::thread front_end([&] {
    while (!is_over) {
      pollfd wait{ours.get(), POLLIN, 0};
      virtio::VhostIotlb entry{};
      if (::poll(&wait, 1, 3) == 1) {
        auto message = virtio::ReceiveVhostMessage(ours.get());
        if (!message.has_value()) return;
        entry = *message.assume_value().As<virtio::VhostIotlb>();
        entry.iova = entry.iova & ~std::uint64_t{0xfff};
        entry.user_address = entry.iova - FakeDriver::kGuest + FakeDriver::kUser;
        entry.permission = 3;
        entry.type = static_cast<std::uint8_t>(virtio::VhostIotlbType::kUpdate);
        ++misses;
      } else {
        entry.iova = FakeDriver::kGuest + FakeDriver::DataOffset(invalidations++ % 5);
        entry.type = static_cast<std::uint8_t>(virtio::VhostIotlbType::kInvalidate);
      }
      entry.size_bytes = 4096;
      driver.Send(VhostRequest::kIotlbMessage, entry);
    }
  });
  for (std::uint64_t i = 0; i < 60; ++i) ASSERT_EQ(WriteAndReadBack(driver, i), "");
  ASSERT_TRUE(WaitUntil([this] { return lent() > 5; }));
  is_over = true;
  front_end.join();
  EXPECT_GT(misses, 10U);
  EXPECT_GT(invalidations, 0U);
  EXPECT_EQ(volume(0).counters().protocol_errors.Get(), 0U);
}

// Writes anything anywhere in what the target reads, and says anything.
void Attack(const std::string& path, std::uint32_t seed, int rounds) {
  std::mt19937 random(seed);
  for (int i = 0; i < rounds; ++i) {
    FakeDriver driver(path);
    driver.Start();
    (void)driver.Do(virtio::kRequestIn, 0, 512);
    for (int step = 0; step < 20; ++step) {
      for (int n = 0; n < 40; ++n) {
        const std::size_t offset = random() % 0x5000 & ~std::size_t{1};
        virtio::StoreOnce(*driver.memory().At<std::uint16_t>(offset),
                          static_cast<std::uint16_t>(random()));
      }
      driver.Publish(static_cast<std::uint16_t>(random() % FakeDriver::kSize));
      if (random() % 4 == 0) driver.Publish(driver.Prepare(0, virtio::kRequestIn, 0, 512));
      if (random() % 4 == 0) driver.ShareMemory();
      if (random() % 8 == 0) {
        driver.Send(VhostRequest::kGetVringBase, FakeDriver::State(0, 0));
        driver.SetRing(0, static_cast<std::uint16_t>(random()));
      }
      if (random() % 32 == 0) driver.Send(VhostRequest::kResetDevice);
      if (random() % 64 == 0) driver.SendRaw(random() % 48, {});
    }
    if (random() % 4 == 0) (void)!::ftruncate(driver.memory().fd(), 0x2000);
    driver.Kick();
  }
}

TEST_F(LendingTest, TwoHostileClientsDisturbNoThird) {
  Serve(Kind::kMemory, true);
  std::thread first([this] { Attack(Path(0), 1, 60); });
  std::thread second([this] { Attack(Path(1), 2, 60); });
  FakeDriver driver(Path(2));
  driver.Start();
  for (std::uint64_t i = 0; i < 200; ++i) ASSERT_EQ(WriteAndReadBack(driver, i), "");
  first.join();
  second.join();
  EXPECT_EQ(WriteAndReadBack(driver, 7), "");
  ExpectServed(0);
  ExpectServed(1);
}

}  // namespace
}  // namespace filer::bridge

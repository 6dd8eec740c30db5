// Many threads on one engine; and a process on a file that is killed again and again.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "fsal/engine/device/file_device.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

bool IsLong() { return std::getenv("FILER_LONG") != nullptr; }

// Names collide on purpose: every error of a lost race is fine, a wrong state at the end is not.
void HammerNames(TestEngine& fs, std::uint32_t seed, int operations) {
  std::mt19937 random(seed);
  const auto directory = [&] {
    const auto found = fs->Lookup(fs.root(), "d" + std::to_string(random() % 3));
    return found.has_value() ? found.value().id : fs.root();
  };
  const auto name = [&] { return "n" + std::to_string(random() % 8); };
  for (int step = 0; step < operations; ++step) {
    const NodeId in = directory();
    const NodeId to = directory();
    switch (random() % 6) {
      case 0:
        static_cast<void>(fs.TryCreate(in, name()).has_value());
        break;
      case 1:
        static_cast<void>(fs.TryCreate(in, name(), NodeKind::kDirectory, 0755).has_value());
        break;
      case 2:
        static_cast<void>(fs->Remove(kRootCaller, in, name(), RemoveKind::kAny).has_value());
        break;
      case 3: {
        const auto found = fs->Lookup(in, name());
        if (!found.has_value()) break;
        if (fs->Hold(found.value().id).has_value()) fs->Release(found.value().id);
        static_cast<void>(fs->Link(kRootCaller, found.value().id, to, name()).has_value());
        break;
      }
      case 4: {
        std::uint32_t flags = random() % 5 == 0 ? 2U : 0U;
        static_cast<void>(fs->Rename(kRootCaller, in, name(), to, name(), flags).has_value());
        break;
      }
      default:
        static_cast<void>(
            fs->ReadDirectory(in, 0, [](const DirectoryEntry&) { return true; }).has_value());
    }
  }
}

// Whole blocks of one letter are written by all; a reader must never see a mixed block.
void HammerData(TestEngine& fs, NodeId file, std::uint32_t seed, int operations) {
  std::mt19937 random(seed);
  for (int step = 0; step < operations; ++step) {
    const std::uint64_t block = random() % 64;
    const std::uint64_t count = 1 + random() % 16;
    const std::uint32_t choice = random() % 10;
    if (choice < 5) {
      const std::string bytes(count * 4096, static_cast<char>('a' + random() % 26));
      fs.Write(file, block * 4096, bytes,
               choice == 0 ? Stability::kFileSync : Stability::kUnstable);
    } else if (choice < 8) {
      const std::string text = fs.Read(file, block * 4096, count * 4096);
      for (std::size_t at = 0; at + 4096 <= text.size(); at += 4096) {
        EXPECT_EQ(text.substr(at, 4096).find_first_not_of(text[at]), std::string::npos);
      }
    } else if (choice == 8) {
      EXPECT_TRUE(fs->Commit(file, 0, 0).has_value());
    } else if (random() % 4 == 0) {
      AttributeChange change;
      change.size_bytes = block * 4096;
      EXPECT_TRUE(fs->SetAttributes(kRootCaller, file, change).has_value());
    } else {
      EXPECT_TRUE(fs->Deallocate(kRootCaller, file, block * 4096, count * 4096).has_value());
    }
  }
}

TEST(Threads, StressLeavesASoundVolume) {
  const SimOptions options = TestEngine::DefaultOptions();
  const auto device = SimDevice::Create(options).value();
  TestEngine fs(*device);
  fs.mount_options.checkpoint_interval_ms = 20;
  fs.mount_options.dirty_bytes_max = 200'000;
  fs.mount_options.cache_bytes = 400'000;
  fs.Format();
  fs.Mount();
  for (int index = 0; index < 3; ++index) fs.Directory(fs.root(), "d" + std::to_string(index));
  const NodeId file = fs.Create(fs.root(), "shared");
  const int operations = IsLong() ? 20'000 : 400;
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 1; seed <= 4; ++seed) {
    threads.emplace_back([&, seed] { HammerNames(fs, seed, operations); });
    threads.emplace_back([&, seed] { HammerData(fs, file, seed, operations / 2); });
  }
  for (std::thread& thread : threads) thread.join();
  fs.Unmount();
  fs.CheckIsSound();
}

// The extents of a big file go in several transactions. Whoever sees the new size may write again,
// while they still go: what was acknowledged as stable must not go with them.
// The last name and the last hold of a file go at the same moment: it is reclaimed once, and
// counted so.
TEST(Threads, ARemovedFileThatIsLetGoMeanwhileIsReclaimedOnce) {
  const auto device = SimDevice::Create(TestEngine::DefaultOptions()).value();
  TestEngine fs(*device);
  fs.Format();
  fs.Mount();
  const auto before = fs->Counters().inodes;
  std::atomic<int> ready{0};
  NodeId file;
  constexpr int kRounds = 4000;
  std::thread holder([&] {
    for (int round = 0; round < kRounds; ++round) {
      while (ready.load() != 2 * round + 1) std::this_thread::yield();
      const NodeId held = file;
      ready.store(2 * round + 2);
      for (int wait = 0; wait < round % 40 * 25; ++wait) __builtin_ia32_pause();
      fs->Release(held);
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    file = fs.Create(fs.root(), "f");
    fs->Hold(file).value();
    ready.store(2 * round + 1);
    while (ready.load() != 2 * round + 2) std::this_thread::yield();
    fs->Remove(kRootCaller, fs.root(), "f", RemoveKind::kAny).value();
  }
  holder.join();
  EXPECT_EQ(fs->Counters().inodes, before);
  fs.Unmount();
  fs.CheckIsSound();
}

TEST(Threads, AStableWriteDuringABigTruncationIsKept) {
  constexpr std::uint64_t kExtents = 6000;  // every other block is an extent of its own
  constexpr std::uint64_t kOffset = (kExtents - 10) * 8192;
  const auto device = SimDevice::Create(TestEngine::DefaultOptions()).value();
  TestEngine fs(*device);
  fs.Format();
  fs.Mount();
  const NodeId file = fs.Create(fs.root(), "f");
  const std::string fresh(4096, 'B');
  const int rounds = IsLong() ? 100 : 6;
  for (int round = 0; round < rounds; ++round) {
    for (std::uint64_t index = 0; index < kExtents; ++index) {
      fs.Write(file, index * 8192, std::string(4096, 'a'));
    }
    ASSERT_TRUE(fs->Commit(file, 0, 0).has_value());
    std::thread truncating([&] {
      AttributeChange change;
      change.size_bytes = 0;
      EXPECT_TRUE(fs->SetAttributes(kRootCaller, file, change).has_value());
    });
    while (fs->GetAttributes(file).value().size_bytes != 0) {
    }
    const auto written = fs.Write(file, kOffset, fresh, Stability::kFileSync);
    EXPECT_EQ(written.committed, Stability::kFileSync);
    truncating.join();
    EXPECT_EQ(fs->GetAttributes(file).value().size_bytes, kOffset + fresh.size());
    EXPECT_EQ(fs.Read(file, kOffset, fresh.size()), fresh) << "round " << round;
    EXPECT_EQ(fs.Read(file, 0, 4096), std::string(4096, '\0'));
    fs.Kill();
    fs.Mount();
    EXPECT_EQ(fs.Read(file, kOffset, fresh.size()), fresh) << "after a kill, round " << round;
    if (::testing::Test::HasFailure()) break;
  }
  fs.Unmount();
  fs.CheckIsSound();
}

// Zeroing the edge of a hole must not make a file longer that was cut meanwhile.
TEST(Threads, ADeallocationDoesNotUndoATruncation) {
  const auto device = SimDevice::Create(TestEngine::DefaultOptions()).value();
  TestEngine fs(*device);
  fs.Format();
  fs.Mount();
  const NodeId file = fs.Create(fs.root(), "f");
  const int rounds = IsLong() ? 20'000 : 500;
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    fs.Write(file, 0, std::string(12'000, 'a'));
    std::atomic<bool> is_going{false};
    std::thread deallocating([&] {
      is_going = true;
      EXPECT_TRUE(fs->Deallocate(kRootCaller, file, 9000, 2000).has_value());
    });
    while (!is_going) {
    }
    AttributeChange change;
    change.size_bytes = 8192;
    EXPECT_TRUE(fs->SetAttributes(kRootCaller, file, change).has_value());
    deallocating.join();
    EXPECT_EQ(fs->GetAttributes(file).value().size_bytes, 8192U) << "round " << round;
  }
  fs.Unmount();
  fs.CheckIsSound();
}

// --- kill -9

constexpr std::uint64_t kVolumeBytes = 96ULL << 20;

// The kernel lets go of a killed process's io_uring, and with it of the lock on the file, a moment
// after the process is gone.
std::unique_ptr<BlockDevice> OpenPatiently(const std::string& path) {
  FileDeviceOptions options;
  options.path = path;
  options.pool_bytes = 16ULL << 20;
  for (int attempt = 0; attempt < 500; ++attempt) {
    auto device = OpenFileDevice(options);
    if (device.has_value()) return std::move(device).value();
    if (!(device.error() == Errc::kBusy)) {
      ADD_FAILURE() << device.error().message();
      return nullptr;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "the volume stays locked";
  return nullptr;
}

// Makes files f<number> with contents that follow from the number, and reports each one through the
// pipe once it was acknowledged.
[[noreturn]] void RunVictim(const std::string& path, std::uint64_t number, int pipe) {
  const auto device = OpenPatiently(path);
  if (device == nullptr) _exit(3);
  TestEngine fs(*device);
  fs.mount_options.checkpoint_interval_ms = 5;
  fs.Mount();
  for (;; ++number) {
    const std::string name = "f" + std::to_string(number);
    const auto created = fs.TryCreate(fs.root(), "tmp");
    if (!created.has_value()) _exit(4);
    const std::string bytes(1 + number * 977 % 30'000, static_cast<char>('a' + number % 26));
    if (!fs.TryWrite(created.value().node.id, 0, bytes).has_value()) _exit(5);
    if (!fs->Commit(created.value().node.id, 0, 0).has_value()) _exit(6);
    if (!fs->Rename(kRootCaller, fs.root(), "tmp", fs.root(), name, 0).has_value()) _exit(7);
    if (number >= 20) {
      const std::string old = "f" + std::to_string(number - 20);
      if (!fs->Remove(kRootCaller, fs.root(), old, RemoveKind::kAny).has_value()) _exit(8);
    }
    if (write(pipe, &number, sizeof(number)) != sizeof(number)) _exit(9);
  }
}

TEST(Kill, AcknowledgedFilesSurviveKillNine) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("filer-kill-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = folder / "volume";
  {
    std::ofstream(path).put('\0');
    std::filesystem::resize_file(path, kVolumeBytes);
    const auto device = OpenPatiently(path);
    ASSERT_NE(device, nullptr);
    FormatOptions format;
    format.volume_name = "kill";
    ASSERT_TRUE(Engine::Format(*device, format).has_value());
  }
  std::mt19937 random(5);
  std::uint64_t next = 0;
  const int rounds = IsLong() ? 2000 : 12;
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipes[0]);
      RunVictim(path, next, pipes[1]);
    }
    close(pipes[1]);
    std::this_thread::sleep_for(std::chrono::milliseconds(40 + random() % 150));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the victim gave up with " << WEXITSTATUS(status);
    std::uint64_t number = 0;
    while (read(pipes[0], &number, sizeof(number)) == sizeof(number)) next = number + 1;
    close(pipes[0]);
    const auto device = OpenPatiently(path);
    ASSERT_NE(device, nullptr);
    TestEngine fs(*device);
    fs.CheckIsSound();
    fs.Mount();
    if (::testing::Test::HasFatalFailure()) break;
    for (std::uint64_t file = next > 19 ? next - 19 : 0; file < next; ++file) {
      const auto found = fs->Lookup(fs.root(), "f" + std::to_string(file));
      ASSERT_TRUE(found.has_value()) << "f" << file << " of " << next;
      const std::string bytes(1 + file * 977 % 30'000, static_cast<char>('a' + file % 26));
      EXPECT_EQ(fs.Read(found.value().id, 0, 100'000) == bytes, true) << "f" << file;
    }
    // What the victim had begun and not reported may be there; it is put away.
    static_cast<void>(fs->Remove(kRootCaller, fs.root(), "tmp", RemoveKind::kAny).has_value());
    const std::string begun = "f" + std::to_string(next);
    static_cast<void>(fs->Remove(kRootCaller, fs.root(), begun, RemoveKind::kAny).has_value());
    if (next >= 20 && !fs->Lookup(fs.root(), "f" + std::to_string(next - 20)).has_value()) {
      fs.Create(fs.root(), "f" + std::to_string(next - 20));  // the victim removes it again
    }
    fs.Unmount();
  }
  EXPECT_GT(next, 0U);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace filer::engine

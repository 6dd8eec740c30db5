#include "host-bridge/backend/backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/file.h"
#include "host-bridge/backend/file_queue.h"

namespace filer::bridge {
namespace {

constexpr std::uint64_t kVolumeBytes = 8 << 20;

std::string MakeFolder(const std::string& where) {
  std::string name = where + "/filer-backend-XXXXXX";
  return ::mkdtemp(name.data()) == nullptr ? std::string() : name;
}

// Submits and waits; false when the request failed.
bool Do(BackendQueue& queue, BackendRequest request) {
  request.cookie = 77;
  EXPECT_TRUE(queue.Queue(request));
  BackendCompletion completion{};
  for (int i = 0; i < 100'000; ++i) {
    queue.Kick();
    if (queue.Poll({&completion, 1}) == 1) {
      EXPECT_EQ(completion.cookie, 77u);
      return completion.is_ok;
    }
    if (queue.WaitFd() >= 0) {
      pollfd wait{queue.WaitFd(), POLLIN, 0};
      ::poll(&wait, 1, 100);
    }
  }
  ADD_FAILURE() << "never completed";
  return false;
}

BackendRequest Transfer(BackendOperation operation, std::uint64_t offset,
                        std::span<const iovec> segments) {
  BackendRequest request{};
  request.operation = operation;
  request.offset_bytes = offset;
  for (const iovec& segment : segments) request.length_bytes += segment.iov_len;
  request.segments = segments;
  return request;
}

BackendRequest Range(BackendOperation operation, std::uint64_t offset, std::uint64_t length,
                     bool may_unmap = false) {
  BackendRequest request{};
  request.operation = operation;
  request.may_unmap = may_unmap;
  request.offset_bytes = offset;
  request.length_bytes = length;
  return request;
}

// What every backend that keeps data must do, aligned memory or not.
void CheckKeepsData(Backend& backend) {
  auto opened = backend.OpenQueue(32);
  ASSERT_TRUE(opened.has_value());
  BackendQueue& queue = *opened.assume_value();
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(4096, 4 << 20));
  for (int i = 0; i < 1 << 20; ++i) memory[i] = static_cast<unsigned char>(i * 7 + i / 251);

  for (const std::size_t shift : {std::size_t{0}, std::size_t{3}}) {  // 3: not aligned
    unsigned char* from = memory + (1 << 20);
    std::memcpy(from + shift, memory, 512 * 1024);
    const iovec out[] = {{from + shift, 512}, {from + shift + 512, 511 * 1024 + 512}};
    ASSERT_TRUE(Do(queue, Transfer(BackendOperation::kWrite, 4096 * 3 + 512, out)));
    unsigned char* to = memory + (2 << 20);
    std::memset(to, 0xee, 1 << 20);
    const iovec in[] = {{to + shift, 100 * 1024}, {to + (512 << 10) + shift, 412 * 1024}};
    ASSERT_TRUE(Do(queue, Transfer(BackendOperation::kRead, 4096 * 3 + 512, in)));
    EXPECT_EQ(std::memcmp(to + shift, memory, 100 * 1024), 0);
    EXPECT_EQ(std::memcmp(to + (512 << 10) + shift, memory + 100 * 1024, 412 * 1024), 0);
  }
  ASSERT_TRUE(Do(queue, Range(BackendOperation::kFlush, 0, 0)));

  for (const bool may_unmap : {true, false}) {
    ASSERT_TRUE(
        Do(queue, Range(BackendOperation::kWriteZeroes, 4096 * 3 + 512, 9 * 512, may_unmap)));
  }
  ASSERT_TRUE(Do(queue, Range(BackendOperation::kDiscard, 4096 * 8, 4096)));
  unsigned char* to = memory + (2 << 20);
  const iovec in[] = {{to, 10 * 512}};
  ASSERT_TRUE(Do(queue, Transfer(BackendOperation::kRead, 4096 * 3 + 512, in)));
  for (int i = 0; i < 9 * 512; ++i) ASSERT_EQ(to[i], 0) << i;
  EXPECT_EQ(std::memcmp(to + 9 * 512, memory + 9 * 512, 512), 0);
  opened = Errc::kIo;  // the queue goes before its backend
  std::free(memory);
}

class FileBackendTest : public testing::TestWithParam<const char*> {
 protected:
  FileBackendTest() : folder_(MakeFolder(GetParam())), path_(folder_ + "/v.img") {
    UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(::ftruncate(fd.get(), kVolumeBytes), 0);
  }
  ~FileBackendTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_, path_;
};

INSTANTIATE_TEST_SUITE_P(Where, FileBackendTest, testing::Values("/dev/shm", "/var/tmp"));

TEST_P(FileBackendTest, KeepsData) {
  auto backend = OpenFileBackend({path_, false});
  ASSERT_TRUE(backend.has_value()) << backend.assume_error().message();
  EXPECT_EQ(backend.assume_value()->Info().size_bytes, kVolumeBytes);
  CheckKeepsData(*backend.assume_value());
}

TEST_P(FileBackendTest, ReadsPastATruncationFail) {
  auto backend = OpenFileBackend({path_, false});
  ASSERT_TRUE(backend.has_value());
  auto queue = backend.assume_value()->OpenQueue(4);
  ASSERT_TRUE(queue.has_value());
  ASSERT_EQ(::truncate(path_.c_str(), 4096), 0);
  std::vector<char> data(8192 + 4096);
  const iovec in[] = {{data.data(), 8192}};
  EXPECT_FALSE(Do(*queue.assume_value(), Transfer(BackendOperation::kRead, 0, in)));
}

TEST_P(FileBackendTest, TakesManyAtOnceAndRefusesOneMore) {
  auto backend = OpenFileBackend({path_, false});
  ASSERT_TRUE(backend.has_value());
  auto opened = backend.assume_value()->OpenQueue(16);
  ASSERT_TRUE(opened.has_value());
  BackendQueue& queue = *opened.assume_value();
  auto* memory = static_cast<char*>(std::aligned_alloc(4096, 17 * 4096));
  std::vector<iovec> segments;
  for (int i = 0; i < 17; ++i) segments.push_back({memory + i * 4096 + (i % 2), 2048});
  for (std::size_t i = 0; i < 17; ++i) {
    BackendRequest request = Transfer(BackendOperation::kWrite, i * 4096, {&segments[i], 1});
    request.cookie = i;
    EXPECT_EQ(queue.Queue(request), i < 16);
  }
  std::vector<bool> seen(16);
  BackendCompletion completions[4];
  for (int done = 0, turns = 0; done < 16 && turns < 100'000; ++turns) {
    queue.Kick();
    const std::size_t count = queue.Poll(completions);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(completions[i].is_ok);
      EXPECT_FALSE(seen[completions[i].cookie]);
      seen[completions[i].cookie] = true;
    }
    done += static_cast<int>(count);
    if (count == 0) ::usleep(100);
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 16);
  opened = Errc::kIo;
  std::free(memory);
}

// The device works on the first ones while the others are still being queued.
TEST_P(FileBackendTest, FirstRequestsOfARoundStartWithoutAKick) {
  auto backend = OpenFileBackend({path_, false});
  ASSERT_TRUE(backend.has_value());
  auto opened = backend.assume_value()->OpenQueue(16);
  ASSERT_TRUE(opened.has_value());
  BackendQueue& queue = *opened.assume_value();
  auto* memory = static_cast<char*>(std::aligned_alloc(4096, 7 * 4096));
  std::vector<iovec> segments;
  for (int i = 0; i < 7; ++i) segments.push_back({memory + i * 4096, 4096});
  for (std::size_t i = 0; i < 7; ++i) {  // 1, 2 and 4 of them
    ASSERT_TRUE(queue.Queue(Transfer(BackendOperation::kRead, i * 4096, {&segments[i], 1})));
  }
  std::size_t done = 0;
  BackendCompletion completions[8];
  for (int turns = 0; done < 7 && turns < 100'000; ++turns) {
    const std::size_t count = queue.Poll(completions);
    if (count == 0) ::usleep(100);
    done += count;
  }
  EXPECT_EQ(done, 7U);
  opened = Errc::kIo;
  std::free(memory);
}

TEST_P(FileBackendTest, SecondOpenerIsToldWhoHoldsIt) {
  auto first = OpenFileBackend({path_, false});
  ASSERT_TRUE(first.has_value());
  auto second = OpenFileBackend({path_, true});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.assume_error(), Errc::kBusy);
  EXPECT_NE(second.assume_error().message().find(path_), std::string::npos);
  EXPECT_NE(second.assume_error().message().find(std::to_string(::getpid())), std::string::npos);
}

TEST_P(FileBackendTest, ReadersShareAndTheLockGoesWithItsOwner) {
  {
    auto first = OpenFileBackend({path_, true});
    auto second = OpenFileBackend({path_, true});
    EXPECT_TRUE(first.has_value() && second.has_value());
    EXPECT_TRUE(first.assume_value()->Info().is_read_only);
  }
  EXPECT_TRUE(OpenFileBackend({path_, false}).has_value());
}

TEST_P(FileBackendTest, RefusesMissingTooSmallAndFolders) {
  auto missing = OpenFileBackend({folder_ + "/none", false});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.assume_error(), Errc::kNotFound);
  ASSERT_EQ(::truncate(path_.c_str(), 100), 0);
  auto small = OpenFileBackend({path_, false});
  ASSERT_FALSE(small.has_value());
  EXPECT_EQ(small.assume_error(), Errc::kTooSmall);
  EXPECT_FALSE(OpenFileBackend({folder_, false}).has_value());
  EXPECT_FALSE(OpenFileBackend({folder_, true}).has_value());
}

TEST(FileBackendNoSpace, WriteFailsAndTheRestGoesOn) {
  const std::string folder = MakeFolder("/tmp");
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") != 0) {
    std::filesystem::remove_all(folder);
    GTEST_SKIP() << "needs the right to mount a small file system";
  }
  const std::string path = folder + "/v.img";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_EQ(::ftruncate(fd.get(), kVolumeBytes), 0);  // sparse: larger than its file system
  fd.Reset();
  {
    auto backend = OpenFileBackend({path, false});
    ASSERT_TRUE(backend.has_value());
    auto queue = backend.assume_value()->OpenQueue(4);
    ASSERT_TRUE(queue.has_value());
    std::vector<char> data(4 << 20, 'x');
    const iovec out[] = {{data.data(), data.size()}};
    const iovec one[] = {{data.data(), 4096}};
    EXPECT_FALSE(Do(*queue.assume_value(), Transfer(BackendOperation::kWrite, 0, out)));
    EXPECT_TRUE(Do(*queue.assume_value(), Transfer(BackendOperation::kRead, 0, one)));
    EXPECT_TRUE(Do(*queue.assume_value(), Range(BackendOperation::kDiscard, 0, 4 << 20)));
    EXPECT_TRUE(Do(*queue.assume_value(), Transfer(BackendOperation::kWrite, 0, one)));
  }
  ::umount2(folder.c_str(), MNT_DETACH);  // the rings let go of the file a little later
  std::filesystem::remove_all(folder);
}

// The kernel reports lost writes once. A later flush that finds nothing to complain about must not
// pass for proof that they are on the disk.
// Which processors the kernel's workers of this process may use.
std::vector<std::string> ProcessorsOfWorkers() {
  std::vector<std::string> lists;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    bool is_worker = false;
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Name:\tiou-wrk")) is_worker = true;
      constexpr std::string_view kList = "Cpus_allowed_list:\t";
      if (is_worker && line.starts_with(kList)) lists.push_back(line.substr(kList.size()));
    }
  }
  return lists;
}

// A poller on a processor of its own never gives it up: a flush there would wait for ever and a
// day.
TEST(FileQueueFlush, RunsOnAnotherProcessorThanThePollersOwn) {
  cpu_set_t all;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(all), &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one processor: there is no other";
  int own = 0;
  while (!CPU_ISSET(own, &all)) ++own;
  const std::string folder = MakeFolder("/var/tmp");
  const std::string path = folder + "/v.img";
  const UniqueFd made(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(made.get(), kVolumeBytes), 0);
  std::thread([&] {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(static_cast<std::size_t>(own), &mine);
    ASSERT_EQ(::sched_setaffinity(0, sizeof(mine), &mine), 0);
    auto backend = OpenFileBackend({path, false});
    ASSERT_TRUE(backend.has_value());
    auto queue = backend.assume_value()->OpenQueue(4);
    ASSERT_TRUE(queue.has_value());
    ASSERT_TRUE(Do(*queue.assume_value(), Range(BackendOperation::kFlush, 0, 0)));
    const auto lists = ProcessorsOfWorkers();
    EXPECT_FALSE(lists.empty()) << "a flush has a worker";
    for (const auto& list : lists) {
      EXPECT_NE(list, std::to_string(own));
      EXPECT_FALSE(list.starts_with(std::to_string(own) + "-")) << list;
      EXPECT_FALSE(list.starts_with(std::to_string(own) + ",")) << list;
    }
  }).join();
  std::filesystem::remove_all(folder);
}

TEST(FileQueueFlush, OnceFailedNeverSucceedsAgain) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);  // cannot be synced
  const UniqueFd reader(ends[0]), writer(ends[1]);
  const UniqueFd good(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(good.is_open());
  const auto flush = [](VolumeFile& file) {
    auto queue = FileQueue::Create(file, 4);
    return queue.has_value() && Do(*queue.assume_value(), Range(BackendOperation::kFlush, 0, 0));
  };
  VolumeFile file;
  file.fd = good.get();
  EXPECT_TRUE(flush(file));
  file.fd = writer.get();
  EXPECT_FALSE(flush(file));
  file.fd = good.get();
  EXPECT_FALSE(flush(file));
}

TEST(MemoryBackend, KeepsData) {
  auto backend = OpenMemoryBackend(kVolumeBytes);
  ASSERT_TRUE(backend.has_value());
  CheckKeepsData(*backend.assume_value());
  EXPECT_FALSE(OpenMemoryBackend(0).has_value());
  EXPECT_FALSE(OpenMemoryBackend(1000).has_value());
}

TEST(NullBackend, CompletesInOrderAndTouchesNothing) {
  auto backend = OpenNullBackend(1 << 30);
  ASSERT_TRUE(backend.has_value());
  auto queue = backend.assume_value()->OpenQueue(4);
  ASSERT_TRUE(queue.has_value());
  char data[512] = {'k'};
  const iovec in[] = {{data, sizeof(data)}};
  for (std::uint64_t i = 0; i < 5; ++i) {
    BackendRequest request = Transfer(BackendOperation::kRead, 0, in);
    request.cookie = i;
    EXPECT_EQ(queue.assume_value()->Queue(request), i < 4);
  }
  BackendCompletion completions[3];
  EXPECT_EQ(queue.assume_value()->Poll(completions), 3u);
  EXPECT_EQ(completions[2].cookie, 2u);
  EXPECT_EQ(queue.assume_value()->Poll(completions), 1u);
  EXPECT_EQ(data[0], 'k');
}

}  // namespace
}  // namespace filer::bridge

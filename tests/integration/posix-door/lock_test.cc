// Byte-range locks and flock between processes.
#include <sys/file.h>

#include <cerrno>

#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

struct flock Range(short type, off_t start, off_t length) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

// A process that holds a lock until it is told to go.
class Holder {
 public:
  Holder(const std::string& path, struct flock lock) {
    int ready[2], go[2];
    if (pipe(ready) != 0 || pipe(go) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      close(go[1]);
      const int file = open(path.c_str(), O_RDWR);
      char byte = fcntl(file, F_SETLK, &lock) == 0 ? '+' : '-';
      if (write(ready[1], &byte, 1) != 1) _exit(1);
      static_cast<void>(!read(go[0], &byte, 1));
      _exit(0);
    }
    close(ready[1]);
    close(go[0]);
    go_ = UniqueFd(go[1]);
    char byte = '-';
    is_locked_ = read(ready[0], &byte, 1) == 1 && byte == '+';
    close(ready[0]);
  }
  ~Holder() { End(); }
  void End() {
    go_.Reset();
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  bool is_locked() const { return is_locked_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd go_;
  bool is_locked_ = false;
};

class Locks : public MountedVolume {
 protected:
  void SetUp() override {
    MountedVolume::SetUp();
    if (IsSkipped()) return;
    file_ = UniqueFd(open(At("f").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_TRUE(file_.is_open());
  }
  void TearDown() override {
    file_.Reset();
    MountedVolume::TearDown();
  }
  UniqueFd file_;
};

TEST_F(Locks, ConflictsAreSeenWithTheirHolder) {
  const Holder holder(At("f"), Range(F_WRLCK, 100, 50));
  ASSERT_TRUE(holder.is_locked());
  struct flock wanted = Range(F_RDLCK, 120, 1);
  EXPECT_EQ(fcntl(file_.get(), F_SETLK, &wanted), -1);
  EXPECT_EQ(errno, EAGAIN);
  struct flock test = Range(F_WRLCK, 0, 0);
  ASSERT_EQ(fcntl(file_.get(), F_GETLK, &test), 0);
  EXPECT_EQ(test.l_type, F_WRLCK);
  EXPECT_EQ(test.l_start, 100);
  EXPECT_EQ(test.l_len, 50);
  EXPECT_EQ(test.l_pid, holder.pid());
  struct flock beside = Range(F_WRLCK, 150, 0);
  EXPECT_EQ(fcntl(file_.get(), F_SETLK, &beside), 0);
  test = Range(F_WRLCK, 200, 1);  // one's own lock is no conflict
  ASSERT_EQ(fcntl(file_.get(), F_GETLK, &test), 0);
  EXPECT_EQ(test.l_type, F_UNLCK);
}

TEST_F(Locks, AWaiterGetsTheLockWhenItsHolderEnds) {
  Holder holder(At("f"), Range(F_WRLCK, 0, 0));
  ASSERT_TRUE(holder.is_locked());
  std::thread ender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    holder.End();
  });
  const auto start = std::chrono::steady_clock::now();
  struct flock wanted = Range(F_WRLCK, 0, 10);
  EXPECT_EQ(fcntl(file_.get(), F_SETLKW, &wanted), 0);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(250));
  ender.join();
}

TEST_F(Locks, ASignalEndsTheWait) {
  const Holder holder(At("f"), Range(F_WRLCK, 0, 0));
  ASSERT_TRUE(holder.is_locked());
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  alarm(1);
  struct flock wanted = Range(F_WRLCK, 0, 10);
  EXPECT_EQ(fcntl(file_.get(), F_SETLKW, &wanted), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_F(Locks, ClosingAnyDescriptorEndsTheLocks) {
  struct flock lock = Range(F_WRLCK, 0, 0);
  ASSERT_EQ(fcntl(file_.get(), F_SETLK, &lock), 0);
  EXPECT_FALSE(Holder(At("f"), Range(F_WRLCK, 0, 1)).is_locked());
  close(open(At("f").c_str(), O_RDONLY));
  EXPECT_TRUE(Holder(At("f"), Range(F_WRLCK, 0, 1)).is_locked());
}

TEST_F(Locks, FlockWorksBetweenProcessesAndApartFromRanges) {
  ASSERT_EQ(flock(file_.get(), LOCK_EX), 0);
  const UniqueFd other(open(At("f").c_str(), O_RDWR));
  EXPECT_EQ(flock(other.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_TRUE(Holder(At("f"), Range(F_WRLCK, 0, 0)).is_locked());
  ASSERT_EQ(flock(file_.get(), LOCK_UN), 0);
  EXPECT_EQ(flock(other.get(), LOCK_EX | LOCK_NB), 0);
}

}  // namespace
}  // namespace filer::posix_door

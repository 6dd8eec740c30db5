// A process that works on a volume in a file is killed with SIGKILL, again and again; each time the
// volume mounts and holds what was acknowledged. FILER_KILLS: how often (50), FILER_SEED.
//
// The same operations run on a simulated volume with the same contents and clock first: they give
// the models that the process, in memory of its own, cannot hand over.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "base/file.h"
#include "base/units.h"
#include "fsal/engine/device/file_device.h"
#include "fsal/engine/device/sim_device.h"
#include "tests/sim/file_run.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;
constexpr std::uint32_t kOperations = 120;

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class KillTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/filer-kill-XXXXXX";
    folder_ = ::mkdtemp(name);
    path_ = folder_ + "/volume";
    const UniqueFd fd(::open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(fd.get(), kVolumeBytes), 0);
    void* shared = ::mmap(nullptr, sizeof(*answered_), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(shared, MAP_FAILED);
    answered_ = new (shared) std::atomic<std::uint64_t>(0);
    const auto device = Open();
    FormatOptions options;
    options.volume_name = "sim";
    options.random_seed = 9;
    options.clock = &clock_;
    ASSERT_TRUE(Engine::Format(*device, options).has_value());
    const auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
    model_ = ReadModel(*engine.value()).value();
  }
  void TearDown() override {
    if (answered_ != nullptr) ::munmap(answered_, sizeof(*answered_));
    std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<BlockDevice> Open() {
    return OpenFileDevice({.path = path_, .pool_bytes = 16 << 20}).value();
  }

  // What the file holds now.
  SimImage Image() {
    SimImage image(kVolumeBytes);
    const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<std::byte> bytes(1 << 20);
    const std::vector<std::byte> zeroes(kBlockBytes);
    for (std::uint64_t at = 0; at < kVolumeBytes; at += bytes.size()) {
      EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
                static_cast<ssize_t>(bytes.size()));
      for (std::uint64_t done = 0; done < bytes.size(); done += kBlockBytes) {
        const auto block = std::span(bytes).subspan(done, kBlockBytes);
        if (!std::equal(block.begin(), block.end(), zeroes.begin())) image.Write(at + done, block);
      }
    }
    return image;
  }

  // Runs in the process that will be killed. Never returns.
  [[noreturn]] void Work(const Sequence& sequence) {
    const auto device = Open();
    Issued issued;
    FileRun run(*device, clock_, QuietMountOptions(), sequence.seed, model_, issued);
    run.OnAnswered([this](std::uint64_t count) {
      answered_->store(count, std::memory_order_relaxed);  // the kill orders it
    });
    std::string wrong = run.Mount();
    for (const Operation& operation : sequence.lives.front()) {
      if (wrong.empty()) wrong = run.Do(operation);
    }
    if (!wrong.empty()) {
      std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(sequence.seed),
                   wrong.c_str());
      ::_exit(1);
    }
    answered_->store(kOperations + 1, std::memory_order_relaxed);
    for (;;) ::pause();
  }

  // Kills after `count` operations were answered and a little more. False: it had ended itself.
  bool KillAfter(pid_t child, std::uint64_t count, std::uint64_t more_us) {
    while (answered_->load(std::memory_order_relaxed) < count) {
      int status = 0;
      if (::waitpid(child, &status, WNOHANG) == child) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(more_us));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status);
  }

  void RunOnce(std::uint64_t seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Sequence sequence = DrawSequence(seed, kOperations, 1);
    std::vector<RunStep> steps;
    {
      SimOptions options;
      options.pool_bytes = 16 << 20;
      const auto device = SimDevice::Create(options, Image()).value();
      ManualClock clock = clock_;
      Issued issued;
      FileRun reference(*device, clock, QuietMountOptions(), seed, model_, issued);
      ASSERT_EQ(reference.Mount(), "");
      for (const Operation& one : sequence.lives.front()) ASSERT_EQ(reference.Do(one), "");
      steps = reference.steps();
    }
    std::mt19937_64 random(seed);
    answered_->store(0, std::memory_order_relaxed);
    const pid_t child = ::fork();
    if (child == 0) Work(sequence);
    ASSERT_TRUE(KillAfter(child, random() % kOperations, random() % 3000));
    const std::uint64_t done = std::min<std::uint64_t>(answered_->load(), steps.size());
    const auto device = Open();
    auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
    ASSERT_TRUE(engine.has_value()) << engine.error().message();
    auto found = ReadModel(*engine.value());
    ASSERT_TRUE(found.has_value()) << found.error().message();
    std::vector<const FileModel*> allowed{done == 0 ? &model_ : &steps[done - 1].after};
    if (done < steps.size()) {
      if (steps[done].during.has_value()) allowed.push_back(&*steps[done].during);
      allowed.push_back(&steps[done].after);
    }
    std::string text;
    bool is_allowed = false;
    for (const FileModel* model : allowed) {
      const std::string difference = Difference(found.value(), *model, false);
      is_allowed = is_allowed || difference.empty();
      text += difference + "; ";
    }
    EXPECT_TRUE(is_allowed) << "after " << done << " operations: " << text;
    engine.value().reset();
    const auto report = Engine::Check(*device, true);
    ASSERT_TRUE(report.has_value()) << report.error().message();
    EXPECT_TRUE(report.value().findings.empty()) << report.value().findings.front().what;
    EXPECT_EQ(report.value().inodes, found.value().nodes.size());
    model_ = std::move(found).value();
  }

  std::string folder_, path_;
  std::atomic<std::uint64_t>* answered_ = nullptr;  // shared with the process to be killed
  ManualClock clock_;
  FileModel model_;
};

TEST_F(KillTest, AVolumeSurvivesProcessesThatAreKilled) {
  const std::uint64_t first = EnvironmentNumber("FILER_SEED", 1);
  const std::uint64_t kills =
      EnvironmentNumber("FILER_KILLS", std::getenv("FILER_LONG") != nullptr ? 10'000 : 50);
  for (std::uint64_t at = 0; at < kills && !HasFailure(); ++at) RunOnce(first + at);
}

}  // namespace
}  // namespace filer::engine::sim

#include "filer-guest/launcher/launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>

#include "base/file.h"
#include "filer-guest/launcher/preflight.h"
#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using testing::HasSubstr;

// A machine whose QEMU is a script that leaves a line per start in `starts`.
struct Machine {
  explicit Machine(const std::string& script) {
    for (const char* name : {"kernel", "initrd", "root.squashfs", "manifest.json"}) {
      std::ofstream(folder / name) << name;
    }
    std::ofstream(folder / "qemu") << "#!/bin/sh\necho start >> " << folder / "starts"
                                   << "\n"
                                   << script << "\n";
    ::chmod((folder / "qemu").c_str(), 0755);
    options.qemu_program = folder / "qemu";
    options.image_dir = folder.path();
    options.run_dir = folder.path();
    options.memory_mb = kGuestMemoryMbMin;
    options.accelerator = Accelerator::kTcg;
    options.pin_cpus = false;
    options.boot_deadline = std::chrono::seconds(20);
  }
  std::size_t starts() const {
    const auto text = ReadWholeFile(folder / "starts");
    return text ? static_cast<std::size_t>(
                      std::count(text.value().begin(), text.value().end(), '\n'))
                : 0;
  }
  TemporaryFolder folder;
  GuestOptions options;
};

constexpr const char* kAbort =
    "echo \"qemu: physmem.c:2678: iotlb_to_section: Assertion \\`a < b' failed.\" >&2; exit 134";

TEST(StartGuest, BootsAgainWhenQemuAbortedButNotForever) {
  Machine machine(kAbort);
  std::size_t told = 0;
  machine.options.on_progress = [&told](const std::string& line) {
    if (line.find("booting again") != std::string::npos) ++told;
  };
  const auto guest = StartGuest(machine.options);
  ASSERT_TRUE(guest.error() == Errc::kDeviceGone);
  EXPECT_THAT(guest.error().message(), HasSubstr("iotlb_to_section"));
  EXPECT_EQ(machine.starts(), 3u);
  EXPECT_EQ(told, 2u);
  EXPECT_TRUE(FindGuest(machine.options.run_dir).error() == Errc::kNotRunning);
}

TEST(StartGuest, DoesNotInsistWhenQemuRefusedWhatItWasAsked) {
  Machine machine("echo 'qemu: -device nonsense: not a valid device' >&2; exit 1");
  const auto guest = StartGuest(machine.options);
  ASSERT_TRUE(guest.error() == Errc::kDeviceGone);
  EXPECT_THAT(guest.error().message(), HasSubstr("nonsense"));
  EXPECT_EQ(machine.starts(), 1u);
}

}  // namespace
}  // namespace filer::guest

// The verdict on KVM, with shell scripts in QEMU's place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "base/file.h"
#include "filer-guest/launcher/launcher.h"
#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using testing::HasSubstr;

// A QEMU that writes `console_text` to the console's file and then runs `rest`. Each start leaves a
// line in the folder's file "starts".
ProbeOptions WithQemu(const TemporaryFolder& folder, const std::string& console_text,
                      const std::string& rest) {
  std::ofstream(folder / "kernel") << "kernel";
  std::ofstream(folder / "kvm") << "";
  std::ofstream(folder / "qemu")
      << "#!/bin/sh\necho start >> " << folder / "starts"
      << "\n"
      << "for word; do case $word in file,id=console,path=*) file=${word#*path=};; esac; done\n"
      << "printf '" << console_text << "' > \"$file\"\n"
      << rest << "\n";
  ::chmod((folder / "qemu").c_str(), 0755);
  ProbeOptions options;
  options.qemu_program = folder / "qemu";
  options.image_dir = folder.path();
  options.cache_dir = folder / "cache";
  options.kvm_device = folder / "kvm";
  options.deadline = std::chrono::milliseconds(2'000);
  return options;
}

int Starts(const TemporaryFolder& folder) {
  std::ifstream file(folder / "starts");
  int count = 0;
  for (std::string line; std::getline(file, line);) ++count;
  return count;
}

TEST(ProbeAccelerator, BootedKernelIsKvmAndIsRemembered) {
  const TemporaryFolder folder;
  ProbeOptions options =
      WithQemu(folder, "[0] Linux version 6.1\\n[1] Run /init as init\\n", "exec sleep 60");
  const auto first = ProbeAccelerator(options);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first.value().accelerator, Accelerator::kKvm) << first.value().reason;
  EXPECT_FALSE(first.value().is_remembered);
  const auto second = ProbeAccelerator(options);
  EXPECT_EQ(second.value().accelerator, Accelerator::kKvm);
  EXPECT_TRUE(second.value().is_remembered);
  EXPECT_EQ(Starts(folder), 1);
  options.ignore_remembered = true;
  EXPECT_FALSE(ProbeAccelerator(options).value().is_remembered);
  EXPECT_EQ(Starts(folder), 2);
}

TEST(ProbeAccelerator, SilentKernelIsTcg) {
  const TemporaryFolder folder;
  ProbeOptions options = WithQemu(folder, "SeaBIOS\\n", "exec sleep 60");
  options.deadline = std::chrono::milliseconds(200);
  const auto verdict = ProbeAccelerator(options);
  EXPECT_EQ(verdict.value().accelerator, Accelerator::kTcg);
  EXPECT_THAT(verdict.value().reason, HasSubstr("never prints"));
}

TEST(ProbeAccelerator, KernelThatStopsHalfWayIsTcg) {
  const TemporaryFolder folder;
  ProbeOptions options = WithQemu(folder, "[0] Linux version 6.1\\n", "exec sleep 60");
  options.deadline = std::chrono::milliseconds(500);
  const auto verdict = ProbeAccelerator(options);
  EXPECT_EQ(verdict.value().accelerator, Accelerator::kTcg);
  EXPECT_THAT(verdict.value().reason, HasSubstr("does not reach"));
}

TEST(ProbeAccelerator, QemuThatRefusesIsQuoted) {
  const TemporaryFolder folder;
  const ProbeOptions options = WithQemu(folder, "", "echo 'no KVM for you'; exit 1");
  const auto verdict = ProbeAccelerator(options);
  EXPECT_EQ(verdict.value().accelerator, Accelerator::kTcg);
  EXPECT_THAT(verdict.value().reason, HasSubstr("no KVM for you"));
}

TEST(ProbeAccelerator, NoDeviceNeedsNoTrial) {
  const TemporaryFolder folder;
  ProbeOptions options = WithQemu(folder, "", "exit 1");
  options.kvm_device = folder / "none";
  const auto verdict = ProbeAccelerator(options);
  EXPECT_EQ(verdict.value().accelerator, Accelerator::kTcg);
  EXPECT_THAT(verdict.value().reason, HasSubstr("this machine has no"));
  EXPECT_EQ(Starts(folder), 0);
}

TEST(ProbeAccelerator, DamagedOrForeignVerdictIsTriedAgain) {
  const TemporaryFolder folder;
  const ProbeOptions options =
      WithQemu(folder, "[0] Linux version 6.1\\n[1] Run /init as init\\n", "exec sleep 60");
  std::filesystem::create_directories(options.cache_dir);
  int starts = 0;
  for (const char* content : {"", "{", "[]",
                              "{\"schema\":\"filer.accelerator/1\",\"key\":\"other\","
                              "\"accelerator\":\"tcg\",\"reason\":\"x\"}"}) {
    std::ofstream(options.cache_dir + "/accelerator.json") << content;
    EXPECT_EQ(ProbeAccelerator(options).value().accelerator, Accelerator::kKvm) << content;
    EXPECT_EQ(Starts(folder), ++starts);
  }
}

}  // namespace
}  // namespace filer::guest

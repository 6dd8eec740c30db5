#include "filer-guest/launcher/qemu_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "filer-guest/launcher/guest_record.h"
#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using testing::HasSubstr;
using testing::Not;

GuestOptions Usual() {
  GuestOptions options;
  options.image_dir = "/images/1";
  options.run_dir = "/run/n";
  options.memory_mb = 1024;
  options.cpus = 2;
  options.disks = {{"/run/n/v0.sock", 1, 512}, {"/run/n/v1.sock", 2, 256}};
  options.network.forwards = {{"127.0.0.1", 2049, 2049}, {"127.0.0.1", 1445, 445}};
  return options;
}

std::string Lines(const GuestOptions& options, const MachineFacts& facts) {
  std::string text;
  for (const std::string& argument : QemuArguments(options, facts, PathsIn(options.run_dir))) {
    text += argument + (argument[0] == '-' ? " " : "\n");
  }
  return text;
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const auto golden = ReadWholeFile(std::string(FILER_GOLDEN_DIR) + "/" + name);
  ASSERT_TRUE(golden.has_value()) << name << " should hold:\n" << text;
  EXPECT_EQ(golden.value(), text) << name;
}

TEST(QemuArguments, TcgWithUserNetworkMatchesGolden) {
  ExpectGolden("tcg-user.txt", Lines(Usual(), {Accelerator::kTcg, false}));
}

TEST(QemuArguments, KvmWithHugePagesViommuAndTapMatchesGolden) {
  GuestOptions options = Usual();
  options.has_viommu = true;
  options.network = {};
  options.network.kind = NetworkKind::kTap;
  options.network.tap_device = "tap0";
  options.kernel_arguments = "debug";
  ExpectGolden("kvm-tap-viommu.txt", Lines(options, {Accelerator::kKvm, true}));
}

TEST(QemuArguments, VfLosesTheSandboxAndTheEmulatedNic) {
  GuestOptions options = Usual();
  options.network.kind = NetworkKind::kVf;
  options.network.vf_address = "0000:03:10.2";
  const std::string text = Lines(options, {Accelerator::kKvm, false});
  EXPECT_THAT(text, HasSubstr("-device vfio-pci,host=0000:03:10.2,bus=pcie.0,addr=04.0\n"));
  EXPECT_THAT(text, Not(HasSubstr("-sandbox")));
  EXPECT_THAT(text, Not(HasSubstr("-netdev")));
  EXPECT_THAT(KernelArguments(options), HasSubstr("nearmetal.net=dhcp"));
}

TEST(QemuArguments, CommasInPathsBecomeNoOptions) {
  GuestOptions options = Usual();
  options.disks = {{"/run/a,server=on/v.sock", 1, 512}};
  EXPECT_THAT(Lines(options, {}), HasSubstr("path=/run/a,,server=on/v.sock,reconnect-ms=200"));
}

TEST(DiskAddress, CountsFromSlot16) {
  EXPECT_EQ(DiskAddress(0), "0000:00:10.0");
  EXPECT_EQ(DiskAddress(7), "0000:00:17.0");
}

RunningGuest SomeGuest() {
  RunningGuest guest;
  guest.process = {4711, 123456789};
  guest.accelerator = Accelerator::kTcg;
  guest.accelerator_reason = "no /dev/kvm";
  guest.has_viommu = true;
  return guest;
}

TEST(GuestRecord, ComesBackAsItWas) {
  const auto guest = GuestFromRecord(RecordOf(SomeGuest()), "/run/n");
  ASSERT_TRUE(guest.has_value());
  EXPECT_EQ(guest.value().process, SomeGuest().process);
  EXPECT_EQ(guest.value().accelerator_reason, "no /dev/kvm");
  EXPECT_EQ(guest.value().agent_socket, "/run/n/agent.sock");
  EXPECT_TRUE(guest.value().has_viommu);
}

TEST(GuestRecord, RefusesWhatCouldNameAnotherProcess) {
  for (const Json& pid : {Json(1), Json(0), Json(-1), Json("4711"), Json()}) {
    Json record = RecordOf(SomeGuest());
    record["pid"] = pid;
    EXPECT_TRUE(GuestFromRecord(record, "/run/n").error() == Errc::kCorrupt) << pid;
  }
  EXPECT_TRUE(GuestFromRecord(Json::array(), "/run/n").error() == Errc::kCorrupt);
}

TEST(FindGuest, DeadProcessIsNoGuest) {
  const TemporaryFolder folder;
  EXPECT_TRUE(FindGuest(folder.path()).error() == Errc::kNotRunning);
  // Our own pid with another start time: the pid was given to somebody else.
  RunningGuest guest = SomeGuest();
  guest.process = {::getpid(), 1};
  ASSERT_TRUE(WriteFileAtomically(folder / "guest.json", RecordOf(guest).dump()).has_value());
  EXPECT_TRUE(FindGuest(folder.path()).error() == Errc::kNotRunning);
  guest.process = IdentifyProcess(::getpid()).value();
  ASSERT_TRUE(WriteFileAtomically(folder / "guest.json", RecordOf(guest).dump()).has_value());
  EXPECT_TRUE(FindGuest(folder.path()).has_value());
}

TEST(Accelerator, NamesParseBack) {
  EXPECT_EQ(ParseAccelerator("kvm").value(), Accelerator::kKvm);
  EXPECT_TRUE(ParseAccelerator("hvf").error() == Errc::kUsage);
}

}  // namespace
}  // namespace filer::guest

#include "filer-guest/launcher/preflight.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/unit/filer-guest/launcher/temporary_folder.h"

namespace filer::guest {
namespace {

using testing::HasSubstr;

// Listens on a free port of 127.0.0.1.
class Listener {
 public:
  Listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(socket_.get(), 4), 0);
    socklen_t size = sizeof(address);
    ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  std::uint16_t port() const { return port_; }

 private:
  UniqueFd socket_;
  std::uint16_t port_ = 0;
};

// A folder that passes as an image, a program that passes as QEMU.
GuestOptions Plausible(const TemporaryFolder& folder) {
  for (const char* name : {"kernel", "initrd", "root.squashfs", "manifest.json", "qemu"}) {
    std::ofstream(folder / name) << name;
  }
  ::chmod((folder / "qemu").c_str(), 0755);
  GuestOptions options;
  options.qemu_program = folder / "qemu";
  options.image_dir = folder.path();
  options.run_dir = folder.path();
  options.memory_mb = kGuestMemoryMbMin;
  return options;
}

TEST(Preflight, PlausibleOptionsPass) {
  const TemporaryFolder folder;
  const auto checked = CheckBeforeStart(Plausible(folder));
  EXPECT_TRUE(checked.has_value()) << checked.error().message();
}

TEST(Preflight, PortInUseIsNamed) {
  const TemporaryFolder folder;
  GuestOptions options = Plausible(folder);
  std::uint16_t port = 0;
  {
    const Listener listener;
    port = listener.port();
    options.network.forwards = {{"127.0.0.1", port, 2049}};
    const auto refused = CheckBeforeStart(options);
    ASSERT_TRUE(refused.error() == Errc::kBusy);
    EXPECT_THAT(refused.error().message(), HasSubstr("127.0.0.1:" + std::to_string(port)));
  }
  EXPECT_TRUE(CheckBeforeStart(options).has_value());
  EXPECT_TRUE(CheckPortIsFree("127.0.0.1", 0).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(CheckPortIsFree("here", 1).error() == Errc::kInvalidArgument);
}

TEST(Preflight, EveryMissingImageFileIsNamed) {
  for (const char* name : {"kernel", "initrd", "root.squashfs", "manifest.json"}) {
    const TemporaryFolder folder;
    const GuestOptions options = Plausible(folder);
    std::filesystem::remove(folder / name);
    const auto refused = CheckBeforeStart(options);
    ASSERT_TRUE(refused.error() == Errc::kNotFound);
    EXPECT_THAT(refused.error().message(), HasSubstr(name));
    EXPECT_THAT(refused.error().message(), HasSubstr("build-image"));
  }
}

TEST(Preflight, NoQemuSaysHowToGetIt) {
  const TemporaryFolder folder;
  GuestOptions options = Plausible(folder);
  for (const char* program : {"/no/qemu", "no-such-qemu-anywhere"}) {
    options.qemu_program = program;
    const auto refused = CheckBeforeStart(options);
    ASSERT_TRUE(refused.error() == Errc::kNotFound);
    EXPECT_THAT(refused.error().message(), HasSubstr("qemu-system-x86"));
  }
}

TEST(Preflight, ImpossibleMachinesAreRefused) {
  const TemporaryFolder folder;
  GuestOptions options = Plausible(folder);
  options.memory_mb = 1 << 30;
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kNoMemory);
  options.memory_mb = kGuestMemoryMbMin - 1;
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kInvalidArgument);
  options = Plausible(folder);
  options.cpus = 0;
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kInvalidArgument);
  options = Plausible(folder);
  options.disks.resize(kGuestDisksMax + 1);
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kInvalidArgument);
  options = Plausible(folder);
  options.disks = {{folder / "kernel", 1, 512}};  // a file, no socket
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kNotRunning);
  options = Plausible(folder);
  options.run_dir = folder / std::string(100, 'd');
  std::filesystem::create_directories(options.run_dir);
  EXPECT_TRUE(CheckBeforeStart(options).error() == Errc::kTooBig);
}

TEST(Preflight, ReadsMeminfo) {
  EXPECT_EQ(AvailableMb("MemTotal: 5 kB\nMemAvailable:   2048000 kB\n").value(), 2000u);
  EXPECT_FALSE(AvailableMb("MemAvailable:").has_value());
  EXPECT_FALSE(AvailableMb("MemAvailable:  x").has_value());
  EXPECT_FALSE(AvailableMb("").has_value());
}

}  // namespace
}  // namespace filer::guest

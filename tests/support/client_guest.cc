// client-guest: boots the test client's image under emulation, runs one script in it, prints its
// output, and ends with its exit code.
//
//   client-guest --image DIR --run DIR [--disk SOCKET [--packed]] [--timeout SECONDS] SCRIPT
//
// The host's 127.0.0.1 is 10.0.2.2 in there. With --disk the guest has a vhost-user-blk disk, for
// its kernel's own driver.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <thread>

#include "base/file.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::test {
namespace {

constexpr auto kCall = std::chrono::seconds(60);
constexpr auto kBoot = std::chrono::minutes(5);
constexpr auto kStop = std::chrono::seconds(30);
constexpr auto kLook = std::chrono::milliseconds(200);

struct Options {
  guest::GuestOptions machine;
  std::string script_path;
  std::string disk_socket;
  bool is_packed = false;
  int timeout_s = 1200;
};

Result<int> RunScript(const guest::RunningGuest& machine, const Options& options) {
  const std::string script = FILER_TRY(ReadWholeFile(options.script_path));
  FILER_TRY(guest::CallAgent(machine.agent_socket, "run", {{"script", script}}, kCall));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.timeout_s);
  while (std::chrono::steady_clock::now() < deadline) {
    const Json outcome =
        FILER_TRY(guest::CallAgent(machine.agent_socket, "outcome", Json::object(), kCall));
    if (outcome.value("done", false)) {
      fmt::print("{}", outcome.value("output", ""));
      const std::string exit = outcome.value("exit", "");
      if (exit == "exit code 0") return 0;
      fmt::print(stderr, "client-guest: the script ended with {}\n", exit);
      return 1;
    }
    std::this_thread::sleep_for(kLook);
  }
  auto outcome = guest::CallAgent(machine.agent_socket, "outcome", Json::object(), kCall);
  if (outcome) fmt::print("{}", outcome.value().value("output", ""));
  return Error(Errc::kTimedOut, fmt::format("the script ran longer than {} s", options.timeout_s));
}

Result<int> Run(Options& options) {
  if (!options.disk_socket.empty()) {
    options.machine.disks.push_back(
        {.socket_path = options.disk_socket, .offers_packed_rings = options.is_packed});
  }
  options.machine.cache_dir = options.machine.run_dir;
  options.machine.memory_mb = 1024;
  // A client beside a filer's guest shares two processors with it. With a disk it has a queue for
  // each.
  options.machine.cpus = options.disk_socket.empty() ? 1 : 2;
  options.machine.accelerator = guest::Accelerator::kTcg;
  options.machine.boot_deadline = kBoot;
  const auto machine = FILER_TRY(guest::StartGuest(options.machine));
  const auto outcome = RunScript(machine, options);
  FILER_TRY(guest::StopGuest(machine, kStop));
  return outcome;
}

}  // namespace
}  // namespace filer::test

int main(int count, char** words) {
  filer::test::Options options;
  CLI::App app("Runs a script in the test client's guest", "client-guest");
  app.add_option("--image", options.machine.image_dir, "image folder")->required();
  app.add_option("--run", options.machine.run_dir, "run folder")->required();
  app.add_option("--disk", options.disk_socket, "vhost-user-blk socket");
  app.add_flag("--packed", options.is_packed, "the disk offers packed rings");
  app.add_option("--timeout", options.timeout_s, "seconds for the script");
  app.add_option("SCRIPT", options.script_path, "bash script")->required();
  CLI11_PARSE(app, count, words);
  const auto outcome = filer::test::Run(options);
  if (!outcome) {
    fmt::print(stderr, "client-guest: {}\n", outcome.error().message());
    return 1;
  }
  return outcome.value();
}

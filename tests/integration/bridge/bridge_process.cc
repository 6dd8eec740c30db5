#include "tests/integration/bridge/bridge_process.h"

#include <signal.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "base/log.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;

Json CallSocket(const std::string& path, const std::string& method, const Json& params) {
  auto client = RpcClient::Connect(path);
  if (!client) throw std::runtime_error(client.error().message());
  auto answer = client.value().Call(method, params, 5s);
  if (!answer) throw std::runtime_error(method + ": " + answer.error().message());
  return answer.value();
}

}  // namespace

BridgeProcess::BridgeProcess() {
  std::string name = "/tmp/filer-bridge-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = name;
}

BridgeProcess::~BridgeProcess() {
  Stop();
  std::filesystem::remove_all(folder_);
}

void BridgeProcess::MakeVolume(const std::string& name, std::uint64_t size_bytes) const {
  std::ofstream(Path(name)).close();
  std::filesystem::resize_file(Path(name), size_bytes);
}

void BridgeProcess::Start(const std::vector<std::string>& arguments) {
  const std::string programs = FILER_PROGRAMS;
  std::vector<std::string> command = {
      programs + "/bridge-keeper", "--control", Path("keeper"), "--ready", Path("control"),
      // Each end is answered by a start at once.
      "--stable-ms", "0", "--", programs + "/host-bridge", "--control", Path("control")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  if (const char* count = std::getenv("FILER_TEST_POLLERS"); count != nullptr) {
    command.insert(command.end(), {"--pollers", count});
  }
  const auto program = OpenProgram(command[0]);
  if (!program) throw std::runtime_error(program.error().message());
  keeper_ = Child::Start(program.value(), command).value();
  Pid();
}

int BridgeProcess::Stop() {
  keeper_.Signal(SIGTERM);
  if (!keeper_.WaitEnd(15s)) return -1;
  return keeper_.was_killed() ? -1 : keeper_.exit_status();
}

Json BridgeProcess::Call(const std::string& method, const Json& params) const {
  return CallSocket(Path("control"), method, params);
}

Json BridgeProcess::CallKeeper(const std::string& method, const Json& params) const {
  return CallSocket(Path("keeper"), method, params);
}

pid_t BridgeProcess::Pid() const {
  for (int i = 0; i < 5000; ++i) {
    auto client = RpcClient::Connect(Path("control"));
    if (client) {
      const auto status = client.value().Call("status", Json::object(), 5s);
      if (status) return status.value()["pid"].get<pid_t>();
    }
    std::this_thread::sleep_for(2ms);
  }
  throw std::runtime_error("host-bridge does not serve");
}

std::unique_ptr<Disk> Attach(const std::string& socket_path, DiskOptions options) {
  const char* ring = std::getenv("FILER_TEST_RING");
  if (ring != nullptr && std::string_view(ring) == "packed") options.ring = RingFormat::kPacked;
  static const bool is_started = [] {
    InitLog("test", "warn");
    EalOptions eal;
    eal.memory_bytes = 192ULL << 20;
    return InitEal(eal).has_value();
  }();
  if (!is_started) throw std::runtime_error("InitEal");
  auto disk = AttachVhostUser(socket_path, options);
  if (!disk) throw std::runtime_error(disk.error().message());
  return std::move(disk).value();
}

}  // namespace filer::bridge

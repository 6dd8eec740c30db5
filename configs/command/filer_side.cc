#include "configs/command/filer_side.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <span>
#include <thread>

#include "base/crc32c.h"
#include "base/file.h"
#include "configs/command/console.h"
#include "configs/command/image.h"
#include "configs/command/live.h"
#include "configs/render.h"
#include "filer-guest/agent/predecessors.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

constexpr auto kReadyDeadline = std::chrono::seconds(180);
constexpr auto kStopGrace = std::chrono::seconds(45);  // the agent gives Ganesha 30, Samba 5
constexpr auto kKillGrace = std::chrono::seconds(2);
constexpr auto kAgentTimeout = std::chrono::seconds(20);
constexpr auto kReconnectPatience = std::chrono::seconds(15);
constexpr const char* kGuestRunFolder = "/run/filer";
constexpr const char* kGuestPluginFolder = "/nearmetal/ganesha";
constexpr const char* kGuestListenAddress = "0.0.0.0";
constexpr std::uint32_t kHostArenaMb = 512;
// The services of a filer that was just killed are still ending.
constexpr std::chrono::milliseconds kPortWait{3'000};
constexpr std::chrono::milliseconds kPortPoll{50};
// Of the guest's memory, what the engine's pool may take: half, since Samba, Ganesha and the page
// cache need the rest.
constexpr std::uint32_t kGuestArenaShare = 2;

Result<void> CheckPort(const std::string& address, std::uint16_t port, const std::string& key) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return Error::System(errno, "socket");
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &name.sin_addr) != 1)
    return Ok();  // IPv6: QEMU will say
  const auto deadline = std::chrono::steady_clock::now() + kPortWait;
  int result = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  while (result != 0 && errno == EADDRINUSE && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPortPoll);
    result = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  }
  if (result == 0) return Ok();
  if (errno == EADDRINUSE) {
    return Error(
        Errc::kBusy,
        fmt::format(
            "{}:{}: the port is in use by another program; stop it or set {} in the configuration",
            address, port, key));
  }
  return Error::System(errno, fmt::format("cannot listen on {}:{} ({})", address, port, key));
}

// A MAC address that stays, and differs from that of other filers: QEMU's prefix, then a digest of
// the machine and the home.
std::string MacOf(const Home& home) {
  const auto machine = ReadWholeFile("/etc/machine-id");
  const std::string text = (machine ? machine.value() : std::string()) + home.root;
  const std::uint32_t digest = Crc32c(std::as_bytes(std::span(text)));
  return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", digest >> 16 & 0xff, digest >> 8 & 0xff,
                     digest & 0xff);
}

guest::GuestNetwork NetworkOf(const Home& home, const configs::ApplianceConfig& config) {
  guest::GuestNetwork network;
  network.guest_address = config.guest.address;
  network.guest_gateway = config.guest.gateway;
  switch (config.guest.nic) {
    case configs::Nic::kTap:
      network.kind = guest::NetworkKind::kTap;
      network.tap_device = config.guest.nic_device;
      network.mac = MacOf(home);
      break;
    case configs::Nic::kVf:
      network.kind = guest::NetworkKind::kVf;
      network.vf_address = config.guest.nic_device;
      break;
    case configs::Nic::kUser:
      network.forwards = {{config.nfs.address, config.nfs.port, config.nfs.port},
                          {config.smb.address, config.smb.port, config.smb.port}};
      if (config.nfs.mount_port != config.nfs.port) {
        network.forwards.push_back(
            {config.nfs.address, config.nfs.mount_port, config.nfs.mount_port});
      }
  }
  return network;
}

Result<FilerSide> StartGuestSide(const Home& home, const Installation& installation,
                                 const configs::ApplianceConfig& config, const UpOptions& options) {
  const ImageFolder image = FILER_TRY(EnsureImage(installation));
  guest::GuestOptions machine;
  machine.image_dir = image.path;
  machine.run_dir = home.Run();
  machine.cache_dir = installation.cache;
  machine.memory_mb = config.guest.memory_mb;
  machine.cpus = config.guest.cpus;
  machine.poller_count = config.bridge.pollers;
  machine.has_viommu = options.has_viommu;
  const std::string accelerator = options.accelerator.empty()
                                      ? std::string(configs::ToText(config.guest.accel))
                                      : options.accelerator;
  machine.accelerator = FILER_TRY(guest::ParseAccelerator(accelerator));
  for (std::size_t index = 0; index < config.volumes.size(); ++index) {
    machine.disks.push_back({.socket_path = home.VolumeSocket(index)});
  }
  machine.network = NetworkOf(home, config);
  Step step("booting the guest");
  machine.on_progress = [&step](const std::string& line) { step.Progress(line); };
  const auto running = FILER_TRY(guest::StartGuest(machine));
  FilerSide side;
  side.mode = "guest";
  side.accel = guest::AcceleratorName(running.accelerator);
  side.accel_reason = running.accelerator_reason;
  side.image_version = image.version;
  side.process = running.process;
  side.qmp_socket = running.qmp_socket;
  step.Done(side.accel + ": " + side.accel_reason);
  return side;
}

// smbd serves the mount as an ordinary user, who must be able to pass through every folder above
// it.
Result<void> CheckPassable(const std::string& folder) {
  for (fs::path at = folder; at != at.parent_path(); at = at.parent_path()) {
    struct stat status {};
    if (::stat(at.c_str(), &status) == 0 && (status.st_mode & S_IXOTH) == 0) {
      return Error(
          Errc::kRefused,
          at.string() +
              ": other users cannot pass through this folder, so Samba could not serve from " +
              folder + "; chmod o+x it, or choose another --home");
    }
  }
  return Ok();
}

Result<FilerSide> StartHostSide(const Home& home, const Installation& installation) {
  FILER_TRY(CheckPassable(home.Run()));
  Step step("starting the agent");
  std::error_code error;
  fs::create_directories(home.FilerFolder(), error);
  if (error) return Error::System(error.value(), "create folder " + home.FilerFolder());
  const std::string log = home.Run() + "/agent.log";
  FilerSide side;
  side.mode = "host";
  side.accel_reason = "host mode: no guest";
  side.process = FILER_TRY(SpawnDetached(
      {.arguments = {installation.programs + "/filer-agent", "--socket", home.AgentSocket()},
       .log_path = log,
       .environment = {{"FILER_GANESHA_DIR", installation.ganesha},
                       {"FILER_PLUGIN_DIR", installation.plugins}}}));
  const auto deadline = std::chrono::steady_clock::now() + kAgentTimeout;
  while (!guest::CallAgent(home.AgentSocket(), "hello", Json::object(), kAgentTimeout)) {
    if (!IsRunning(side.process)) return Error(Errc::kSystem, "the agent ended; see " + log);
    if (std::chrono::steady_clock::now() > deadline) {
      FILER_TRY(StopProcess(side.process, kKillGrace));
      return Error(Errc::kTimedOut, "the agent does not answer; see " + log);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  step.Done();
  return side;
}

Result<std::string> StopGuestSide(const Home& home, const RunningState& state) {
  const auto running = guest::FindGuest(home.Run());
  if (running) {
    const auto outcome = FILER_TRY(guest::StopGuest(running.value(), kStopGrace));
    return outcome.note;
  }
  FILER_TRY(StopProcess(state.filer, kStopGrace));
  return std::string("its record was lost, so QEMU was ended");
}

// The agent stops Samba and Ganesha in order. If it does not answer, SIGTERM asks for the same.
Result<std::string> StopHostSide(const Home& home, const RunningState& state) {
  if (guest::CallAgent(home.AgentSocket(), "shutdown", Json::object(), kAgentTimeout)) {
    const auto deadline = std::chrono::steady_clock::now() + kStopGrace;
    while (IsRunning(state.filer) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  if (!IsRunning(state.filer)) return std::string();
  FILER_TRY(StopProcess(state.filer, kStopGrace));
  return std::string("the agent did not stop by itself and was ended");
}

configs::RunPaths PathsOf(const Home& home, const Installation& installation,
                          const configs::ApplianceConfig& config, bool is_guest) {
  configs::RunPaths paths;
  paths.run_dir = is_guest ? kGuestRunFolder : home.FilerFolder();
  paths.plugins_dir = is_guest ? kGuestPluginFolder : installation.plugins;
  paths.device = is_guest ? "pci:" + guest::DiskAddress(0) : "vhost_user:" + home.VolumeSocket(0);
  paths.status_socket = paths.run_dir + "/engine.sock";
  paths.posix_door = paths.run_dir + "/door";
  paths.engine_memory_mb = is_guest ? config.guest.memory_mb / kGuestArenaShare : kHostArenaMb;
  paths.huge_pages = is_guest;  // the guest's driver needs the physical addresses of its memory
  return paths;
}

}  // namespace

Result<void> CheckNetwork(const configs::ApplianceConfig& config, const std::string& mode) {
  const bool has_own_nic = config.guest.nic != configs::Nic::kUser;
  if (mode == "host" && has_own_nic) {
    return Error(Errc::kConfigInvalid,
                 "[guest] nic is for mode guest; remove nic and address for --mode host");
  }
  if (mode == "guest" && has_own_nic) return Ok();
  for (const configs::ExportConfig& share : config.exports) {
    // QEMU's own network hides clients: the guest sees one address, its gateway's.
    if (mode != "guest" || share.clients.empty() ||
        std::find(share.clients.begin(), share.clients.end(), "*") != share.clients.end()) {
      continue;
    }
    return Error(Errc::kConfigInvalid,
                 fmt::format("[[export]] {}: clients cannot be told apart through the guest's user "
                             "network; set [guest] nic to a tap or vf, or use --mode host",
                             share.name));
  }
  FILER_TRY(CheckPort(config.nfs.address, config.nfs.port, "nfs.port"));
  if (config.nfs.mount_port != config.nfs.port) {
    FILER_TRY(CheckPort(config.nfs.address, config.nfs.mount_port, "nfs.mount_port"));
  }
  return CheckPort(config.smb.address, config.smb.port, "smb.port");
}

Result<FilerSide> StartFilerSide(const Home& home, const Installation& installation,
                                 const configs::ApplianceConfig& config, const UpOptions& options) {
  if (options.mode == "host") return StartHostSide(home, installation);
  return StartGuestSide(home, installation, config, options);
}

void WaitForReconnect(const Home& home, const RunningState& state) {
  Step step("waiting for the filer to find the bridge again");
  const auto deadline = std::chrono::steady_clock::now() + kReconnectPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    const Liveness live = Look(home, state);
    if (!live.is_filer_running || live.NeedsRestart() || live.HasEndedService()) return;
    for (const Json& volume : live.bridge.value("volumes", Json::array())) {
      if (volume.value("connected", false) && live.IsUsable()) return step.Done();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

bool HasLeftServers(const Home& home) {
  return !agent::FindPredecessors(home.FilerFolder()).empty();
}

Result<std::string> StopFilerSide(const Home& home, const RunningState& state) {
  std::string note;
  if (IsRunning(state.filer)) {
    note =
        FILER_TRY(state.mode == "guest" ? StopGuestSide(home, state) : StopHostSide(home, state));
  }
  // Also after an agent that had to be killed just now.
  const auto left = FILER_TRY(agent::EndPredecessors(home.FilerFolder(), agent::kServerGrace));
  if (left.killed_count > 0) {
    note += fmt::format("{}{} of the servers that the agent left did not end and had to be killed",
                        note.empty() ? "" : "; ", left.killed_count);
  }
  return note;
}

void AbandonFiler(const Home& home, const FilerSide& side) {
  RunningState state;
  state.mode = side.mode;
  state.filer = side.process;
  static_cast<void>(StopFilerSide(home, state).has_value());
}

Result<void> ConfigureFilerSide(const Home& home, const Installation& installation,
                                const configs::ApplianceConfig& config, const FilerSide& side) {
  const bool is_guest = side.mode == "guest";
  Step step("starting NFS and SMB");
  Json directories = Json::array();
  for (const configs::ExportConfig& share : config.exports) {
    directories.push_back({{"path", share.path}, {"mode", share.mode}});
  }
  const configs::RunPaths paths = PathsOf(home, installation, config, is_guest);
  configs::ApplianceConfig served = config;
  if (is_guest) served.nfs.address = served.smb.address = kGuestListenAddress;
  const std::string smb_conf = FILER_TRY(configs::RenderSamba(served, paths));
  Json ports = {config.nfs.port};
  if (!smb_conf.empty()) ports.push_back(config.smb.port);
  const Json params = {{"device", paths.device},
                       {"ganesha_conf", FILER_TRY(configs::RenderGanesha(served, paths))},
                       {"smb_conf", smb_conf},
                       {"smb_user", config.smb.user},
                       {"smb_password", FILER_TRY(EnsurePassword(home))},
                       {"export_directories", directories},
                       {"ports", ports},
                       {"run_dir", paths.run_dir},
                       {"memory_mb", paths.engine_memory_mb}};
  FILER_TRY(guest::CallAgent(home.AgentSocket(), "configure", params, kAgentTimeout));
  FILER_TRY(guest::WaitUntilReady({.agent_socket = home.AgentSocket(),
                                   .nfs_address = config.nfs.address,
                                   .nfs_port = config.nfs.port,
                                   .deadline = kReadyDeadline,
                                   .is_alive = [&side] { return IsRunning(side.process); }}));
  step.Done();
  return Ok();
}

}  // namespace filer::command

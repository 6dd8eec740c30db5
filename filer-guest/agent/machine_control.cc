#include "filer-guest/agent/machine_control.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "base/log.h"
#include "base/mount_table.h"
#include "configs/render.h"
#include "filer-guest/agent/huge_pages.h"
#include "filer-guest/agent/modules.h"
#include "filer-guest/agent/predecessors.h"
#include "host-bridge/initiator/pci_bind.h"

namespace filer::agent {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr const char* kGanesha = "ganesha";
constexpr const char* kSamba = "samba";
constexpr milliseconds kStatusTimeout{1'000};
constexpr milliseconds kMakeDirectoryTimeout{10'000};
constexpr milliseconds kAddUserTimeout{20'000};
constexpr milliseconds kSambaGrace{5'000};
constexpr std::size_t kLastLinesBytes = 8192;
constexpr std::string_view kPciPrefix = "pci:";

Result<void> MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return Error::System(errno, "make folder " + path);
  }
  ::chmod(path.c_str(), mode);
  return Ok();
}

// The one line of a log's end that says why: the last that its writer called critical or fatal
// (Ganesha's words; what follows them is a stack), else the last line.
std::string TellingLine(const std::string& text) {
  std::istringstream lines(text);
  std::string last, telling;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    last = line;
    const bool is_critical =
        line.find(":CRIT :") != std::string::npos || line.find(":FATAL :") != std::string::npos;
    if (is_critical && line.find("Fatal errors") == std::string::npos) telling = line;
  }
  return telling.empty() ? last : telling;
}

// Behind an IOMMU the function goes to vfio-pci, else to nobody: the driver maps it through sysfs.
Result<void> GiveToOurDriver(const std::string& address) {
  std::error_code error;
  if (!fs::exists("/sys/bus/pci/devices/" + address + "/iommu_group", error)) {
    return bridge::UnbindKernelDriver(address);
  }
  const KernelModules modules = FILER_TRY(ReadKernelModules());
  for (const char* name : {"vfio_iommu_type1", "vfio_pci"}) {
    FILER_TRY(LoadModule(modules.index, modules.folder, name));
  }
  return bridge::BindToVfio(address);
}

}  // namespace

Result<void> MachineControl::PrepareDevice(const ServiceConfig& config) {
  FILER_TRY(MakeFolder(config.run_dir, 0755));
  if (!options_.is_guest) FILER_TRY(EndPredecessors(config.run_dir, kServerGrace));
  // A mount that a killed predecessor left answers nothing any more.
  if (IsMountPoint(config.posix_door)) ::umount2(config.posix_door.c_str(), MNT_DETACH);
  FILER_TRY(MakeFolder(config.posix_door, 0755));
  FILER_TRY(MakeFolder(config.run_dir + "/recovery", 0700));
  if (!config.device.starts_with(kPciPrefix)) return Ok();
  if (!options_.is_guest) {
    return Error(Errc::kNotSupported, config.device + ": PCI devices are for the guest only");
  }
  const std::string address = config.device.substr(kPciPrefix.size());
  FILER_TRY(GiveToOurDriver(address));
  return ReserveHugePages(config.memory_mb);
}

Result<void> MachineControl::StartGanesha(const ServiceConfig& config) {
  const std::string file = config.run_dir + "/ganesha.conf";
  FILER_TRY(WriteFileAtomically(file, config.ganesha_conf, 0600));
  ChildSpec spec;
  spec.name = kGanesha;
  spec.arguments = {// Not -x: an export whose folder is still to be made must not end the server.
                    options_.ganesha_program,        "-F", "-f",   file, "-L", "/dev/stdout", "-p",
                    config.run_dir + "/ganesha.pid", "-N", "EVENT"};
  spec.log_path = config.run_dir + "/ganesha.log";
  if (!options_.library_path.empty()) {
    spec.environment.push_back("LD_LIBRARY_PATH=" + options_.library_path);
  }
  FILER_TRY(children_.Start(spec));
  return Ok();
}

Result<Json> MachineControl::EngineStatus(const ServiceConfig& config) {
  RpcClient client = FILER_TRY(RpcClient::Connect(config.status_socket));
  return client.Call("status", Json::object(), kStatusTimeout);
}

Result<void> MachineControl::MakeExportDirectory(const ServiceConfig& config,
                                                 const ExportDirectory& directory) {
  if (directory.path == "/") return Ok();
  RpcClient client = FILER_TRY(RpcClient::Connect(config.status_socket));
  FILER_TRY(client.Call("mkdir", Json{{"path", directory.path}, {"mode", directory.mode}},
                        kMakeDirectoryTimeout));
  return Ok();
}

Result<void> MachineControl::ReloadExports() { return children_.Signal(kGanesha, SIGHUP); }

bool MachineControl::IsDoorMounted(const ServiceConfig& config) {
  return IsMountPoint(config.posix_door);
}

Result<void> MachineControl::StartSamba(const ServiceConfig& config) {
  const configs::SambaSetup setup = FILER_TRY(
      configs::PrepareSamba(config.smb_conf, config.smb_user, config.smb_password, config.run_dir));
  for (const auto& directory : setup.directories) {
    FILER_TRY(MakeFolder(directory.path, static_cast<mode_t>(directory.mode)));
  }
  for (const auto& file : setup.files) {
    FILER_TRY(WriteFileAtomically(file.path, file.content, static_cast<int>(file.mode)));
  }
  ChildSpec add_user;
  add_user.name = "smbpasswd";
  add_user.arguments = setup.add_user;
  add_user.input = setup.add_user_input;
  add_user.log_path = config.run_dir + "/smbpasswd.log";
  FILER_TRY(children_.Run(add_user, kAddUserTimeout));
  ChildSpec smbd;
  smbd.name = kSamba;
  smbd.arguments = setup.smbd;
  smbd.log_path = config.run_dir + "/smbd.log";
  FILER_TRY(children_.Start(smbd));
  return Ok();
}

// proc(5), net/tcp: the second field is ADDRESS:PORT in hex, the fourth the state, 0A for
// listening.
bool MachineControl::IsListening(std::uint16_t port) {
  const std::string ending = fmt::format(":{:04X}", port);
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const auto text = ReadWholeFile(table);
    if (!text) continue;
    std::istringstream lines(text.value());
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::string slot, local, remote, state;
      fields >> slot >> local >> remote >> state;
      if (state == "0A" && local.ends_with(ending)) return true;
    }
  }
  return false;
}

std::vector<ServiceState> MachineControl::States() {
  std::vector<ServiceState> states;
  for (const char* name : {kGanesha, kSamba}) {
    const std::optional<ChildState> child = children_.Find(name);
    if (!child) continue;
    ServiceState state{name, child->pid, child->is_running, {}};
    if (!child->is_running) {
      state.last_lines =
          "(" + child->ending + ") " + TellingLine(FileTail(child->log_path, kLastLinesBytes));
    }
    states.push_back(std::move(state));
  }
  children_.BoundLogs();
  return states;
}

Result<void> MachineControl::StopService(const std::string& name, milliseconds grace) {
  if (children_.Stop(name, grace)) return Ok();
  return Error(Errc::kTimedOut, name + " did not end in time and was killed");
}

Result<void> MachineControl::StopSamba() { return StopService(kSamba, kSambaGrace); }
Result<void> MachineControl::StopGanesha() { return StopService(kGanesha, kServerGrace); }

void MachineControl::CleanUp(const ServiceConfig& config) {
  if (IsMountPoint(config.posix_door)) {
    FILER_LOG_WARN("{}: still mounted, detached", config.posix_door);
    ::umount2(config.posix_door.c_str(), MNT_DETACH);
  }
  ::unlink(config.status_socket.c_str());
  ::unlink((config.run_dir + "/ganesha.pid").c_str());
}

}  // namespace filer::agent

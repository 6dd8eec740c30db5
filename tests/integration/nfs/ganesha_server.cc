#include "tests/integration/nfs/ganesha_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "fsal/engine/device/file_device.h"

namespace filer::test {

namespace {

constexpr int kReadySeconds = 60;  // a loaded machine; it takes a second

Result<int> FreePort() {
  const UniqueFd socket_fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket_fd.get(), generic, length) != 0 ||
      ::getsockname(socket_fd.get(), generic, &length) != 0) {
    return Error::System(errno, "no free port");
  }
  return static_cast<int>(ntohs(address.sin_port));
}

bool Accepts(int port) {
  const UniqueFd socket_fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return ::connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
}

Result<std::unique_ptr<engine::BlockDevice>> OpenVolume(const std::string& path) {
  engine::FileDeviceOptions options;
  options.path = path;
  return engine::OpenFileDevice(options);
}

Result<void> MakeVolume(const std::string& path, std::uint64_t size_bytes) {
  {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.is_open() || ::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0) {
      return Error::System(errno, path);
    }
  }
  auto device = FILER_TRY(OpenVolume(path));
  return engine::Engine::Format(*device, {.volume_name = "test"});
}

}  // namespace

Result<std::unique_ptr<GaneshaServer>> GaneshaServer::Create(std::uint64_t volume_bytes) {
  std::unique_ptr<GaneshaServer> server(new GaneshaServer);
  char folder[] = "/tmp/nm-nfs-XXXXXX";
  if (::mkdtemp(folder) == nullptr) return Error::System(errno, folder);
  server->folder_ = folder;
  if (::mkdir((server->folder_ + "/recovery").c_str(), 0700) != 0) {
    return Error::System(errno, server->folder_);
  }
  server->port_ = FILER_TRY(FreePort());
  server->mount_port_ = FILER_TRY(FreePort());
  FILER_TRY(MakeVolume(server->folder_ + "/volume", volume_bytes));
  return server;
}

GaneshaServer::~GaneshaServer() {
  KillHard();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Result<void> GaneshaServer::WriteConfiguration() const {
  std::string text =
      "NFS_CORE_PARAM {\n  Protocols = 3, 4;\n  NFS_Port = " + std::to_string(port_) +
      ";\n  MNT_Port = " + std::to_string(mount_port_) +
      ";\n  Bind_Addr = 127.0.0.1;\n  Plugins_Dir = \"" FILER_PLUGINS_DIR
      "\";\n  Enable_NLM = false;\n  Enable_RQUOTA = false;\n  Enable_UDP = false;\n"
      "  Mount_Path_Pseudo = true;\n  Clustered = false;\n  Allow_Set_Io_Flusher_Fail = true;\n}\n"
      "NFS_KRB5 { Active_krb5 = false; }\n"
      "NFSv4 {\n  Minor_Versions = 0, 1, 2;\n  RecoveryRoot = \"" +
      folder_ +
      "/recovery\";\n  Graceless = true;\n  Only_Numeric_Owners = true;\n}\n"
      "NEARMETAL {\n  Device = \"file:" +
      folder_ + "/volume\";\n  Memory_MB = 128;\n  Status_Socket = \"" + folder_ +
      "/status.sock\";\n" + module_options_ + "}\n";
  for (const ServerExport& one : exports_) {
    text += "EXPORT {\n  Export_Id = " + std::to_string(one.id) + ";\n  Path = \"" + one.path +
            "\";\n  Pseudo = \"" + one.pseudo +
            "\";\n  Access_Type = RW;\n  Squash = no_root_squash;\n  Protocols = 3, 4;\n"
            "  Transports = TCP;\n  SecType = sys;\n" +
            one.options + "  FSAL { Name = NEARMETAL; }\n}\n";
  }
  return WriteFileAtomically(folder_ + "/ganesha.conf", text);
}

Result<void> GaneshaServer::Start() {
  FILER_TRY(WriteConfiguration());
  const std::string configuration = folder_ + "/ganesha.conf";
  const std::string log = folder_ + "/ganesha.log";
  const std::string pid_file = folder_ + "/ganesha.pid";
  const std::string output = folder_ + "/output.log";
  // For a person who looks for a fault: FULL_DEBUG fills the log.
  const char* level = std::getenv("FILER_TEST_GANESHA_LEVEL");
  if (level == nullptr) level = "EVENT";
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) return Error::System(errno, "fork");
  if (pid_ == 0) {
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    if (::getppid() != parent) ::_exit(126);
    ::execl(FILER_GANESHA_PROGRAM, "ganesha.nfsd", "-F", "-f", configuration.c_str(), "-L",
            log.c_str(), "-p", pid_file.c_str(), "-N", level, nullptr);
    ::_exit(127);
  }
  return WaitUntilReady();
}

Result<void> GaneshaServer::WaitUntilReady() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kReadySeconds);
  while (std::chrono::steady_clock::now() < deadline) {
    if (Reap(0)) return Error(Errc::kNotRunning, "the server ended at its start:\n" + Log());
    if (Accepts(port_) && Status().has_value()) return Ok();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return Error(Errc::kTimedOut, "the server does not answer:\n" + Log());
}

Result<void> GaneshaServer::Reload() {
  FILER_TRY(WriteConfiguration());
  if (::kill(pid_, SIGHUP) != 0) return Error::System(errno, "SIGHUP");
  return Ok();
}

bool GaneshaServer::Reap(int seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (true) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      pid_ = 0;
      return true;
    }
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void GaneshaServer::KillHard() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

Result<int> GaneshaServer::Terminate(int seconds) {
  ::kill(pid_, SIGTERM);
  if (!Reap(seconds)) return Error(Errc::kTimedOut, "SIGTERM did not end the server:\n" + Log());
  return exit_code_;
}

Result<Json> GaneshaServer::Call(const std::string& method, const Json& params) const {
  auto client = FILER_TRY(RpcClient::Connect(folder_ + "/status.sock"));
  return client.Call(method, params, std::chrono::seconds(10));
}

Result<engine::CheckReport> GaneshaServer::Check() const {
  auto device = FILER_TRY(OpenVolume(folder_ + "/volume"));
  return engine::Engine::Check(*device, true);
}

std::string GaneshaServer::Url(int version, const std::string& pseudo) const {
  const std::string port = std::to_string(port_);
  return "nfs://127.0.0.1" + pseudo + "?version=" + std::to_string(version) + "&nfsport=" + port +
         "&mountport=" + port;
}

std::string GaneshaServer::Log() const {
  const auto log = ReadWholeFile(folder_ + "/ganesha.log");
  const auto output = ReadWholeFile(folder_ + "/output.log");
  return (log.has_value() ? log.assume_value() : "") +
         (output.has_value() ? output.assume_value() : "");
}

}  // namespace filer::test

#include "configs/command/home.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

namespace filer::command {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestSocketName = 24;  // "/run/agent.sock" and the like
constexpr std::size_t kSocketPathBytesMax = 107;
constexpr int kPasswordBytes = 20;

std::string FromEnvironment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

}  // namespace

Result<Home> HomeAt(const std::string& path) {
  if (path.empty() || path[0] != '/') return Error(Errc::kUsage, "--home must be an absolute path");
  std::error_code error;
  std::string root = fs::weakly_canonical(path, error);
  if (error) return Error::System(error.value(), "--home " + path);
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  if (root.find(',') != std::string::npos) {
    return Error(Errc::kUsage, "--home " + root +
                                   ": it holds ',', which would end the paths below it among the "
                                   "bridge's options; choose a home without it");
  }
  return Home{.root = root};
}

Result<void> PrepareHome(const Home& home) {
  if (home.root.size() + kLongestSocketName > kSocketPathBytesMax) {
    return Error(Errc::kTooBig,
                 home.root + ": path too long for the sockets below it; choose a home of at most " +
                     std::to_string(kSocketPathBytesMax - kLongestSocketName) + " bytes");
  }
  for (const std::string& folder : {home.root, home.Volumes(), home.Run()}) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return Error::System(error.value(), "create folder " + folder);
  }
  // Nobody but root may look around in it, but Samba, which works as another user, must pass
  // through to the mount (host mode).
  if (::chmod(home.Run().c_str(), 0711) != 0) return Error::System(errno, "chmod " + home.Run());
  return Ok();
}

Result<UniqueFd> LockHome(const Home& home) {
  UniqueFd lock(::open(home.LockFile().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.is_open()) return Error::System(errno, "open " + home.LockFile());
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Errc::kBusy,
                 home.root + ": another filer command is changing this filer; wait for it");
  }
  return lock;
}

Result<std::string> EnsurePassword(const Home& home) {
  if (fs::exists(home.PasswordFile())) {
    std::string password = FILER_TRY(ReadWholeFile(home.PasswordFile(), 256));
    while (!password.empty() && password.back() == '\n') password.pop_back();
    if (!password.empty()) return password;
  }
  static constexpr char kLetters[] =
      "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789______";
  unsigned char raw[kPasswordBytes];
  if (::getrandom(raw, sizeof(raw), 0) != sizeof(raw)) return Error::System(errno, "getrandom");
  std::string password;
  for (const unsigned char byte : raw) password += kLetters[byte % (sizeof(kLetters) - 1)];
  FILER_TRY(WriteFileAtomically(home.PasswordFile(), password + "\n", 0600));
  return password;
}

Installation FindInstallation() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  Installation found;
  found.programs = self.parent_path();
  found.plugins = self.parent_path().parent_path() / "lib";
  found.source = FromEnvironment("FILER_SOURCE_DIR", FILER_SOURCE_DIR);
  if (!fs::exists(found.source + "/filer-guest/image")) found.source.clear();
  const std::string user_home = FromEnvironment("HOME", "/root");
  found.cache = FromEnvironment(
      "FILER_CACHE", FromEnvironment("XDG_CACHE_HOME", user_home + "/.cache") + "/nearmetal");
  found.ganesha = FromEnvironment("FILER_GANESHA_DIR", FILER_GANESHA_DIR);
  return found;
}

}  // namespace filer::command

#include "filer-guest/agent/modules.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "base/file.h"

namespace filer::agent {
namespace {

// "kernel/drivers/net/virtio-net.ko" -> "virtio_net".
std::string NameOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  name = name.substr(0, name.find(".ko"));
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}

Result<void> LoadFile(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return Error::System(errno, "open " + path);
  if (::syscall(SYS_finit_module, file.get(), "", 0) != 0 && errno != EEXIST) {
    return Error::System(errno, "load " + path);
  }
  return Ok();
}

}  // namespace

ModuleIndex ModuleIndex::Parse(std::string_view modules_dep) {
  ModuleIndex index;
  std::istringstream lines{std::string(modules_dep)};
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    Entry entry{line.substr(0, colon), {}};
    std::istringstream needs(line.substr(colon + 1));
    for (std::string path; needs >> path;) entry.needs.push_back(path);
    index.entries_.insert_or_assign(NameOf(entry.path), std::move(entry));
  }
  return index;
}

Result<std::vector<std::string>> ModuleIndex::LoadOrder(const std::string& name) const {
  const auto found = entries_.find(NameOf(name));
  if (found == entries_.end()) return Error(Errc::kNotFound, "no kernel module " + name);
  std::vector<std::string> order(found->second.needs.rbegin(), found->second.needs.rend());
  order.push_back(found->second.path);
  return order;
}

Result<void> LoadModule(const ModuleIndex& index, const std::string& folder,
                        const std::string& name) {
  const std::vector<std::string> order = FILER_TRY(index.LoadOrder(name));
  for (const std::string& path : order) FILER_TRY(LoadFile(folder + "/" + path));
  return Ok();
}

Result<KernelModules> ReadKernelModules() {
  utsname names{};
  if (::uname(&names) != 0) return Error::System(errno, "uname");
  KernelModules modules;
  modules.folder = std::string("/lib/modules/") + names.release;
  modules.index = ModuleIndex::Parse(FILER_TRY(ReadWholeFile(modules.folder + "/modules.dep")));
  return modules;
}

}  // namespace filer::agent

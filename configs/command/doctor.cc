// `filer doctor`: looks at the machine, says for each thing whether it is good, could be better, or
// is in the way, and what to do.
#include <fmt/core.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/json_rpc.h"
#include "base/process.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/image.h"
#include "filer-guest/launcher/launcher.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDiskBytesWanted = 10ULL << 30;
constexpr std::uint64_t kMemoryKibWanted = 4ULL << 20;

struct Finding {
  std::string what;
  std::string verdict;  // "ok", "better", "problem"
  std::string detail;   // and what to do
};

std::uint64_t MemoryInfoKib(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  std::uint64_t value = 0;
  while (file >> name >> value && std::getline(file, unit)) {
    if (name == key + ":") return value;
  }
  return 0;
}

Finding Qemu() {
  const auto output = RunProgram({"qemu-system-x86_64", "--version"}, "/dev/null");
  if (!output || output.value().exit_code != 0) {
    return {
        "qemu", "problem",
        "qemu-system-x86_64 is not installed; ./filer installs it, or use `filer up --mode host`"};
  }
  const std::string line =
      output.value().standard_output.substr(0, output.value().standard_output.find('\n'));
  const std::size_t at = line.find("version ");
  const int major = at == std::string::npos ? 0 : std::atoi(line.c_str() + at + 8);
  if (major < 8)
    return {
        "qemu", "better",
        line + ": reconnecting to the bridge hangs in this version; install 10.0 from backports"};
  return {"qemu", "ok", line};
}

// The verdict of an earlier start, or with `is_fresh` of a boot under KVM now.
Finding Kvm(const Installation& installation, bool is_fresh) {
  if (!fs::exists("/dev/kvm")) {
    return {"kvm", "better",
            "no /dev/kvm: guests run under emulation (TCG), slowly; enable virtualization in "
            "firmware or hypervisor"};
  }
  guest::ProbeOptions probe;
  probe.cache_dir = installation.cache;
  if (is_fresh) {
    const auto image = EnsureImage(installation);
    if (!image) return {"kvm", "problem", "no guest image to try: " + image.error().message()};
    probe.image_dir = image.value().path;
    probe.ignore_remembered = true;
    const auto verdict = guest::ProbeAccelerator(probe);
    if (!verdict) return {"kvm", "problem", verdict.error().message()};
    const bool is_kvm = verdict.value().accelerator == guest::Accelerator::kKvm;
    return {"kvm", is_kvm ? "ok" : "better", verdict.value().reason};
  }
  const auto record = ReadWholeFile(installation.cache + "/accelerator.json");
  const Json json = record ? Json::parse(record.value(), nullptr, false) : Json();
  const auto text_of = [&json](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (!json.is_object()) {
    return {"kvm", "ok",
            "/dev/kvm is there; `filer doctor --probe` or the first `filer up` finds out whether "
            "it can boot a guest"};
  }
  return {"kvm", text_of("accelerator") == "kvm" ? "ok" : "better",
          text_of("reason") + " (seen at an earlier start; `filer doctor --probe` tries again)"};
}

Finding HugePages() {
  const std::uint64_t free = MemoryInfoKib("HugePages_Free");
  if (free > 0)
    return {"huge pages", "ok",
            fmt::format("{} free pages of {} KiB", free, MemoryInfoKib("Hugepagesize"))};
  return {
      "huge pages", "better",
      "none reserved: guest memory uses 4 KiB pages; `sysctl vm.nr_hugepages=N` before `filer up`"};
}

Finding Fuse() {
  if (fs::exists("/dev/fuse")) return {"fuse", "ok", "/dev/fuse"};
  return {"fuse", "problem", "no /dev/fuse: SMB in host mode needs it; `modprobe fuse`"};
}

Finding Memory() {
  const std::uint64_t available = MemoryInfoKib("MemAvailable");
  const std::string text = HumanBytes(available * 1024) + " available";
  return {"memory", available >= kMemoryKibWanted ? "ok" : "better", text};
}

Finding Disk(const Home& home) {
  std::string folder = home.root;
  while (!fs::exists(folder)) folder = fs::path(folder).parent_path();
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0)
    return {"disk", "problem", "cannot examine " + folder};
  const std::uint64_t available = std::uint64_t{space.f_bavail} * space.f_frsize;
  return {"disk", available >= kDiskBytesWanted ? "ok" : "better",
          HumanBytes(available) + " free below " + folder + "; volumes are sparse files there"};
}

Finding Network() {
  std::string with_functions;
  std::error_code error;
  for (const auto& device : fs::directory_iterator("/sys/bus/pci/devices", error)) {
    if (fs::exists(device.path() / "sriov_totalvfs"))
      with_functions += " " + device.path().filename().string();
  }
  if (!with_functions.empty()) return {"network", "ok", "SR-IOV capable:" + with_functions};
  return {
      "network", "better",
      "no SR-IOV capable NIC: guests use QEMU's user network with port forwarding, which is slow"};
}

Finding Iommu() {
  std::error_code error;
  const bool has_groups = fs::exists("/sys/kernel/iommu_groups", error) &&
                          !fs::is_empty("/sys/kernel/iommu_groups", error);
  if (has_groups) return {"iommu", "ok", "on"};
  return {"iommu", "better",
          "off: a NIC function cannot be handed to a guest; intel_iommu=on or amd_iommu=on on the "
          "kernel's command line"};
}

Finding Cores() {
  const long count = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (count >= 4) return {"cores", "ok", std::to_string(count)};
  return {
      "cores", "better",
      fmt::format(
          "{}: bridge and guest share them, so polling backs off early; four or more are wanted",
          count)};
}

}  // namespace

int Doctor(const Home& home, bool is_probing, bool as_json) {
  const Installation installation = FindInstallation();
  const std::vector<Finding> findings = {Qemu(),      Kvm(installation, is_probing),
                                         Cores(),     Memory(),
                                         HugePages(), Fuse(),
                                         Disk(home),  Network(),
                                         Iommu()};
  bool has_problem = false;
  Json rows = Json::array();
  std::vector<std::vector<std::string>> table = {{"WHAT", "VERDICT", "DETAIL"}};
  for (const Finding& finding : findings) {
    has_problem = has_problem || finding.verdict == "problem";
    rows.push_back(
        {{"what", finding.what}, {"verdict", finding.verdict}, {"detail", finding.detail}});
    table.push_back({finding.what, finding.verdict, finding.detail});
  }
  if (as_json) {
    fmt::print("{}\n", Json{{"schema", "filer.doctor/1"}, {"findings", rows}}.dump(2));
  } else {
    fmt::print("{}", Table(table));
  }
  return has_problem ? kExitFailed : kExitOk;
}

}  // namespace filer::command

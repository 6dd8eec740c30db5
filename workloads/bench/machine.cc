#include "workloads/bench/machine.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "workloads/bench/ticks.h"

namespace filer::bench {
namespace {

// The value behind "key : " in /proc/cpuinfo, of the first processor.
std::string CpuInfo(std::string_view text, std::string_view key) {
  auto at = text.find(key);
  if (at == std::string_view::npos) return "";
  at = text.find(':', at);
  if (at == std::string_view::npos) return "";
  const auto end = text.find('\n', at);
  const auto value = text.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
  const auto first = value.find_first_not_of(' ');
  return first == std::string_view::npos ? "" : std::string(value.substr(first));
}

Json KvmModule() {
  for (const char* name : {"kvm_intel", "kvm_amd", "kvm_pvm"}) {
    std::error_code error;
    if (std::filesystem::exists(std::string("/sys/module/") + name, error)) return name;
  }
  return {};
}

}  // namespace

Json DescribeMachine() {
  Json machine = {{"cpus", ::sysconf(_SC_NPROCESSORS_ONLN)}, {"kvm_module", KvmModule()}};
  const auto cpuinfo = ReadWholeFile("/proc/cpuinfo");
  if (cpuinfo.has_value()) {
    const std::string& text = cpuinfo.assume_value();
    machine["model"] = CpuInfo(text, "model name");
    machine["hypervisor"] = CpuInfo(text, "flags").find(" hypervisor") != std::string::npos;
  } else {
    machine["model"] = machine["hypervisor"] = nullptr;
  }
  utsname system{};
  machine["kernel"] = ::uname(&system) == 0 ? Json(system.release) : Json();
  struct sysinfo memory {};
  machine["memory_bytes"] =
      ::sysinfo(&memory) == 0 ? Json(std::uint64_t{memory.totalram} * memory.mem_unit) : Json();
  machine["invariant_tsc"] = TickClock::Get().is_counter();
  return machine;
}

}  // namespace filer::bench

// machine_control.h: ServiceControl for a real machine, the guest's or the host's.
#pragma once

#include <string>
#include <vector>

#include "filer-guest/agent/children.h"
#include "filer-guest/agent/supervisor.h"

namespace filer::agent {

struct MachineOptions {
  bool is_guest = false;  // may load modules, rebind PCI functions, reserve huge pages
  std::string ganesha_program = "ganesha.nfsd";
  std::string library_path;  // LD_LIBRARY_PATH of Ganesha, empty: none
};

class MachineControl final : public ServiceControl {
 public:
  MachineControl(MachineOptions options, Children& children)
      : options_(std::move(options)), children_(children) {}

  Result<void> PrepareDevice(const ServiceConfig& config) override;
  Result<void> StartGanesha(const ServiceConfig& config) override;
  Result<Json> EngineStatus(const ServiceConfig& config) override;
  Result<void> MakeExportDirectory(const ServiceConfig& config,
                                   const ExportDirectory& directory) override;
  Result<void> ReloadExports() override;
  bool IsDoorMounted(const ServiceConfig& config) override;
  Result<void> StartSamba(const ServiceConfig& config) override;
  bool IsListening(std::uint16_t port) override;
  std::vector<ServiceState> States() override;
  Result<void> StopSamba() override;
  Result<void> StopGanesha() override;
  void CleanUp(const ServiceConfig& config) override;

 private:
  Result<void> StopService(const std::string& name, std::chrono::milliseconds grace);

  const MachineOptions options_;
  Children& children_;
};

}  // namespace filer::agent

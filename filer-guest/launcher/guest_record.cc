#include "filer-guest/launcher/guest_record.h"

#include "filer-guest/launcher/qemu_arguments.h"

namespace filer::guest {
namespace {

constexpr const char* kSchema = "filer.guest/1";

}  // namespace

const char* AcceleratorName(Accelerator accelerator) {
  switch (accelerator) {
    case Accelerator::kAuto:
      return "auto";
    case Accelerator::kKvm:
      return "kvm";
    case Accelerator::kTcg:
      return "tcg";
  }
  return "tcg";
}

Result<Accelerator> ParseAccelerator(const std::string& text) {
  for (const Accelerator value : {Accelerator::kAuto, Accelerator::kKvm, Accelerator::kTcg}) {
    if (text == AcceleratorName(value)) return value;
  }
  return Error(Errc::kUsage, text + ": no accelerator; one of auto, kvm, tcg");
}

Json RecordOf(const RunningGuest& guest) {
  return Json{{"schema", kSchema},
              {"pid", guest.process.pid},
              {"start_ticks", guest.process.start_ticks},
              {"accelerator", AcceleratorName(guest.accelerator)},
              {"accelerator_reason", guest.accelerator_reason},
              {"viommu", guest.has_viommu},
              {"huge_pages", guest.has_huge_pages}};
}

Result<RunningGuest> GuestFromRecord(const Json& record, const std::string& run_dir) {
  const Error corrupt(Errc::kCorrupt, run_dir + "/guest.json: not ours");
  if (!record.is_object() || record.value("schema", Json()) != Json(kSchema)) return corrupt;
  const Json pid = record.value("pid", Json());
  const Json start = record.value("start_ticks", Json());
  const Json accelerator = record.value("accelerator", Json());
  const Json reason = record.value("accelerator_reason", Json());
  if (!pid.is_number_integer() || !start.is_number_unsigned() || !accelerator.is_string() ||
      !reason.is_string() || pid.get<std::int64_t>() <= 1) {
    return corrupt;
  }
  const auto parsed = ParseAccelerator(accelerator.get<std::string>());
  if (!parsed) return corrupt;
  const GuestPaths paths = PathsIn(run_dir);
  RunningGuest guest;
  guest.process = {pid.get<pid_t>(), start.get<std::uint64_t>()};
  guest.accelerator = parsed.value();
  guest.accelerator_reason = reason.get<std::string>();
  guest.run_dir = run_dir;
  guest.qmp_socket = paths.qmp_socket;
  guest.agent_socket = paths.agent_socket;
  guest.console_log = paths.console_log;
  guest.qemu_log = paths.qemu_log;
  guest.has_viommu = record.value("viommu", Json()) == Json(true);
  guest.has_huge_pages = record.value("huge_pages", Json()) == Json(true);
  return guest;
}

}  // namespace filer::guest

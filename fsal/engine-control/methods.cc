// The table of control methods. A new one is a row here and a function: its parameters are checked
// by the row (params.h), and its errors reach the command with their cause.
//
//   {"snapshot.create", {RequiredText("name", 63)}, SnapshotCreate, kMayWait},
#include "fsal/engine-control/control.h"
#include "fsal/engine-control/fileset_methods.h"
#include "fsal/engine-control/quota_methods.h"
#include "fsal/engine-control/scrub_methods.h"
#include "fsal/engine-control/volume_methods.h"
#include "fsal/engine-control/volume_path.h"

namespace filer::control {
namespace {

constexpr bool kMayWait = true;  // for the volume; else it answers from memory

}  // namespace

const std::vector<ControlMethod>& EngineMethods() {
  static const std::vector<ControlMethod> kMethods = [] {
    std::vector<ControlMethod> methods = {
        {"mkdir",
         {RequiredText("path", 4096), OptionalCount("mode", 0, 07777)},
         MakeDirectory,
         kMayWait},
        {"scrub.start",
         {OptionalCount("bytes_per_second", 1 << 20, 1ULL << 40), OptionalFlag("from_start")},
         StartScrub,
         kMayWait},
        {"scrub.status", {}, ScrubProgress},
        {"scrub.stop", {}, StopScrub, kMayWait},
        {"volume.show", {}, ShowVolume},
    };
    for (const auto* more : {&FilesetMethods(), &QuotaMethods()}) {
      methods.insert(methods.end(), more->begin(), more->end());
    }
    return methods;
  }();
  return kMethods;
}

}  // namespace filer::control

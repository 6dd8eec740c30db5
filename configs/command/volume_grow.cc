// `filer volume grow NAME SIZE`: a larger volume, also while it is served: its file is made longer,
// and the bridge tells its client.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "configs/command/applied.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"
#include "configs/command/live.h"
#include "configs/command/state.h"
#include "configs/command/volumes.h"
#include "configs/syntax.h"

namespace filer::command {
namespace {

struct Grown {
  std::uint64_t before_bytes = 0;
  std::uint64_t size_bytes = 0;
  bool is_served = false;
};

Result<std::uint64_t> WantedSize(const std::string& text) {
  const auto size = configs::ParseSize(text);
  if (!size || size.value() % 4096 != 0) {
    return Error(Errc::kUsage,
                 text + ": not a size of whole 4096 bytes; write it as 512M, 8G or 2T");
  }
  if (size.value() > configs::kVolumeBytesMax) {
    return Error(Errc::kUsage, fmt::format("{}: a volume has at most {}", text,
                                           HumanBytes(configs::kVolumeBytesMax)));
  }
  return size.value();
}

// The volume of that name in what runs, else in the configuration.
Result<configs::VolumeConfig> FindFileVolume(const Home& home, const VolumeOptions& options,
                                             const std::optional<RunningState>& state) {
  const configs::ApplianceConfig config =
      state.has_value() ? FILER_TRY(AppliedOf(home, *state))
                        : FILER_TRY(LoadApplied(home, options.config_path)).config;
  for (const configs::VolumeConfig& volume : config.volumes) {
    if (volume.name != options.name) continue;
    if (volume.backend == configs::VolumeBackend::kFile) return volume;
    return Error(Errc::kUsage, "volume " + volume.name + ": a memory volume cannot grow");
  }
  return Error(Errc::kNotFound,
               "volume " + options.name + ": the configuration has none of that name");
}

// Longer on the disk too when it returns: what was written to the new part must not be lost with
// the length.
Result<std::uint64_t> Lengthen(const configs::VolumeConfig& volume, std::uint64_t size_bytes) {
  const UniqueFd file(::open(volume.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0) {
    return Error::System(errno, fmt::format("volume {}: {}", volume.name, volume.path));
  }
  if (!S_ISREG(status.st_mode)) {
    return Error(Errc::kRefused,
                 fmt::format("volume {}: {} is no regular file; make the device larger by its own "
                             "tools",
                             volume.name, volume.path));
  }
  const auto before = static_cast<std::uint64_t>(status.st_size);
  if (size_bytes < before) {
    return Error(Errc::kRefused, fmt::format("volume {}: has {} already; a volume cannot shrink",
                                             volume.name, HumanBytes(before)));
  }
  if (::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0 || ::fsync(file.get()) != 0) {
    return Error::System(errno,
                         fmt::format("volume {}: cannot make {} longer", volume.name, volume.path));
  }
  return before;
}

Result<Grown> Grow(const Home& home, const VolumeOptions& options) {
  const std::uint64_t size_bytes = FILER_TRY(WantedSize(options.size));
  const auto state = FILER_TRY(LoadState(home));
  const configs::VolumeConfig volume = FILER_TRY(FindFileVolume(home, options, state));
  const bool is_served = state.has_value() && IsRunning(state->bridge);
  if (!is_served) FILER_TRY(InspectVolume(volume));  // a volume of ours, and nobody has it
  Grown grown;
  grown.before_bytes = FILER_TRY(Lengthen(volume, size_bytes));
  grown.size_bytes = size_bytes;
  grown.is_served = is_served;
  if (!is_served) return grown;
  const auto told = CallBridge(home, "grow", {{"volume", volume.name}});
  if (!told) {
    return Error(told.error().code(),
                 fmt::format("volume {}: the file is longer, but the bridge does not know: {}; run "
                             "this again, or restart the filer",
                             volume.name, told.error().message()));
  }
  return grown;
}

}  // namespace

int VolumeGrow(const Home& home, const VolumeOptions& options) {
  const auto lock = LockHome(home);
  if (!lock) return Fail(lock.error());
  const auto grown = Grow(home, options);
  if (!grown) return Fail(grown.error());
  const Grown& done = grown.value();
  if (options.as_json) {
    fmt::print("{}\n", Json{{"schema", "filer.volume-grow/1"},
                            {"name", options.name},
                            {"size_bytes", done.size_bytes},
                            {"size_bytes_before", done.before_bytes},
                            {"served", done.is_served}}
                           .dump(2));
  } else {
    fmt::print("volume {}: {}, was {}; its file system does not use the new space yet\n",
               options.name, HumanBytes(done.size_bytes), HumanBytes(done.before_bytes));
  }
  return kExitOk;
}

}  // namespace filer::command

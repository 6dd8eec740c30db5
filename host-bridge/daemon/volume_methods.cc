#include "host-bridge/daemon/volume_methods.h"

#include <fmt/format.h>

#include "base/log.h"

namespace filer::bridge {
namespace {

Result<Volume*> VolumeOf(const Poller& poller, const Json& params) {
  const auto name = params.find("volume");
  if (name == params.end() || !name->is_string()) {
    return Error(Errc::kInvalidArgument, "volume: a name is missing");
  }
  for (const auto& volume : poller.volumes()) {
    if (volume->options().name == name->get<std::string>()) return volume.get();
  }
  return Error(Errc::kNotFound, name->get<std::string>() + ": no such volume");
}

Result<std::uint64_t> NumberOf(const Json& params, const char* key) {
  const auto number = params.find(key);
  if (number == params.end()) return std::uint64_t{0};
  if (!number->is_number_unsigned()) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: a whole number from 0 up", key));
  }
  return number->get<std::uint64_t>();
}

Result<Json> Grow(Poller& poller, const Json& params) {
  Volume& volume = *FILER_TRY(VolumeOf(poller, params));
  const std::uint64_t before = volume.info().size_bytes;
  const std::uint64_t size_bytes = FILER_TRY(volume.Remeasure());
  poller.Wake();
  if (size_bytes != before) {
    FILER_LOG_INFO("volume {}: grew from {} to {} bytes", volume.options().name, before,
                   size_bytes);
  }
  return Json{{"size_bytes", size_bytes}};
}

Result<Json> Limit(Poller& poller, const Json& params) {
  Volume& volume = *FILER_TRY(VolumeOf(poller, params));
  VolumeLimits limits;
  limits.requests_per_s = FILER_TRY(NumberOf(params, "iops"));
  limits.bytes_per_s = FILER_TRY(NumberOf(params, "bytes_per_s"));
  volume.SetLimits(limits);
  poller.Wake();
  return Json::object();
}

}  // namespace

void AddVolumeMethods(Poller& poller, RpcMethods& methods) {
  methods["grow"] = [&poller](const Json& params) { return Grow(poller, params); };
  methods["limit"] = [&poller](const Json& params) { return Limit(poller, params); };
}

}  // namespace filer::bridge

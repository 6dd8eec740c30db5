#include "host-bridge/daemon/volume_methods.h"

#include <fmt/format.h>

#include "base/log.h"

namespace filer::bridge {
namespace {

Result<Volume*> VolumeOf(const PollerGroup& pollers, const Json& params) {
  const auto name = params.find("volume");
  if (name == params.end() || !name->is_string()) {
    return Error(Errc::kInvalidArgument, "volume: a name is missing");
  }
  for (const auto& volume : pollers.volumes()) {
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

Result<Json> Grow(PollerGroup& pollers, const Json& params) {
  Volume& volume = *FILER_TRY(VolumeOf(pollers, params));
  const std::uint64_t before = volume.info().size_bytes;
  const std::uint64_t size_bytes = FILER_TRY(volume.Remeasure());
  pollers.Wake();
  if (size_bytes != before) {
    FILER_LOG_INFO("volume {}: grew from {} to {} bytes", volume.options().name, before,
                   size_bytes);
  }
  return Json{{"size_bytes", size_bytes}};
}

Result<Json> Limit(PollerGroup& pollers, const Json& params) {
  Volume& volume = *FILER_TRY(VolumeOf(pollers, params));
  VolumeLimits limits;
  limits.requests_per_s = FILER_TRY(NumberOf(params, "iops"));
  limits.bytes_per_s = FILER_TRY(NumberOf(params, "bytes_per_s"));
  volume.SetLimits(limits);
  pollers.Wake();
  return Json::object();
}

}  // namespace

void AddVolumeMethods(PollerGroup& pollers, RpcMethods& methods) {
  methods["grow"] = [&pollers](const Json& params) { return Grow(pollers, params); };
  methods["limit"] = [&pollers](const Json& params) { return Limit(pollers, params); };
}

}  // namespace filer::bridge

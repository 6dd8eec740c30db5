#include "host-bridge/daemon/status.h"

#include <unistd.h>

namespace filer::bridge {
namespace {

Json CountersJson(const VolumeCounters& counters) {
  return {
      {"requests", counters.requests.Get()},
      {"reads", counters.reads.Get()},
      {"writes", counters.writes.Get()},
      {"flushes", counters.flushes.Get()},
      {"errors", counters.errors.Get()},
      {"read_bytes", counters.read_bytes.Get()},
      {"write_bytes", counters.write_bytes.Get()},
      {"kicks", counters.kicks.Get()},
      {"interrupts", counters.interrupts.Get()},
      {"copied_bytes", counters.copied_bytes.Get()},
      {"transferred_bytes", counters.transferred_bytes.Get()},
      {"protocol_errors", counters.protocol_errors.Get()},
      {"sessions", counters.sessions.Get()},
  };
}

}  // namespace

Json StatusJson(const Poller& poller, const std::vector<VolumeSpec>& specs) {
  Json volumes = Json::array();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const Volume& volume = *poller.volumes()[i];
    const BackendInfo info = volume.info();
    volumes.push_back({{"name", specs[i].name},
                       {"backend", specs[i].backend},
                       {"path", specs[i].path},
                       {"size_bytes", info.size_bytes},
                       {"read_only", info.is_read_only},
                       {"socket", specs[i].socket},
                       {"connected", volume.is_connected()},
                       {"counters", CountersJson(volume.counters())}});
  }
  const PollerCounters& counters = poller.counters();
  return {{"pid", ::getpid()},
          {"version", FILER_VERSION},
          {"volumes", volumes},
          {"poller",
           {{"polls", counters.polls.Get()},
            {"busy_polls", counters.busy_polls.Get()},
            {"sleeps", counters.sleeps.Get()}}}};
}

}  // namespace filer::bridge

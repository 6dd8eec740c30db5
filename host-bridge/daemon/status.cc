#include "host-bridge/daemon/status.h"

#include <unistd.h>

#include <cmath>
#include <string_view>

namespace filer::bridge {
namespace {

Json CountersJson(const VolumeCounters& counters) {
  using enum BackendOperation;
  return {
      {"requests", counters.requests.Get()},
      {"reads", counters.Of(kRead).requests.Get()},
      {"writes", counters.Of(kWrite).requests.Get()},
      {"flushes", counters.Of(kFlush).requests.Get()},
      {"discards", counters.Of(kDiscard).requests.Get() + counters.Of(kWriteZeroes).requests.Get()},
      {"holds", counters.holds.Get()},
      {"errors", counters.errors.Get()},
      {"read_bytes", counters.Of(kRead).bytes.Get()},
      {"write_bytes", counters.Of(kWrite).bytes.Get()},
      {"kicks", counters.kicks.Get()},
      {"interrupts", counters.interrupts.Get()},
      {"copied_bytes", counters.copied_bytes.Get()},
      {"transferred_bytes", counters.transferred_bytes.Get()},
      {"protocol_errors", counters.protocol_errors.Get()},
      {"sessions", counters.sessions.Get()},
  };
}

// Nanoseconds below which so many of all were.
std::uint64_t Percentile(const std::vector<LatencyHistogram::Bucket>& buckets, std::uint64_t count,
                         double fraction) {
  const auto rank = static_cast<std::uint64_t>(std::ceil(static_cast<double>(count) * fraction));
  std::uint64_t seen = 0;
  for (const auto& bucket : buckets) {
    seen += bucket.count;
    if (seen >= rank) return bucket.upper_ns;
  }
  return 0;
}

// Operations without a request are left out.
Json LatenciesJson(const VolumeLatencies& latencies) {
  constexpr std::string_view kNames[VolumeLatencies::kOperationCount] = {
      "read", "write", "flush", "discard", "write_zeroes"};  // as BackendOperation
  Json json = Json::object();
  for (std::size_t i = 0; i < VolumeLatencies::kOperationCount; ++i) {
    const auto buckets = latencies.by_operation[i].Read();
    if (buckets.empty()) continue;
    std::uint64_t count = 0;
    Json pairs = Json::array();
    for (const auto& bucket : buckets) {
      count += bucket.count;
      pairs.push_back({bucket.index, bucket.upper_ns, bucket.count});
    }
    json[std::string(kNames[i])] = {{"measured", count},
                                    {"p50_ns", Percentile(buckets, count, 0.5)},
                                    {"p99_ns", Percentile(buckets, count, 0.99)},
                                    {"p999_ns", Percentile(buckets, count, 0.999)},
                                    {"max_ns", buckets.back().upper_ns},
                                    {"buckets", std::move(pairs)}};
  }
  return json;
}

Json PollerJson(const PollerCounters& counters) {
  return {{"polls", counters.polls.Get()},       {"busy_polls", counters.busy_polls.Get()},
          {"sleeps", counters.sleeps.Get()},     {"lent", counters.lent.Get()},
          {"returned", counters.returned.Get()}, {"borrowed", counters.borrowed.Get()}};
}

}  // namespace

Json StatusJson(const PollerGroup& pollers, const std::vector<VolumeSpec>& specs) {
  Json volumes = Json::array();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const Volume& volume = *pollers.volumes()[i];
    const BackendInfo info = volume.info();
    const VolumeCounters counters = volume.counters();
    volumes.push_back(
        {{"name", specs[i].name},
         {"backend", specs[i].backend},
         {"path", specs[i].path},
         {"size_bytes", info.size_bytes},
         {"read_only", info.is_read_only},
         {"socket", specs[i].socket},
         {"connected", volume.is_connected()},
         {"limits",
          {{"iops", volume.limits().requests_per_s}, {"bytes_per_s", volume.limits().bytes_per_s}}},
         {"latency", LatenciesJson(counters.latencies)},
         {"counters", CountersJson(counters)}});
  }
  Json each = Json::array();
  for (std::size_t i = 0; i < pollers.size(); ++i) {
    const Poller& poller = pollers.poller(i);
    Json json = PollerJson(poller.counters());
    json["cpu"] = poller.cpu() >= 0 ? Json(poller.cpu()) : Json();
    json["busy_queues"] = pollers.busy_queues(i);
    each.push_back(std::move(json));
  }
  return {{"pid", ::getpid()},
          {"version", FILER_VERSION},
          {"volumes", volumes},
          {"poller", PollerJson(pollers.counters())},
          {"pollers", std::move(each)}};
}

}  // namespace filer::bridge
